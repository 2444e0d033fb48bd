//! Launches of the convolutions: implicit matrix products in f16 with f32 sums.
//!
//! An odd number of channels would have to be gathered element by element, because wider copies would not be aligned.
//! Such images and filters are first copied and padded with zeros to a multiple of four channels. In practice these are
//! the three colours of the stem's input and of the decoder's output, where the copy is a small part of the
//! convolution's traffic.

use ssmv_kernels::{conv::Conv, gemm::Epilogue, layout::Slice};

use super::Geometry;
use crate::{
    DType, Result, Tensor,
    cuda::{
        Argument,
        plan::{kernel_dtype, size},
    },
    ops::{layout, linear::cuda::halves},
};

/// The pass, for kernel names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum ConvKernel {
    Fprop,
    Dgrad,
    Wgrad,
}

impl Geometry {
    fn kernel(&self) -> Result<Conv> {
        let op = "conv2d";
        let pair = |[a, b]: [usize; 2]| Ok::<_, crate::Error>([size(op, a)?, size(op, b)?]);
        Ok(Conv {
            count: size(op, self.n)?,
            input: pair(self.input)?,
            cin: size(op, self.cin)?,
            cout: size(op, self.cout)?,
            kernel: pair(self.kernel)?,
            stride: pair(self.stride)?,
            padding: pair(self.padding)?,
        })
    }

    /// The same geometry with channel counts padded to multiples of four, for aligned copies.
    fn even(&self) -> Self {
        let even = |channels: usize| {
            if channels.is_multiple_of(2) { channels } else { channels.next_multiple_of(4) }
        };
        Self { cin: even(self.cin), cout: even(self.cout), ..*self }
    }
}

fn launch(
    pass: ConvKernel,
    g: &Geometry,
    epilogue: Epilogue,
    arguments: &[Argument],
    on: &Tensor,
) -> Result<()> {
    let (cuda, conv) = (on.cuda()?, g.kernel()?);
    let plan = cuda.plan(&(pass, conv, epilogue), |_, target| match pass {
        ConvKernel::Fprop => conv.fprop(epilogue, target),
        ConvKernel::Dgrad => conv.dgrad(epilogue, target),
        ConvKernel::Wgrad => conv.wgrad(epilogue, target),
    })?;
    plan.launch(cuda, arguments)
}

/// The last axis padded with zeros to `channels`; the tensor itself if it already has as many.
fn widened(x: &Tensor, channels: usize) -> Result<Tensor> {
    let (rows, cols) = x.shape().rows_cols();
    if cols == channels {
        return Ok(x.detach());
    }
    let wide = x.empty_like(x.shape().with_last(channels))?;
    layout::cuda::slice(
        layout::cuda::Move::Pad,
        Slice { outer: size("conv2d", rows)?, from: channels as u32, start: 0, len: cols as u32, inner: 1 },
        x,
        &wide,
    )?;
    Ok(wide)
}

/// The filters of a weight [cout, kh, kw, cin], padded as `even` describes.
fn filters(w: &Tensor, g: &Geometry, even: &Geometry) -> Result<Tensor> {
    let w = widened(w, even.cin)?;
    if g.cout == even.cout {
        return Ok(w);
    }
    let [kh, kw] = g.kernel;
    let more = w.empty_like([even.cout, kh, kw, even.cin])?;
    let slice = Slice {
        outer: 1,
        from: even.cout as u32,
        start: 0,
        len: g.cout as u32,
        inner: size("conv2d", even.patch())?,
    };
    layout::cuda::slice(layout::cuda::Move::Pad, slice, &w, &more)?;
    Ok(more)
}

/// y = conv(x, w) + bias, in a new tensor.
pub(crate) fn fprop(g: &Geometry, x: &Tensor, w: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let y = x.empty_like([g.n, g.output[0], g.output[1], g.cout])?;
    fprop_into(g, x, w, bias, &y)?;
    Ok(y)
}

/// y = conv(x, w) + bias.
pub(crate) fn fprop_into(
    g: &Geometry,
    x: &Tensor,
    w: &Tensor,
    bias: Option<&Tensor>,
    y: &Tensor,
) -> Result<()> {
    halves("conv2d", &[x, w])?;
    // The outputs' channels are stored without padding.
    let even = Geometry { cout: g.cout, ..g.even() };
    let (x, w) = (widened(x, even.cin)?, widened(w, even.cin)?);
    let epilogue =
        Epilogue { bias: bias.map(|b| kernel_dtype(b.dtype())), ..Epilogue::plain(kernel_dtype(y.dtype())) };
    let mut arguments = vec![x.argument()?, w.argument()?];
    arguments.extend(bias.map(Tensor::argument).transpose()?);
    arguments.push(y.argument()?);
    launch(ConvKernel::Fprop, &even, epilogue, &arguments, y)
}

/// dx = the adjoint of conv, from dy (+ bias [cin], for a transposed convolution).
pub(crate) fn dgrad(g: &Geometry, dy: &Tensor, w: &Tensor, bias: Option<&Tensor>, dx: &Tensor) -> Result<()> {
    halves("conv2d dgrad", &[dy, w])?;
    let even = Geometry { cin: g.cin, ..g.even() };
    let (dy, w) = (widened(dy, even.cout)?, filters(w, g, &even)?);
    let epilogue =
        Epilogue { bias: bias.map(|b| kernel_dtype(b.dtype())), ..Epilogue::plain(kernel_dtype(dx.dtype())) };
    let mut arguments = vec![dy.argument()?, w.argument()?];
    arguments.extend(bias.map(Tensor::argument).transpose()?);
    arguments.push(dx.argument()?);
    launch(ConvKernel::Dgrad, &even, epilogue, &arguments, dx)
}

/// dw from dy and x.
pub(crate) fn wgrad(g: &Geometry, x: &Tensor, dy: &Tensor, dw: &Tensor) -> Result<()> {
    halves("conv2d wgrad", &[x, dy])?;
    let even = g.even();
    let (x, dy) = (widened(x, even.cin)?, widened(dy, even.cout)?);
    let epilogue = Epilogue::plain(kernel_dtype(dw.dtype()));
    if (even.cin, even.cout) == (g.cin, g.cout) {
        return launch(ConvKernel::Wgrad, g, epilogue, &[dy.argument()?, x.argument()?, dw.argument()?], dw);
    }
    let wide = dw.empty_like([even.cout, even.kernel[0], even.kernel[1], even.cin])?;
    launch(ConvKernel::Wgrad, &even, epilogue, &[dy.argument()?, x.argument()?, wide.argument()?], dw)?;
    // Drop the added filters at the end, and the added channels of the others.
    let rows = size("conv2d", g.cout * g.kernel[0] * g.kernel[1])?;
    let slice = Slice { outer: rows, from: even.cin as u32, start: 0, len: g.cin as u32, inner: 1 };
    layout::cuda::slice(layout::cuda::Move::Take, slice, &wide, dw)
}

/// Elements of a bias's gradient are summed in f32.
pub(crate) fn bias_gradient(dy: &Tensor, db: &Tensor) -> Result<()> {
    debug_assert_eq!(db.dtype(), DType::F32);
    crate::ops::reduce::cuda::column_sums(dy, db)
}
