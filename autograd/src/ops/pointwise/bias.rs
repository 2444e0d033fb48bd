//! A bias that is added to every row.

#[cfg(feature = "cuda")]
use super::cuda;
#[cfg(feature = "cuda")]
use crate::ops::reduce;
use crate::{Backward, Device, Error, Forward, Op, Result, Shape, Tensor, apply, buffer::Buffer, cpu, wide};
use rayon::prelude::*;

/// y[…, j] = x[…, j] + b[j]: a bias broadcast over all axes but the last.  dx = dy, db = Σ dy over the others.
pub struct Bias;

impl Op for Bias {
    fn name(&self) -> &'static str {
        "bias"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        let (x, b) = (inputs[0], inputs[1]);
        if b.len() != 1 || x.last() != b.last() {
            let message = format!("bias {b} does not fit the last axis of {x}");
            return Err(Error::shape("bias", message));
        }
        Ok(x.clone())
    }

    fn forward(&self, _: &mut Forward, inputs: &[&Tensor]) -> Result<Tensor> {
        let (x, b) = (inputs[0], inputs[1]);
        match x.device() {
            Device::Cpu => crate::dispatch!(x.dtype(), T => {
                let (values, bias) = (x.values::<T>()?, b.values::<T>()?);
                let mut y = Buffer::uninit(values.len());
                let piece = (cpu::rows_per_piece(bias.len()) * bias.len()).max(1);
                y.par_chunks_mut(piece).zip(values.par_chunks(piece)).for_each(|(y, x)| wide!({
                    for (y, x) in y.chunks_exact_mut(bias.len()).zip(x.chunks_exact(bias.len())) {
                        y.iter_mut().zip(x.iter().zip(bias)).for_each(|(y, (&x, &b))| *y = x + b);
                    }
                }));
                Ok(Tensor::from_buffer(x.shape().clone(), y))
            }),
            #[cfg(feature = "cuda")]
            Device::Cuda => cuda::bias(x, b),
        }
    }

    fn backward(&self, cx: &mut Backward, dy: &Tensor) -> Result<()> {
        cx.give(0, dy.clone())?;
        let cols = dy.shape().rows_cols().1;
        match dy.device() {
            Device::Cpu => crate::dispatch!(dy.dtype(), T => {
                let d = dy.values::<T>()?;
                cx.accumulate(1, |dst, add| cpu::column_sums(d, cols, dst, add))
            }),
            #[cfg(feature = "cuda")]
            Device::Cuda => cx.fill(1, |db| reduce::cuda::column_sums_as(dy, db)),
        }
    }
}

impl Tensor {
    /// x + b with b [C] broadcast over all axes of x [.., C] but the last.
    pub fn bias(&self, bias: &Tensor) -> Result<Tensor> {
        apply(Bias, &[self, bias])
    }
}
