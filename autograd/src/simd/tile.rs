//! The register tile: the inner loop of every pass of every convolution.
//!
//! c[i][j] (+)= Σ over a three-level walk of a[aᵢ + o·a₀ + p·a₁ + q·a₂] · b[o·b₀ + p·b₁ + q·b₂ + j]
//!
//! Rows i have offsets of their own into `a` (a pixel's patch, or an element of the patch), columns j are contiguous in
//! `b`. fprop walks kernel rows × the contiguous kw·cin run of an NHWC image, so no im2col is ever written; wgrad walks
//! images × output rows × output columns. An element of `a` is broadcast, a row of `b` is loaded as vectors, and the
//! MR×NV accumulators stay in registers for the whole walk.

use pulp::{Arch, Simd, WithSimd};

use super::{Lanes, native_lanes};
use crate::Element;

/// Vectors in the widest panel.
pub(crate) const MAX_VECTORS: usize = 2;

/// Columns of a panel for a matrix of `cols` columns: one or two registers.
pub(crate) fn panel_width<T: Element>(cols: usize) -> usize {
    let lanes = native_lanes::<T>();
    if cols <= lanes { lanes } else { lanes * MAX_VECTORS }
}

/// One level of the walk: the number of steps, and the step size in `a` and in `b`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Level {
    pub count: usize,
    pub a: usize,
    pub b: usize,
}

impl Level {
    /// A level with one step.
    pub const ONCE: Self = Self { count: 1, a: 0, b: 0 };
}

/// The work on one panel: all rows against one panel of columns.
pub(crate) struct Panel<'a, T> {
    pub a: &'a [T],
    /// Offset of each row into `a`.
    pub rows: &'a [usize],
    pub b: &'a [T],
    /// Loops over the input, outermost first.
    pub walk: [Level; 3],
    /// Columns that a vector load of `b` reads: a value of [`panel_width`].
    pub width: usize,
    /// Columns of the result; at most `width`, the rest is padding.
    pub cols: usize,
    /// Initial values of the accumulators, `cols` long; zero if absent.
    pub init: Option<&'a [T]>,
    /// Whether to add to `c` instead of overwriting it.
    pub add: bool,
    pub c: &'a mut [T],
    /// Offset of each row into `c`, where its `cols` columns are contiguous; plus `c_shift`.
    pub c_rows: &'a [usize],
    pub c_shift: usize,
}

impl<T: Element> Panel<'_, T> {
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
            assert!(last.saturating_add(reach(|l| l.a)) < self.a.len());
            assert!(reach(|l| l.b).saturating_add(self.width) <= self.b.len());
        } else {
            // An empty walk reads nothing, so no pointer is formed.
            self.walk = [Level { count: 0, a: 0, b: 0 }; 3];
        }
        Arch::new().dispatch(self);
    }
}

impl<T: Element> WithSimd for Panel<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // Accumulators, a row of b and one broadcast fit the register file.
        match (S::REGISTER_COUNT >= 32, self.width == T::lanes::<S>()) {
            (true, true) => self.tiles::<S, 14, 1>(simd),
            (true, false) => self.tiles::<S, 12, 2>(simd),
            (false, true) => self.tiles::<S, 10, 1>(simd),
            (false, false) => self.tiles::<S, 6, 2>(simd),
        }
    }
}

impl<T: Element> Panel<'_, T> {
    #[inline(always)]
    fn tiles<S: Simd, const MR: usize, const NV: usize>(mut self, simd: S) {
        assert_eq!(self.width, NV * T::lanes::<S>());
        let mut first = 0;
        while self.rows.len() - first >= MR {
            self.tile::<S, MR, NV>(simd, first);
            first += MR;
        }
        while self.rows.len() - first >= 4 {
            self.tile::<S, 4, NV>(simd, first);
            first += 4;
        }
        while first < self.rows.len() {
            self.tile::<S, 1, NV>(simd, first);
            first += 1;
        }
    }

    #[inline(always)]
    fn tile<S: Simd, const MR: usize, const NV: usize>(&mut self, simd: S, first: usize) {
        let mut acc = [[T::splat(simd, T::ZERO); NV]; MR];
        let rows: [usize; MR] = std::array::from_fn(|i| self.rows[first + i]);
        let [outer, middle, inner] = self.walk;
        let lanes = T::lanes::<S>();
        for o in 0..outer.count {
            for p in 0..middle.count {
                let at = o * outer.a + p * middle.a;
                let b = &self.b[o * outer.b + p * middle.b..];
                // SAFETY: `run` checked that row offset + every step of the walk lies inside `a`, and that every step
                // plus a panel's width lies inside `b`.
                unsafe {
                    let a: [*const T; MR] = std::array::from_fn(|i| self.a.as_ptr().add(rows[i] + at));
                    let b = b.as_ptr();
                    strip::<T, S, MR, NV>(simd, &mut acc, a, b, inner.count, inner.a, inner.b);
                }
            }
        }
        for (i, row) in acc.iter().enumerate() {
            let at = self.c_rows[first + i] + self.c_shift;
            let c = &mut self.c[at..at + self.cols];
            if self.cols == NV * lanes {
                for (v, &value) in row.iter().enumerate() {
                    // SAFETY: `c` is NV registers long, and so is `init` (`run` checked it).
                    unsafe {
                        let slot = c.as_mut_ptr().add(v * lanes).cast::<T::V<S>>();
                        let mut value = value;
                        if let Some(init) = self.init {
                            let init = init.as_ptr().add(v * lanes).cast::<T::V<S>>();
                            value = <T as Lanes>::add(simd, value, init.read_unaligned());
                        }
                        if self.add {
                            value = <T as Lanes>::add(simd, slot.read_unaligned(), value);
                        }
                        slot.write_unaligned(value);
                    }
                }
                continue;
            }
            let mut values = [T::ZERO; 64];
            for (v, &value) in row.iter().enumerate() {
                // SAFETY: NV registers of at most 16 elements fit the array.
                unsafe { values.as_mut_ptr().add(v * lanes).cast::<T::V<S>>().write_unaligned(value) };
            }
            for (j, c) in c.iter_mut().enumerate() {
                let value = values[j] + self.init.map_or(T::ZERO, |init| init[j]);
                *c = if self.add { *c + value } else { value };
            }
        }
    }
}

/// acc[i][v] += Σ_q a[i][q·step] · b[q·b_step + v·lanes ..].
///
/// # Safety
/// `a[i]` and `b` are readable for the whole strip.
#[inline(always)]
unsafe fn strip<T: Element, S: Simd, const MR: usize, const NV: usize>(
    simd: S,
    acc: &mut [[T::V<S>; NV]; MR],
    a: [*const T; MR],
    b: *const T,
    count: usize,
    step: usize,
    b_step: usize,
) {
    let lanes = T::lanes::<S>();
    for q in 0..count {
        // SAFETY: as the function's.
        unsafe {
            let b = b.add(q * b_step);
            let row: [T::V<S>; NV] =
                std::array::from_fn(|v| b.add(v * lanes).cast::<T::V<S>>().read_unaligned());
            for i in 0..MR {
                let x = T::splat(simd, *a[i].add(q * step));
                for v in 0..NV {
                    acc[i][v] = T::mul_add(simd, x, row[v], acc[i][v]);
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
        for (rows, cols, walk) in [
            (1, 1, [Level::ONCE, Level::ONCE, Level { count: 5, a: 1, b: 0 }]),
            (37, 5, [Level::ONCE, Level { count: 3, a: 20, b: 0 }, Level { count: 7, a: 1, b: 0 }]),
            (
                29,
                31,
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
