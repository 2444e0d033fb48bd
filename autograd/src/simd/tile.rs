//! The register tile: the inner loop of every pass of every convolution.
//!
//! c[i][j] (+)= Σ over a three-level walk of a[aᵢ + o·a₀ + p·a₁ + q·a₂] · b[o·b₀ + p·b₁ + q·b₂ + j]
//!
//! Rows i have offsets of their own into `a` (a pixel's patch, or an element of the patch), columns j are contiguous in
//! `b`. fprop walks kernel rows × the contiguous kw·cin run of an NHWC image, so no im2col is ever written; wgrad walks
//! images × output rows × output columns. An element of `a` is broadcast, a row of `b` is loaded as vectors, and the
//! MR×NV accumulators stay in registers for the whole walk.
//!
//! The operands are f32, f64, or pairs of bfloat16 whose two products are added to one f32 sum ([`Operand`]).

use std::marker::PhantomData;

use pulp::{Arch, Simd, WithSimd};

use super::{Lanes, native_lanes};
use crate::Element;

/// Vectors in the widest panel.
pub(crate) const MAX_VECTORS: usize = 3;

/// Columns of a panel for a matrix of `cols` columns: one or two registers.
pub(crate) fn panel_width<W: Operand>(cols: usize) -> usize {
    let lanes = native_lanes::<W::Sum>();
    if cols <= lanes { lanes } else { lanes * 2 }
}

/// A word of `b`, and what it is multiplied with and added to.
pub trait Operand: Copy + Send + Sync + bytemuck::Pod {
    /// Elements of `a`: a word is made of [`Operand::PARTS`] neighbours.
    type Part: Copy + Send + Sync + bytemuck::Pod;
    /// Sums and results.
    type Sum: Element;
    /// Products that a word contributes to a sum.
    const PARTS: usize;

    /// The word of products with these elements, of which the first [`Operand::PARTS`] count.
    fn word(parts: [Self::Sum; 2]) -> Self;
    /// Elements as parts of `a`, without a copy where they are the same.
    fn borrow(elements: &[Self::Sum]) -> Option<&[Self::Part]>;
    /// Elements as parts of `a`; both are as long.
    fn convert(elements: &[Self::Sum], parts: &mut [Self::Part]);
    /// Runs a panel whose accesses were checked.
    fn dispatch(panel: Panel<Self>);
}

macro_rules! single {
    ($($t:ident),*) => { $(impl Operand for $t {
        type Part = $t;
        type Sum = $t;
        const PARTS: usize = 1;

        #[inline(always)]
        fn word(parts: [Self; 2]) -> Self {
            parts[0]
        }
        fn borrow(elements: &[Self]) -> Option<&[Self]> {
            Some(elements)
        }
        fn convert(elements: &[Self], parts: &mut [Self]) {
            parts.copy_from_slice(elements);
        }
        fn dispatch(panel: Panel<Self>) {
            Arch::new().dispatch(panel);
        }
    })* };
}

single!(f32, f64);

/// Registers of one instruction set for one kind of operand.
pub(crate) trait Registers: Copy {
    type W: Operand;
    /// A register of words.
    type Words: Copy;
    /// A register of sums.
    type Sums: Copy;
    /// Sums in a register, which are as many as words.
    const LANES: usize;

    fn zero(self) -> Self::Sums;
    /// # Safety
    /// The register's words are readable from `from` on.
    unsafe fn load(self, from: *const Self::W) -> Self::Words;
    /// # Safety
    /// A word's parts are readable from `from` on.
    unsafe fn broadcast(self, from: *const <Self::W as Operand>::Part) -> Self::Words;
    fn mul_add(self, a: Self::Words, b: Self::Words, sum: Self::Sums) -> Self::Sums;
    fn add(self, a: Self::Sums, b: Self::Sums) -> Self::Sums;
    /// # Safety
    /// The register's sums are readable from `from` on.
    unsafe fn load_sums(self, from: *const <Self::W as Operand>::Sum) -> Self::Sums;
    /// # Safety
    /// The register's sums are writable from `to` on.
    unsafe fn store(self, sums: Self::Sums, to: *mut <Self::W as Operand>::Sum);
}

/// The registers of f32 and f64 that `pulp` knows.
struct Plain<S, T>(S, PhantomData<T>);

impl<S: Copy, T> Clone for Plain<S, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S: Copy, T> Copy for Plain<S, T> {}

impl<S: Simd, T: Element + Operand<Part = T, Sum = T>> Registers for Plain<S, T> {
    type W = T;
    type Words = T::V<S>;
    type Sums = T::V<S>;
    const LANES: usize = size_of::<T::V<S>>() / size_of::<T>();

    #[inline(always)]
    fn zero(self) -> T::V<S> {
        T::splat(self.0, T::ZERO)
    }
    #[inline(always)]
    unsafe fn load(self, from: *const T) -> T::V<S> {
        // SAFETY: as the trait's.
        unsafe { from.cast::<T::V<S>>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn broadcast(self, from: *const T) -> T::V<S> {
        // SAFETY: as the trait's.
        T::splat(self.0, unsafe { *from })
    }
    #[inline(always)]
    fn mul_add(self, a: T::V<S>, b: T::V<S>, sum: T::V<S>) -> T::V<S> {
        T::mul_add(self.0, a, b, sum)
    }
    #[inline(always)]
    fn add(self, a: T::V<S>, b: T::V<S>) -> T::V<S> {
        <T as Lanes>::add(self.0, a, b)
    }
    #[inline(always)]
    unsafe fn load_sums(self, from: *const T) -> T::V<S> {
        // SAFETY: as the trait's.
        unsafe { from.cast::<T::V<S>>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(self, sums: T::V<S>, to: *mut T) {
        // SAFETY: as the trait's.
        unsafe { to.cast::<T::V<S>>().write_unaligned(sums) }
    }
}

/// One level of the walk: the number of steps, and the step size in parts of `a` and in words of `b`.
#[derive(Clone, Copy, Debug)]
pub struct Level {
    pub count: usize,
    pub a: usize,
    pub b: usize,
}

impl Level {
    /// A level with one step.
    pub const ONCE: Self = Self { count: 1, a: 0, b: 0 };
}

/// The work on one panel: all rows against one panel of columns.
pub struct Panel<'a, W: Operand> {
    pub a: &'a [W::Part],
    /// Offset of each row into `a`.
    pub rows: &'a [usize],
    pub b: &'a [W],
    /// Loops over the input, outermost first.
    pub walk: [Level; 3],
    /// Columns that a vector load of `b` reads: one to [`MAX_VECTORS`] registers.
    pub width: usize,
    /// Columns of the result; at most `width`, the rest is padding.
    pub cols: usize,
    /// Initial values of the accumulators, `cols` long; zero if absent.
    pub init: Option<&'a [W::Sum]>,
    /// Whether to add to `c` instead of overwriting it.
    pub add: bool,
    pub c: &'a mut [W::Sum],
    /// Offset of each row into `c`, where its `cols` columns are contiguous; plus `c_shift`.
    pub c_rows: &'a [usize],
    pub c_shift: usize,
}

impl<W: Operand> Panel<'_, W> {
    /// Runs the panel. Every access is checked once here, against the largest offsets of the walk.
    pub fn run(mut self) {
        // Saturated where it overflows, which no slice is long enough for.
        let reach = |f: fn(&Level) -> usize| -> usize {
            let far = self.walk.iter().map(|l| l.count.saturating_sub(1).saturating_mul(f(l)));
            far.fold(0, usize::saturating_add)
        };
        let (Some(&last), Some(&c_last)) = (self.rows.iter().max(), self.c_rows.iter().max()) else { return };
        assert!(self.rows.len() == self.c_rows.len() && self.cols <= self.width);
        assert!(self.init.is_none_or(|i| i.len() >= self.cols));
        assert!(c_last.saturating_add(self.c_shift).saturating_add(self.cols) <= self.c.len());
        if self.walk.iter().all(|l| l.count > 0) {
            assert!(last.saturating_add(reach(|l| l.a)).saturating_add(W::PARTS) <= self.a.len());
            assert!(reach(|l| l.b).saturating_add(self.width) <= self.b.len());
        } else {
            // Nothing is read, and no pointer is made.
            self.walk = [Level { count: 0, a: 0, b: 0 }; 3];
        }
        W::dispatch(self);
    }
}

impl<T: Element + Operand<Part = T, Sum = T>> WithSimd for Panel<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let registers = Plain::<S, T>(simd, PhantomData);
        // Accumulators, a row of b and one broadcast fit the register file.
        match (S::REGISTER_COUNT >= 32, self.width / T::lanes::<S>()) {
            (true, 1) => self.tiles::<_, 14, 1>(registers),
            (true, 2) => self.tiles::<_, 12, 2>(registers),
            (true, 3) => self.tiles::<_, 8, 3>(registers),
            (false, 1) => self.tiles::<_, 10, 1>(registers),
            (false, 2) => self.tiles::<_, 6, 2>(registers),
            (false, 3) => self.tiles::<_, 4, 3>(registers),
            (_, vectors) => unreachable!("a panel of {vectors} registers"),
        }
    }
}

impl<W: Operand> Panel<'_, W> {
    /// All rows, MR at a time; the last ones by tiles of 4, 2 and 1.
    #[inline(always)]
    pub(super) fn tiles<R: Registers<W = W>, const MR: usize, const NV: usize>(mut self, registers: R) {
        assert_eq!(self.width, NV * R::LANES);
        let mut first = 0;
        while self.rows.len() - first >= MR {
            self.tile::<R, MR, NV>(registers, first);
            first += MR;
        }
        while self.rows.len() - first >= 4 {
            self.tile::<R, 4, NV>(registers, first);
            first += 4;
        }
        match self.rows.len() - first {
            3 => self.tile::<R, 3, NV>(registers, first),
            2 => self.tile::<R, 2, NV>(registers, first),
            1 => self.tile::<R, 1, NV>(registers, first),
            _ => {}
        }
    }

    #[inline(always)]
    fn tile<R: Registers<W = W>, const MR: usize, const NV: usize>(&mut self, registers: R, first: usize) {
        let mut acc = [[registers.zero(); NV]; MR];
        let rows: [usize; MR] = std::array::from_fn(|i| self.rows[first + i]);
        let [outer, middle, inner] = self.walk;
        for o in 0..outer.count {
            for p in 0..middle.count {
                let at = o * outer.a + p * middle.a;
                let b = &self.b[o * outer.b + p * middle.b..];
                // SAFETY: `run` checked that row offset + every step of the walk lies inside `a`, and that every step
                // plus a panel's width lies inside `b`.
                unsafe {
                    let a: [*const W::Part; MR] = std::array::from_fn(|i| self.a.as_ptr().add(rows[i] + at));
                    strip::<R, MR, NV>(registers, &mut acc, a, b.as_ptr(), inner);
                }
            }
        }
        for (i, row) in acc.iter().enumerate() {
            let at = self.c_rows[first + i] + self.c_shift;
            let c = &mut self.c[at..at + self.cols];
            if self.cols == NV * R::LANES {
                for (v, &value) in row.iter().enumerate() {
                    // SAFETY: `c` is NV registers long, and so is `init` (`run` checked it).
                    unsafe {
                        let slot = c.as_mut_ptr().add(v * R::LANES);
                        let mut value = value;
                        if let Some(init) = self.init {
                            value =
                                registers.add(value, registers.load_sums(init.as_ptr().add(v * R::LANES)));
                        }
                        if self.add {
                            value = registers.add(registers.load_sums(slot), value);
                        }
                        registers.store(value, slot);
                    }
                }
                continue;
            }
            let mut values = [W::Sum::ZERO; MAX_VECTORS * 16];
            for (v, &value) in row.iter().enumerate() {
                // SAFETY: NV registers of at most 16 sums fit the array.
                unsafe { registers.store(value, values.as_mut_ptr().add(v * R::LANES)) };
            }
            for (j, c) in c.iter_mut().enumerate() {
                let value = values[j] + self.init.map_or(W::Sum::ZERO, |init| init[j]);
                *c = if self.add { *c + value } else { value };
            }
        }
    }
}

/// acc[i][v] += Σ_q a[i][q·inner.a] · b[q·inner.b + v·lanes ..].
///
/// # Safety
/// `a[i]` and `b` are readable for the whole strip.
#[inline(always)]
unsafe fn strip<R: Registers, const MR: usize, const NV: usize>(
    registers: R,
    acc: &mut [[R::Sums; NV]; MR],
    a: [*const <R::W as Operand>::Part; MR],
    b: *const R::W,
    inner: Level,
) {
    for q in 0..inner.count {
        // SAFETY: as the function's.
        unsafe {
            let b = b.add(q * inner.b);
            let row: [R::Words; NV] = std::array::from_fn(|v| registers.load(b.add(v * R::LANES)));
            for i in 0..MR {
                let x = registers.broadcast(a[i].add(q * inner.a));
                for v in 0..NV {
                    acc[i][v] = registers.mul_add(x, row[v], acc[i][v]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panel_is_the_sum_it_says() {
        let lanes = native_lanes::<f32>();
        for (rows, cols, walk) in [
            (1, 1, [Level::ONCE, Level::ONCE, Level { count: 5, a: 1, b: 0 }]),
            (37, 5, [Level::ONCE, Level { count: 3, a: 20, b: 0 }, Level { count: 7, a: 1, b: 0 }]),
            (
                29,
                2 * lanes - 1,
                [
                    Level { count: 2, a: 50, b: 0 },
                    Level { count: 3, a: 9, b: 0 },
                    Level { count: 4, a: 2, b: 0 },
                ],
            ),
        ] {
            let width = panel_width::<f32>(cols);
            let steps: usize = walk.iter().map(|l| l.count).product();
            let inner = walk[2].count * width;
            let walk = [
                Level { b: inner * walk[1].count, ..walk[0] },
                Level { b: inner, ..walk[1] },
                Level { b: width, ..walk[2] },
            ];
            let a: Vec<f32> = (0..400).map(|i| ((i * 37 % 101) as f32 - 50.0) / 16.0).collect();
            let b: Vec<f32> = (0..steps * width).map(|i| ((i * 53 % 97) as f32 - 48.0) / 16.0).collect();
            let offsets: Vec<usize> = (0..rows).map(|i| i * 3).collect();
            let c_rows: Vec<usize> = (0..rows).map(|i| i * cols).collect();
            let init: Vec<f32> = (0..cols).map(|j| j as f32).collect();
            let mut c = vec![2.0f32; rows * cols];
            let panel = Panel {
                a: &a,
                rows: &offsets,
                b: &b,
                walk,
                width,
                cols,
                init: Some(&init),
                add: true,
                c: &mut c,
                c_rows: &c_rows,
                c_shift: 0,
            };
            panel.run();
            for i in 0..rows {
                for j in 0..cols {
                    let mut want = 2.0 + j as f32;
                    for o in 0..walk[0].count {
                        for p in 0..walk[1].count {
                            for q in 0..walk[2].count {
                                let at = offsets[i] + o * walk[0].a + p * walk[1].a + q * walk[2].a;
                                want += a[at] * b[o * walk[0].b + p * walk[1].b + q * walk[2].b + j];
                            }
                        }
                    }
                    assert!(
                        (c[i * cols + j] - want).abs() < 1e-3,
                        "row {i} column {j}: {} for {want}",
                        c[i * cols + j]
                    );
                }
            }
        }
    }
}
