//! Losses: the mean over all elements, a scalar.

#[cfg(feature = "cuda")]
mod cuda;

#[cfg(feature = "cuda")]
use ssmv_kernels::loss::LossKind;

use crate::{Backward, Device, Element, Error, Forward, Op, Result, Shape, Tensor, apply, cpu};

/// A difference's cost and its derivative.
trait Cost: Send + Sync + 'static {
    const NAME: &'static str;
    #[cfg(feature = "cuda")]
    const KIND: LossKind;
    fn cost(d: f64) -> f64;
    fn slope<T: Element>(d: T) -> T;
}

struct L1;

impl Cost for L1 {
    const NAME: &'static str = "l1_loss";
    #[cfg(feature = "cuda")]
    const KIND: LossKind = LossKind::L1;
    fn cost(d: f64) -> f64 {
        d.abs()
    }
    // The derivative at 0 is 0, as in PyTorch; NaN stays NaN.
    #[inline(always)]
    fn slope<T: Element>(d: T) -> T {
        let positive = if d > T::ZERO { T::ONE } else { d };
        if d < T::ZERO { -T::ONE } else { positive }
    }
}

struct Mse;

impl Cost for Mse {
    const NAME: &'static str = "mse_loss";
    #[cfg(feature = "cuda")]
    const KIND: LossKind = LossKind::Mse;
    fn cost(d: f64) -> f64 {
        d * d
    }
    #[inline(always)]
    fn slope<T: Element>(d: T) -> T {
        d + d
    }
}

/// y = 1/N Σ cost(p − t).  dp = dy/N · cost′(p − t), dt = −dp.
struct Loss<C>(std::marker::PhantomData<C>);

impl<C: Cost> Op for Loss<C> {
    fn name(&self) -> &'static str {
        C::NAME
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        if inputs[0] != inputs[1] || inputs[0].numel() == 0 {
            let message = format!("prediction {} and target {} differ or are empty", inputs[0], inputs[1]);
            return Err(Error::shape(C::NAME, message));
        }
        Ok(Shape::scalar())
    }

    fn forward(&self, cx: &mut Forward, inputs: &[&Tensor]) -> Result<Tensor> {
        let (p, t) = (inputs[0], inputs[1]);
        cx.save(p);
        cx.save(t);
        let sum = match p.device() {
            Device::Cpu => crate::dispatch!(p.dtype(), T => {
                let (p, t) = (p.values::<T>()?, t.values::<T>()?);
                cpu::sum_pieces(p.len(), |r| {
                    p[r.clone()].iter().zip(&t[r]).map(|(p, t)| C::cost(p.to_f64() - t.to_f64())).sum()
                })
            }),
            #[cfg(feature = "cuda")]
            Device::Cuda => return cuda::forward(C::KIND, p, t),
        };
        Tensor::scalar(sum / p.numel() as f64, p.dtype())
    }

    fn backward(&self, cx: &mut Backward, dy: &Tensor) -> Result<()> {
        let [p, t] = cx.saved()?;
        #[cfg(feature = "cuda")]
        if p.device() == Device::Cuda {
            return cuda::backward(cx, C::KIND, &p, &t, dy);
        }
        let factor = dy.item()? / p.numel() as f64;
        for (i, sign) in [(0, 1.0), (1, -1.0)] {
            if cx.needs(i) {
                let d = crate::dispatch!(p.dtype(), T => {
                    let k = <T as Element>::from_f64(sign * factor);
                    let d = cpu::zip(p.values::<T>()?, t.values::<T>()?, |p, t| k * C::slope(p - t));
                    Tensor::from_buffer(p.shape().clone(), d)
                });
                cx.give(i, d)?;
            }
        }
        Ok(())
    }
}

impl Tensor {
    /// mean |prediction − target|, a scalar.
    pub fn l1_loss(&self, target: &Tensor) -> Result<Tensor> {
        apply(Loss::<L1>(std::marker::PhantomData), &[self, target])
    }

    /// mean (prediction − target)², a scalar.
    pub fn mse_loss(&self, target: &Tensor) -> Result<Tensor> {
        apply(Loss::<Mse>(std::marker::PhantomData), &[self, target])
    }
}
