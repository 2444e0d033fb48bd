//! Launches of the reductions. Sums and means are f32.

use ssmv_kernels::{
    pointwise::{Along, spread},
    reduce::{MEAN, SUM},
};

use crate::{
    DType, Error, Result, Shape, Tensor,
    cuda::{
        plan::{dispatch_cuda, size},
        primitives::{Over, cast_into, fold},
    },
};

/// to[c] = Σ_r x[r, c] of x [.., cols], `to` in f32.
pub(crate) fn column_sums(x: &Tensor, to: &Tensor) -> Result<()> {
    let (rows, cols) = x.shape().rows_cols();
    fold(SUM, Over::Cols, x, [rows, cols], to.argument()?, false)
}

/// As [`column_sums`], rounded to the dtype of `to`.
pub(crate) fn column_sums_as(x: &Tensor, to: &Tensor) -> Result<()> {
    if to.dtype() == DType::F32 {
        return column_sums(x, to);
    }
    let sums = Tensor::on_cuda(x.cuda()?, to.shape().clone(), DType::F32, None)?;
    column_sums(x, &sums)?;
    cast_into(&sums, to)
}

/// x as a matrix whose rows or columns are reduced; `None` unless the axes are the first or the last ones.
fn as_matrix(from: &Shape, axes: &[usize]) -> Option<(Over, [usize; 2])> {
    let product = |range: std::ops::Range<usize>| from[range].iter().product::<usize>();
    let (n, k) = (from.len(), axes.len());
    if axes.iter().copied().eq(n - k..n) {
        return Some((Over::Rows, [product(0..n - k), product(n - k..n)]));
    }
    axes.iter().copied().eq(0..k).then(|| (Over::Cols, [product(0..k), product(k..n)]))
}

/// The sum or the mean over `axes`.
pub(super) fn forward(x: &Tensor, axes: &[usize], mean: bool, shape: Shape) -> Result<Tensor> {
    let reduction = if mean { MEAN } else { SUM };
    let y = Tensor::on_cuda(x.cuda()?, shape, DType::F32, None)?;
    if y.numel() == 0 {
        return Ok(y);
    }
    match as_matrix(x.shape(), axes) {
        Some((over, matrix)) => fold(reduction, over, x, matrix, y.argument()?, false)?,
        None => {
            let kept = (0..x.shape().len()).filter(|axis| !axes.contains(axis));
            let order: Vec<usize> = kept.chain(axes.iter().copied()).collect();
            let moved = x.detach().permute(&order)?;
            let last = order.len() - axes.len()..order.len();
            let (over, matrix) = as_matrix(moved.shape(), &last.collect::<Vec<_>>())
                .ok_or_else(|| Error::shape("reduce", "axes that cannot be folded"))?;
            fold(reduction, over, &moved, matrix, y.argument()?, false)?;
        }
    }
    Ok(y)
}

/// dx of shape `from`: factor·dy repeated along `axes`, for axes that are the first or the last ones.
pub(super) fn backward(dy: &Tensor, from: &Shape, axes: &[usize], factor: f64, dx: &Tensor) -> Result<()> {
    let (cuda, dtype) = (dx.cuda()?, dx.dtype());
    let (over, [rows, cols]) = as_matrix(from, axes).ok_or_else(|| {
        let message = format!(
            "on a device a gradient flows through sums over the first or the last axes, not {axes:?}"
        );
        Error::shape("reduce", message)
    })?;
    size("reduce", dx.numel())?;
    let (rows, cols) = (size("reduce", rows)?, size("reduce", cols)?);
    if rows * cols == 0 {
        return Ok(());
    }
    let along = match over {
        Over::Rows => Along::Rows,
        Over::Cols => Along::Cols,
    };
    let arguments = [dy.argument()?, dx.argument()?, (factor as f32).into()];
    cuda.launch_one(&("spread", over, dtype, rows, cols), &arguments, |_, target| {
        Ok(dispatch_cuda!(dtype, T => spread::<T>(along, rows, cols, target)))
    })
}
