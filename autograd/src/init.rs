//! Initial values of parameters.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{Arena, Element, Result};

/// The distribution of a parameter's first values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// The same value for all elements.
    Constant(f64),
    /// Uniform in [−bound, bound].
    Uniform(f64),
    /// ln 1, ln 2, … ln N in each row (S4D-real; Gu et al. 2022).
    LogStates,
    /// Such that softplus gives a step drawn log-uniformly from [0.001, 0.1], at least 1e-4 (mamba_ssm).
    StepBias,
}

impl Init {
    /// PyTorch's default for convolutions and linear layers, weight and bias: kaiming_uniform with a = √5, which is
    /// uniform within 1/√fan_in.
    pub fn fan_in(fan_in: usize) -> Self {
        Self::Uniform(1.0 / (fan_in as f64).sqrt())
    }

    /// Values for a parameter of this shape, row-major. Each name draws from a random stream of its own, so that adding a
    /// parameter changes no other.
    pub fn values(self, shape: &[usize], seed: u64, name: &str) -> Vec<f64> {
        let n = shape.iter().product();
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream(name));
        match self {
            Self::Constant(value) => vec![value; n],
            Self::Uniform(bound) => (0..n).map(|_| rng.random_range(-bound..=bound)).collect(),
            Self::LogStates => {
                let states = shape.last().copied().unwrap_or(1);
                (0..n).map(|i| ((i % states + 1) as f64).ln()).collect()
            }
            Self::StepBias => (0..n)
                .map(|_| {
                    let (low, high) = (0.001f64.ln(), 0.1f64.ln());
                    let step = (low + rng.random::<f64>() * (high - low)).exp().max(1e-4);
                    step + (-(-step).exp_m1()).ln()
                })
                .collect(),
        }
    }
}

impl Arena {
    /// Sets parameter `index` of an arena on the CPU, rounded to its dtype.
    ///
    /// # Errors
    /// Another number of values than the parameter has, and parameters that a tensor still reads.
    pub fn set(&mut self, index: usize, values: &[f64]) -> Result<()> {
        let count = self.layout().ranges().len();
        let range = self.layout().ranges().get(index).cloned().ok_or_else(|| {
            crate::Error::shape("arena", format!("parameter {index} of {count} does not exist"))
        })?;
        if values.len() != range.len() {
            let message = format!("parameter {index} has {} elements, not {}", range.len(), values.len());
            return Err(crate::Error::shape("arena", message));
        }
        crate::dispatch!(self.dtype(), T => {
            let slots = &mut self.values_mut::<T>()?[range];
            slots.iter_mut().zip(values).for_each(|(slot, &v)| *slot = <T as Element>::from_f64(v));
        });
        Ok(())
    }
}

/// FNV-1a hash of a name: the seed of a parameter's random stream.
fn stream(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}
