//! AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101), as torch.optim.AdamW computes it.
//!
//! g ← gradient·scale,  p ← p·(1 − lr·λ),  m ← m + (1 − β₁)(g − m),  v ← β₂·v + (1 − β₂)·g²,
//! p ← p − lr/(1 − β₁ᵗ) · m / (√v/√(1 − β₂ᵗ) + ε)

use std::ops::Range;

use rayon::prelude::*;
use ssmv_autograd::Element;

/// Elements a task takes at a time.
const PIECE: usize = 32 * 1024;

/// The optimiser's constants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the denominator.
    pub eps: f64,
    /// λ, for the parameters that decay.
    pub weight_decay: f64,
}

impl Default for AdamW {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 1e-4 }
    }
}

/// First and second moments, laid out as the parameters.
#[derive(Clone, Debug)]
pub struct Moments<T> {
    /// First moment.
    pub m: Vec<T>,
    /// Second moment.
    pub v: Vec<T>,
}

impl<T: Element> Moments<T> {
    /// Zeros for `len` parameters.
    pub fn zeros(len: usize) -> Self {
        Self { m: vec![T::ZERO; len], v: vec![T::ZERO; len] }
    }
}

/// The numbers of one step, rounded once.
struct Step<T> {
    scale: T,
    keep: T,
    beta2: T,
    one_minus_beta1: T,
    one_minus_beta2: T,
    step_size: T,
    root: T,
    eps: T,
}

impl AdamW {
    /// Step `t` (1, 2, …) with learning rate `lr` over `part` of the arenas. `scale` multiplies the gradients first: it undoes
    /// a loss scale and clips. `decaying` are the ranges, ascending, that weight decay applies to.
    pub fn step<T: Element>(
        &self,
        [t, lr, scale]: [f64; 3],
        decaying: &[Range<usize>],
        part: Range<usize>,
        parameters: &mut [T],
        gradients: &[T],
        moments: &mut Moments<T>,
    ) {
        let of = T::from_f64;
        let numbers = |decay: bool| Step {
            scale: of(scale),
            keep: if decay { of(1.0 - lr * self.weight_decay) } else { T::ONE },
            beta2: of(self.beta2),
            one_minus_beta1: of(1.0 - self.beta1),
            one_minus_beta2: of(1.0 - self.beta2),
            step_size: of(lr / (1.0 - power(self.beta1, t as u64))),
            root: of((1.0 - power(self.beta2, t as u64)).sqrt()),
            eps: of(self.eps),
        };
        let (plain, decayed) = (numbers(false), numbers(true));
        let first = part.start;
        let (p, g) = (&mut parameters[part.clone()], &gradients[part.clone()]);
        let (m, v) = (&mut moments.m[part.clone()], &mut moments.v[part]);
        let state = m.par_chunks_mut(PIECE).zip(v.par_chunks_mut(PIECE));
        let all = p.par_chunks_mut(PIECE).zip(g.par_chunks(PIECE)).zip(state);
        all.enumerate().for_each(|(i, ((p, g), (m, v)))| {
            let start = first + i * PIECE;
            for (range, decay) in runs(start..start + p.len(), decaying) {
                let at = range.start - start..range.end - start;
                let numbers = if decay { &decayed } else { &plain };
                update(numbers, &mut p[at.clone()], &g[at.clone()], &mut m[at.clone()], &mut v[at]);
            }
        });
    }
}

/// baseᵗ in the order of operations of the GPU's kernel (`kernels/src/optim/step.rs`): for each bit of t from the lowest
/// on, the result is multiplied by the base where the bit is set, then the base by itself.
fn power(mut base: f64, mut t: u64) -> f64 {
    let mut result = 1.0;
    while t != 0 {
        if t & 1 == 1 {
            result *= base;
        }
        base *= base;
        t >>= 1;
    }
    result
}

/// `piece` cut into runs that decay or do not.
fn runs(piece: Range<usize>, decaying: &[Range<usize>]) -> Vec<(Range<usize>, bool)> {
    let mut out = Vec::new();
    let mut at = piece.start;
    let first = decaying.partition_point(|r| r.end <= piece.start);
    for range in decaying[first..].iter().take_while(|r| r.start < piece.end) {
        let (start, end) = (range.start.max(at), range.end.min(piece.end));
        if at < start {
            out.push((at..start, false));
        }
        out.push((start..end, true));
        at = end;
    }
    if at < piece.end {
        out.push((at..piece.end, false));
    }
    out
}

fn update<T: Element>(s: &Step<T>, p: &mut [T], g: &[T], m: &mut [T], v: &mut [T]) {
    ssmv_autograd::wide!({
        for ((p, &g), (m, v)) in p.iter_mut().zip(g).zip(m.iter_mut().zip(v.iter_mut())) {
            let g = g * s.scale;
            *m += s.one_minus_beta1 * (g - *m);
            *v = s.beta2 * *v + s.one_minus_beta2 * (g * g);
            *p = *p * s.keep - s.step_size * (*m / (v.sqrt() / s.root + s.eps));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::{power, runs};

    #[test]
    fn powers_are_close_to_exact_ones() {
        assert_eq!((power(0.9, 0), power(0.9, 1), power(0.5, 10)), (1.0, 0.9, 1.0 / 1024.0));
        for t in [2, 7, 100, 999, 12_345, 700_000] {
            let (got, want) = (power(0.999, t), 0.999f64.powf(t as f64));
            assert!((got - want).abs() <= t as f64 * f64::EPSILON * want, "0.999^{t}: {got:e}, not {want:e}");
        }
        assert_eq!(power(0.9, u64::MAX), 0.0);
    }

    #[test]
    fn runs_cover_a_piece_once() {
        assert_eq!(runs(0..10, &[]), [(0..10, false)]);
        let decaying = [0..3, 4..7, 9..9, 12..40];
        let cut = [(5..7, true), (7..9, false), (9..9, true), (9..12, false), (12..20, true)];
        assert_eq!(runs(5..20, &decaying), cut);
        assert_eq!(runs(5..20, &decaying[3..]), [(5..12, false), (12..20, true)]);
        assert_eq!(runs(12..20, &decaying), [(12..20, true)]);
    }
}
