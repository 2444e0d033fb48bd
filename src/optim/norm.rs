//! The norm of all gradients together.

use rayon::prelude::*;
use ssmv_autograd::Element;

/// Elements a partial sum covers: fixed, so that the order of summation is.
const PIECE: usize = 64 * 1024;

/// The Euclidean norm of all elements as one vector, summed in f64 in a fixed order. Infinite or NaN where an element is.
pub fn gradient_norm<T: Element>(gradients: &[T]) -> f64 {
    let square = |piece: &[T]| {
        // Eight partial sums side by side vectorise; one would wait for each addition.
        let mut sums = [0f64; 8];
        let chunks = piece.chunks_exact(8);
        let rest: f64 = chunks.remainder().iter().map(|g| g.to_f64() * g.to_f64()).sum();
        chunks.for_each(|c| sums.iter_mut().zip(c).for_each(|(s, g)| *s += g.to_f64() * g.to_f64()));
        sums.iter().sum::<f64>() + rest
    };
    gradients.par_chunks(PIECE).map(square).collect::<Vec<f64>>().iter().sum::<f64>().sqrt()
}

/// What gradients of that norm are multiplied by so that it becomes at most `max_norm`: torch's clip_grad_norm_, which
/// adds 1e-6 to the norm.
pub fn clip_factor(norm: f64, max_norm: f64) -> f64 {
    (max_norm / (norm + 1e-6)).min(1.0)
}
