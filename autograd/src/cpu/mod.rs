//! Shared by the operators' CPU code: matrix products, and loops over the cores with fixed partitions, so that results
//! do not depend on the number of threads.

pub(crate) use crate::simd::matmul::{Matrix, multiply};

use rayon::prelude::*;

use crate::{Element, buffer::Buffer, wide};

/// A loop over fewer elements runs on one core; longer loops are cut into pieces of this size.
pub(crate) const GRAIN: usize = 16 * 1024;

/// out[i] = f(x[i]).
pub(crate) fn map<T: Element>(x: &[T], f: impl Fn(T) -> T + Sync) -> Buffer<T> {
    let mut out = Buffer::uninit(x.len());
    out.par_chunks_mut(GRAIN).zip(x.par_chunks(GRAIN)).for_each(|(out, x)| {
        wide!(for (o, &x) in out.iter_mut().zip(x) {
            *o = f(x);
        });
    });
    out
}

/// out[i] = f(x[i], y[i]).
pub(crate) fn zip<T: Element>(x: &[T], y: &[T], f: impl Fn(T, T) -> T + Sync) -> Buffer<T> {
    let mut out = Buffer::uninit(x.len());
    out.par_chunks_mut(GRAIN).zip(x.par_chunks(GRAIN).zip(y.par_chunks(GRAIN))).for_each(|(out, (x, y))| {
        wide!(for (o, (&x, &y)) in out.iter_mut().zip(x.iter().zip(y)) {
            *o = f(x, y);
        });
    });
    out
}

/// dst[i] = f(dst[i], x[i]).
pub(crate) fn zip_into<T: Element>(dst: &mut [T], x: &[T], f: impl Fn(T, T) -> T + Sync) {
    dst.par_chunks_mut(GRAIN).zip(x.par_chunks(GRAIN)).for_each(|(dst, x)| {
        wide!(for (d, &x) in dst.iter_mut().zip(x) {
            *d = f(*d, x);
        });
    });
}

/// Σ f(i) over pieces of [0, n), in f64 and in a fixed order; `f` sums one piece.
pub(crate) fn sum_pieces(n: usize, f: impl Fn(std::ops::Range<usize>) -> f64 + Sync) -> f64 {
    let pieces = n.div_ceil(GRAIN);
    let sums: Vec<f64> =
        (0..pieces).into_par_iter().map(|i| f(i * GRAIN..((i + 1) * GRAIN).min(n))).collect();
    sums.iter().sum()
}

/// Rows of a piece when a matrix of `cols` columns is cut for the cores.
pub(crate) fn rows_per_piece(cols: usize) -> usize {
    (GRAIN / cols.max(1)).max(1)
}

/// dst[j] (+)= Σᵢ x[i][j]: column sums of a [rows, cols] matrix. Pieces of rows are summed separately and added in
/// order.
pub(crate) fn column_sums<T: Element>(x: &[T], cols: usize, dst: &mut [T], add: bool) {
    let piece = rows_per_piece(cols) * cols;
    let partial: Vec<Vec<T>> = x
        .par_chunks(piece.max(1))
        .map(|rows| {
            let mut sums = vec![T::ZERO; cols];
            wide!({
                for row in rows.chunks_exact(cols) {
                    for (s, &v) in sums.iter_mut().zip(row) {
                        *s += v;
                    }
                }
            });
            sums
        })
        .collect();
    if !add {
        dst.fill(T::ZERO);
    }
    for sums in partial {
        dst.iter_mut().zip(sums).for_each(|(d, s)| *d += s);
    }
}
