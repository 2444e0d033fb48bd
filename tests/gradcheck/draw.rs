//! Random shapes, attributes and inputs, the same in every run.

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use ssmv_autograd::Tensor;

/// Where a row's random numbers come from.
pub struct Draw(ChaCha8Rng);

impl Draw {
    /// Numbers of the case `index` of the row `name`.
    pub fn new(name: &str, index: usize) -> Self {
        // FNV-1a, so that adding a row changes no other row's cases.
        let hash =
            name.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
        Self(ChaCha8Rng::seed_from_u64(hash.wrapping_add(index as u64)))
    }

    /// A whole number from `low` to `high`, both included.
    pub fn within(&mut self, low: usize, high: usize) -> usize {
        low + (self.0.next_u64() % (high - low + 1) as u64) as usize
    }

    /// One of them.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.within(0, from.len() - 1)]
    }

    /// Heads or tails.
    pub fn flag(&mut self) -> bool {
        self.within(0, 1) == 1
    }

    /// A number of channels: one, odd, past one register and past two.
    pub fn channels(&mut self) -> usize {
        self.pick(&[1, 2, 3, 5, 8, 17, 33, 40])
    }

    /// `axes` sizes of at most `largest`, ones among them.
    pub fn shape(&mut self, axes: usize, largest: usize) -> Vec<usize> {
        (0..axes).map(|_| self.within(1, largest)).collect()
    }

    /// Uniform in [low, high).
    pub fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn tensor(&mut self, shape: &[usize], mut value: impl FnMut(&mut Self) -> f64) -> Tensor {
        // Values that f32 holds, so that f32 and f64 are given the same.
        let values: Vec<f64> = (0..shape.iter().product()).map(|_| f64::from(value(self) as f32)).collect();
        Tensor::new(shape, &values).unwrap()
    }

    /// Uniform in [low, high).
    pub fn between(&mut self, shape: &[usize], low: f64, high: f64) -> Tensor {
        self.tensor(shape, |draw| draw.uniform(low, high))
    }

    /// Uniform in [−1, 1).
    pub fn values(&mut self, shape: &[usize]) -> Tensor {
        self.between(shape, -1.0, 1.0)
    }

    /// Of random sign, and at least `gap` away from 0.
    pub fn away(&mut self, shape: &[usize], gap: f64) -> Tensor {
        self.tensor(shape, |draw| {
            let magnitude = draw.uniform(gap, 1.0 + gap);
            if draw.flag() { magnitude } else { -magnitude }
        })
    }

    /// In random order, any two at least 1/16 apart.
    pub fn distinct(&mut self, shape: &[usize]) -> Tensor {
        let n = shape.iter().product::<usize>();
        let mut values: Vec<f64> = (0..n).map(|i| (i as f64 - n as f64 / 2.0) / 16.0).collect();
        for i in (1..n).rev() {
            values.swap(i, self.within(0, i));
        }
        Tensor::new(shape, &values).unwrap()
    }

    /// The indices 0..n in random order.
    pub fn order(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        for i in (1..n).rev() {
            order.swap(i, self.within(0, i));
        }
        order
    }
}
