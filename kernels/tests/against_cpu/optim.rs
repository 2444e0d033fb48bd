//! What follows an optimiser's step, against the host's f32: to the bit. A skipped step leaves it alone.

use ssmv_kernels::{
    Kernel,
    optim::{StepState, average, keep_unless_skipped},
};

use crate::{
    elements::{Host, Random, Single, Tolerance, assert_coalesced, compare},
    harness::{Arg, run, targets},
};

const SIZES: [usize; 8] = [0, 1, 3, 4, 7, 1003, 4096, 65_537];

/// A size with neither tail nor empty lanes.
const ALIGNED: usize = 4096;

/// Runs a kernel that changes `now` by `next`, after a step that was skipped or was not.
fn step(kernel: &Kernel, next: &[f32], now: &[f32], skipped: bool, ema_share: f64) -> Vec<f32> {
    let state = StepState { found_inf: skipped.into(), ema_share, ..StepState::default() }.to_bytes();
    let [next, before] = [next, now].map(Single::encode);
    let (outputs, report) = run(kernel, &[Arg::In(&next), Arg::InOut(&before), Arg::In(&state)]);
    if skipped {
        assert_eq!(outputs[0], before, "{}: written though the step was skipped", kernel.name);
    } else if now.len() == ALIGNED {
        assert_coalesced(&kernel.name, &report);
    }
    Single::decode(&outputs[0])
}

#[test]
fn what_is_pending_is_kept_unless_the_step_was_skipped() {
    for target in targets() {
        for n in SIZES {
            let mut random = Random(n as u64);
            let [pending, kept] = [0, 1].map(|_| random.with_corners::<Single>(n));
            let kernel = keep_unless_skipped(n as u32, target);
            let want: Vec<_> = pending.iter().map(|&x| x.into()).collect();
            compare::<Single>(
                &kernel.name,
                &step(&kernel, &pending, &kept, false, 1.0),
                &want,
                Tolerance::Exact,
            );
            step(&kernel, &pending, &kept, true, 1.0);
        }
    }
}

#[test]
fn averages_follow_the_parameters_unless_the_step_was_skipped() {
    for target in targets() {
        for n in SIZES {
            for share in [0.0, 0.001, 0.3, 1.0] {
                let mut random = Random(n as u64);
                let [parameters, averages] = [0, 1].map(|_| random.with_corners::<Single>(n));
                let kernel = average(n as u32, target);
                let moved = |(p, a): (&f32, &f32)| f64::from(a + share as f32 * (p - a));
                let want: Vec<_> = parameters.iter().zip(&averages).map(moved).collect();
                let got = step(&kernel, &parameters, &averages, false, share);
                compare::<Single>(&kernel.name, &got, &want, Tolerance::Exact);
                step(&kernel, &parameters, &averages, true, share);
            }
        }
    }
}
