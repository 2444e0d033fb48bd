//! Each pixel of an NHWC image as a square of `scale`×`scale` pixels.  dx sums dy over the square.

#[cfg(feature = "cuda")]
mod cuda;

use rayon::prelude::*;

use crate::{
    Backward, Device, Element, Error, Forward, Op, Result, Shape, Tensor, apply, buffer::Buffer, wide,
};

/// Nearest-neighbour upsampling with its attributes.
#[derive(Clone, Copy, Debug)]
pub struct UpsampleNearest2d {
    /// Side of the square that a pixel becomes.
    pub scale: usize,
    /// Shape of x, for the backward pass.
    from: [usize; 4],
}

impl Op for UpsampleNearest2d {
    fn name(&self) -> &'static str {
        "upsample_nearest2d"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        let [n, h, w, c] = inputs[0].dims("upsample_nearest2d", "x [N,H,W,C]")?;
        match (h.checked_mul(self.scale), w.checked_mul(self.scale)) {
            (Some(h), Some(w)) if self.scale > 0 => Ok([n, h, w, c].into()),
            _ => {
                let message = format!("scale {} does not fit x {}", self.scale, inputs[0]);
                Err(Error::shape("upsample_nearest2d", message))
            }
        }
    }

    fn forward(&self, _: &mut Forward, inputs: &[&Tensor]) -> Result<Tensor> {
        let x = inputs[0];
        let shape = self.shape(&[x.shape()])?;
        match x.device() {
            Device::Cpu => crate::dispatch!(x.dtype(), T => {
                let mut y = Buffer::<T>::uninit(shape.numel());
                self.repeat(x.values()?, &mut y);
                Ok(Tensor::from_buffer(shape, y))
            }),
            #[cfg(feature = "cuda")]
            Device::Cuda => self.forward_cuda(x, shape),
        }
    }

    fn backward(&self, cx: &mut Backward, dy: &Tensor) -> Result<()> {
        match dy.device() {
            Device::Cpu => crate::dispatch!(dy.dtype(), T => {
                let dy = dy.values::<T>()?;
                cx.accumulate(0, |dx, add| self.fold(dy, dx, add))
            }),
            #[cfg(feature = "cuda")]
            Device::Cuda => cx.fill(0, |dx| self.backward_cuda(dy, dx)),
        }
    }
}

impl UpsampleNearest2d {
    fn repeat<T: Element>(&self, x: &[T], y: &mut [T]) {
        let (s, [_, _, w, c]) = (self.scale, self.from);
        if y.is_empty() {
            return;
        }
        y.par_chunks_mut(s * s * w * c).with_min_len(4).zip(x.par_chunks(w * c)).for_each(|(y, x)| {
            let (first, others) = y.split_at_mut(s * w * c);
            for (square, pixel) in first.chunks_exact_mut(s * c).zip(x.chunks_exact(c)) {
                square.chunks_exact_mut(c).for_each(|p| p.copy_from_slice(pixel));
            }
            others.chunks_exact_mut(s * w * c).for_each(|row| row.copy_from_slice(first));
        });
    }

    fn fold<T: Element>(&self, dy: &[T], dx: &mut [T], add: bool) {
        let (s, [_, _, w, c]) = (self.scale, self.from);
        if dx.is_empty() {
            return;
        }
        dx.par_chunks_mut(w * c).with_min_len(4).zip(dy.par_chunks(s * s * w * c)).for_each(|(dx, dy)| {
            if !add {
                dx.fill(T::ZERO);
            }
            wide!({
                for row in dy.chunks_exact(s * w * c) {
                    for (dx, square) in dx.chunks_exact_mut(c).zip(row.chunks_exact(s * c)) {
                        for pixel in square.chunks_exact(c) {
                            dx.iter_mut().zip(pixel).for_each(|(d, &v)| *d += v);
                        }
                    }
                }
            });
        });
    }
}

impl Tensor {
    /// Each pixel `scale`×`scale` times: x [N,H,W,C] → [N, H·scale, W·scale, C].
    pub fn upsample_nearest2d(&self, scale: usize) -> Result<Tensor> {
        let from = self.shape().dims("upsample_nearest2d", "x [N,H,W,C]")?;
        apply(UpsampleNearest2d { scale, from }, &[self])
    }
}
