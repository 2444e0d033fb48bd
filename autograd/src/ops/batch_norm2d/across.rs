//! Statistics of the batches of all ranks together, as if they were one batch.

use crate::{Element, Error, Result};

/// The other ranks of a training run, each with a batch of its own.
pub trait AcrossRanks: Send + Sync {
    /// Replaces `values` by the sum of all ranks' values, bit-identical on all ranks.
    ///
    /// # Errors
    /// A failure of the communication.
    fn sum(&self, values: &mut [f64]) -> Result<()>;
}

/// Mean and biased variance of each channel over all ranks, from this rank's values, and the number of rows of all
/// ranks. Deviations are taken from the common mean (Chan, Golub and LeVeque 1983).
pub(super) fn statistics(
    ranks: &dyn AcrossRanks,
    rows: usize,
    [mean, biased]: [&[f64]; 2],
) -> Result<(Vec<f64>, Vec<f64>, f64)> {
    let own = rows as f64;
    let mut sums: Vec<f64> = mean.iter().map(|m| m * own).chain([own]).collect();
    ranks.sum(&mut sums)?;
    let count = sums.pop().filter(|&count| count >= own);
    let count = count.ok_or_else(|| Error::misuse("batch_norm2d", "the ranks' rows do not add up"))?;
    let common: Vec<f64> = sums.iter().map(|sum| sum / count).collect();
    let of_channels = mean.iter().zip(biased).zip(&common);
    let mut squares: Vec<f64> = of_channels.map(|((m, v), c)| own * (v + (m - c) * (m - c))).collect();
    ranks.sum(&mut squares)?;
    Ok((common, squares.iter().map(|sum| sum / count).collect(), count))
}

/// dβ and dγ for the formula of dx: the sums over all ranks, divided by their rows, times this rank's rows.
pub(super) fn gradient_sums<T: Element>(
    ranks: &dyn AcrossRanks,
    rows: usize,
    [dbeta, dgamma]: [&[T]; 2],
) -> Result<(Vec<T>, Vec<T>)> {
    let own = rows as f64;
    let mut sums: Vec<f64> = dbeta.iter().chain(dgamma).map(|v| v.to_f64()).chain([own]).collect();
    ranks.sum(&mut sums)?;
    let count = sums.pop().unwrap_or(own);
    let scaled: Vec<T> = sums.iter().map(|sum| T::from_f64(sum * (own / count))).collect();
    let (dbeta, dgamma) = scaled.split_at(dbeta.len());
    Ok((dbeta.to_vec(), dgamma.to_vec()))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Barrier, Mutex};

    use super::super::{BatchNormOptions, Statistics};
    use super::*;
    use crate::{Gradients, Tensor};

    /// Two threads that sum into a shared buffer.
    struct Two {
        rank: usize,
        parts: Arc<Mutex<[Vec<f64>; 2]>>,
        barrier: Arc<Barrier>,
    }

    impl AcrossRanks for Two {
        fn sum(&self, values: &mut [f64]) -> Result<()> {
            self.parts.lock().unwrap()[self.rank] = values.to_vec();
            self.barrier.wait();
            let parts = self.parts.lock().unwrap().clone();
            values.iter_mut().zip(parts[0].iter().zip(&parts[1])).for_each(|(v, (a, b))| *v = a + b);
            self.barrier.wait();
            Ok(())
        }
    }

    /// y, dx, dγ and dβ of rows under a loss whose gradient is `dy`.
    fn pass(x: &[f64], dy: &[f64], channels: usize, statistics: Statistics) -> [Vec<f64>; 4] {
        let rows = x.len() / channels;
        let leaf = |shape: &[usize], values: &[f64]| Tensor::new(shape, values).unwrap().leaf();
        let x = leaf(&[rows, channels], x);
        let numbers = |start: f64| (0..channels).map(|c| start + c as f64 / 4.0).collect::<Vec<_>>();
        let (gamma, beta) = (leaf(&[channels], &numbers(0.5)), leaf(&[channels], &numbers(-0.25)));
        let options = BatchNormOptions { eps: 1e-5, residual: None, relu: true };
        let (y, _) = x.batch_norm2d(&gamma, &beta, statistics, options).unwrap();
        let mut gradients = Gradients::of_leaves();
        y.backward_from(Tensor::new([rows, channels], dy).unwrap(), &mut gradients).unwrap();
        let of = |t: &Tensor| gradients.of(t).unwrap().to_f64().unwrap();
        [y.to_f64().unwrap(), of(&x), of(&gamma), of(&beta)]
    }

    #[test]
    fn two_halves_across_ranks_are_one_batch() {
        let (channels, cut) = (3, 40 * 3);
        let wave = |i: usize, speed: f64| (i as f64 * speed).sin() * 3.0 + (i % 5) as f64;
        let x: Vec<f64> = (0..100 * channels).map(|i| wave(i, 0.37)).collect();
        let dy: Vec<f64> = (0..x.len()).map(|i| wave(i, 1.13) - 2.0).collect();
        let whole = pass(&x, &dy, channels, Statistics::Batch);
        let (parts, barrier) = (Arc::<Mutex<[Vec<f64>; 2]>>::default(), Arc::new(Barrier::new(2)));
        let rank = |rank: usize, part: std::ops::Range<usize>| {
            let ranks = Two { rank, parts: Arc::clone(&parts), barrier: Arc::clone(&barrier) };
            let (x, dy) = (x[part.clone()].to_vec(), dy[part].to_vec());
            std::thread::spawn(move || pass(&x, &dy, channels, Statistics::Across(Arc::new(ranks))))
        };
        let (first, second) = (rank(0, 0..cut), rank(1, cut..x.len()));
        let (first, second) = (first.join().unwrap(), second.join().unwrap());
        let near = |got: &[f64], want: &[f64]| {
            assert_eq!(got.len(), want.len());
            for (g, w) in got.iter().zip(want) {
                approx::assert_relative_eq!(g, w, epsilon = 1e-11, max_relative = 1e-11);
            }
        };
        for i in [0, 1] {
            near(&[&first[i][..], &second[i][..]].concat(), &whole[i]);
        }
        for i in [2, 3] {
            near(&first[i].iter().zip(&second[i]).map(|(a, b)| a + b).collect::<Vec<_>>(), &whole[i]);
        }
    }
}
