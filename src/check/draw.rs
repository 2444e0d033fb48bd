//! Random shapes, attributes and inputs, the same in every run.

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

use super::case::Array;

/// The random numbers of a case.
pub struct Draw(ChaCha8Rng);

impl Draw {
    /// Numbers of the `index`-th case under `name`.
    pub fn new(name: &str, index: usize) -> Self {
        // FNV-1a, so that adding a case changes no other.
        let hash =
            name.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
        Self(ChaCha8Rng::seed_from_u64(hash.wrapping_add(index as u64)))
    }

    /// A whole number from `low` to `high`, both included.
    pub fn within(&mut self, low: usize, high: usize) -> usize {
        low + (self.0.next_u64() % (high - low + 1) as u64) as usize
    }

    /// One element of `from`.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.within(0, from.len() - 1)]
    }

    /// True or false, with equal probability.
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

    /// The indices 0..n in random order.
    pub fn order(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        for i in (1..n).rev() {
            order.swap(i, self.within(0, i));
        }
        order
    }

    /// Uniform in [low, high).
    pub fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// `n` values from `low` to `high` that f16 represents exactly, so that every device and dtype gets the same numbers:
    /// multiples of 2⁻¹¹ times the power of two at or above the largest magnitude.
    pub fn list(&mut self, n: usize, low: f64, high: f64) -> Vec<f64> {
        let step = 2f64.powi(low.abs().max(high.abs()).log2().ceil() as i32 - 11);
        let (first, last) = ((low / step).ceil() as i64, (high / step).floor() as i64);
        let count = (last - first + 1) as u64;
        (0..n).map(|_| (first + (self.0.next_u64() % count) as i64) as f64 * step).collect()
    }

    /// Values from `low` to `high`, as those of [`Draw::list`].
    pub fn between(&mut self, shape: &[usize], low: f64, high: f64) -> Array {
        Array { shape: shape.to_vec(), values: self.list(shape.iter().product(), low, high) }
    }

    /// Values from −1 to 1.
    pub fn values(&mut self, shape: &[usize]) -> Array {
        self.between(shape, -1.0, 1.0)
    }

    /// A weight whose products with `fan_in` inputs add up to about 1.
    pub fn weight(&mut self, shape: &[usize], fan_in: usize) -> Array {
        let most = (fan_in as f64).sqrt().recip();
        self.between(shape, -most, most)
    }

    /// Values of random sign from `gap` to `gap` + 1 away from 0.
    pub fn away(&mut self, shape: &[usize], gap: f64) -> Array {
        let mut array = self.between(shape, gap, gap + 1.0);
        array.values.iter_mut().for_each(|v| *v = if self.flag() { *v } else { -*v });
        array
    }

    /// Values in random order, any two at least 1/16 apart.
    pub fn distinct(&mut self, shape: &[usize]) -> Array {
        let n = shape.iter().product();
        let values = self.order(n).into_iter().map(|i| (i as f64 - n as f64 / 2.0) / 16.0).collect();
        Array { shape: shape.to_vec(), values }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_within_their_range_and_f16_holds_them() {
        for (low, high) in [(-1.0, 1.0), (0.01, 0.5), (-4.0, -0.1), (6.0, 7.0), (-0.03, 0.03)] {
            let values = Draw::new("x", 0).list(2000, low, high);
            for &v in &values {
                assert!((low..=high).contains(&v), "{v} in {low}..{high}");
                assert_eq!(half::f16::from_f64(v).to_f64(), v);
            }
            let spread = values.iter().fold(f64::MIN, |a, &b| a.max(b))
                - values.iter().fold(f64::MAX, |a, &b| a.min(b));
            assert!(spread > 0.9 * (high - low), "{spread} of {low}..{high}");
            assert_eq!(values, Draw::new("x", 0).list(2000, low, high));
            assert_ne!(values, Draw::new("y", 0).list(2000, low, high));
        }
    }
}
