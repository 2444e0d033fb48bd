//! Softmax and its logarithm over the last axis.
//!
//! With m = max x and S = Σ e^(x − m) of each row: softmax y = e^(x − m)/S, log-softmax y = x − m − ln S. Subtracting m
//! prevents overflow and does not change the result. Backward, from y alone: softmax dx = y·(dy − Σ dy·y), log-softmax
//! dx = dy − e^y·Σ dy.
//!
//! An element of −∞ is masked: its y is 0, or −∞. A row with NaN or +∞, or of −∞ alone, becomes NaN, as in PyTorch.

#[cfg(feature = "cuda")]
mod cuda;

use rayon::prelude::*;

use crate::{
    Backward, Device, Element, Error, Forward, Op, Result, Shape, Tensor, apply, buffer::Buffer,
    cpu::rows_per_piece, wide,
};

/// Softmax or log-softmax; input x [.., N].
pub struct Softmax {
    /// Computes the logarithm of the softmax.
    pub log: bool,
}

impl Op for Softmax {
    fn name(&self) -> &'static str {
        if self.log { "log_softmax" } else { "softmax" }
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        match inputs[0].is_empty() {
            true => Err(Error::shape(self.name(), format!("x {} has no last axis", inputs[0]))),
            false => Ok(inputs[0].clone()),
        }
    }

    fn forward(&self, cx: &mut Forward, inputs: &[&Tensor]) -> Result<Tensor> {
        let x = inputs[0];
        let y = match x.device() {
            Device::Cpu => crate::dispatch!(x.dtype(), T => {
                let (x, n) = (x.values::<T>()?, x.shape().rows_cols().1.max(1));
                let mut y = Buffer::uninit(x.len());
                let rows = y.par_chunks_mut(n).with_min_len(rows_per_piece(n)).zip(x.par_chunks(n));
                rows.for_each(|(y, x)| if self.log { log_softmax(x, y) } else { softmax(x, y) });
                Tensor::from_buffer(inputs[0].shape().clone(), y)
            }),
            #[cfg(feature = "cuda")]
            Device::Cuda => self.forward_cuda(x)?,
        };
        cx.save(&y);
        Ok(y)
    }

    fn backward(&self, cx: &mut Backward, dy: &Tensor) -> Result<()> {
        let [y] = cx.saved()?;
        let dx = match dy.device() {
            Device::Cpu => crate::dispatch!(dy.dtype(), T => {
                let (y, d, n) = (y.values::<T>()?, dy.values::<T>()?, y.shape().rows_cols().1.max(1));
                let mut dx = Buffer::uninit(y.len());
                let rows = dx.par_chunks_mut(n).with_min_len(rows_per_piece(n));
                rows.zip(y.par_chunks(n).zip(d.par_chunks(n))).for_each(|(dx, (y, dy))| {
                    if self.log { log_gradient(y, dy, dx) } else { gradient(y, dy, dx) }
                });
                Tensor::from_buffer(dy.shape().clone(), dx)
            }),
            #[cfg(feature = "cuda")]
            Device::Cuda => self.backward_cuda(dy, &y)?,
        };
        cx.give(0, dx)
    }
}

/// y = x − max x.
fn below_largest<T: Element>(x: &[T], y: &mut [T]) {
    // `Element::max` would drop a NaN.
    let larger = |m: T, &x: &T| if x > m || x.is_nan() { x } else { m };
    let largest = x.iter().fold(T::from_f64(f64::NEG_INFINITY), larger);
    y.iter_mut().zip(x).for_each(|(y, &x)| *y = x - largest);
}

fn softmax<T: Element>(x: &[T], y: &mut [T]) {
    below_largest(x, y);
    wide!(for y in y.iter_mut() {
        *y = y.exp_wide();
    });
    let sum = y.iter().map(|y| y.to_f64()).sum::<f64>();
    y.iter_mut().for_each(|y| *y = *y / T::from_f64(sum));
}

fn log_softmax<T: Element>(x: &[T], y: &mut [T]) {
    below_largest(x, y);
    let sum = y.iter().map(|y| y.exp_wide().to_f64()).sum::<f64>();
    let log = T::from_f64(sum.ln());
    y.iter_mut().for_each(|y| *y -= log);
}

fn gradient<T: Element>(y: &[T], dy: &[T], dx: &mut [T]) {
    let sum = T::from_f64(y.iter().zip(dy).map(|(&y, &dy)| (y * dy).to_f64()).sum());
    dx.iter_mut().zip(y.iter().zip(dy)).for_each(|(dx, (&y, &dy))| *dx = y * (dy - sum));
}

fn log_gradient<T: Element>(y: &[T], dy: &[T], dx: &mut [T]) {
    let sum = T::from_f64(dy.iter().map(|dy| dy.to_f64()).sum());
    wide!(for (dx, (&y, &dy)) in dx.iter_mut().zip(y.iter().zip(dy)) {
        *dx = dy - y.exp_wide() * sum;
    });
}

impl Tensor {
    /// The softmax of x [.., N] over its last axis: non-negative values with sum 1.
    ///
    /// # Errors
    /// A tensor of shape [].
    pub fn softmax(&self) -> Result<Tensor> {
        apply(Softmax { log: false }, &[self])
    }

    /// ln of the softmax of x [.., N] over its last axis, accurate where the softmax is near 0 too.
    ///
    /// # Errors
    /// A tensor of shape [].
    pub fn log_softmax(&self) -> Result<Tensor> {
        apply(Softmax { log: true }, &[self])
    }
}
