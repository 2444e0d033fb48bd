//! Launches of layer normalisation. Weights, their gradients and the statistics are f32; the backward pass recomputes
//! the statistics.

use ssmv_kernels::layer_norm::LayerNorm as Kernels;

use super::LayerNorm;
use crate::{
    Backward, Result, Tensor,
    cuda::plan::{dispatch_cuda, size},
};

fn kernels(x: &Tensor) -> Result<Kernels> {
    let (rows, cols) = x.shape().rows_cols();
    Ok(Kernels { rows: size("layer_norm", rows)?, cols: size("layer_norm", cols)? })
}

impl LayerNorm {
    pub(super) fn forward_cuda(&self, x: &Tensor, gamma: &Tensor, beta: &Tensor) -> Result<Tensor> {
        let (y, dtype, spec) = (x.empty_like(x.shape().clone())?, x.dtype(), kernels(x)?);
        let arguments =
            [x.argument()?, gamma.argument()?, beta.argument()?, y.argument()?, (self.eps as f32).into()];
        if x.numel() > 0 {
            x.cuda()?.launch_one(
                &("forward", spec, dtype),
                &arguments,
                |_, target| dispatch_cuda!(dtype, T => spec.forward::<T>(target)),
            )?;
        }
        Ok(y)
    }

    pub(super) fn backward_cuda(
        &self,
        cx: &mut Backward,
        dy: &Tensor,
        x: &Tensor,
        gamma: &Tensor,
    ) -> Result<()> {
        let (cuda, dtype, spec) = (x.cuda()?, x.dtype(), kernels(x)?);
        if x.numel() == 0 {
            return cx.fill_together([0, 1, 2], |gradients| gradients.iter().try_for_each(|g| g.clear()));
        }
        let plan = cuda.plan(&("backward", spec, dtype), |_, target| {
            let plan = dispatch_cuda!(dtype, T => spec.backward::<T>(target))?;
            Ok(plan)
        })?;
        let workspace = plan.workspace(cuda)?;
        cx.fill_together([0, 1, 2], |[dx, dgamma, dbeta]| {
            let tensors = [x, gamma, dy, dx, dgamma, dbeta];
            let mut arguments = tensors.iter().map(|t| t.argument()).collect::<Result<Vec<_>>>()?;
            arguments.extend([crate::cuda::Argument::from(&workspace), (self.eps as f32).into()]);
            plan.launch(cuda, &arguments)
        })
    }
}
