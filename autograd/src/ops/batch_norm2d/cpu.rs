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

/// Where y is positive, and so lets a gradient through the ReLU.
#[derive(Clone, Copy)]
pub(super) enum Positive<'a, T> {
    /// There is no ReLU.
    Everywhere,
    /// Where these values are: y.
    Values(&'a [T]),
    /// Where (x − mean)·scale + beta is, as the forward pass computes it, so that y is not read again.
    Of { x: &'a [T], mean: &'a [T], scale: &'a [T], beta: &'a [T] },
}

/// The gradient g behind the ReLU: dy where y is positive.
#[derive(Clone, Copy)]
pub(super) struct Incoming<'a, T> {
    pub dy: &'a [T],
    pub positive: Positive<'a, T>,
}

/// [`Positive`] as a constant, for inner loops.
type Mode = u8;
const EVERYWHERE: Mode = 0;
const VALUES: Mode = 1;
const OF: Mode = 2;

/// Channels' scale and beta repeated for a span; without them, zeros that no mode reads.
type Affine<T> = [Vec<T>; 2];

impl<'a, T: Element> Incoming<'a, T> {
    /// The parts of dy and of the values that decide.
    fn part(&self, at: std::ops::Range<usize>) -> (&'a [T], &'a [T]) {
        let deciding = match self.positive {
            Positive::Everywhere => self.dy,
            Positive::Values(y) => y,
            Positive::Of { x, .. } => x,
        };
        (&self.dy[at.clone()], &deciding[at])
    }

    fn affine(&self, channels: usize, rows: usize) -> Affine<T> {
        match self.positive {
            Positive::Of { scale, beta, .. } => [repeat(scale, rows), repeat(beta, rows)],
            _ => [repeat(&[T::ZERO], channels * rows), repeat(&[T::ZERO], channels * rows)],
        }
    }

    /// All of g.
    pub fn masked(&self) -> Buffer<T> {
        match self.positive {
            Positive::Everywhere => Buffer::copy_of(self.dy),
            Positive::Values(y) => crate::cpu::zip(self.dy, y, |d, y| if y > T::ZERO { d } else { T::ZERO }),
            Positive::Of { x, mean, scale, beta } => {
                let y = normalise(x, mean, scale, beta, None, true);
                Incoming { positive: Positive::Values(&y), ..*self }.masked()
            }
        }
    }
}

/// dy where y is positive. `value` is y, or x with its channel's mean, scale and beta.
#[inline(always)]
fn mask<T: Element, const MODE: Mode>(dy: T, value: T, mean: T, (scale, beta): (T, T)) -> T {
    let y = if MODE == OF { (value - mean) * scale + beta } else { value };
    if MODE == EVERYWHERE || y > T::ZERO { dy } else { T::ZERO }
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
    let (centre, affine) = (repeat(mean, rows), g.affine(channels, rows));
    let parts: Vec<(Vec<T>, Vec<T>)> = x
        .par_chunks(piece)
        .enumerate()
        .map(|(i, x)| {
            let (dy, y) = g.part(i * piece..i * piece + x.len());
            match g.positive {
                Positive::Everywhere => piece_sums::<T, EVERYWHERE>([dy, y, x], &centre, &affine, channels),
                Positive::Values(_) => piece_sums::<T, VALUES>([dy, y, x], &centre, &affine, channels),
                Positive::Of { .. } => piece_sums::<T, OF>([dy, y, x], &centre, &affine, channels),
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

fn piece_sums<T: Element, const MODE: Mode>(
    [dy, y, x]: [&[T]; 3],
    centre: &[T],
    [scale, beta]: &Affine<T>,
    channels: usize,
) -> (Vec<T>, Vec<T>) {
    wide!({
        let (mut sums, mut products) = (vec![T::ZERO; centre.len()], vec![T::ZERO; centre.len()]);
        for ((dy, y), x) in dy.chunks(centre.len()).zip(y.chunks(centre.len())).zip(x.chunks(centre.len())) {
            let sums = sums.iter_mut().zip(&mut products).zip(centre.iter().zip(scale.iter().zip(beta)));
            for (((s, p), (&m, (&a, &b))), ((&d, &y), &x)) in sums.zip(dy.iter().zip(y).zip(x)) {
                let g = mask::<T, MODE>(d, y, m, (a, b));
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
    let affine = g.affine(channels, rows);
    dx.par_chunks_mut(piece).zip(x.par_chunks(piece)).enumerate().for_each(|(i, (dx, x))| {
        let (dy, y) = g.part(i * piece..i * piece + x.len());
        let run = match (g.positive, add) {
            (Positive::Everywhere, false) => piece_gradient::<T, EVERYWHERE, false>,
            (Positive::Everywhere, true) => piece_gradient::<T, EVERYWHERE, true>,
            (Positive::Values(_), false) => piece_gradient::<T, VALUES, false>,
            (Positive::Values(_), true) => piece_gradient::<T, VALUES, true>,
            (Positive::Of { .. }, false) => piece_gradient::<T, OF, false>,
            (Positive::Of { .. }, true) => piece_gradient::<T, OF, true>,
        };
        run([dy, y, x], &numbers, &affine, dx);
    });
}

fn piece_gradient<T: Element, const MODE: Mode, const ADD: bool>(
    [dy, y, x]: [&[T]; 3],
    [k, a, mean, b]: &[Vec<T>; 4],
    [scale, beta]: &Affine<T>,
    dx: &mut [T],
) {
    let span = k.len();
    wide!({
        let inputs = dy.chunks(span).zip(y.chunks(span)).zip(x.chunks(span));
        for (dx, ((dy, y), x)) in dx.chunks_mut(span).zip(inputs) {
            let numbers = k.iter().zip(a).zip(mean.iter().zip(b)).zip(scale.iter().zip(beta));
            let values = dy.iter().zip(y).zip(x).zip(numbers);
            for (dx, (((&d, &y), &x), (((&k, &a), (&m, &b)), (&s, &t)))) in dx.iter_mut().zip(values) {
                let value = k * mask::<T, MODE>(d, y, m, (s, t)) - a * (x - m) - b;
                *dx = if ADD { *dx + value } else { value };
            }
        }
    });
}
