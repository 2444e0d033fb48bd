//! Launches of the losses. The loss is one f32 number; the factor of its gradient is read from device memory, because
//! the loss scale is there.

use ssmv_kernels::loss::{Loss, LossKind};

use crate::{
    Backward, DType, Result, Shape, Tensor,
    cuda::plan::{dispatch_cuda, size},
    ops::pointwise::Function,
};

fn kernels(kind: LossKind, p: &Tensor) -> Result<Loss> {
    Ok(Loss { kind, n: size("loss", p.numel())? })
}

pub(super) fn forward(kind: LossKind, p: &Tensor, t: &Tensor) -> Result<Tensor> {
    let (cuda, loss, dtype) = (p.cuda()?, kernels(kind, p)?, p.dtype());
    let y = Tensor::on_cuda(cuda, Shape::scalar(), DType::F32, None)?;
    let plan = cuda.plan(&("forward", loss, dtype), |_, target| {
        let plan = dispatch_cuda!(dtype, T => loss.forward::<T>(target))?;
        Ok(plan)
    })?;
    plan.launch(cuda, &[p.argument()?, t.argument()?, y.argument()?])?;
    Ok(y)
}

pub(super) fn backward(cx: &mut Backward, kind: LossKind, p: &Tensor, t: &Tensor, dy: &Tensor) -> Result<()> {
    let (cuda, loss, dtype) = (p.cuda()?, kernels(kind, p)?, p.dtype());
    let launch = |dp: &Tensor| {
        let arguments = [p.argument()?, t.argument()?, dy.argument()?, dp.argument()?];
        cuda.launch_one(
            &("backward", loss, dtype),
            &arguments,
            |_, target| dispatch_cuda!(dtype, T => loss.backward::<T>(target)),
        )
    };
    cx.fill(0, launch)?;
    if cx.needs(1) {
        // dt = −dp, if the target needs a gradient too.
        let dp = p.empty_like(p.shape().clone())?;
        launch(&dp)?;
        cx.give(1, crate::ops::pointwise::cuda::forward(&Function::Scale(-1.0), &dp)?)?;
    }
    Ok(())
}
