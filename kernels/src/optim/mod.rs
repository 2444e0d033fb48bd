//! The optimiser on the device: three launches a step, none of which the host waits for.
//!
//! 1. [`grad_norm`] sums the squares of the gradients, a piece of the arena a warp.
//! 2. [`optimiser_step`] adds the pieces up and settles the step in [`StepState`]: the norm, whether the step is skipped,
//!    the clip factor, AdamW's numbers for this step, and the next step's loss scale.
//! 3. [`adamw`] walks the arenas.
//!
//! [`keep_unless_skipped`] and [`average`] follow, for what else must not change where the step is skipped.
//!
//! [`digest`] compares the arenas of ranks, which should be the same.
//!
//! All that changes from step to step is in device memory, so a captured step can be replayed.
//!
//! Every result has the same bits as the CPU's: f32 and f64 operations that round to nearest, one by one, in an order
//! that both keep. The one freedom is the payload of a NaN.

mod adamw;
mod digest;
mod ema;
mod norm;
mod state;
mod step;

pub use adamw::{RangeError, adamw, decay_bitmap};
pub use digest::{DIGESTS, digest};
pub use ema::{average, keep_unless_skipped};
pub use norm::{grad_norm, partial_sums};
pub use state::{Offsets, StepState};
pub use step::optimiser_step;

use crate::{
    Kernel, Target,
    ptx::{F16, F32},
};

/// Elements of the smallest and of the largest model's arena.
const SIZES: [u32; 2] = [76_800, 230_046_080];

/// Each kernel for arenas of the smallest and of the largest model.
pub fn catalogue(target: Target) -> Vec<Kernel> {
    let kernels = SIZES.into_iter().flat_map(|n| {
        [
            grad_norm::<F16>(n, target),
            grad_norm::<F32>(n, target),
            optimiser_step(n, target),
            adamw::<F16>(n, true, target),
            adamw::<F32>(n, true, target),
            adamw::<F32>(n, false, target),
            keep_unless_skipped(n, target),
            average(n, target),
            digest(n, target),
        ]
    });
    kernels.collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique() {
        for target in Target::ALL {
            let kernels = catalogue(target);
            let names: HashSet<_> = kernels.iter().map(|k| &k.name).collect();
            assert_eq!(names.len(), kernels.len());
        }
    }

    #[test]
    fn nothing_is_fused_but_exact_products() {
        for kernel in catalogue(Target::Sm80) {
            let fused = kernel.ptx.lines().filter(|line| line.trim_start().starts_with("fma"));
            assert!(fused.clone().all(|line| line.contains("fma.rn.f64")), "{}", kernel.name);
            assert_eq!(fused.count() > 0, kernel.family == "grad_norm", "{}", kernel.name);
        }
    }
}
