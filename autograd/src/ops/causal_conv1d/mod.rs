//! Depthwise convolution along time over past values only, as in Mamba's mixer.
//!
//! y[b,l,d] = bias[d] + Σ_k w[k,d]·x[b, l − (K−1) + k, d], zero before the beginning.
//! dx[b,l,d] = Σ_k w[k,d]·dy[b, l + (K−1) − k, d],  dw[k,d] = Σ dy[b,l,d]·x[b, l − (K−1) + k, d],  dbias = Σ dy.

#[cfg(feature = "cuda")]
pub(crate) mod cuda;

use rayon::prelude::*;

use crate::{
    Backward, Device, Element, Error, Forward, Op, Result, Shape, Tensor, apply, buffer::Buffer,
    cpu::column_sums, wide,
};

/// Causal convolution; inputs x [B,L,D], weight [K,D], bias [D].
pub struct CausalConv1d;

impl Op for CausalConv1d {
    fn name(&self) -> &'static str {
        "causal_conv1d"
    }

    fn keep_f32(&self, i: usize) -> bool {
        i > 0
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        let [_, _, d] = inputs[0].dims("causal_conv1d", "x [B,L,D]")?;
        let [k, wd] = inputs[1].dims("causal_conv1d", "weight [K,D]")?;
        if wd != d || k == 0 || inputs[2][..] != [d] {
            let message = format!("weight {} and bias {} do not fit x {}", inputs[1], inputs[2], inputs[0]);
            return Err(Error::shape("causal_conv1d", message));
        }
        Ok(inputs[0].clone())
    }

    fn forward(&self, cx: &mut Forward, inputs: &[&Tensor]) -> Result<Tensor> {
        let (x, w, bias) = (inputs[0], inputs[1], inputs[2]);
        cx.save(x);
        cx.save(w);
        cx.save(bias);
        let [_, l, d] = x.shape().dims("causal_conv1d", "x [B,L,D]")?;
        match x.device() {
            Device::Cpu => crate::dispatch!(x.dtype(), T => {
                let (xs, w, bias) = (x.values::<T>()?, w.values::<T>()?, bias.values::<T>()?);
                let mut y = Buffer::uninit(xs.len());
                if !y.is_empty() {
                    let taps = w.len() / d;
                    y.par_chunks_mut(l * d).zip(xs.par_chunks(l * d)).for_each(|(y, x)| wide!({
                        for (t, y) in y.chunks_exact_mut(d).enumerate() {
                            y.copy_from_slice(bias);
                            for (past, w) in w.chunks_exact(d).rev().enumerate().take(taps.min(t + 1)) {
                                let x = &x[(t - past) * d..][..d];
                                y.iter_mut().zip(x.iter().zip(w)).for_each(|(y, (&x, &w))| *y += x * w);
                            }
                        }
                    }));
                }
                Ok(Tensor::from_buffer(x.shape().clone(), y))
            }),
            #[cfg(feature = "cuda")]
            Device::Cuda => cuda::forward(x, w, bias),
        }
    }

    fn backward(&self, cx: &mut Backward, dy: &Tensor) -> Result<()> {
        #[cfg_attr(
            not(feature = "cuda"),
            expect(unused_variables, reason = "a device computes again from it")
        )]
        let [x, w, bias] = cx.saved()?;
        let [_, l, d] = x.shape().dims("causal_conv1d", "x [B,L,D]")?;
        match dy.device() {
            Device::Cpu => crate::dispatch!(dy.dtype(), T => {
                let (xs, ws, g) = (x.values::<T>()?, w.values::<T>()?, dy.values::<T>()?);
                cx.accumulate(0, |dx, add| input_gradient(g, ws, l, d, dx, add))?;
                cx.accumulate(1, |dw, add| weight_gradient(g, xs, l, d, dw, add))?;
                cx.accumulate(2, |db, add| column_sums(g, d, db, add))
            }),
            #[cfg(feature = "cuda")]
            Device::Cuda => cuda::backward(cx, dy, &x, &w, &bias),
        }
    }
}

fn input_gradient<T: Element>(dy: &[T], w: &[T], l: usize, d: usize, dx: &mut [T], add: bool) {
    if dx.is_empty() {
        return;
    }
    dx.par_chunks_mut(l * d).zip(dy.par_chunks(l * d)).for_each(|(dx, dy)| {
        if !add {
            dx.fill(T::ZERO);
        }
        wide!({
            for (t, dx) in dx.chunks_exact_mut(d).enumerate() {
                for (ahead, w) in w.chunks_exact(d).rev().enumerate().take(l - t) {
                    let dy = &dy[(t + ahead) * d..][..d];
                    dx.iter_mut().zip(dy.iter().zip(w)).for_each(|(dx, (&g, &w))| *dx += g * w);
                }
            }
        });
    });
}

fn weight_gradient<T: Element>(dy: &[T], x: &[T], l: usize, d: usize, dw: &mut [T], add: bool) {
    let size = dw.len();
    let one = |(dy, x): (&[T], &[T])| {
        let mut sum = vec![T::ZERO; size];
        wide!({
            for (past, sum) in sum.chunks_exact_mut(d).rev().enumerate() {
                for t in past..l {
                    let (dy, x) = (&dy[t * d..][..d], &x[(t - past) * d..][..d]);
                    sum.iter_mut().zip(dy.iter().zip(x)).for_each(|(s, (&g, &x))| *s += g * x);
                }
            }
        });
        sum
    };
    let sums: Vec<Vec<T>> =
        dy.par_chunks((l * d).max(1)).zip(x.par_chunks((l * d).max(1))).map(one).collect();
    if !add {
        dw.fill(T::ZERO);
    }
    sums.iter().for_each(|sum| dw.iter_mut().zip(sum).for_each(|(d, &s)| *d += s));
}

impl Tensor {
    /// Causal depthwise convolution along time: x [B,L,D], weight [K,D], bias [D] → [B,L,D].
    pub fn causal_conv1d(&self, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
        apply(CausalConv1d, &[self, weight, bias])
    }
}
