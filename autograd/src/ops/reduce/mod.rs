//! Sums and means.

#[cfg(feature = "cuda")]
pub(crate) mod cuda;

use rayon::prelude::*;

use crate::{Backward, Device, Element, Error, Forward, Op, Result, Shape, Tensor, apply, buffer::Buffer};

/// Sum over some axes, which are removed from the shape; with `mean` divided by the number of terms.
/// dx = dy repeated along them (divided likewise).
pub struct Reduce {
    /// The axes that are summed, ascending.
    pub axes: Vec<usize>,
    /// Whether to divide by the number of terms.
    pub mean: bool,
    from: Shape,
}

impl Reduce {
    fn factor(&self) -> f64 {
        let terms: usize = self.axes.iter().map(|&a| self.from[a]).product();
        if self.mean { 1.0 / terms.max(1) as f64 } else { 1.0 }
    }

    /// For each index of x, the index of the output that it adds to.
    fn targets(&self) -> impl Fn(usize) -> usize + Sync {
        let mut steps = Vec::new();
        let (mut inner, mut out) = (1, 1);
        for axis in (0..self.from.len()).rev() {
            let size = self.from[axis];
            let kept = !self.axes.contains(&axis);
            steps.push((inner, size, if kept { out } else { 0 }));
            inner *= size;
            if kept {
                out *= size;
            }
        }
        move |i| steps.iter().map(|&(inner, size, out)| i / inner % size * out).sum()
    }

    fn sum<T: Element>(&self, x: &[T], out: usize) -> Buffer<T> {
        // Terms are added in f64 and in index order, so the result does not depend on the number of threads.
        let mut sums = vec![0f64; out];
        if out == 1 {
            sums[0] = crate::cpu::sum_pieces(x.len(), |r| x[r].iter().map(|v| v.to_f64()).sum());
        } else {
            // The last axes that are all summed or all kept form a run: it is added to one sum, or to as many sums side
            // by side.
            let (target, rank) = (self.targets(), self.from.len());
            let kept = |axis| !self.axes.contains(&axis);
            let alike = (0..rank).rev().take_while(|&axis| kept(axis) == kept(rank - 1));
            let run = alike.map(|axis| self.from[axis]).product::<usize>().max(1);
            for (i, run) in x.chunks_exact(run).enumerate() {
                let sums = &mut sums[target(i * run.len())..];
                match kept(rank - 1) {
                    true => sums.iter_mut().zip(run).for_each(|(sum, v)| *sum += v.to_f64()),
                    false => run.iter().for_each(|v| sums[0] += v.to_f64()),
                }
            }
        }
        let mut y = Buffer::uninit(out);
        y.iter_mut().zip(sums).for_each(|(y, s)| *y = T::from_f64(s * self.factor()));
        y
    }
}

impl Op for Reduce {
    fn name(&self) -> &'static str {
        if self.mean { "mean" } else { "sum" }
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        let ascending = self.axes.windows(2).all(|w| w[0] < w[1]);
        if !ascending || self.axes.last().is_some_and(|&a| a >= inputs[0].len()) {
            let message = format!("axes {:?} are not ascending axes of {}", self.axes, inputs[0]);
            return Err(Error::shape(self.name(), message));
        }
        let kept = (0..inputs[0].len()).filter(|a| !self.axes.contains(a)).map(|a| inputs[0][a]);
        Ok(kept.collect::<Vec<_>>().into())
    }

    fn forward(&self, _: &mut Forward, inputs: &[&Tensor]) -> Result<Tensor> {
        let shape = self.shape(&[inputs[0].shape()])?;
        match inputs[0].device() {
            Device::Cpu => crate::dispatch!(inputs[0].dtype(), T => {
                let sums = self.sum(inputs[0].values::<T>()?, shape.numel());
                Ok(Tensor::from_buffer(shape, sums))
            }),
            #[cfg(feature = "cuda")]
            Device::Cuda => cuda::forward(inputs[0], &self.axes, self.mean, shape),
        }
    }

    fn backward(&self, cx: &mut Backward, dy: &Tensor) -> Result<()> {
        let (target, factor) = (self.targets(), self.factor());
        match dy.device() {
            Device::Cpu => crate::dispatch!(dy.dtype(), T => {
                let dy = dy.values::<T>()?;
                let factor = <T as Element>::from_f64(factor);
                let mut dx = Buffer::uninit(self.from.numel());
                dx.par_iter_mut().with_min_len(4096).enumerate().for_each(|(i, d)| *d = dy[target(i)] * factor);
                cx.give(0, Tensor::from_buffer(self.from.clone(), dx))
            }),
            #[cfg(feature = "cuda")]
            Device::Cuda => cx.fill(0, |dx| cuda::backward(dy, &self.from, &self.axes, factor, dx)),
        }
    }
}

impl Tensor {
    /// The sum over `axes` (ascending), which are removed; over all axes if `axes` is empty.
    pub fn sum(&self, axes: &[usize]) -> Result<Tensor> {
        self.reduce(axes, false)
    }

    /// The mean over `axes` (ascending), which are removed; over all axes if `axes` is empty.
    pub fn mean(&self, axes: &[usize]) -> Result<Tensor> {
        self.reduce(axes, true)
    }

    fn reduce(&self, axes: &[usize], mean: bool) -> Result<Tensor> {
        let axes = if axes.is_empty() { (0..self.shape().len()).collect() } else { axes.to_vec() };
        apply(Reduce { axes, mean, from: self.shape().clone() }, &[self])
    }
}
