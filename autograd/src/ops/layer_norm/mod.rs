//! Layer normalisation over the last axis (Ba, Kiros & Hinton 2016).
//!
//! x̂ = (x − μ)/√(σ² + ε),  y = γ·x̂ + β, with μ, σ² (biased) of each row.  dβ = Σdy, dγ = Σdy·x̂ over the rows;
//! with g = dy·γ: dx = (g − mean(g) − x̂·mean(g·x̂))/√(σ² + ε).

#[cfg(feature = "cuda")]
mod cuda;

use rayon::prelude::*;

use crate::{
    Backward, DType, Device, Element, Error, Forward, Op, Result, Shape, Tensor, apply, buffer::Buffer,
    cpu::rows_per_piece,
};

/// Up to this many columns, the backward pass is computed in f64: the terms of a gradient over two or three columns
/// nearly cancel, and f32 rounding would exceed the remainder.
const FEW_COLUMNS: usize = 32;

/// Layer normalisation; inputs x [.., N], γ [N], β [N].
pub struct LayerNorm {
    /// ε, added to the variance.
    pub eps: f64,
}

impl Op for LayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn keep_f32(&self, i: usize) -> bool {
        i > 0
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        let x = inputs[0];
        for (what, s) in [("weight", inputs[1]), ("bias", inputs[2])] {
            if s.len() != 1 || s.last() != x.last() || s.numel() == 0 {
                return Err(Error::shape(
                    "layer_norm",
                    format!("{what} {s} does not fit the last axis of x {x}"),
                ));
            }
        }
        Ok(x.clone())
    }

    fn forward(&self, cx: &mut Forward, inputs: &[&Tensor]) -> Result<Tensor> {
        let (x, gamma, beta) = (inputs[0], inputs[1], inputs[2]);
        cx.save(x);
        cx.save(gamma);
        let n = gamma.numel();
        match x.device() {
            Device::Cpu => crate::dispatch!(x.dtype(), T => {
                let (xs, gamma, beta) = (x.values::<T>()?, gamma.values::<T>()?, beta.values::<T>()?);
                let mut y = Buffer::uninit(xs.len());
                y.par_chunks_mut(n).with_min_len(rows_per_piece(n)).zip(xs.par_chunks(n)).for_each(|(y, x)| {
                    let (mean, inverse) = moments(x, self.eps);
                    y.iter_mut().zip(x.iter().zip(gamma.iter().zip(beta))).for_each(|(y, (&x, (&g, &b)))| {
                        *y = (x - mean) * inverse * g + b;
                    });
                });
                Ok(Tensor::from_buffer(x.shape().clone(), y))
            }),
            #[cfg(feature = "cuda")]
            Device::Cuda => self.forward_cuda(x, gamma, beta),
        }
    }

    fn backward(&self, cx: &mut Backward, dy: &Tensor) -> Result<()> {
        let [x, gamma] = cx.saved()?;
        #[cfg(feature = "cuda")]
        if dy.device() == Device::Cuda {
            return self.backward_cuda(cx, dy, &x, &gamma);
        }
        let n = gamma.numel();
        let dtype = if n <= FEW_COLUMNS { DType::F64 } else { dy.dtype() };
        let (x, d, gamma) = (x.to_dtype(dtype)?, dy.to_dtype(dtype)?, gamma.to_dtype(dtype)?);
        let mut give = |i, gradient: Tensor| cx.give(i, gradient.to_dtype(dy.dtype())?);
        crate::dispatch!(dtype, T => {
                let (xs, d, gamma) = (x.values::<T>()?, d.values::<T>()?, gamma.values::<T>()?);
                let piece = rows_per_piece(n) * n;
                let mut dx = Buffer::uninit(xs.len());
                let rows = dx.par_chunks_mut(piece).zip(xs.par_chunks(piece).zip(d.par_chunks(piece)));
                let parts: Vec<_> = rows.map(|(dx, (x, dy))| gradient(x, dy, gamma, self.eps, dx)).collect();
                let (mut dgamma, mut dbeta) = (vec![T::ZERO; n], vec![T::ZERO; n]);
                for (part_gamma, part_beta) in parts {
                    dgamma.iter_mut().zip(part_gamma).for_each(|(s, v)| *s += v);
                    dbeta.iter_mut().zip(part_beta).for_each(|(s, v)| *s += v);
                }
                give(0, Tensor::from_buffer(x.shape().clone(), dx))?;
                give(1, Tensor::new([n], &dgamma)?)?;
                give(2, Tensor::new([n], &dbeta)?)
        })
    }
}

/// Mean and 1/√(σ² + ε) of a row.
fn moments<T: Element>(x: &[T], eps: f64) -> (T, T) {
    let n = x.len() as f64;
    let mean = x.iter().map(|v| v.to_f64()).sum::<f64>() / n;
    let variance = x.iter().map(|v| (v.to_f64() - mean).powi(2)).sum::<f64>() / n;
    (T::from_f64(mean), T::from_f64(1.0 / (variance + eps).sqrt()))
}

/// dx of some rows; returns their contribution to dγ and dβ.
fn gradient<T: Element>(x: &[T], dy: &[T], gamma: &[T], eps: f64, dx: &mut [T]) -> (Vec<T>, Vec<T>) {
    let n = gamma.len();
    let (mut dgamma, mut dbeta) = (vec![T::ZERO; n], vec![T::ZERO; n]);
    for ((x, dy), dx) in x.chunks_exact(n).zip(dy.chunks_exact(n)).zip(dx.chunks_exact_mut(n)) {
        let (mean, inverse) = moments(x, eps);
        let (mut sum, mut product) = (T::ZERO, T::ZERO);
        for j in 0..n {
            let hat = (x[j] - mean) * inverse;
            let g = dy[j] * gamma[j];
            sum += g;
            product += g * hat;
            dgamma[j] += dy[j] * hat;
            dbeta[j] += dy[j];
        }
        let count = T::from_f64(n as f64);
        let (sum, product) = (sum / count, product / count);
        for j in 0..n {
            let hat = (x[j] - mean) * inverse;
            dx[j] = (dy[j] * gamma[j] - sum - hat * product) * inverse;
        }
    }
    (dgamma, dbeta)
}

impl Tensor {
    /// Layer normalisation of x [.., N] over its last axis, with weight and bias [N].
    pub fn layer_norm(&self, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
        apply(LayerNorm { eps }, &[self, weight, bias])
    }
}
