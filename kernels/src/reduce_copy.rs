//! One rank's step of a ring over device memory: adds the elements received from the left neighbour to its own, and
//! writes the result to its own array, directly to the right neighbour's memory, or to both.
//!
//! # Layout
//! `came`, `own` and `next` are flat arrays of `count` elements, aligned to the element. If all have the same offset
//! modulo 16 bytes, accesses have 16 bytes; otherwise they have one element each.
//!
//! # Threads
//! The elements are grouped by 16 aligned bytes of `own`; the first and the last group may be partial. A thread
//! processes a group, then the group as many further on as the grid has threads: any number of blocks is correct.
//!
//! # Bytes and operations
//! See [`ReduceCopy::work`] for a count, which is known only at the launch, since gradients have pieces of many sizes.
//! Bound by memory, or by the link to `next`.
//!
//! # Order of summation
//! came + own, one rounding: the same order as the ring on the CPU, so sums have the same bits, except for the payload
//! of a NaN.

use crate::{
    Kernel, Target, Work,
    layout::Raw,
    ptx::{Asm, F16, F32, Global, Launch, Reg, U32},
    span::Real,
};

/// Family of these kernels: the start of their names.
const FAMILY: &str = "reduce_copy";

/// Number of threads per block.
const BLOCK: u32 = 256;

/// Enough blocks to saturate a link between GPUs; the other multiprocessors stay free for other work.
const BLOCKS: u32 = 64;

/// The operation on the received elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReduceCopy {
    /// own = came + own.
    Sum,
    /// next = came + own; own stays as it is.
    SumForward,
    /// own = next = came + own.
    SumBoth,
    /// own = next = came, of f16 or f32.
    Copy,
}

impl ReduceCopy {
    /// All values, in the order of their declaration.
    pub const ALL: [Self; 4] = [Self::Sum, Self::SumForward, Self::SumBoth, Self::Copy];

    /// Number of blocks to launch for `count` elements of `T`.
    pub fn blocks<T: Real>(count: u32) -> u32 {
        // One more group, if the first one is partial.
        (count / T::VECTOR + 1).div_ceil(BLOCK).clamp(1, BLOCKS)
    }

    /// Its memory traffic and operations for `count` elements of `T`.
    pub fn work<T: Real>(self, count: u32) -> Work {
        let (arrays, sums) = match self {
            Self::Sum | Self::SumForward => (3, 1),
            Self::SumBoth => (4, 1),
            Self::Copy => (3, 0),
        };
        let count = u64::from(count);
        Work { bytes: arrays * u64::from(T::BYTES) * count, operations: sums * count }
    }

    /// Whether the operation writes `next`.
    pub fn forwards(self) -> bool {
        self != Self::Sum
    }

    /// The kernel. Parameters: came, own, next if it is written, count (u32, up to 2³¹). The arrays must not overlap.
    /// Sums are in f32 only.
    pub fn kernel<T: Real>(self, target: Target) -> Kernel {
        let (word, summary) = match self {
            Self::Sum => ("sum", "own = came + own"),
            Self::SumForward => ("sum_forward", "next = came + own"),
            Self::SumBoth => ("sum_both", "own = next = came + own"),
            Self::Copy => ("copy", "own = next = came"),
        };
        let name = format!("{FAMILY}_{word}_{}", T::SPELLED);
        let launch = Launch::new(FAMILY, name, target).grid([BLOCKS, 1, 1]).block([BLOCK, 1, 1]);
        Asm::kernel(launch, Work::default(), summary, |asm| {
            let [came, own] = ["came", "own"].map(|name| asm.pointer::<T>(name));
            let next = self.forwards().then(|| asm.pointer::<T>("next"));
            let count = asm.parameter_u32("count");

            asm.step("elements of the first group that lie before the first element");
            let before = place(own);
            let alike = |array| place(array).eq(before);
            let alike = next.map_or_else(|| alike(came), |next| alike(came) & alike(next));
            let end = count + before;
            let stride = asm.block_size(0) * asm.grid_size(0) * T::VECTOR;
            let group = asm.var(asm.global_thread() * T::VECTOR);
            asm.while_(
                || group.get().lt(end),
                || {
                    let whole = group.get().ge(before) & (group + T::VECTOR).le(end) & alike;
                    let element = group - before;
                    let each = |index: Reg<'_, U32>, width| {
                        self.step::<T>([came, own].map(|a| a.at(index)), next.map(|a| a.at(index)), width);
                    };
                    asm.if_else(
                        whole,
                        || each(element, T::VECTOR),
                        || {
                            // An index before the first element wraps to a number far above the count.
                            asm.for_range(0, T::VECTOR, 1, |i| {
                                let index = element + i;
                                asm.if_(index.lt(count), || each(index, 1));
                            });
                        },
                    );
                    group.add(stride);
                },
            );
        })
    }

    /// Processes `width` elements in one access.
    fn step<'a, T: Real>(self, [came, own]: [Global<'a, T>; 2], next: Option<Global<'a, T>>, width: u32) {
        if self == Self::Copy {
            let values = Raw::load(came, width);
            [Some(own), next].into_iter().flatten().for_each(|to| values.clone().store(to));
            return;
        }
        let pairs = T::load(came, width).into_iter().zip(T::load(own, width));
        let sums: Vec<_> = pairs.map(|(came, own)| came + own).collect();
        let keeps = (self != Self::SumForward).then_some(own);
        [keeps, next].into_iter().flatten().for_each(|to| T::store(to, &sums));
    }
}

/// Index of an array's first element within its 16 aligned bytes.
fn place<'a, T: Real>(array: Global<'a, T>) -> Reg<'a, U32> {
    (array.to_var().get().to::<U32>() >> T::BYTES.ilog2()) & (T::VECTOR - 1)
}

/// Each kernel, for one size of each case.
pub fn catalogue(target: Target) -> Vec<Kernel> {
    let of_f32 = ReduceCopy::ALL.map(|step| step.kernel::<F32>(target));
    of_f32.into_iter().chain([ReduceCopy::Copy.kernel::<F16>(target)]).collect()
}
