//! Concatenation of tensors along an axis.

use rayon::prelude::*;

use super::Slice;
#[cfg(feature = "cuda")]
use super::cuda;
use crate::{Backward, Device, Error, Forward, Op, Result, Shape, Tensor, apply, buffer::Buffer};

/// y concatenates the inputs along `axis`.  Each input's gradient is its part of dy.
pub struct Concat {
    /// The axis of concatenation; all other sizes agree.
    pub axis: usize,
    /// Sizes of the inputs along it.
    sizes: Vec<usize>,
}

impl Op for Concat {
    fn name(&self) -> &'static str {
        "concat"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        let mut dims = inputs[0].to_vec();
        for (i, shape) in inputs.iter().enumerate() {
            let fits = shape.len() == dims.len()
                && (0..dims.len()).all(|a| a == self.axis || shape[a] == inputs[0][a]);
            if !fits || self.axis >= dims.len() {
                let message =
                    format!("input {i} {shape} does not fit {} along axis {}", inputs[0], self.axis);
                return Err(Error::shape("concat", message));
            }
        }
        dims[self.axis] = self.sizes.iter().sum();
        Ok(dims.into())
    }

    fn forward(&self, _: &mut Forward, inputs: &[&Tensor]) -> Result<Tensor> {
        let shapes: Vec<&Shape> = inputs.iter().map(|t| t.shape()).collect();
        let shape = self.shape(&shapes)?;
        let (_, total, inner) = shape.around(self.axis);
        match inputs[0].device() {
            Device::Cpu => crate::dispatch!(inputs[0].dtype(), T => {
                let mut y = Buffer::<T>::uninit(shape.numel());
                let mut start = 0;
                for (t, size) in inputs.iter().zip(&self.sizes) {
                    let x = t.values::<T>()?;
                    if !x.is_empty() {
                        let rows = y.par_chunks_mut(total * inner).with_min_len(64);
                        rows.zip(x.par_chunks(size * inner)).for_each(|(y, x)| {
                            y[start * inner..][..x.len()].copy_from_slice(x);
                        });
                    }
                    start += size;
                }
                Ok(Tensor::from_buffer(shape, y))
            }),
            #[cfg(feature = "cuda")]
            Device::Cuda => {
                let y = inputs[0].empty_like(shape)?;
                let mut start = 0;
                for (t, &size) in inputs.iter().zip(&self.sizes) {
                    cuda::slice(cuda::Move::Place, cuda::along(y.shape(), self.axis, start, size)?, t, &y)?;
                    start += size;
                }
                Ok(y)
            }
        }
    }

    fn backward(&self, cx: &mut Backward, dy: &Tensor) -> Result<()> {
        let mut start = 0;
        for (i, &len) in self.sizes.iter().enumerate() {
            if cx.needs(i) {
                cx.give(i, Slice { axis: self.axis, start, len }.cut(dy)?)?;
            }
            start += len;
        }
        Ok(())
    }
}

impl Tensor {
    /// Concatenates tensors along `axis`; their other sizes agree.
    pub fn concat(tensors: &[&Tensor], axis: usize) -> Result<Tensor> {
        if tensors.is_empty() {
            return Err(Error::shape("concat", "needs at least one tensor"));
        }
        let sizes = tensors.iter().map(|t| t.shape().get(axis).copied().unwrap_or(0)).collect();
        apply(Concat { axis, sizes }, tensors)
    }
}
