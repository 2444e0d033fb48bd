//! What this processor can do at most: multiply-adds from registers, and copies between buffers larger than its caches.

use std::{hint::black_box, time::Instant};

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::Lanes;
use crate::buffer::Buffer;

/// Independent sums: more than latency × units of any processor, fewer than its registers.
const SUMS: usize = 12;
/// Repeats of which the fastest counts: others have the processor in between.
const REPEATS: usize = 5;

/// Rates of all threads together, measured.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct ProcessorRates {
    /// f32 operations a second, two for a multiply-add, from registers.
    pub f32_operations: f64,
    /// The same of bf16 products with f32 sums; `None` where the processor has no such instruction.
    pub bf16_operations: Option<f64>,
    /// Bytes read and written a second.
    pub memory_bytes: f64,
}

/// Measures them on all threads of the pool, for about `effort` × 0.1 seconds.
pub fn processor_rates(effort: f64) -> ProcessorRates {
    let steps = (4e6 * effort) as usize;
    let operations = |of_step: f64, run: &(dyn Fn(usize) + Sync)| {
        of_step * steps as f64 * rayon::current_num_threads() as f64
            / fastest(|| drop(rayon::broadcast(|_| run(steps))))
    };
    let f32_operations = operations((2 * SUMS * super::native_lanes::<f32>()) as f64, &|steps| {
        Arch::new().dispatch(Chain(steps))
    });
    #[cfg(target_arch = "x86_64")]
    let bf16_operations = super::bf16::available().then(|| {
        operations((SUMS * 64) as f64, &|steps| {
            // SAFETY: the processor has the instruction.
            unsafe { super::bf16::chain::<SUMS>(steps) }
        })
    });
    #[cfg(not(target_arch = "x86_64"))]
    let bf16_operations = None;
    let len = ((1 << 26) as f64 * effort.clamp(0.1, 1.0)) as usize;
    let (source, mut copy) = (Buffer::<f32>::zeros(len), Buffer::<f32>::zeros(len));
    let seconds = fastest(|| {
        copy.par_chunks_mut(1 << 16)
            .zip(source.par_chunks(1 << 16))
            .for_each(|(to, from)| to.copy_from_slice(from));
    });
    black_box(&copy);
    ProcessorRates {
        f32_operations,
        bf16_operations,
        memory_bytes: (2 * len * size_of::<f32>()) as f64 / seconds,
    }
}

fn fastest(mut body: impl FnMut()) -> f64 {
    let run = |_| {
        let start = Instant::now();
        body();
        start.elapsed().as_secs_f64()
    };
    (0..REPEATS).map(run).fold(f64::INFINITY, f64::min)
}

/// So many steps of [`SUMS`] multiply-adds.
struct Chain(usize);

impl WithSimd for Chain {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (a, b) = (f32::splat(simd, black_box(0.5)), f32::splat(simd, black_box(0.25)));
        let mut sums = [f32::splat(simd, 0.0); SUMS];
        for _ in 0..self.0 {
            for sum in &mut sums {
                *sum = <f32 as Lanes>::mul_add(simd, *sum, a, b);
            }
        }
        let total = sums.into_iter().reduce(|x, y| <f32 as Lanes>::add(simd, x, y));
        black_box(total);
    }
}
