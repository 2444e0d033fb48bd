//! Batch normalisation over all axes but the channels (Ioffe & Szegedy 2015), with the residual addition and the ReLU
//! that follow it in a residual block fused in.
//!
//! x̂ = (x − μ)/√(σ² + ε),  y = γ·x̂ + β (+ residual) (then max(·, 0)), with μ, σ² of the batch (biased) when training
//! and the running statistics otherwise.  With g = dy where y > 0 (or dy): dβ = Σg, dγ = Σg·x̂, dresidual = g,
//! dx = γ/√(σ² + ε)·(g − dβ/M − x̂·dγ/M) when training, γ/√(σ² + ε)·g otherwise; M rows.

mod across;
mod cpu;
#[cfg(feature = "cuda")]
mod cuda;

use std::sync::{Arc, OnceLock};

pub use across::AcrossRanks;

use crate::{Backward, Device, Element, Error, Forward, Op, Result, Shape, Tensor, apply, buffer::Buffer};

/// Up to this many rows, dx is computed in f64: the terms of the gradient of two or three rows nearly cancel, and f32
/// rounding would exceed the remainder.
const FEW_ROWS: usize = 32;

/// Statistics of a training batch, from which running statistics are updated.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchStatistics {
    /// Mean of each channel.
    pub mean: Vec<f64>,
    /// Unbiased variance of each channel (the biased one for a single row).
    pub variance: Vec<f64>,
}

/// Source of the statistics of a normalisation.
#[derive(Clone)]
pub enum Statistics {
    /// Statistics of the batch, as in training on one rank.
    Batch,
    /// Statistics of the batches of all ranks together; on the CPU.
    Across(Arc<dyn AcrossRanks>),
    /// Running mean and variance, [C] each; no gradient flows to them.
    Running(Tensor, Tensor),
    /// Statistics of the batch. A device also updates the running ones, [C] each in f32: r ← r + momentum·(new − r), of
    /// the mean and of the unbiased variance, without a copy to the host.
    Tracked {
        /// Running mean, [C], updated in place.
        mean: Tensor,
        /// Running variance, [C], updated in place.
        variance: Tensor,
        /// Weight of the batch's statistics in the update.
        momentum: f64,
    },
}

/// Batch normalisation; inputs x [.., C], γ [C], β [C] and optionally a residual of x's shape.
struct BatchNorm2d {
    eps: f64,
    relu: bool,
    statistics: Statistics,
    seen: Arc<OnceLock<BatchStatistics>>,
}

impl Op for BatchNorm2d {
    fn name(&self) -> &'static str {
        "batch_norm2d"
    }

    fn keep_f32(&self, i: usize) -> bool {
        i == 1 || i == 2
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        let x = inputs[0];
        let channels = x.last().copied();
        let fail = |message: String| Err(Error::shape("batch_norm2d", message));
        for (what, s) in [("weight", inputs[1]), ("bias", inputs[2])] {
            if s.len() != 1 || s.last().copied() != channels {
                return fail(format!("{what} {s} does not fit the last axis of x {x}"));
            }
        }
        match &self.statistics {
            Statistics::Running(mean, variance) | Statistics::Tracked { mean, variance, .. }
                if mean.shape() != inputs[1] || variance.shape() != inputs[1] =>
            {
                return fail(format!("running statistics {} do not fit x {x}", mean.shape()));
            }
            _ => {}
        }
        match inputs.get(3) {
            Some(residual) if *residual != x => fail(format!("residual {residual} differs from x {x}")),
            _ if x.numel() == 0 => fail(format!("x {x} is empty")),
            _ => Ok(x.clone()),
        }
    }

    fn forward(&self, cx: &mut Forward, inputs: &[&Tensor]) -> Result<Tensor> {
        let (x, gamma, beta, residual) = (inputs[0], inputs[1], inputs[2], inputs.get(3));
        let channels = gamma.numel();
        match x.device() {
            Device::Cpu => crate::dispatch!(x.dtype(), T => {
                let values = x.values::<T>()?;
                let (mean, variance) = match &self.statistics {
                    Statistics::Batch => {
                        let (mean, biased) = cpu::statistics(values, channels);
                        self.keep(&mean, &biased, (values.len() / channels) as f64);
                        (mean, biased)
                    }
                    Statistics::Across(ranks) => {
                        let (mean, biased) = cpu::statistics(values, channels);
                        let rows = values.len() / channels;
                        let (mean, biased, count) = across::statistics(&**ranks, rows, [&mean, &biased])?;
                        self.keep(&mean, &biased, count);
                        (mean, biased)
                    }
                    Statistics::Running(mean, variance) => (mean.to_f64()?, variance.to_f64()?),
                    Statistics::Tracked { .. } => {
                        return Err(Error::misuse("batch_norm2d", "the CPU gives statistics back instead"));
                    }
                };
                let to_t = |v: Vec<f64>| -> Vec<T> { v.into_iter().map(T::from_f64).collect() };
                let inverse = to_t(variance.iter().map(|v| 1.0 / (v + self.eps).sqrt()).collect());
                let mean = to_t(mean);
                let scale: Vec<T> = gamma.values::<T>()?.iter().zip(&inverse).map(|(&g, &i)| g * i).collect();
                let residual = residual.map(|r| r.values::<T>()).transpose()?;
                let y = cpu::normalise(values, &mean, &scale, beta.values()?, residual, self.relu);
                let y = Tensor::from_buffer(x.shape().clone(), y);
                cx.save(x);
                cx.save(gamma);
                cx.save(&Tensor::from_buffer([channels], Buffer::copy_of(&mean)));
                cx.save(&Tensor::from_buffer([channels], Buffer::copy_of(&inverse)));
                if self.relu {
                    cx.save(beta);
                    if residual.is_some() {
                        cx.save(&y);
                    }
                }
                Ok(y)
            }),
            #[cfg(feature = "cuda")]
            Device::Cuda => self.forward_cuda(cx, inputs),
        }
    }

    fn backward(&self, cx: &mut Backward, dy: &Tensor) -> Result<()> {
        let saved = cx.saved_all();
        let [x, gamma, mean, inverse, relu @ ..] = &saved[..] else {
            return Err(Error::Backward("batch_norm2d saved too little".into()));
        };
        let channels = gamma.numel();
        match dy.device() {
            Device::Cpu => crate::dispatch!(dy.dtype(), T => {
                let few = matches!(self.statistics, Statistics::Batch) && x.numel() <= FEW_ROWS * channels;
                let (values, gammas) = (x.values::<T>()?, gamma.values::<T>()?);
                let (mean, inverse) = (mean.values::<T>()?, inverse.values::<T>()?);
                let scale: Vec<T> = gammas.iter().zip(inverse).map(|(&g, &i)| g * i).collect();
                let positive = match relu {
                    [] => cpu::Positive::Everywhere,
                    [beta] => cpu::Positive::Of { x: values, mean, scale: &scale, beta: beta.values()? },
                    [_, y, ..] => cpu::Positive::Values(y.values()?),
                };
                // A residual's gradient is g itself.
                let masked = (!relu.is_empty() && (few || cx.needs(3))).then(|| -> Result<Tensor> {
                    let g = cpu::Incoming { dy: dy.values::<T>()?, positive }.masked();
                    Ok(Tensor::from_buffer(dy.shape().clone(), g))
                });
                let masked = masked.transpose()?;
                if few {
                    return self.backward_few(cx, masked.as_ref().unwrap_or(dy), x, gamma);
                }
                let g = match &masked {
                    Some(masked) => {
                        cpu::Incoming { dy: masked.values::<T>()?, positive: cpu::Positive::Everywhere }
                    }
                    None => cpu::Incoming { dy: dy.values()?, positive },
                };
                let x = values;
                let (dbeta, dgamma) = cpu::gradient_sums(g, x, mean, inverse);
                // All ranks must call this, whether they need dx or not.
                let common = match &self.statistics {
                    Statistics::Across(ranks) => {
                        Some(across::gradient_sums(&**ranks, x.len() / channels, [&dbeta, &dgamma])?)
                    }
                    _ => None,
                };
                if cx.needs(0) {
                    let sums = match (&self.statistics, &common) {
                        (_, Some((dbeta, dgamma))) => Some((&dbeta[..], &dgamma[..])),
                        (Statistics::Batch, None) => Some((&dbeta[..], &dgamma[..])),
                        _ => None,
                    };
                    let terms = cpu::Terms { mean, inverse, gamma: gammas, sums };
                    cx.accumulate(0, |dx, add| cpu::input_gradient(g, x, &terms, dx, add))?;
                }
                cx.give(1, Tensor::new([channels], &dgamma)?)?;
                cx.give(2, Tensor::new([channels], &dbeta)?)?;
                if cx.needs(3) {
                    cx.give(3, masked.unwrap_or_else(|| dy.clone()))?;
                }
                Ok(())
            }),
            #[cfg(feature = "cuda")]
            Device::Cuda => self.backward_cuda(cx, dy, &saved),
        }
    }
}

impl BatchNorm2d {
    /// Stores the statistics over `rows` rows for the update of the running ones.
    fn keep(&self, mean: &[f64], biased: &[f64], rows: f64) {
        let correction = if rows > 1.0 { rows / (rows - 1.0) } else { 1.0 };
        let variance = biased.iter().map(|v| v * correction).collect();
        // Set once: an operator's forward pass runs once.
        let _ = self.seen.set(BatchStatistics { mean: mean.to_vec(), variance });
    }

    /// The backward pass over few rows, in f64 from the statistics on; `g` is dy after the ReLU's gradient.
    fn backward_few(&self, cx: &mut Backward, g: &Tensor, x: &Tensor, gamma: &Tensor) -> Result<()> {
        let (values, xs, gammas) = (g.to_f64()?, x.to_f64()?, gamma.to_f64()?);
        let (mean, variance) = cpu::statistics(&xs, gammas.len());
        let incoming = cpu::Incoming { dy: &values, positive: cpu::Positive::Everywhere };
        let inverse: Vec<f64> = variance.iter().map(|v| 1.0 / (v + self.eps).sqrt()).collect();
        let (dbeta, dgamma) = cpu::gradient_sums(incoming, &xs, &mean, &inverse);
        let mut dx = vec![0.0; xs.len()];
        let sums = Some((&dbeta[..], &dgamma[..]));
        let terms = cpu::Terms { mean: &mean, inverse: &inverse, gamma: &gammas, sums };
        cpu::input_gradient(incoming, &xs, &terms, &mut dx, false);
        for (i, shape, gradient) in
            [(0, x.shape(), &dx), (1, gamma.shape(), &dgamma), (2, gamma.shape(), &dbeta)]
        {
            cx.give(i, Tensor::new(shape.clone(), gradient)?.to_dtype(g.dtype())?)?;
        }
        if cx.needs(3) {
            cx.give(3, g.clone())?;
        }
        Ok(())
    }
}

/// Attributes of a batch normalisation and of the fused operations after it.
#[derive(Clone, Copy, Default)]
pub struct BatchNormOptions<'a> {
    /// ε, added to the variance.
    pub eps: f64,
    /// Added to the normalised values; has x's shape.
    pub residual: Option<&'a Tensor>,
    /// Applies max(·, 0) at the end.
    pub relu: bool,
}

impl Tensor {
    /// Batch normalisation of x [.., C] with weight and bias [C]. The second value holds the batch's statistics, if
    /// `statistics` computes them.
    pub fn batch_norm2d(
        &self,
        weight: &Tensor,
        bias: &Tensor,
        statistics: Statistics,
        options: BatchNormOptions,
    ) -> Result<(Tensor, Option<BatchStatistics>)> {
        let seen = Arc::new(OnceLock::new());
        let op = BatchNorm2d { eps: options.eps, relu: options.relu, statistics, seen: Arc::clone(&seen) };
        let y = match options.residual {
            Some(residual) => apply(op, &[self, weight, bias, residual])?,
            None => apply(op, &[self, weight, bias])?,
        };
        Ok((y, seen.get().cloned()))
    }
}
