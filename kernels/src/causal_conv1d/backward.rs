//! The gradients: dx in one kernel, dw and dbias in parts that a second kernel sums.

use super::{
    BLOCK, CausalConv1d, FAMILY,
    thread::{Row, Thread, taps},
};
use crate::{
    Kernel, Target, Work,
    ptx::{Asm, F32, Global, Launch},
    span::Real,
};

/// All parameters, in order.
struct Arguments<'a, T: Real> {
    x: Global<'a, T>,
    weight: Global<'a, F32>,
    bias: Global<'a, F32>,
    dy: Global<'a, T>,
    dx: Global<'a, T>,
    dweight: Global<'a, F32>,
    dbias: Global<'a, F32>,
    workspace: Global<'a, F32>,
}

impl<'a, T: Real> Arguments<'a, T> {
    fn parameters(asm: &'a Asm) -> Self {
        Self {
            x: asm.pointer("x"),
            weight: asm.pointer("weight"),
            bias: asm.pointer("bias"),
            dy: asm.pointer("dy"),
            dx: asm.pointer("dx"),
            dweight: asm.pointer("dweight"),
            dbias: asm.pointer("dbias"),
            workspace: asm.pointer("workspace"),
        }
    }
}

/// Computes dx [B, L, D], and each piece's part of dw and dbias.
pub(super) fn kernel<T: Real>(spec: &CausalConv1d, target: Target) -> Kernel {
    let work = Work {
        bytes: 3 * spec.elements() * u64::from(T::BYTES) + spec.weight_bytes() + spec.workspace() * 4,
        operations: spec.elements() * (6 * u64::from(spec.taps) + if spec.silu { 24 } else { 1 }),
    };
    let summary = "dx[t] = the sum of w[k]*g[t + (K-1) - k], parts of dw and dbias";
    Asm::kernel(spec.launch::<T>("backward", target), work, summary, |asm| {
        let args = Arguments::<T>::parameters(asm);
        let thread = Thread::new(asm, spec);
        let (weights, bias) = thread.weights(args.weight, args.bias);
        // dx reads g with the taps reversed, compared to how y reads x.
        let reversed: Vec<_> = weights.iter().rev().cloned().collect();
        let (x, dx) = (thread.at(args.x, spec.x_row), thread.at(args.dx, spec.x_row));
        let dy = thread.at(args.dy, spec.channels);
        let part = thread.piece.mad((spec.taps + 1) * spec.channels, thread.channel);
        let part = args.workspace.at(part);
        let window = spec.taps as usize;
        thread.by_length(|steps| {
            let past = spec.taps - 1;
            // If the sequence is one piece, no rows follow it.
            let seen = steps + if spec.pieces().count > 1 { past } else { 0 };
            let x = thread.rows(x, spec.x_row, steps, -i64::from(past), seen.into());
            let dy = thread.rows(dy, spec.channels, steps, 0, seen.into());
            asm.step("g, beyond the piece as far as dx reaches");
            let zeros: Row = vec![asm.value(0.0); spec.width() as usize];
            let mut g: Vec<Row> = Vec::new();
            for (rows, dy) in x.windows(window).zip(&dy) {
                let sums = taps(&weights, rows, &bias);
                g.push(sums.into_iter().zip(dy).map(|(p, &dy)| spec.activate_back(asm, p, dy)).collect());
            }
            g.resize((steps + past) as usize, zeros.clone());
            asm.step("dx");
            for (t, rows) in (0..steps).zip(g.windows(window)) {
                let values = taps(&reversed, rows, &zeros);
                T::store(dx.plus(i64::from(t) * i64::from(spec.x_row)), &values);
            }
            asm.step("the piece's part of dw and dbias");
            let own = &g[..steps as usize];
            for tap in 0..window {
                let sums = taps(own, &x[tap..], &zeros);
                F32::store(part.plus(tap as i64 * i64::from(spec.channels)), &sums);
            }
            let mut sums = zeros;
            for g in own {
                sums.iter_mut().zip(g).for_each(|(sum, &g)| *sum = *sum + g);
            }
            F32::store(part.plus(i64::from(spec.taps) * i64::from(spec.channels)), &sums);
        });
    })
}

/// dweight [K, D] and dbias [D]: the pieces' parts, added in order, one thread per element.
pub(super) fn finish<T: Real>(spec: &CausalConv1d, target: Target) -> Kernel {
    let (weights, numbers) = (spec.taps * spec.channels, (spec.taps + 1) * spec.channels);
    let launch = Launch::new(FAMILY, spec.name::<T>("finish"), target).threads(BLOCK, numbers.into());
    let work = Work { bytes: spec.workspace() * 4 + spec.weight_bytes(), operations: spec.workspace() };
    Asm::kernel(launch, work, "dw and dbias: their parts added in order", |asm| {
        let args = Arguments::<T>::parameters(asm);
        let i = asm.global_thread();
        asm.exit_if(i.ge(numbers));
        let sum = asm.strided_sum(args.workspace.at(i), spec.batch * spec.pieces().count, numbers);
        let store = |to: Global<F32>, i| to.at(i).store(sum);
        asm.if_else(i.lt(weights), || store(args.dweight, i), || store(args.dbias, i - weights));
    })
}
