//! Losses: the mean over all elements of a cost of the difference d = prediction − target.
//!
//! L1: cost |d|, slope 1 for d > 0, −1 for d < 0, d itself otherwise: 0, or NaN. MSE: cost d², slope 2·d.
//! dprediction = dy/n·slope(d).
//!
//! # Layout
//! Prediction and target are n elements of the element type, beginning at multiples of 16 bytes; loss and dy are one
//! f32 each in device memory. dy holds the factor of the gradient, which includes the loss scale: it is read from
//! memory so that a captured step can be replayed.
//!
//! # Threads
//! A thread loads vectors of 16 bytes of each array, contiguous across the warp. Forward: as many blocks as give each
//! thread four vectors, at most 512, write one sum each to the workspace, and another block adds these. A small array
//! takes a single block.
//!
//! # Bytes and operations
//! Forward moves two elements per element for 3 operations in f64, so that a mean of millions is as accurate as the
//! CPU's; backward three elements for at most 4 operations, in f32, rounded once. Bound by memory.
//!
//! # Order of summation
//! With G threads in total, accumulator j of thread t adds the costs of elements (i·G + t)·w + j for i = 0, 1, …, where
//! w is the number of elements in 16 bytes. The last n mod w elements go to accumulator 0 of threads 0, 1, …, after all
//! others. A thread adds its accumulators in order; then lanes l and l XOR m for m = 16, 8, 4, 2, 1; then the block's
//! warps in order. The second kernel's thread t adds the sums of blocks t, t + 256 in order, then its lanes and warps
//! likewise. All of this is in f64; the sum is divided by n and rounded once. No atomics: every run gives the same
//! bits.

use crate::{
    Kernel, Plan, Result, Target, Work,
    ptx::{Asm, F16, F32, F64, Launch, Reg},
    size,
    span::Real,
};

/// Family of these kernels: the start of their names.
const FAMILY: &str = "loss";

/// Number of threads per block.
const BLOCK: u32 = 256;

/// Fewest vectors per thread before more blocks are used.
const LEAST_ROUNDS: u32 = 4;

/// Most blocks, enough to occupy any GPU.
const MOST_BLOCKS: u32 = 512;

/// Vectors of each array that a thread loads at once.
const UNROLL: u32 = 2;

/// The cost of a difference d.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LossKind {
    /// Mean absolute error: |d|.
    L1,
    /// Mean squared error: d².
    Mse,
}

impl LossKind {
    /// Both losses, for tables and tests.
    pub const ALL: [Self; 2] = [Self::L1, Self::Mse];

    fn name(self) -> &'static str {
        match self {
            Self::L1 => "l1",
            Self::Mse => "mse",
        }
    }

    fn cost<'a>(self, d: Reg<'a, F64>) -> Reg<'a, F64> {
        match self {
            Self::L1 => d.abs(),
            Self::Mse => d * d,
        }
    }

    fn slope<'a>(self, asm: &'a Asm, d: Reg<'a, F32>) -> Reg<'a, F32> {
        match self {
            Self::L1 => {
                let below = asm.select(d.lt(0.0), -1.0, d);
                asm.select(d.gt(0.0), 1.0, below)
            }
            Self::Mse => d + d,
        }
    }
}

/// Specification of the mean cost of `n` elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Loss {
    /// Cost of a difference.
    pub kind: LossKind,
    /// Number of elements of each array.
    pub n: u32,
}

impl Loss {
    /// The kernels of the loss. Parameters of each: prediction, target, loss (f32), workspace.
    ///
    /// # Errors
    /// No elements, 2³¹ of them or more.
    pub fn forward<T: Real>(&self, target: Target) -> Result<Plan> {
        size::elements(FAMILY, &[self.n])?;
        let blocks = self.blocks::<T>();
        let first = self.sums::<T>(blocks, target);
        if blocks == 1 {
            return Ok(Plan { kernels: vec![first], workspace_bytes: 0 });
        }
        let kernels = vec![first, self.finish::<T>(blocks, target)];
        Ok(Plan { kernels, workspace_bytes: u64::from(blocks) * 8 })
    }

    /// The kernel of dprediction. Parameters: prediction, target, dy (f32), dprediction. The target's gradient is its
    /// negative.
    ///
    /// # Errors
    /// As [`Loss::forward`].
    pub fn backward<T: Real>(&self, target: Target) -> Result<Kernel> {
        let Self { kind, n } = *self;
        size::elements(FAMILY, &[n])?;
        let threads = n.div_ceil(T::VECTOR);
        let launch = Launch::new(FAMILY, self.name::<T>("backward"), target).threads(BLOCK, threads.into());
        let work = Work { bytes: 3 * u64::from(n) * u64::from(T::BYTES) + 4, operations: 3 * u64::from(n) };
        Ok(Asm::kernel(launch, work, "dp = dy/n*slope(p - t)", |asm| {
            let [p, t] = ["prediction", "target"].map(|name| asm.pointer::<T>(name));
            let (dy, dp) = (asm.pointer::<F32>("dy"), asm.pointer::<T>("dprediction"));
            let factor = dy.load() / n as f32;
            asm.each_span(n, T::VECTOR, |span| {
                let slopes = span.load(p).into_iter().zip(span.load(t)).map(|(p, t)| kind.slope(asm, p - t));
                span.store(dp, &slopes.map(|slope| factor * slope).collect::<Vec<_>>());
            });
        }))
    }

    fn blocks<T: Real>(&self) -> u32 {
        (self.n / T::VECTOR).div_ceil(BLOCK * LEAST_ROUNDS).clamp(1, MOST_BLOCKS)
    }

    /// One sum per block; with a single block, the loss.
    fn sums<T: Real>(&self, blocks: u32, target: Target) -> Kernel {
        let Self { kind, n } = *self;
        let launch =
            Launch::new(FAMILY, self.name::<T>("forward"), target).block([BLOCK, 1, 1]).grid([blocks, 1, 1]);
        let written = if blocks == 1 { 4 } else { u64::from(blocks) * 8 };
        let work =
            Work { bytes: 2 * u64::from(n) * u64::from(T::BYTES) + written, operations: 3 * u64::from(n) };
        Asm::kernel(launch, work, "each block's sum of the costs of p - t", |asm| {
            let [p, t] = ["prediction", "target"].map(|name| asm.pointer::<T>(name));
            let (loss, workspace) = (asm.pointer::<F32>("loss"), asm.pointer::<F64>("workspace"));
            let sums: Vec<_> = (0..T::VECTOR).map(|_| asm.var::<F64>(0.0)).collect();
            let thread = asm.global_thread();
            let add = |[p, t]: [&[Reg<'_, F32>]; 2]| {
                for ((p, t), sum) in p.iter().zip(t).zip(&sums) {
                    sum.add(kind.cost(p.to::<F64>() - t.to::<F64>()));
                }
            };

            asm.step("whole vectors, as many for each thread, then those that are left");
            let threads = blocks * BLOCK;
            let (vectors, tail) = (n / T::VECTOR, n % T::VECTOR);
            let (rounds, left) = (vectors / threads, vectors % threads);
            let unrolled = rounds / UNROLL * UNROLL;
            let take = |first: Reg<'_, _>, count: u32| {
                let load =
                    |i: u32| [p, t].map(|x| T::load(x.at((first + i * threads) * T::VECTOR), T::VECTOR));
                let loaded: Vec<_> = (0..count).map(load).collect();
                loaded.iter().for_each(|[p, t]| add([p, t]));
            };
            if unrolled > 0 {
                asm.for_range(0, unrolled * threads, UNROLL * threads, |i| take(thread + i, UNROLL));
            }
            if rounds > unrolled {
                take(thread + unrolled * threads, rounds - unrolled);
            }
            if left > 0 {
                asm.if_(thread.lt(left), || take(thread + rounds * threads, 1));
            }
            if tail > 0 {
                let last = [p, t].map(|x| x.at(thread + vectors * T::VECTOR));
                asm.if_(thread.lt(tail), || add([&T::load(last[0], 1), &T::load(last[1], 1)]));
            }

            let own = sums.iter().map(|sum| sum.get()).reduce(|a, b| a + b);
            let Some(sum) = own.map(|own| block_sum(asm, own)) else { return };
            asm.if_(asm.thread(0).eq(0), || match blocks {
                1 => loss.store(self.mean(sum)),
                _ => workspace.at(asm.block(0)).store(sum),
            });
        })
    }

    /// The loss, from the sums of the blocks.
    fn finish<T: Real>(&self, blocks: u32, target: Target) -> Kernel {
        let launch = Launch::new(FAMILY, self.name::<T>("finish"), target).block([BLOCK, 1, 1]);
        let work = Work { bytes: u64::from(blocks) * 8 + 4, operations: blocks.into() };
        Asm::kernel(launch, work, "loss = the sum of the blocks' sums / n", |asm| {
            let _ = ["prediction", "target"].map(|name| asm.pointer::<T>(name));
            let (loss, workspace) = (asm.pointer::<F32>("loss"), asm.pointer::<F64>("workspace"));
            let (thread, sum) = (asm.thread(0), asm.var::<F64>(0.0));
            for first in (0..blocks).step_by(BLOCK as usize) {
                let exists = (thread + first).lt(blocks);
                asm.if_(exists, || sum.add(workspace.at(thread + first).load()));
            }
            let sum = block_sum(asm, sum.get());
            asm.if_(thread.eq(0), || loss.store(self.mean(sum)));
        })
    }

    fn mean<'a>(&self, sum: Reg<'a, F64>) -> Reg<'a, F32> {
        (sum / f64::from(self.n)).to::<F32>()
    }

    fn name<T: Real>(&self, pass: &str) -> String {
        format!("loss_{}_{pass}_{}_n{}", self.kind.name(), T::SPELLED, self.n)
    }
}

/// The sum over the block, in every thread.
fn block_sum<'a>(asm: &'a Asm, own: Reg<'a, F64>) -> Reg<'a, F64> {
    asm.step("the block's threads to one");
    let warp = [16, 8, 4, 2, 1].into_iter().fold(own, |sum, mask| sum + sum.shuffle_xor(mask));
    let slots = asm.shared::<F64>(BLOCK / 32);
    asm.if_(asm.lane().eq(0), || slots.at(asm.thread(0) >> 5).store(warp));
    asm.barrier();
    let sum = asm.var::<F64>(0.0);
    (0..BLOCK / 32).for_each(|warp| sum.add(slots.plus(warp.into()).load()));
    sum.get()
}

/// The kernels of this family: predictions of `base` and of the smallest preset, and odd sizes.
pub fn catalogue(target: Target) -> Vec<Kernel> {
    let sizes = [16 * 2 * 64 * 64 * 3, 64 * 2 * 64 * 64 * 3, 16 * 2 * 32 * 32 * 3, 1003, 1];
    let all = sizes.into_iter().flat_map(|n| LossKind::ALL.map(|kind| Loss { kind, n }));
    all.flat_map(|loss| {
        let halves = (loss.forward::<F16>(target), loss.backward::<F16>(target));
        let singles = (loss.forward::<F32>(target), loss.backward::<F32>(target));
        [halves, singles]
            .into_iter()
            .flat_map(|(forward, backward)| forward.into_iter().flat_map(|plan| plan.kernels).chain(backward))
    })
    .collect()
}
