//! Launches of tensors, arenas and the tape themselves: sums, casts, and the check for infinite values. Operators also
//! use them.

use ssmv_kernels::{
    pointwise::{self, Arithmetic},
    ptx::{F16, F32},
    reduce::{NON_FINITE, Reduce, Reduction},
};

use super::{
    driver::{Address, Argument},
    plan::{dispatch_cuda, size},
};
use crate::{DType, Result, Tensor};

/// a + b, of one shape.
pub(crate) fn add(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    arithmetic(Arithmetic::Add, a, b)
}

/// a ∘ b, of one shape.
pub(crate) fn arithmetic(op: Arithmetic, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (cuda, n, dtype) = (a.cuda()?, size("pointwise", a.numel())?, a.dtype());
    let y = a.empty_like(a.shape().clone())?;
    if n > 0 {
        let arguments = [a.argument()?, b.argument()?, y.argument()?];
        cuda.launch_one(&(op, dtype, n), &arguments, |_, target| {
            Ok(dispatch_cuda!(dtype, T => op.kernel::<T>(n, target)))
        })?;
    }
    Ok(y)
}

/// sum[i] ← sum[i] + x[i] with the sum in f32.
pub(crate) fn accumulate(x: &Tensor, sum: &Tensor) -> Result<()> {
    let (cuda, n, dtype) = (x.cuda()?, size("accumulate", x.numel())?, x.dtype());
    if n == 0 {
        return Ok(());
    }
    cuda.launch_one(&("accumulate", dtype, n), &[x.argument()?, sum.argument()?], |_, target| {
        Ok(dispatch_cuda!(dtype, T => pointwise::accumulate::<T>(n, target)))
    })
}

/// to[i] = x[i] in `to`'s dtype, rounded to the nearest.
pub(crate) fn cast_into(x: &Tensor, to: &Tensor) -> Result<()> {
    if x.dtype() == to.dtype() {
        return to.assign(x);
    }
    let (cuda, n) = (x.cuda()?, size("cast", x.numel())?);
    if n == 0 {
        return Ok(());
    }
    let from = x.dtype();
    cuda.launch_one(&("cast", from, n), &[x.argument()?, to.argument()?], |_, target| {
        Ok(match from {
            DType::F16 => pointwise::cast::<F16, F32>(n, target),
            _ => pointwise::cast::<F32, F16>(n, target),
        })
    })
}

/// Whether rows or columns of a matrix are reduced to one number each.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Over {
    /// Reduces each row to one number.
    Rows,
    /// Reduces each column to one number.
    Cols,
}

/// y ← reduction of x [rows, cols]; with `onto`, added to y.
pub(crate) fn fold(
    reduction: Reduction,
    over: Over,
    x: &Tensor,
    [rows, cols]: [usize; 2],
    y: Argument,
    onto: bool,
) -> Result<()> {
    let op = reduction.name;
    let (cuda, dtype) = (x.cuda()?, x.dtype());
    size(op, x.numel())?;
    let (rows, cols) = (size(op, rows)?, size(op, cols)?);
    let plan = cuda.plan(&(op, over, dtype, [rows, cols], onto), |_, target| {
        let reduce = Reduce { reduction, rows, cols, onto };
        Ok(dispatch_cuda!(dtype, T => match over {
            Over::Rows => reduce.over_rows::<T>(target),
            Over::Cols => reduce.over_cols::<T>(target),
        }))
    })?;
    plan.launch_through(cuda, x.argument()?, y)
}

/// Whether all elements are finite; waits for the device.
pub(crate) fn all_finite(x: &Tensor) -> Result<bool> {
    let flag = x.cuda()?.zeros::<u32>(1)?;
    fold(NON_FINITE, Over::Rows, x, [1, x.numel()], (&flag).into(), false)?;
    Ok(flag.download()? == [0])
}

impl Tensor {
    /// Sets the u32 at `flag` in device memory to 1 if an element is infinite or NaN; otherwise leaves it unchanged.
    pub fn flag_non_finite(&self, flag: Address) -> Result<()> {
        fold(NON_FINITE, Over::Rows, self, [1, self.numel()], flag.into(), true)
    }
}
