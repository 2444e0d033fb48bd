//! Launches of kernels that move elements without computing.

use ssmv_kernels::layout::{Permute, Slice};

use crate::{
    Result, Shape, Tensor,
    cuda::plan::{dispatch_cuda, size},
};

/// Direction of a copy between a slice and its whole tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Move {
    /// y = the slice of x.
    Take,
    /// y = x inside the slice, zeros elsewhere.
    Pad,
    /// Copies x into the slice of y; the rest of y stays.
    Place,
}

/// Moves the elements of a slice from x to y.
pub(crate) fn slice(what: Move, slice: Slice, x: &Tensor, y: &Tensor) -> Result<()> {
    let (cuda, dtype) = (x.cuda()?, x.dtype());
    if x.numel() == 0 || y.numel() == 0 {
        // An empty slice padded with zeros is all zeros.
        return if what == Move::Pad { y.clear() } else { Ok(()) };
    }
    cuda.launch_one(&(what, slice, dtype), &[x.argument()?, y.argument()?], |_, target| {
        dispatch_cuda!(dtype, T => match what {
            Move::Take => slice.take::<T>(target),
            Move::Pad => slice.pad::<T>(target),
            Move::Place => slice.place::<T>(target),
        })
    })
}

/// A slice of one axis of a tensor of shape `from`.
pub(crate) fn along(from: &Shape, axis: usize, start: usize, len: usize) -> Result<Slice> {
    let (outer, size_along, inner) = from.around(axis);
    let size = |n| size("slice", n);
    Ok(Slice {
        outer: size(outer)?,
        from: size(size_along)?,
        start: size(start)?,
        len: size(len)?,
        inner: size(inner)?,
    })
}

/// x with its axes in another order.
pub(super) fn permute(x: &Tensor, order: &[usize], shape: Shape) -> Result<Tensor> {
    let (cuda, dtype) = (x.cuda()?, x.dtype());
    let y = x.empty_like(shape)?;
    if y.numel() == 0 {
        return Ok(y);
    }
    let sizes = x.shape().iter().map(|&n| size("permute", n)).collect::<Result<Vec<_>>>()?;
    let permute = Permute { shape: sizes, axes: order.to_vec() };
    cuda.launch_one(
        &("permute", permute, dtype),
        &[x.argument()?, y.argument()?],
        |(_, permute, _), target| dispatch_cuda!(dtype, T => permute.kernel::<T>(target)),
    )?;
    Ok(y)
}
