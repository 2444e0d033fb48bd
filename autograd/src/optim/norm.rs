//! The norm of all gradients together.

use rayon::prelude::*;

use crate::Element;

/// Partial sums side by side: rows of as many elements are added to them, which vectorises at any width.
const LANES: usize = 256;

/// Elements that one sum of squares covers.
const PIECE: usize = 8192;

/// The Euclidean norm of all elements as one vector, summed in f64 in a fixed order. Infinite or NaN where an element is.
///
/// The order is that of the GPU's kernels (`kernels/src/optim/norm.rs`): element i of a piece of 8192 is added to partial
/// sum i mod 256, then neighbours are added up in pairs until one is left; the pieces' sums are added up alike.
pub fn gradient_norm<T: Element>(gradients: &[T]) -> f64 {
    sum_of_squares(gradients).sqrt()
}

/// The square of [`gradient_norm`].
pub fn sum_of_squares<T: Element>(gradients: &[T]) -> f64 {
    let pieces: Vec<f64> = gradients.par_chunks(PIECE).map(|piece| sum(piece, |g| g * g)).collect();
    sum(&pieces, |x| x)
}

/// Σ f(x) in the order of [`gradient_norm`].
fn sum<T: Element>(terms: &[T], f: impl Fn(f64) -> f64) -> f64 {
    let mut sums = [0f64; LANES];
    crate::wide!({
        let (rows, rest) = terms.as_chunks::<LANES>();
        for row in rows {
            for (sum, x) in sums.iter_mut().zip(row) {
                *sum += f(x.to_f64());
            }
        }
        for (sum, x) in sums.iter_mut().zip(rest) {
            *sum += f(x.to_f64());
        }
    });
    let mut width = LANES;
    while width > 1 {
        width /= 2;
        for i in 0..width {
            sums[i] = sums[2 * i] + sums[2 * i + 1];
        }
    }
    sums[0]
}

/// What gradients of that norm are multiplied by so that it becomes at most `max_norm`: torch's clip_grad_norm_, which
/// adds 1e-6 to the norm.
pub fn clip_factor(norm: f64, max_norm: f64) -> f64 {
    (max_norm / (norm + 1e-6)).min(1.0)
}
