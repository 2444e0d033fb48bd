//! The sums over blocks of channels and over sequences, from the workspace's parts, in order.

use super::{
    FAMILY, SelectiveScan,
    backward::Results,
    layout::Workspace,
    thread::{Inputs, decay},
};
use crate::{
    Kernel, Target, Work,
    ptx::{Asm, F32, Global, Launch, Reg, U32},
    span::Real,
};

/// Number of threads per block.
const BLOCK: u32 = 256;

/// dB, dC, dA or dA_log, dD and dbias: one thread per element, a range of blocks for each kind.
pub(super) fn kernel<T: Real>(spec: &SelectiveScan, workspace: Workspace, target: Target) -> Kernel {
    let SelectiveScan { batch, length, channels, states, .. } = *spec;
    let steps = batch * length * 2 * states;
    let matrix = channels * states;
    let row = |there: bool| if there { channels } else { 0 };
    let counts = [steps, matrix, row(spec.skip), row(spec.dt_bias)];
    let blocks = counts.map(|n| n.div_ceil(BLOCK));
    let launch = Launch::new(FAMILY, spec.name::<T>("finish"), target)
        .grid([blocks.iter().sum(), 1, 1])
        .block([BLOCK, 1, 1]);
    let parts = |n: u32, parts: u32| u64::from(n) * u64::from(parts);
    let per_sequence: u64 = counts[1..].iter().map(|&n| parts(n, batch)).sum();
    let read = parts(steps, workspace.blocks) + per_sequence;
    let written: u64 = counts[1..].iter().map(|&n| u64::from(n) * 4).sum();
    let work = Work {
        bytes: read * 4 + written + u64::from(steps) * u64::from(T::BYTES) + u64::from(matrix) * 4,
        operations: read,
    };
    Asm::kernel(launch, work, "dB, dC, dA, dD and dbias: their parts added in order", |asm| {
        let inputs = Inputs::<T>::parameters(asm, spec);
        let results = Results::<T>::parameters(asm, spec);
        let part = |first: u64| results.workspace.plus(first as i64);
        let mut first_block = 0;
        let mut run = |i: usize, body: &dyn Fn(Reg<U32>)| {
            let (from, below) = (first_block, first_block + blocks[i]);
            first_block = below;
            if blocks[i] > 0 {
                let block = asm.block(0);
                asm.if_(block.ge(from) & block.lt(below), || {
                    let element = (block - from).mad(BLOCK, asm.thread(0));
                    asm.if_(element.lt(counts[i]), || body(element));
                });
            }
        };
        asm.step("dB and dC of a step, over the blocks of channels");
        run(0, &|i| {
            let (step, n) = asm.divide(i, 2 * states);
            let (sequence, t) = asm.divide(step, length);
            let first = (sequence * workspace.blocks).mad(length, t).mad(2 * states, n);
            let sum = asm.strided_sum(part(workspace.bc).at(first), workspace.blocks, length * 2 * states);
            let store = |to: Global<T>, n: Reg<U32>| T::store(to.at(step.mad(spec.bc_row, n)), &[sum]);
            asm.if_else(n.lt(states), || store(results.db, n), || store(results.dc, n - states));
        });
        asm.step("what a sequence has a part of");
        run(1, &|i| {
            let sum = asm.strided_sum(part(workspace.a).at(i), batch, matrix);
            let slope = || decay(asm, spec, inputs.a.at(i).load());
            results.da.at(i).store(if spec.log_a { sum * slope() } else { sum });
        });
        let rows: [(Option<Global<F32>>, u64); 2] =
            [(results.dd, workspace.d), (results.dbias, workspace.bias)];
        for (kind, (to, first)) in (2..).zip(rows) {
            if let Some(to) = to {
                run(kind, &|i| to.at(i).store(asm.strided_sum(part(first).at(i), batch, channels)));
            }
        }
    })
}
