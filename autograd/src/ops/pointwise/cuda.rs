//! Launches of the pointwise kernels.

use ssmv_kernels::pointwise::{self, Activation, Arithmetic, Axis, Broadcast};

use super::broadcast;
use crate::{
    Result, Shape, Tensor,
    cuda::plan::{dispatch_cuda, size},
};

/// The device form of a function of one number.
pub enum Function {
    /// A kernel of its own, with its derivative.
    Activation(Activation),
    /// k·x, its own derivative.
    Scale(f64),
}

/// y = f(x), in a new tensor.
pub(crate) fn forward(function: &Function, x: &Tensor) -> Result<Tensor> {
    match function {
        Function::Scale(k) => scale(x, *k),
        Function::Activation(f) => {
            let (cuda, n, dtype) = (x.cuda()?, size(f.name, x.numel())?, x.dtype());
            let y = x.empty_like(x.shape().clone())?;
            if n > 0 {
                cuda.launch_one(
                    &(f.name, "forward", dtype, n),
                    &[x.argument()?, y.argument()?],
                    |_, target| Ok(dispatch_cuda!(dtype, T => f.forward::<T>(n, target))),
                )?;
            }
            Ok(y)
        }
    }
}

/// dy·f′, with the derivative at x or at y as the function requires.
pub(super) fn backward(function: &Function, dy: &Tensor, at: &Tensor) -> Result<Tensor> {
    match function {
        Function::Scale(k) => scale(dy, *k),
        Function::Activation(f) => {
            let (cuda, n, dtype) = (dy.cuda()?, size(f.name, dy.numel())?, dy.dtype());
            let dx = dy.empty_like(dy.shape().clone())?;
            if n > 0 {
                let arguments = [dy.argument()?, at.argument()?, dx.argument()?];
                cuda.launch_one(&(f.name, "backward", dtype, n), &arguments, |_, target| {
                    Ok(dispatch_cuda!(dtype, T => f.backward::<T>(n, target)))
                })?;
            }
            Ok(dx)
        }
    }
}

fn scale(x: &Tensor, k: f64) -> Result<Tensor> {
    let (cuda, n, dtype) = (x.cuda()?, size("scale", x.numel())?, x.dtype());
    let y = x.empty_like(x.shape().clone())?;
    if n > 0 {
        let arguments = [x.argument()?, y.argument()?, (k as f32).into()];
        cuda.launch_one(&("scale", dtype, n), &arguments, |_, target| {
            Ok(dispatch_cuda!(dtype, T => pointwise::scale::<T>(n, target)))
        })?;
    }
    Ok(y)
}

/// A tensor of shape [] with a number, beside `x` and of its dtype.
pub(super) fn number(x: &Tensor, value: f64) -> Result<Tensor> {
    let (y, dtype) = (x.empty_like(Shape::scalar())?, x.dtype());
    x.cuda()?.launch_one(&("number", dtype), &[y.argument()?, (value as f32).into()], |_, target| {
        Ok(dispatch_cuda!(dtype, T => pointwise::fill::<T>(1, target)))
    })?;
    Ok(y)
}

/// a ∘ b of this shape.
pub(super) fn broadcast(
    operation: Arithmetic,
    a: &Tensor,
    b: &Tensor,
    shape: Shape,
    axes: &[broadcast::Axis],
) -> Result<Tensor> {
    let (cuda, dtype, op) = (a.cuda()?, a.dtype(), operation.name());
    let y = a.empty_like(shape)?;
    if y.numel() > 0 {
        let axis = |axis: &broadcast::Axis| Ok(Axis { size: size(op, axis.size)?, a: axis.a, b: axis.b });
        let spec = Broadcast { operation, axes: axes.iter().map(axis).collect::<Result<_>>()? };
        let arguments = [a.argument()?, b.argument()?, y.argument()?];
        cuda.launch_one(
            &(spec, dtype),
            &arguments,
            |(spec, _), target| dispatch_cuda!(dtype, T => spec.kernel::<T>(target)),
        )?;
    }
    Ok(y)
}

/// x + b with b [C] along the last axis.
pub(super) fn bias(x: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (rows, cols) = x.shape().rows_cols();
    let (cuda, dtype) = (x.cuda()?, x.dtype());
    let (_, rows, cols) = (size("bias", x.numel())?, size("bias", rows)?, size("bias", cols)?);
    let y = x.empty_like(x.shape().clone())?;
    if rows * cols > 0 {
        let arguments = [x.argument()?, b.argument()?, y.argument()?];
        cuda.launch_one(&("bias", dtype, rows, cols), &arguments, |_, target| {
            Ok(dispatch_cuda!(dtype, T => pointwise::bias::<T>(rows, cols, target)))
        })?;
    }
    Ok(y)
}
