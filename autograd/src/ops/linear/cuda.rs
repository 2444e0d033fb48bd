//! Launches of matrix products: f16 operands, f32 sums.

use ssmv_kernels::{
    gemm::{Epilogue, Gemm},
    tile::Major,
};

use crate::{
    DType, Error, Result, Tensor,
    cuda::plan::{kernel_dtype, size},
};

/// An error for a tensor that is not f16.
pub(crate) fn halves(op: &'static str, tensors: &[&Tensor]) -> Result<()> {
    match tensors.iter().find(|t| t.dtype() != DType::F16) {
        Some(odd) => {
            Err(Error::Dtype { op, found: odd.dtype().name(), expected: "f16 (tensor cores take no other)" })
        }
        None => Ok(()),
    }
}

/// A matrix operand and its layout, which decides whether it is read transposed.
#[derive(Clone, Copy)]
pub(crate) struct Factor<'a> {
    /// The tensor that holds the elements.
    pub tensor: &'a Tensor,
    /// The axis that is contiguous in memory.
    pub major: Major,
}

/// to [m, n] = a·b + bias, with a and b in f16; `to` and the bias have their own dtypes. With `onto`, the product is
/// added to `to`.
pub(crate) fn product(
    op: &'static str,
    [m, n, k]: [usize; 3],
    [a, b]: [Factor; 2],
    bias: Option<&Tensor>,
    to: &Tensor,
    onto: bool,
) -> Result<()> {
    halves(op, &[a.tensor, b.tensor])?;
    if m * n == 0 {
        return Ok(());
    }
    if k == 0 {
        // The sum over an empty k is 0; a bias would have to be copied, which no caller needs.
        return match bias {
            Some(_) => Err(Error::shape(op, "a product over nothing")),
            None if onto => Ok(()),
            None => to.clear(),
        };
    }
    let epilogue = Epilogue {
        bias: bias.map(|b| kernel_dtype(b.dtype())),
        residual: onto,
        ..Epilogue::plain(kernel_dtype(to.dtype()))
    };
    let gemm = Gemm { m: size(op, m)?, n: size(op, n)?, k: size(op, k)?, a: a.major, b: b.major, epilogue };
    let cuda = to.cuda()?;
    let plan = cuda.plan(&gemm, |gemm, target| gemm.plan(target))?;
    let mut arguments = vec![a.tensor.argument()?, b.tensor.argument()?];
    arguments.extend(bias.map(Tensor::argument).transpose()?);
    if onto {
        arguments.push(to.argument()?);
    }
    arguments.push(to.argument()?);
    plan.launch(cuda, &arguments)
}

/// x·wᵀ + bias: x [.., in], w [out, in].
pub(crate) fn forward(x: &Tensor, w: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let ((rows, cin), out) = (x.shape().rows_cols(), w.shape()[0]);
    let y = x.empty_like(x.shape().with_last(out))?;
    let factors = [Factor { tensor: x, major: Major::K }, Factor { tensor: w, major: Major::K }];
    product("linear", [rows, out, cin], factors, bias, &y, false)?;
    Ok(y)
}

/// dx = dy·w.
pub(crate) fn input_gradient(dy: &Tensor, w: &Tensor, dx: &Tensor, onto: bool) -> Result<()> {
    let ((rows, out), cin) = (dy.shape().rows_cols(), w.shape()[1]);
    let factors = [Factor { tensor: dy, major: Major::K }, Factor { tensor: w, major: Major::Outer }];
    product("linear dgrad", [rows, cin, out], factors, None, dx, onto)
}

/// dw = dyᵀ·x.
pub(crate) fn weight_gradient(dy: &Tensor, x: &Tensor, dw: &Tensor) -> Result<()> {
    let ((rows, out), (_, cin)) = (dy.shape().rows_cols(), x.shape().rows_cols());
    let factors = [Factor { tensor: dy, major: Major::Outer }, Factor { tensor: x, major: Major::Outer }];
    product("linear wgrad", [out, cin, rows], factors, None, dw, false)
}

/// a·b: a [M, K], b [K, N].
pub(super) fn matmul(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (m, k, n) = (a.shape()[0], a.shape()[1], b.shape()[1]);
    let y = a.empty_like([m, n])?;
    let factors = [Factor { tensor: a, major: Major::K }, Factor { tensor: b, major: Major::Outer }];
    product("matmul", [m, n, k], factors, None, &y, false)?;
    Ok(y)
}

/// da = dy·bᵀ.
pub(super) fn matmul_left_gradient(dy: &Tensor, b: &Tensor, da: &Tensor) -> Result<()> {
    let (m, n, k) = (dy.shape()[0], b.shape()[0], dy.shape()[1]);
    let factors = [Factor { tensor: dy, major: Major::K }, Factor { tensor: b, major: Major::K }];
    product("matmul", [m, n, k], factors, None, da, false)
}
