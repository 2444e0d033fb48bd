//! Arithmetic of two tensors, element by element. Their shapes broadcast as in NumPy; the gradient of an operand that
//! was repeated is summed over its repeats.

use super::broadcast::{self, axes, give};
#[cfg(feature = "cuda")]
use super::{broadcast::is_plain, cuda};
#[cfg(feature = "cuda")]
use crate::cuda::primitives;
use crate::{Backward, Device, Forward, Op, Result, Shape, Tensor, apply};

/// An operation on two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Add,
    Sub,
    Mul,
    Div,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Sub => "sub",
            Self::Mul => "mul",
            Self::Div => "div",
        }
    }

    /// The kernels of this operation.
    #[cfg(feature = "cuda")]
    fn on_device(self) -> ssmv_kernels::pointwise::Arithmetic {
        use ssmv_kernels::pointwise::Arithmetic;
        match self {
            Self::Add => Arithmetic::Add,
            Self::Sub => Arithmetic::Sub,
            Self::Mul => Arithmetic::Mul,
            Self::Div => Arithmetic::Div,
        }
    }
}

/// a ∘ b. Tensors of one shape, and those that differ only in axes of size 1, are computed as flat arrays.
fn compute(operation: Operation, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let shape = broadcast::shape(operation.name(), &[a.shape(), b.shape()])?;
    let axes = axes(a.shape(), b.shape(), &shape);
    match a.device() {
        Device::Cpu => crate::dispatch!(a.dtype(), T => {
            let (a, b) = (a.values::<T>()?, b.values::<T>()?);
            let y = match operation {
                Operation::Add => broadcast::zip(&axes, a, b, |a, b| a + b),
                Operation::Sub => broadcast::zip(&axes, a, b, |a, b| a - b),
                Operation::Mul => broadcast::zip(&axes, a, b, |a, b| a * b),
                Operation::Div => broadcast::zip(&axes, a, b, |a, b| a / b),
            };
            Ok(Tensor::from_buffer(shape, y))
        }),
        #[cfg(feature = "cuda")]
        Device::Cuda if is_plain(&axes) => {
            Ok(primitives::arithmetic(operation.on_device(), a, b)?.with_shape(shape))
        }
        #[cfg(feature = "cuda")]
        Device::Cuda => cuda::broadcast(operation.on_device(), a, b, shape, &axes),
    }
}

/// y = a + b.  da = db = dy.
pub struct Add;

impl Op for Add {
    fn name(&self) -> &'static str {
        "add"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        broadcast::shape("add", inputs)
    }

    fn forward(&self, _: &mut Forward, inputs: &[&Tensor]) -> Result<Tensor> {
        compute(Operation::Add, inputs[0], inputs[1])
    }

    fn backward(&self, cx: &mut Backward, dy: &Tensor) -> Result<()> {
        give(cx, 0, dy, 1.0)?;
        give(cx, 1, dy, 1.0)
    }
}

/// y = a − b.  da = dy, db = −dy.
pub struct Sub;

impl Op for Sub {
    fn name(&self) -> &'static str {
        "sub"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        broadcast::shape("sub", inputs)
    }

    fn forward(&self, _: &mut Forward, inputs: &[&Tensor]) -> Result<Tensor> {
        compute(Operation::Sub, inputs[0], inputs[1])
    }

    fn backward(&self, cx: &mut Backward, dy: &Tensor) -> Result<()> {
        give(cx, 0, dy, 1.0)?;
        give(cx, 1, dy, -1.0)
    }
}

/// y = a·b.  da = dy·b, db = dy·a.
pub struct Mul;

impl Op for Mul {
    fn name(&self) -> &'static str {
        "mul"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        broadcast::shape("mul", inputs)
    }

    fn forward(&self, cx: &mut Forward, inputs: &[&Tensor]) -> Result<Tensor> {
        cx.save(inputs[0]);
        cx.save(inputs[1]);
        compute(Operation::Mul, inputs[0], inputs[1])
    }

    fn backward(&self, cx: &mut Backward, dy: &Tensor) -> Result<()> {
        let [a, b] = cx.saved()?;
        for (i, other) in [(0, b), (1, a)] {
            if cx.needs(i) {
                give(cx, i, &compute(Operation::Mul, dy, &other)?, 1.0)?;
            }
        }
        Ok(())
    }
}

/// y = a/b.  da = dy/b, db = −dy·y/b = −da·y.
pub struct Div;

impl Op for Div {
    fn name(&self) -> &'static str {
        "div"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        broadcast::shape("div", inputs)
    }

    fn forward(&self, cx: &mut Forward, inputs: &[&Tensor]) -> Result<Tensor> {
        let y = compute(Operation::Div, inputs[0], inputs[1])?;
        cx.save(inputs[1]);
        cx.save(&y);
        Ok(y)
    }

    fn backward(&self, cx: &mut Backward, dy: &Tensor) -> Result<()> {
        let [b, y] = cx.saved()?;
        let da = compute(Operation::Div, dy, &b)?;
        give(cx, 0, &da, 1.0)?;
        if cx.needs(1) {
            give(cx, 1, &compute(Operation::Mul, &da, &y)?, -1.0)?;
        }
        Ok(())
    }
}

impl Tensor {
    /// a + b under broadcasting: [3, 1] and [4] make [3, 4].
    ///
    /// # Errors
    /// Sizes of an axis that differ and are not 1, other dtypes or devices.
    pub fn add(&self, other: &Tensor) -> Result<Tensor> {
        apply(Add, &[self, other])
    }

    /// a − b under broadcasting, with the errors of [`Tensor::add`].
    pub fn sub(&self, other: &Tensor) -> Result<Tensor> {
        apply(Sub, &[self, other])
    }

    /// a·b element by element under broadcasting, with the errors of [`Tensor::add`].
    pub fn mul(&self, other: &Tensor) -> Result<Tensor> {
        apply(Mul, &[self, other])
    }

    /// a/b element by element under broadcasting, with the errors of [`Tensor::add`]. Of b = 0 it is ±∞ or NaN.
    pub fn div(&self, other: &Tensor) -> Result<Tensor> {
        apply(Div, &[self, other])
    }
}
