//! Launches of the scan as an operator of its own: Δ and A given, with D, without gate.

use ssmv_kernels::selective_scan::SelectiveScan as Kernels;

use super::Sizes;
use crate::{
    Backward, DType, Result, Tensor,
    cuda::{
        Argument,
        plan::{dispatch_cuda, size},
    },
};

/// y from the kernels' inputs in their order.
pub(crate) fn launch_forward(spec: Kernels, dtype: DType, y: &Tensor, inputs: &[Argument]) -> Result<()> {
    let arguments: Vec<Argument> = inputs.iter().copied().chain([y.argument()?]).collect();
    y.cuda()?.launch_one(
        &("scan forward", spec, dtype),
        &arguments,
        |_, target| dispatch_cuda!(dtype, T => spec.forward::<T>(target)),
    )
}

/// The gradients from the inputs and dy, both in the kernels' order.
pub(crate) fn launch_backward(
    spec: Kernels,
    dtype: DType,
    dy: &Tensor,
    inputs: &[Argument],
    outputs: &[Argument],
) -> Result<()> {
    let cuda = dy.cuda()?;
    let plan = cuda.plan(&("scan backward", spec, dtype), |_, target| {
        let plan = dispatch_cuda!(dtype, T => spec.backward::<T>(target))?;
        Ok(plan)
    })?;
    let arguments: Vec<Argument> =
        inputs.iter().copied().chain([dy.argument()?]).chain(outputs.iter().copied()).collect();
    plan.launch(cuda, &arguments)
}

fn specification(s: Sizes, u: &Tensor) -> Result<Kernels> {
    let size = |n| size("selective_scan", n);
    Ok(Kernels::plain(size(u.shape()[0])?, size(s.length)?, size(s.channels)?, size(s.states)?))
}

fn arguments(tensors: &[&Tensor]) -> Result<Vec<Argument>> {
    tensors.iter().map(|t| t.argument()).collect()
}

pub(super) fn forward(s: Sizes, inputs: &[&Tensor]) -> Result<Tensor> {
    let u = inputs[0];
    let y = u.empty_like(u.shape().clone())?;
    launch_forward(specification(s, u)?, u.dtype(), &y, &arguments(inputs)?)?;
    Ok(y)
}

pub(super) fn backward(s: Sizes, cx: &mut Backward, inputs: &[&Tensor], dy: &Tensor) -> Result<()> {
    let u = inputs[0];
    let spec = specification(s, u)?;
    let inputs = arguments(inputs)?;
    cx.fill_together([0, 1, 2, 3, 4, 5], |gradients| {
        launch_backward(spec, u.dtype(), dy, &inputs, &arguments(&gradients)?)
    })
}
