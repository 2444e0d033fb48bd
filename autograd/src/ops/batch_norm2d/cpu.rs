//! Passes over a [rows, channels] matrix. Several rows are processed together, so that the inner loop is long enough to
//! vectorise for 16 channels as for 512; sums are computed by pieces of fixed size and added in order.

use rayon::prelude::*;

use crate::{Element, buffer::Buffer, cpu::rows_per_piece, wide};

/// Number of elements that the inner loop is widened to.
const SPAN: usize = 128;

/// Rows per span, and elements per piece (a whole number of spans).
fn spans(channels: usize) -> (usize, usize) {
    let rows = (SPAN / channels).max(1);
    (rows, rows_per_piece(channels).next_multiple_of(rows) * channels)
}

/// `values` repeated for each row of a span.
fn repeat<T: Element>(values: &[T], times: usize) -> Vec<T> {
    values.repeat(times)
}

/// Adds a span's sums to the channels' sums.
fn fold<T: Element>(span: &[T], channels: usize) -> Vec<T> {
    let mut sums = span[..channels].to_vec();
    for row in span[channels..].chunks_exact(channels) {
        sums.iter_mut().zip(row).for_each(|(s, &v)| *s += v);
    }
    sums
}

/// Mean and biased variance of each channel. Each piece computes its own mean and its squared distances from it; pieces
/// are merged in f64 (Chan, Golub & LeVeque 1983), which avoids cancellation.
pub(super) fn statistics<T: Element>(x: &[T], channels: usize) -> (Vec<f64>, Vec<f64>) {
    let (rows, piece) = spans(channels);
    let parts: Vec<(f64, Vec<T>, Vec<T>)> = x
        .par_chunks(piece)
        .map(|x| {
            let n = x.len() / channels;
            wide!({
                let mut span = vec![T::ZERO; rows * channels];
                for row in x.chunks(rows * channels) {
                    span.iter_mut().zip(row).for_each(|(s, &v)| *s += v);
                }
                let mut mean = fold(&span, channels);
                mean.iter_mut().for_each(|m| *m = *m / T::from_f64(n as f64));
                let centre = repeat(&mean, rows);
                span.fill(T::ZERO);
                for row in x.chunks(rows * channels) {
                    span.iter_mut().zip(row.iter().zip(&centre)).for_each(|(s, (&v, &m))| {
                        let d = v - m;
                        *s += d * d;
                    });
                }
                (n as f64, mean, fold(&span, channels))
            })
        })
        .collect();
    let (mut count, mut mean, mut squares) = (0.0, vec![0.0; channels], vec![0.0; channels]);
    for (n, part_mean, part_squares) in parts {
        let total = count + n;
        for c in 0..channels {
            let d = part_mean[c].to_f64() - mean[c];
            mean[c] += d * n / total;
            squares[c] += part_squares[c].to_f64() + d * d * count * n / total;
        }
        count = total;
    }
    squares.iter_mut().for_each(|s| *s /= count);
    (mean, squares)
}

/// y = (x − mean)·scale + beta (+ residual) (then max(·, 0)).
pub(super) fn normalise<T: Element>(
    x: &[T],
    mean: &[T],
    scale: &[T],
    beta: &[T],
    residual: Option<&[T]>,
    relu: bool,
) -> Buffer<T> {
    let (rows, piece) = spans(mean.len());
    let (mean, scale, beta) = (repeat(mean, rows), repeat(scale, rows), repeat(beta, rows));
    let clip = |v: T| if relu && v < T::ZERO { T::ZERO } else { v };
    let mut y = Buffer::uninit(x.len());
    y.par_chunks_mut(piece).enumerate().for_each(|(i, y)| {
        let from = i * piece;
        let x = &x[from..from + y.len()];
        wide!({
            for (at, y) in y.chunks_mut(mean.len()).enumerate() {
                let at = at * mean.len();
                let x = &x[at..at + y.len()];
                let channel = x.iter().zip(&mean).zip(scale.iter().zip(&beta));
                match residual {
                    Some(r) => {
                        let r = &r[from + at..from + at + y.len()];
                        y.iter_mut().zip(channel.zip(r)).for_each(|(y, (((&x, &m), (&s, &b)), &r))| {
                            *y = clip((x - m) * s + b + r);
                        });
                    }
                    None => y.iter_mut().zip(channel).for_each(|(y, ((&x, &m), (&s, &b)))| {
                        *y = clip((x - m) * s + b);
                    }),
                }
            }
        });
    });
    y
}

/// The gradient g behind the ReLU: dy where y > 0, or dy where there is no ReLU.
#[derive(Clone, Copy)]
pub(super) struct Incoming<'a, T> {
    pub dy: &'a [T],
    pub y: Option<&'a [T]>,
}

impl<'a, T: Element> Incoming<'a, T> {
    fn part(&self, at: std::ops::Range<usize>) -> (&'a [T], &'a [T]) {
        (&self.dy[at.clone()], &self.y.unwrap_or(self.dy)[at])
    }

    /// All of g.
    pub fn masked(&self) -> Buffer<T> {
        crate::cpu::zip(self.dy, self.y.unwrap_or(self.dy), |d, y| mask::<T, true>(d, y))
    }
}

/// dy where y > 0 with `RELU`.
#[inline(always)]
fn mask<T: Element, const RELU: bool>(dy: T, y: T) -> T {
    if !RELU || y > T::ZERO { dy } else { T::ZERO }
}

/// Σg and Σg·x̂ of each channel.
pub(super) fn gradient_sums<T: Element>(
    g: Incoming<T>,
    x: &[T],
    mean: &[T],
    inverse: &[T],
) -> (Vec<T>, Vec<T>) {
    let channels = mean.len();
    let (rows, piece) = spans(channels);
    let centre = repeat(mean, rows);
    let parts: Vec<(Vec<T>, Vec<T>)> = x
        .par_chunks(piece)
        .enumerate()
        .map(|(i, x)| {
            let (dy, y) = g.part(i * piece..i * piece + x.len());
            match g.y {
                Some(_) => piece_sums::<T, true>(dy, y, x, &centre, channels),
                None => piece_sums::<T, false>(dy, y, x, &centre, channels),
            }
        })
        .collect();
    let (mut sums, mut products) = (vec![0.0; channels], vec![0.0; channels]);
    for (s, p) in parts {
        sums.iter_mut().zip(s).for_each(|(t, v)| *t += v.to_f64());
        products.iter_mut().zip(p).for_each(|(t, v)| *t += v.to_f64());
    }
    let products = products.iter().zip(inverse).map(|(&p, i)| T::from_f64(p * i.to_f64())).collect();
    (sums.into_iter().map(T::from_f64).collect(), products)
}

fn piece_sums<T: Element, const RELU: bool>(
    dy: &[T],
    y: &[T],
    x: &[T],
    centre: &[T],
    channels: usize,
) -> (Vec<T>, Vec<T>) {
    wide!({
        let (mut sums, mut products) = (vec![T::ZERO; centre.len()], vec![T::ZERO; centre.len()]);
        for ((dy, y), x) in dy.chunks(centre.len()).zip(y.chunks(centre.len())).zip(x.chunks(centre.len())) {
            let sums = sums.iter_mut().zip(&mut products).zip(centre);
            for (((s, p), &m), ((&d, &y), &x)) in sums.zip(dy.iter().zip(y).zip(x)) {
                let g = mask::<T, RELU>(d, y);
                *s += g;
                *p += g * (x - m);
            }
        }
        (fold(&sums, channels), fold(&products, channels))
    })
}

/// Inputs of the dx of one channel.
pub(super) struct Terms<'a, T> {
    pub mean: &'a [T],
    pub inverse: &'a [T],
    pub gamma: &'a [T],
    /// dβ and dγ if the statistics were the batch's; zero otherwise.
    pub sums: Option<(&'a [T], &'a [T])>,
}

/// dx (+)= γ/σ·(g − dβ/M − x̂·dγ/M), written as k·g − a·x − b with three numbers a channel.
pub(super) fn input_gradient<T: Element>(g: Incoming<T>, x: &[T], terms: &Terms<T>, dx: &mut [T], add: bool) {
    let channels = terms.mean.len();
    let (rows, piece) = spans(channels);
    let count = (x.len() / channels) as f64;
    let (mut k, mut a, mut b, mut mean) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for c in 0..channels {
        let inverse = terms.inverse[c].to_f64();
        let scale = terms.gamma[c].to_f64() * inverse;
        let (dbeta, dgamma) = terms.sums.map_or((0.0, 0.0), |(b, g)| (b[c].to_f64(), g[c].to_f64()));
        mean.push(terms.mean[c]);
        k.push(T::from_f64(scale));
        a.push(T::from_f64(scale * inverse * dgamma / count));
        b.push(T::from_f64(scale * dbeta / count));
    }
    let numbers = [k, a, mean, b].map(|values| repeat(&values, rows));
    dx.par_chunks_mut(piece).zip(x.par_chunks(piece)).enumerate().for_each(|(i, (dx, x))| {
        let (dy, y) = g.part(i * piece..i * piece + x.len());
        match (g.y.is_some(), add) {
            (false, false) => piece_gradient::<T, false, false>(dy, y, x, &numbers, dx),
            (false, true) => piece_gradient::<T, false, true>(dy, y, x, &numbers, dx),
            (true, false) => piece_gradient::<T, true, false>(dy, y, x, &numbers, dx),
            (true, true) => piece_gradient::<T, true, true>(dy, y, x, &numbers, dx),
        }
    });
}

fn piece_gradient<T: Element, const RELU: bool, const ADD: bool>(
    dy: &[T],
    y: &[T],
    x: &[T],
    [k, a, mean, b]: &[Vec<T>; 4],
    dx: &mut [T],
) {
    let span = k.len();
    wide!({
        let inputs = dy.chunks(span).zip(y.chunks(span)).zip(x.chunks(span));
        for (dx, ((dy, y), x)) in dx.chunks_mut(span).zip(inputs) {
            let numbers = k.iter().zip(a).zip(mean.iter().zip(b));
            let values = dy.iter().zip(y).zip(x).zip(numbers);
            for (dx, (((&d, &y), &x), ((&k, &a), (&m, &b)))) in dx.iter_mut().zip(values) {
                let value = k * mask::<T, RELU>(d, y) - a * (x - m) - b;
                *dx = if ADD { *dx + value } else { value };
            }
        }
    });
}
