//! A range of one axis.

use rayon::prelude::*;

#[cfg(feature = "cuda")]
use super::cuda;
use crate::{Backward, Device, Error, Forward, Op, Result, Shape, Tensor, apply, buffer::Buffer};

/// y = x[.., start .. start + len, ..] along `axis`.  dx is dy there and zero elsewhere.
pub struct Slice {
    /// The axis that is cut.
    pub axis: usize,
    /// First index of the range.
    pub start: usize,
    /// Number of indices in the range.
    pub len: usize,
}

impl Op for Slice {
    fn name(&self) -> &'static str {
        "slice"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        let x = inputs[0];
        let size = x.get(self.axis).copied().unwrap_or(0);
        if self.axis >= x.len() || self.start.checked_add(self.len).is_none_or(|end| end > size) {
            let (start, len, axis) = (self.start, self.len, self.axis);
            let message = format!("{len} from {start} on of axis {axis} is not inside {x}");
            return Err(Error::shape("slice", message));
        }
        let mut dims = x.to_vec();
        dims[self.axis] = self.len;
        Ok(dims.into())
    }

    fn forward(&self, _: &mut Forward, inputs: &[&Tensor]) -> Result<Tensor> {
        self.cut(inputs[0])
    }

    fn backward(&self, cx: &mut Backward, dy: &Tensor) -> Result<()> {
        let (_, size, inner) = cx.input_shape(0).around(self.axis);
        match dy.device() {
            Device::Cpu => crate::dispatch!(dy.dtype(), T => {
                let dy = dy.values::<T>()?;
                cx.accumulate(0, |dx, add| {
                    if !add {
                        dx.fill(T::default());
                    }
                    if dy.is_empty() {
                        return;
                    }
                    let rows = dx.par_chunks_mut(size * inner).with_min_len(64);
                    rows.zip(dy.par_chunks(self.len * inner)).for_each(|(dx, dy)| {
                        let dx = &mut dx[self.start * inner..][..dy.len()];
                        dx.iter_mut().zip(dy).for_each(|(dx, &d)| *dx += d);
                    });
                })
            }),
            #[cfg(feature = "cuda")]
            Device::Cuda => {
                let slice = cuda::along(cx.input_shape(0), self.axis, self.start, self.len)?;
                cx.fill(0, |dx| cuda::slice(cuda::Move::Pad, slice, dy, dx))
            }
        }
    }
}

impl Slice {
    /// The elements of x inside the range.
    pub(super) fn cut(&self, x: &Tensor) -> Result<Tensor> {
        let shape = self.shape(&[x.shape()])?;
        let (_, size, inner) = x.shape().around(self.axis);
        match x.device() {
            Device::Cpu => crate::dispatch!(x.dtype(), T => {
                let mut y = Buffer::<T>::uninit(shape.numel());
                if !y.is_empty() {
                    let x = x.values::<T>()?;
                    y.par_chunks_mut(self.len * inner).with_min_len(64).enumerate().for_each(|(i, y)| {
                        let from = (i * size + self.start) * inner;
                        y.copy_from_slice(&x[from..from + y.len()]);
                    });
                }
                Ok(Tensor::from_buffer(shape, y))
            }),
            #[cfg(feature = "cuda")]
            Device::Cuda => {
                let y = x.empty_like(shape)?;
                cuda::slice(
                    cuda::Move::Take,
                    cuda::along(x.shape(), self.axis, self.start, self.len)?,
                    x,
                    &y,
                )?;
                Ok(y)
            }
        }
    }
}

impl Tensor {
    /// `len` indices of `axis`, from `start` on.
    pub fn slice(&self, axis: usize, start: usize, len: usize) -> Result<Tensor> {
        apply(Slice { axis, start, len }, &[self])
    }
}
