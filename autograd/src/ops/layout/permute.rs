//! Permutation of axes.

use rayon::prelude::*;

use crate::{Backward, Device, Element, Error, Forward, Op, Result, Shape, Tensor, apply, buffer::Buffer};

/// Axis i of y is axis `order[i]` of x.  dx is dy with the inverse order.
pub struct Permute {
    /// A permutation of x's axes.
    pub order: Vec<usize>,
}

impl Op for Permute {
    fn name(&self) -> &'static str {
        "permute"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        let mut sorted = self.order.clone();
        sorted.sort_unstable();
        if sorted.iter().copied().ne(0..inputs[0].len()) {
            let message = format!("{:?} is not an order of the axes of {}", self.order, inputs[0]);
            return Err(Error::shape("permute", message));
        }
        Ok(self.order.iter().map(|&axis| inputs[0][axis]).collect::<Vec<_>>().into())
    }

    fn forward(&self, _: &mut Forward, inputs: &[&Tensor]) -> Result<Tensor> {
        permuted(inputs[0], &self.order)
    }

    fn backward(&self, cx: &mut Backward, dy: &Tensor) -> Result<()> {
        let mut inverse = vec![0; self.order.len()];
        self.order.iter().enumerate().for_each(|(i, &axis)| inverse[axis] = i);
        cx.give(0, permuted(dy, &inverse)?)
    }
}

fn permuted(x: &Tensor, order: &[usize]) -> Result<Tensor> {
    let shape: Shape = order.iter().map(|&axis| x.shape()[axis]).collect::<Vec<_>>().into();
    match x.device() {
        Device::Cpu => crate::dispatch!(x.dtype(), T => {
            Ok(Tensor::from_buffer(shape, permute(x.values::<T>()?, x.shape(), order)))
        }),
        #[cfg(feature = "cuda")]
        Device::Cuda => super::cuda::permute(x, order, shape),
    }
}

/// The elements of a row-major array of `shape` with its axes permuted.
pub fn permute<T: Element>(x: &[T], shape: &[usize], order: &[usize]) -> Buffer<T> {
    let mut out = Buffer::uninit(x.len());
    if x.is_empty() {
        return out;
    }
    let mut strides = vec![1; shape.len()];
    for i in (1..shape.len()).rev() {
        strides[i - 1] = strides[i] * shape[i];
    }
    // Neighbouring axes that stay neighbours move as one; a last axis that stays last moves as whole runs.
    let mut axes: Vec<(usize, usize)> = Vec::new();
    for &axis in order {
        match axes.last_mut() {
            Some((size, stride)) if *stride == strides[axis] * shape[axis] => {
                (*size, *stride) = (*size * shape[axis], strides[axis]);
            }
            _ => axes.push((shape[axis], strides[axis])),
        }
    }
    let (inner, inner_stride) = axes.pop().unwrap_or((1, 1));
    out.par_chunks_mut(inner).with_min_len((4096 / inner).max(1)).enumerate().for_each(|(row, out)| {
        let (mut rest, mut from) = (row, 0);
        for &(size, stride) in axes.iter().rev() {
            from += rest % size * stride;
            rest /= size;
        }
        if inner_stride == 1 {
            out.copy_from_slice(&x[from..from + inner]);
        } else {
            out.iter_mut().enumerate().for_each(|(i, o)| *o = x[from + i * inner_stride]);
        }
    });
    out
}

impl Tensor {
    /// Permutes the axes: axis i of the result is axis `order[i]`.
    pub fn permute(&self, order: &[usize]) -> Result<Tensor> {
        apply(Permute { order: order.to_vec() }, &[self])
    }
}
