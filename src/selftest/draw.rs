//! Random inputs that f16 holds exactly, so that the device and the CPU are given the same numbers.

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use ssmv_autograd::Tensor;

use super::operators::Input;
use crate::Result;

/// Where a case's random numbers come from: the same in every run.
pub(super) struct Draw(ChaCha8Rng);

impl Draw {
    /// The numbers of the case of that name.
    pub fn new(name: &str) -> Self {
        // FNV-1a, so that adding a case changes no other.
        let hash =
            name.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
        Self(ChaCha8Rng::seed_from_u64(hash))
    }

    /// Heads or tails.
    fn flag(&mut self) -> bool {
        self.0.next_u64() & 1 == 1
    }

    /// `n` values from `low` to `high`: multiples of 2⁻¹¹ of the power of two that no magnitude passes.
    pub fn values(&mut self, n: usize, low: f64, high: f64) -> Vec<f64> {
        let step = 2f64.powi(low.abs().max(high.abs()).log2().ceil() as i32 - 11);
        let (first, last) = ((low / step).ceil() as i64, (high / step).floor() as i64);
        let count = (last - first + 1) as u64;
        (0..n).map(|_| (first + (self.0.next_u64() % count) as i64) as f64 * step).collect()
    }

    /// A tensor of values from `low` to `high`, in f32 on the CPU.
    pub fn tensor(&mut self, shape: &[usize], low: f64, high: f64) -> Result<Tensor> {
        let values = self.values(shape.iter().product(), low, high);
        Ok(Tensor::new(shape, &values)?.to_dtype(ssmv_autograd::DType::F32)?)
    }

    /// An input of values from −1 to 1 whose gradient is compared as well.
    pub fn input(&mut self, name: &'static str, shape: &[usize]) -> Result<Input> {
        self.between(name, shape, -1.0, 1.0)
    }

    /// The same from `low` to `high`.
    pub fn between(&mut self, name: &'static str, shape: &[usize], low: f64, high: f64) -> Result<Input> {
        Ok(Input::new(name, self.tensor(shape, low, high)?))
    }

    /// A weight whose products with `fan_in` inputs add up to about 1.
    pub fn weight(&mut self, name: &'static str, shape: &[usize], fan_in: usize) -> Result<Input> {
        let most = (fan_in as f64).sqrt().recip();
        self.between(name, shape, -most, most)
    }

    /// Values of random sign from `gap` to `gap` + 1 away from 0.
    pub fn away(&mut self, name: &'static str, shape: &[usize], gap: f64) -> Result<Input> {
        let mut values = self.values(shape.iter().product(), gap, gap + 1.0);
        values.iter_mut().for_each(|v| *v = if self.flag() { *v } else { -*v });
        Ok(Input::new(name, Tensor::new(shape, &values)?.to_dtype(ssmv_autograd::DType::F32)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_within_their_range_and_f16_holds_them() {
        for (low, high) in [(-1.0, 1.0), (0.01, 0.5), (-4.0, -0.1), (6.0, 7.0), (-0.03, 0.03)] {
            let values = Draw::new("x").values(2000, low, high);
            for &v in &values {
                assert!((low..=high).contains(&v), "{v} in {low}..{high}");
                assert_eq!(half::f16::from_f64(v).to_f64(), v);
            }
            let spread = values.iter().fold(f64::MIN, |a, &b| a.max(b))
                - values.iter().fold(f64::MAX, |a, &b| a.min(b));
            assert!(spread > 0.9 * (high - low), "{spread} of {low}..{high}");
            assert_eq!(values, Draw::new("x").values(2000, low, high));
            assert_ne!(values, Draw::new("y").values(2000, low, high));
        }
    }
}
