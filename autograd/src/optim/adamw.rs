//! AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101), as torch.optim.AdamW computes it.
//!
//! g ← gradient·scale,  p ← p·(1 − lr·λ),  m ← m + (1 − β₁)(g − m),  v ← β₂·v + (1 − β₂)·g²,
//! p ← p − lr/(1 − β₁ᵗ) · m / (√v/√(1 − β₂ᵗ) + ε)

use std::ops::Range;

use rayon::prelude::*;

use crate::{Element, Error, Result};

/// Elements that one task of the thread pool updates.
const PIECE: usize = 32 * 1024;

/// AdamW's constants and the numbers of its next step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWOptions {
    /// Learning rate of the next step; a schedule sets it before each.
    pub lr: f64,
    /// β₁, the decay of the first moment.
    pub beta1: f64,
    /// β₂, the decay of the second moment.
    pub beta2: f64,
    /// ε, added to the denominator.
    pub eps: f64,
    /// λ, for the parameters that decay.
    pub weight_decay: f64,
    /// Multiplies the gradients of the next step first: it undoes a loss scale, and clips.
    pub gradient_scale: f64,
}

impl Default for AdamWOptions {
    fn default() -> Self {
        Self { lr: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 1e-4, gradient_scale: 1.0 }
    }
}

/// AdamW over one flat array of parameters, with the moments and the count of its steps.
#[derive(Clone, Debug)]
pub struct AdamW<T> {
    /// Constants, and the numbers of the next step.
    pub options: AdamWOptions,
    /// First moments, laid out as the parameters.
    pub m: Vec<T>,
    /// Second moments, laid out as the parameters.
    pub v: Vec<T>,
    /// t: steps taken.
    pub updates: u64,
    /// The elements that weight decay applies to: ranges in ascending order.
    pub decaying: Vec<Range<usize>>,
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

impl<T: Element> AdamW<T> {
    /// Before the first step of `len` parameters, of which the ranges `decaying`, in ascending order, decay.
    pub fn new(options: AdamWOptions, len: usize, decaying: Vec<Range<usize>>) -> Self {
        Self { options, m: vec![T::ZERO; len], v: vec![T::ZERO; len], updates: 0, decaying }
    }

    /// One step. Parameters and gradients are as long as the moments, as [`Arena::values_mut`](crate::Arena::values_mut)
    /// and [`Gradients::values_mut`](crate::Gradients::values_mut) give them.
    ///
    /// # Errors
    /// [`Error::Shape`] where the lengths differ.
    pub fn step(&mut self, parameters: &mut [T], gradients: &[T]) -> Result<()> {
        let all = 0..parameters.len();
        self.step_shares(std::slice::from_ref(&all), parameters, gradients)
    }

    /// One step of the elements in `shares` alone: the part that one of several ranks updates.
    ///
    /// # Errors
    /// [`Error::Shape`] where the lengths differ, or a share ends after them.
    pub fn step_shares(
        &mut self,
        shares: &[Range<usize>],
        parameters: &mut [T],
        gradients: &[T],
    ) -> Result<()> {
        let lengths = [parameters.len(), gradients.len(), self.v.len()];
        let fits = |share: &Range<usize>| share.start <= share.end && share.end <= self.m.len();
        if lengths != [self.m.len(); 3] || !shares.iter().all(fits) {
            let [p, g, _] = lengths;
            let message =
                format!("{p} parameters, {g} gradients, {} moments, shares {shares:?}", self.m.len());
            return Err(Error::shape("adamw", message));
        }
        self.updates += 1;
        let numbers = [false, true].map(|decays| self.numbers(decays));
        for share in shares {
            let (p, g) = (&mut parameters[share.clone()], &gradients[share.clone()]);
            let (m, v) = (&mut self.m[share.clone()], &mut self.v[share.clone()]);
            let state = m.par_chunks_mut(PIECE).zip(v.par_chunks_mut(PIECE));
            let all = p.par_chunks_mut(PIECE).zip(g.par_chunks(PIECE)).zip(state);
            all.enumerate().for_each(|(i, ((p, g), (m, v)))| {
                let start = share.start + i * PIECE;
                for (range, decays) in runs(start..start + p.len(), &self.decaying) {
                    let at = range.start - start..range.end - start;
                    let numbers = &numbers[usize::from(decays)];
                    update(numbers, &mut p[at.clone()], &g[at.clone()], &mut m[at.clone()], &mut v[at]);
                }
            });
        }
        Ok(())
    }

    fn numbers(&self, decays: bool) -> Step<T> {
        let AdamWOptions { lr, beta1, beta2, eps, weight_decay, gradient_scale } = self.options;
        let of = T::from_f64;
        Step {
            scale: of(gradient_scale),
            keep: if decays { of(1.0 - lr * weight_decay) } else { T::ONE },
            beta2: of(beta2),
            one_minus_beta1: of(1.0 - beta1),
            one_minus_beta2: of(1.0 - beta2),
            step_size: of(lr / (1.0 - power(beta1, self.updates))),
            root: of((1.0 - power(beta2, self.updates)).sqrt()),
            eps: of(eps),
        }
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
    crate::wide!({
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
