//! Products with few columns: a register tile whose lanes run along the depth, so that none of them is padding.
//!
//! c[i][j] (+)= Σ_p Σ_q a[aᵢ + p·step + q] · b[j·column + p·step + q], for up to [`MAX_COLS`] columns. A lane's sum collects every
//! lanes-th product; the lanes are added up at the end.

use pulp::{Arch, Simd, WithSimd};

use super::{Lanes, native_lanes};
use crate::Element;

/// The most columns of a [`Dots`].
pub(crate) const MAX_COLS: usize = 4;

/// Whether [`Dots`] computes products with so many columns and runs of such length.
pub(crate) fn fits<T: Lanes>(cols: usize, run: usize) -> bool {
    (1..=MAX_COLS).contains(&cols) && run > 0 && run.is_multiple_of(native_lanes::<T>())
}

/// Runs of elements that begin `step` apart.
#[derive(Clone, Copy)]
pub(crate) struct Strided<'a, T> {
    pub data: &'a [T],
    pub step: usize,
}

/// The work on all rows.
pub(crate) struct Dots<'a, T> {
    pub a: Strided<'a, T>,
    /// Offset of each row into `a`.
    pub rows: &'a [usize],
    pub b: Strided<'a, T>,
    /// Distance between columns in `b`.
    pub column: usize,
    /// Runs of a row and of a column.
    pub runs: usize,
    /// Elements of a run.
    pub run: usize,
    pub cols: usize,
    /// Added to the sums, `cols` long; nothing if absent.
    pub init: Option<&'a [T]>,
    /// Whether to add to `c` instead of overwriting it.
    pub add: bool,
    pub c: &'a mut [T],
    /// Offset of each row into `c`, where its `cols` columns are contiguous.
    pub c_rows: &'a [usize],
}

impl<T: Element> Dots<'_, T> {
    /// Computes them. Every access is checked once here.
    pub fn run(mut self) {
        let (Some(&last), Some(&c_last)) = (self.rows.iter().max(), self.c_rows.iter().max()) else { return };
        if self.runs * self.run == 0 {
            self.runs = 0;
        } else {
            assert!(fits::<T>(self.cols, self.run));
            assert!(last + (self.runs - 1) * self.a.step + self.run <= self.a.data.len());
            let far = (self.cols - 1) * self.column + (self.runs - 1) * self.b.step;
            assert!(far + self.run <= self.b.data.len());
        }
        assert!((1..=MAX_COLS).contains(&self.cols) && self.rows.len() == self.c_rows.len());
        assert!(self.init.is_none_or(|i| i.len() >= self.cols) && c_last + self.cols <= self.c.len());
        Arch::new().dispatch(self);
    }
}

impl<T: Element> WithSimd for Dots<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match (S::REGISTER_COUNT >= 32, self.cols) {
            (true, 1) => self.tiles::<S, 8, 1>(simd),
            (true, 2) => self.tiles::<S, 8, 2>(simd),
            (true, 3) => self.tiles::<S, 8, 3>(simd),
            (true, _) => self.tiles::<S, 6, 4>(simd),
            (false, 1) => self.tiles::<S, 6, 1>(simd),
            (false, 2) => self.tiles::<S, 4, 2>(simd),
            (false, 3) => self.tiles::<S, 3, 3>(simd),
            (false, _) => self.tiles::<S, 2, 4>(simd),
        }
    }
}

impl<T: Element> Dots<'_, T> {
    #[inline(always)]
    fn tiles<S: Simd, const MR: usize, const NC: usize>(mut self, simd: S) {
        let mut first = 0;
        while self.rows.len() - first >= MR {
            self.tile::<S, MR, NC>(simd, first);
            first += MR;
        }
        for row in first..self.rows.len() {
            self.tile::<S, 1, NC>(simd, row);
        }
    }

    #[inline(always)]
    fn tile<S: Simd, const MR: usize, const NC: usize>(&mut self, simd: S, first: usize) {
        let lanes = T::lanes::<S>();
        let mut acc = [[T::splat(simd, T::ZERO); NC]; MR];
        for p in 0..self.runs {
            // SAFETY: `run` checked that every row's runs lie inside `a`, and every column inside `b`.
            unsafe {
                let a: [*const T; MR] =
                    std::array::from_fn(|i| self.a.data.as_ptr().add(self.rows[first + i] + p * self.a.step));
                let b: [*const T; NC] =
                    std::array::from_fn(|j| self.b.data.as_ptr().add(j * self.column + p * self.b.step));
                for q in (0..self.run).step_by(lanes) {
                    let column: [T::V<S>; NC] =
                        std::array::from_fn(|j| b[j].add(q).cast::<T::V<S>>().read_unaligned());
                    for i in 0..MR {
                        let x = a[i].add(q).cast::<T::V<S>>().read_unaligned();
                        for j in 0..NC {
                            acc[i][j] = T::mul_add(simd, x, column[j], acc[i][j]);
                        }
                    }
                }
            }
        }
        for (i, row) in acc.iter().enumerate() {
            let at = self.c_rows[first + i];
            for (j, &sum) in row.iter().enumerate() {
                let value = T::reduce_sum(simd, sum) + self.init.map_or(T::ZERO, |init| init[j]);
                let c = &mut self.c[at + j];
                *c = if self.add { *c + value } else { value };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_are_the_sums_they_say() {
        let run = native_lanes::<f32>() * 2;
        for (cols, rows) in [(1, 1), (2, 17), (3, 9), (4, 13)] {
            let (runs, step) = (3, run + 5);
            let a: Vec<f32> =
                (0..rows * 7 + runs * step).map(|i| ((i * 37 % 101) as f32 - 50.0) / 16.0).collect();
            let b: Vec<f32> = (0..cols * runs * run).map(|i| ((i * 53 % 97) as f32 - 48.0) / 16.0).collect();
            let offsets: Vec<usize> = (0..rows).map(|i| i * 7).collect();
            let c_rows: Vec<usize> = (0..rows).map(|i| i * cols).collect();
            let init: Vec<f32> = (0..cols).map(|j| j as f32).collect();
            let mut c = vec![2.0f32; rows * cols];
            let dots = Dots {
                a: Strided { data: &a, step },
                rows: &offsets,
                b: Strided { data: &b, step: run },
                column: runs * run,
                runs,
                run,
                cols,
                init: Some(&init),
                add: true,
                c: &mut c,
                c_rows: &c_rows,
            };
            dots.run();
            for i in 0..rows {
                for j in 0..cols {
                    let products = (0..runs).flat_map(|p| (0..run).map(move |q| (p, q)));
                    let products = products.map(|(p, q)| {
                        f64::from(a[offsets[i] + p * step + q]) * f64::from(b[(j * runs + p) * run + q])
                    });
                    let want = 2.0 + j as f64 + products.sum::<f64>();
                    assert!((f64::from(c[i * cols + j]) - want).abs() < 1e-3, "row {i} column {j} of {cols}");
                }
            }
        }
    }
}
