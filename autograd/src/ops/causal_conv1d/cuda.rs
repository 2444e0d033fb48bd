//! Launches of the causal convolution, alone or with the SiLU that follows it in the mixer.

use ssmv_kernels::causal_conv1d::CausalConv1d as Kernels;

use crate::{
    Backward, DType, Result, Tensor,
    cuda::{
        Argument,
        plan::{dispatch_cuda, size},
    },
};

/// The kernels' specification; neighbouring rows of x start `x_row` elements apart.
pub(crate) fn specification([b, l, d]: [usize; 3], taps: usize, silu: bool, x_row: usize) -> Result<Kernels> {
    let size = |n| size("causal_conv1d", n);
    Ok(Kernels {
        batch: size(b)?,
        length: size(l)?,
        channels: size(d)?,
        taps: size(taps)?,
        silu,
        x_row: size(x_row)?,
    })
}

/// y from x, weight, bias.
pub(crate) fn launch_forward(spec: Kernels, dtype: DType, y: &Tensor, inputs: [Argument; 3]) -> Result<()> {
    let [x, w, bias] = inputs;
    y.cuda()?.launch_one(
        &("forward", spec, dtype),
        &[x, w, bias, y.argument()?],
        |_, target| dispatch_cuda!(dtype, T => spec.forward::<T>(target)),
    )
}

/// dx, dweight and dbias from x, weight, bias and dy.
pub(crate) fn launch_backward(
    spec: Kernels,
    dtype: DType,
    dy: &Tensor,
    inputs: [Argument; 3],
    outputs: [Argument; 3],
) -> Result<()> {
    let cuda = dy.cuda()?;
    let plan = cuda.plan(&("backward", spec, dtype), |_, target| {
        let plan = dispatch_cuda!(dtype, T => spec.backward::<T>(target))?;
        Ok(plan)
    })?;
    let mut arguments = inputs.to_vec();
    arguments.push(dy.argument()?);
    arguments.extend(outputs);
    plan.launch(cuda, &arguments)
}

pub(super) fn forward(x: &Tensor, w: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let dims = x.shape().dims("causal_conv1d", "x [B,L,D]")?;
    let spec = specification(dims, w.shape()[0], false, dims[2])?;
    let y = x.empty_like(x.shape().clone())?;
    if y.numel() == 0 {
        return Ok(y);
    }
    launch_forward(spec, x.dtype(), &y, [x.argument()?, w.argument()?, bias.argument()?])?;
    Ok(y)
}

pub(super) fn backward(cx: &mut Backward, dy: &Tensor, x: &Tensor, w: &Tensor, bias: &Tensor) -> Result<()> {
    let dims = x.shape().dims("causal_conv1d", "x [B,L,D]")?;
    let spec = specification(dims, w.shape()[0], false, dims[2])?;
    let inputs = [x.argument()?, w.argument()?, bias.argument()?];
    let dx = x.empty_like(x.shape().clone())?;
    cx.fill_together([1, 2], |[dw, db]| {
        if dx.numel() == 0 {
            return [dw, db].iter().try_for_each(|g| g.clear());
        }
        launch_backward(spec, x.dtype(), dy, inputs, [dx.argument()?, dw.argument()?, db.argument()?])
    })?;
    cx.give(0, dx)
}
