//! Softmax and its logarithm over the last axis, forward and backward.
//!
//! For each row of a matrix [rows, N], with m = max x and S = Σ e^(x − m): softmax y = e^(x − m)/S, log-softmax y = x −
//! m − ln S. All exponents are at most 0 and S is at least 1, so nothing overflows. Backward, from y: softmax dx =
//! y·(dy − Σ dy·y), log-softmax dx = dy − e^y·Σ dy.
//!
//! # Layout
//! x, y and their gradients are f16 or f32, row-major; the arithmetic is f32.
//!
//! # Threads
//! As in layer normalisation: a warp processes a row, or several short ones; above 1024 columns a block of up to 512
//! threads processes one row. A thread takes vectors of up to 16 bytes and keeps up to 32 elements in registers from
//! one pass over the row to the next; rows of more than 16,384 columns are read again in each pass, from the L2 cache.
//! Rows are not split over blocks: with fewer long rows than multiprocessors, some of these are idle.
//!
//! # Bytes and operations
//! Forward moves two elements per element, for about 20 operations, most of them for the exponential. Backward moves
//! three. Both are bound by memory.
//!
//! # Order of summation
//! A thread adds the pairwise sums of its vectors in ascending order. The threads of a row are folded as in
//! [`Asm::lanes_fold`](crate::ptx::Asm::lanes_fold) and [`Asm::block_fold`](crate::ptx::Asm::block_fold). The order
//! depends on the shape alone: every run gives the same bits.

use crate::{
    Kernel, Result, Target, Work,
    ptx::{Asm, F16, F32, Global, Launch, Reg, U32},
    rows::Rows,
    size,
    span::{Real, load_all, store_all},
};

/// Family of these kernels: the start of their names.
const FAMILY: &str = "softmax";

/// Specification of a softmax of each row of a matrix [rows, cols].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Softmax {
    /// Rows of the matrix: the product of all axes but the last.
    pub rows: u32,
    /// Number of columns N: each row of y sums to 1.
    pub cols: u32,
    /// Whether the kernels compute the logarithm of the softmax.
    pub log: bool,
}

impl Softmax {
    /// The kernel that computes y. Parameters: x, y. y may be x.
    ///
    /// # Errors
    /// No rows, no columns, 2³¹ elements or more.
    pub fn forward<T: Real>(self, target: Target) -> Result<Kernel> {
        let summary = if self.log { "y = x - m - ln S" } else { "y = exp(x - m)/S" };
        let summary = format!("{summary}, m = max x and S = sum exp(x - m) of each row");
        self.kernel::<T>("forward", &summary, [2, 20], target, |asm, rows| {
            let (x, y) = (asm.pointer::<T>("x"), asm.pointer::<T>("y"));
            let row = rows.row(asm);
            let start = row.number * self.cols;
            let x = row.keep(loads(x, start, rows));
            asm.step("the largest");
            let largest = row.max(|vector| x.of(vector));
            let below = x.map(|x| x - largest);
            asm.step("the sum, and y");
            if self.log {
                let [sum] = row.sums(|vector| [each(below.of(vector), |x| asm.exp(x))]);
                let log = asm.log(sum);
                row.each_own(|vector| {
                    store_all(y.at(start + vector.col), &each(below.of(vector), |x| x - log));
                });
            } else {
                let powers = below.map(|x| asm.exp(x));
                let [sum] = row.sums(|vector| [powers.of(vector)]);
                let share = sum.reciprocal();
                row.each_own(|vector| {
                    store_all(y.at(start + vector.col), &each(powers.of(vector), |x| x * share));
                });
            }
        })
    }

    /// The kernel that computes dx. Parameters: dy, y, dx. dx may be dy.
    ///
    /// # Errors
    /// As [`Softmax::forward`].
    pub fn backward<T: Real>(self, target: Target) -> Result<Kernel> {
        let summary = if self.log { "dx = dy - exp(y)*sum(dy)" } else { "dx = y*(dy - sum(dy*y))" };
        self.kernel::<T>("backward", summary, [3, if self.log { 15 } else { 5 }], target, |asm, rows| {
            let (dy, y, dx) = (asm.pointer::<T>("dy"), asm.pointer::<T>("y"), asm.pointer::<T>("dx"));
            let row = rows.row(asm);
            let start = row.number * self.cols;
            let (dy, y) = (row.keep(loads(dy, start, rows)), row.keep(loads(y, start, rows)));
            asm.step("the sum");
            let [sum] = row.sums(|vector| {
                let dy = dy.of(vector);
                [if self.log { dy } else { pairs(dy, y.of(vector), |dy, y| dy * y) }]
            });
            asm.step("dx");
            row.each_own(|vector| {
                let values = pairs(dy.of(vector), y.of(vector), |dy, y| match self.log {
                    true => (-asm.exp(y)).mad(sum, dy),
                    false => y * (dy - sum),
                });
                store_all(dx.at(start + vector.col), &values);
            });
        })
    }

    /// A kernel with this memory traffic and these operations per element.
    fn kernel<T: Real>(
        self,
        pass: &str,
        summary: &str,
        [moves, operations]: [u64; 2],
        target: Target,
        body: impl FnOnce(&Asm, Rows),
    ) -> Result<Kernel> {
        let Self { rows, cols, log } = self;
        let n = u64::from(size::elements(FAMILY, &[rows, cols])?);
        let name = format!("{}softmax_{pass}_{}_{rows}x{cols}", if log { "log_" } else { "" }, T::SPELLED);
        let shape = Rows::new(rows, cols, T::VECTOR);
        let launch = shape.launch(Launch::new(FAMILY, name, target));
        let work = Work { bytes: n * moves * u64::from(T::BYTES), operations: n * operations };
        Ok(Asm::kernel(launch, work, summary, |asm| body(asm, shape)))
    }
}

/// Loads the row that begins at `start`, by the first column of a vector.
fn loads<'k, T: Real>(
    array: Global<'k, T>,
    start: Reg<'k, U32>,
    rows: Rows,
) -> impl Fn(Reg<'k, U32>) -> Vec<Reg<'k, F32>> {
    move |col| load_all(array.at(start + col), rows.width)
}

fn each<'k>(numbers: Vec<Reg<'k, F32>>, f: impl Fn(Reg<'k, F32>) -> Reg<'k, F32>) -> Vec<Reg<'k, F32>> {
    numbers.into_iter().map(f).collect()
}

fn pairs<'k>(
    a: Vec<Reg<'k, F32>>,
    b: Vec<Reg<'k, F32>>,
    f: impl Fn(Reg<'k, F32>, Reg<'k, F32>) -> Reg<'k, F32>,
) -> Vec<Reg<'k, F32>> {
    a.into_iter().zip(b).map(|(a, b)| f(a, b)).collect()
}

/// The kernels of this family: attention's rows, a classifier's, short and odd rows, one per block, longer than
/// registers hold.
pub fn catalogue(target: Target) -> Vec<Kernel> {
    let sizes = [(1600, 1024), (1000, 64), (128, 10), (33, 7), (300, 1023), (64, 4096), (3, 50_257)];
    let all = sizes.into_iter().flat_map(|(rows, cols)| [false, true].map(|log| Softmax { rows, cols, log }));
    let kernels = all.flat_map(|spec| {
        [
            spec.forward::<F16>(target),
            spec.forward::<F32>(target),
            spec.backward::<F16>(target),
            spec.backward::<F32>(target),
        ]
    });
    kernels.flatten().collect()
}
