//! The forward pass, from the first step to the last.

use super::{
    FAMILY, SelectiveScan,
    layout::{BLOCK, Chunks, Layout},
    thread::{Inputs, States, Thread},
};
use crate::{
    Kernel, Target, Work,
    pointwise::unary::SILU,
    ptx::{Asm, F32, Global, Launch, Reg, U32, Var},
    span::Real,
};

/// Operations per state and step: Δ·A, exp, Δ·u·B, and two fused multiply-adds.
const STATE_OPERATIONS: u64 = 7;

/// Operations per channel and step: the softplus, Δ·u, the skip and the gate.
const CHANNEL_OPERATIONS: u64 = 12;

/// The kernel that computes y [B, L, D].
pub(super) fn kernel<T: Real>(spec: &SelectiveScan, target: Target) -> Kernel {
    let layout = Layout::new::<T>(spec);
    let launch = Launch::new(FAMILY, spec.name::<T>("forward"), target)
        .grid([layout.blocks(spec.channels), spec.batch, 1])
        .block([BLOCK, 1, 1]);
    let work = Work {
        bytes: spec.input_bytes::<T>() + spec.elements() * u64::from(T::BYTES),
        operations: spec.elements() * (STATE_OPERATIONS * u64::from(spec.states) + CHANNEL_OPERATIONS),
    };
    let summary = "h = exp(delta*A)*h + delta*u*B, y = (C*h + D*u)*silu(z) where they are fused";
    Asm::kernel(launch, work, summary, |asm| {
        let inputs = Inputs::parameters(asm, spec);
        let y = asm.pointer::<T>("y");
        let thread = Thread::new(asm, spec, layout, inputs);
        let row = thread.sequence * spec.length;
        let Chunks { count, steps, last } = Chunks::forward(spec.length, layout);
        if count == 1 {
            chunk(&thread, y, row, last, None);
            return;
        }
        let h: Vec<_> = (0..layout.held()).map(|_| asm.var::<F32>(0.0)).collect();
        let get = || Some(h.iter().map(|h| h.get()).collect());
        let set = |states: States| {
            h.iter().zip(states.unwrap_or_default()).for_each(|(h, x): (&Var<F32>, _)| h.set(x))
        };
        asm.for_range(0, (count - 1) * steps, steps, |first| {
            set(chunk(&thread, y, row + first, steps, get()))
        });
        chunk(&thread, y, row + (count - 1) * steps, last, get());
    })
}

/// Runs `steps` steps from row `row` of [B·L] on; returns the states after them.
fn chunk<'a, T: Real>(
    thread: &Thread<'a, T>,
    y: Global<'a, T>,
    row: Reg<'a, U32>,
    steps: u32,
    mut h: States<'a>,
) -> States<'a> {
    let (asm, at) = (thread.asm, thread.steps_from(row));
    let y = thread.wide(y, row, thread.spec.channels);
    for group in thread.groups(steps) {
        asm.step(&format!("{} steps from {} on", group.count, group.first));
        let (mine, z) = (thread.mine(&at, group), thread.z(&at, group));
        let mut own = Vec::new();
        for j in 0..group.count {
            let step = group.first + j;
            h = thread.advance(&h, &mine, j, &thread.b(&at, step));
            own.push(thread.own_output(&h, &thread.c(&at, step)));
        }
        let mut values = thread.output(&own, &mine);
        if let Some(z) = z {
            values = values.into_iter().zip(z).map(|(s, z)| s * (SILU.value)(asm, z)).collect();
        }
        thread.store(y, thread.spec.channels, group, &values);
    }
    h
}
