//! y[i] = f(x[i]). A function defines its value and its derivative; the rest is shared.

#[cfg(feature = "cuda")]
use ssmv_kernels::pointwise::unary::{EXP, LOG, RELU, SIGMOID, SILU, SOFTPLUS, SQRT, TANH};

#[cfg(feature = "cuda")]
use super::cuda::{self, Function};
use crate::{Backward, Device, Element, Forward, Op, Result, Shape, Tensor, apply, cpu};

/// A differentiable function of one number.
pub trait Unary: Send + Sync + 'static {
    /// Name for errors and listings.
    const NAME: &'static str;
    /// Whether the derivative is computed from y instead of x; only that tensor is saved.
    const FROM_OUTPUT: bool;
    /// y = f(x).
    fn value<T: Element>(&self, x: T) -> T;
    /// dy/dx at x, or at y with [`Unary::FROM_OUTPUT`].
    fn derivative<T: Element>(&self, at: T) -> T;
    /// The function's form on a device.
    #[cfg(feature = "cuda")]
    fn function(&self) -> Function;
}

/// The operator of a [`Unary`] function.
pub struct Pointwise<F>(pub F);

impl<F: Unary> Op for Pointwise<F> {
    fn name(&self) -> &'static str {
        F::NAME
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        Ok(inputs[0].clone())
    }

    fn forward(&self, cx: &mut Forward, inputs: &[&Tensor]) -> Result<Tensor> {
        let x = inputs[0];
        let y = match x.device() {
            Device::Cpu => crate::dispatch!(x.dtype(), T => {
                Tensor::from_buffer(x.shape().clone(), cpu::map(x.values::<T>()?, |x| self.0.value(x)))
            }),
            #[cfg(feature = "cuda")]
            Device::Cuda => cuda::forward(&self.0.function(), x)?,
        };
        cx.save(if F::FROM_OUTPUT { &y } else { x });
        Ok(y)
    }

    fn backward(&self, cx: &mut Backward, dy: &Tensor) -> Result<()> {
        let [at] = cx.saved()?;
        let dx = match dy.device() {
            Device::Cpu => crate::dispatch!(dy.dtype(), T => {
                let dx = cpu::zip(dy.values::<T>()?, at.values::<T>()?, |d, at| d * self.0.derivative(at));
                Tensor::from_buffer(dy.shape().clone(), dx)
            }),
            #[cfg(feature = "cuda")]
            Device::Cuda => cuda::backward(&self.0.function(), dy, &at)?,
        };
        cx.give(0, dx)
    }
}

/// σ(x) = 1/(1 + e⁻ˣ).
#[inline(always)]
fn logistic<T: Element>(x: T) -> T {
    T::ONE / (T::ONE + (-x).exp_wide())
}

/// y = max(x, 0); dy/dx = 1 where y > 0. NaN stays NaN.
pub struct Relu;

impl Unary for Relu {
    const NAME: &'static str = "relu";
    const FROM_OUTPUT: bool = true;
    #[inline(always)]
    fn value<T: Element>(&self, x: T) -> T {
        if x < T::ZERO { T::ZERO } else { x }
    }
    #[inline(always)]
    fn derivative<T: Element>(&self, y: T) -> T {
        if y > T::ZERO { T::ONE } else { T::ZERO }
    }
    #[cfg(feature = "cuda")]
    fn function(&self) -> Function {
        Function::Activation(RELU)
    }
}

/// y = x·σ(x) (SiLU; Elfwing et al. 2017).  dy/dx = σ(x)·(1 + x·(1 − σ(x))).
pub struct Silu;

impl Unary for Silu {
    const NAME: &'static str = "silu";
    const FROM_OUTPUT: bool = false;
    #[inline(always)]
    fn value<T: Element>(&self, x: T) -> T {
        x * logistic(x)
    }
    #[inline(always)]
    fn derivative<T: Element>(&self, x: T) -> T {
        let s = logistic(x);
        s * (T::ONE + x * (T::ONE - s))
    }
    #[cfg(feature = "cuda")]
    fn function(&self) -> Function {
        Function::Activation(SILU)
    }
}

/// y = σ(x) = 1/(1 + e⁻ˣ).  dy/dx = y·(1 − y).
pub struct Sigmoid;

impl Unary for Sigmoid {
    const NAME: &'static str = "sigmoid";
    const FROM_OUTPUT: bool = true;
    #[inline(always)]
    fn value<T: Element>(&self, x: T) -> T {
        logistic(x)
    }
    #[inline(always)]
    fn derivative<T: Element>(&self, y: T) -> T {
        y * (T::ONE - y)
    }
    #[cfg(feature = "cuda")]
    fn function(&self) -> Function {
        Function::Activation(SIGMOID)
    }
}

/// y = tanh(x).  dy/dx = 1 − y².
pub struct Tanh;

impl Unary for Tanh {
    const NAME: &'static str = "tanh";
    const FROM_OUTPUT: bool = true;
    fn value<T: Element>(&self, x: T) -> T {
        x.tanh()
    }
    #[inline(always)]
    fn derivative<T: Element>(&self, y: T) -> T {
        T::ONE - y * y
    }
    #[cfg(feature = "cuda")]
    fn function(&self) -> Function {
        Function::Activation(TANH)
    }
}

/// y = ln(1 + eˣ), as max(x, 0) + ln(1 + e^−|x|), which neither overflows nor cancels.  dy/dx = σ(x).
/// Past [`Softplus::LINEAR_FROM`] y = x and dy/dx = 1, as in PyTorch.
pub struct Softplus;

impl Softplus {
    /// From here on PyTorch takes x itself; ln(1 + eˣ) is 2e-9 larger there.
    pub const LINEAR_FROM: f64 = 20.0;
}

impl Unary for Softplus {
    const NAME: &'static str = "softplus";
    const FROM_OUTPUT: bool = false;
    #[inline(always)]
    fn value<T: Element>(&self, x: T) -> T {
        // T::max would drop a NaN.
        let positive = if x < T::ZERO { T::ZERO } else { x };
        let curved = positive + (-x.abs()).exp_wide().ln_1p_wide();
        if x > T::from_f64(Self::LINEAR_FROM) { x } else { curved }
    }
    #[inline(always)]
    fn derivative<T: Element>(&self, x: T) -> T {
        if x > T::from_f64(Self::LINEAR_FROM) { T::ONE } else { logistic(x) }
    }
    #[cfg(feature = "cuda")]
    fn function(&self) -> Function {
        Function::Activation(SOFTPLUS)
    }
}

/// y = eˣ.  dy/dx = y.
pub struct Exp;

impl Unary for Exp {
    const NAME: &'static str = "exp";
    const FROM_OUTPUT: bool = true;
    #[inline(always)]
    fn value<T: Element>(&self, x: T) -> T {
        x.exp_wide()
    }
    #[inline(always)]
    fn derivative<T: Element>(&self, y: T) -> T {
        y
    }
    #[cfg(feature = "cuda")]
    fn function(&self) -> Function {
        Function::Activation(EXP)
    }
}

/// y = ln x: −∞ of 0, NaN below 0.  dy/dx = 1/x.
pub struct Log;

impl Unary for Log {
    const NAME: &'static str = "log";
    const FROM_OUTPUT: bool = false;
    fn value<T: Element>(&self, x: T) -> T {
        x.ln()
    }
    #[inline(always)]
    fn derivative<T: Element>(&self, x: T) -> T {
        T::ONE / x
    }
    #[cfg(feature = "cuda")]
    fn function(&self) -> Function {
        Function::Activation(LOG)
    }
}

/// y = √x: NaN below 0.  dy/dx = 1/(2y).
pub struct Sqrt;

impl Unary for Sqrt {
    const NAME: &'static str = "sqrt";
    const FROM_OUTPUT: bool = true;
    #[inline(always)]
    fn value<T: Element>(&self, x: T) -> T {
        x.sqrt()
    }
    #[inline(always)]
    fn derivative<T: Element>(&self, y: T) -> T {
        T::from_f64(0.5) / y
    }
    #[cfg(feature = "cuda")]
    fn function(&self) -> Function {
        Function::Activation(SQRT)
    }
}

/// y = −x.  dy/dx = −1.
pub struct Neg;

impl Unary for Neg {
    const NAME: &'static str = "neg";
    const FROM_OUTPUT: bool = true;
    #[inline(always)]
    fn value<T: Element>(&self, x: T) -> T {
        -x
    }
    #[inline(always)]
    fn derivative<T: Element>(&self, _: T) -> T {
        -T::ONE
    }
    #[cfg(feature = "cuda")]
    fn function(&self) -> Function {
        Function::Scale(-1.0)
    }
}

/// y = k·x.  dy/dx = k.
pub struct Scale(pub f64);

impl Unary for Scale {
    const NAME: &'static str = "scale";
    const FROM_OUTPUT: bool = true;
    #[inline(always)]
    fn value<T: Element>(&self, x: T) -> T {
        x * T::from_f64(self.0)
    }
    #[inline(always)]
    fn derivative<T: Element>(&self, _: T) -> T {
        T::from_f64(self.0)
    }
    #[cfg(feature = "cuda")]
    fn function(&self) -> Function {
        Function::Scale(self.0)
    }
}

macro_rules! methods {
    ($($(#[$doc:meta])* $name:ident => $op:expr;)*) => {
        impl Tensor {
            $($(#[$doc])* pub fn $name(&self) -> Result<Tensor> { apply(Pointwise($op), &[self]) })*
        }
    };
}

methods! {
    /// max(x, 0).
    relu => Relu;
    /// x·σ(x).
    silu => Silu;
    /// 1/(1 + e⁻ˣ).
    sigmoid => Sigmoid;
    /// tanh(x).
    tanh => Tanh;
    /// ln(1 + eˣ).
    softplus => Softplus;
    /// eˣ.
    exp => Exp;
    /// ln x, the natural logarithm: −∞ of 0, NaN below 0.
    log => Log;
    /// √x: NaN below 0.
    sqrt => Sqrt;
    /// −x.
    neg => Neg;
}

impl Tensor {
    /// k·x.
    pub fn scale(&self, k: f64) -> Result<Tensor> {
        apply(Pointwise(Scale(k)), &[self])
    }
}
