//! The forward pass of the causal convolution.

use super::{
    CausalConv1d,
    thread::{Thread, taps},
};
use crate::{
    Kernel, Target, Work,
    ptx::{Asm, F32},
    span::Real,
};

/// The kernel that computes y [B, L, D].
pub(super) fn kernel<T: Real>(spec: &CausalConv1d, target: Target) -> Kernel {
    let work = Work {
        bytes: 2 * spec.elements() * u64::from(T::BYTES) + spec.weight_bytes(),
        operations: spec.elements() * (2 * u64::from(spec.taps) + if spec.silu { 8 } else { 0 }),
    };
    let summary = "y[t] = f(bias + the sum of w[k]*x[t - (K-1) + k])";
    Asm::kernel(spec.launch::<T>("forward", target), work, summary, |asm| {
        let x = asm.pointer::<T>("x");
        let (weight, bias) = (asm.pointer::<F32>("weight"), asm.pointer::<F32>("bias"));
        let y = asm.pointer::<T>("y");
        let thread = Thread::new(asm, spec);
        let (weights, bias) = thread.weights(weight, bias);
        let (x, y) = (thread.at(x, spec.x_row), thread.at(y, spec.channels));
        thread.by_length(|steps| {
            let past = i64::from(spec.taps) - 1;
            let rows = thread.rows(x, spec.x_row, steps, -past, steps.into());
            for (t, rows) in (0..steps).zip(rows.windows(spec.taps as usize)) {
                let sums = taps(&weights, rows, &bias);
                let values: Vec<_> = sums.into_iter().map(|p| spec.activate(asm, p)).collect();
                T::store(y.plus(i64::from(t) * i64::from(spec.channels)), &values);
            }
        });
    })
}
