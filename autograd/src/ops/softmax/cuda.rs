//! Launches of softmax.

use ssmv_kernels::softmax::Softmax as Kernels;

use super::Softmax;
use crate::{
    Op, Result, Tensor,
    cuda::plan::{dispatch_cuda, size},
};

impl Softmax {
    fn kernels(&self, x: &Tensor) -> Result<Kernels> {
        let (rows, cols) = x.shape().rows_cols();
        Ok(Kernels { rows: size(self.name(), rows)?, cols: size(self.name(), cols)?, log: self.log })
    }

    pub(super) fn forward_cuda(&self, x: &Tensor) -> Result<Tensor> {
        let (y, dtype, spec) = (x.empty_like(x.shape().clone())?, x.dtype(), self.kernels(x)?);
        if x.numel() > 0 {
            x.cuda()?.launch_one(
                &("forward", spec, dtype),
                &[x.argument()?, y.argument()?],
                |_, target| dispatch_cuda!(dtype, T => spec.forward::<T>(target)),
            )?;
        }
        Ok(y)
    }

    pub(super) fn backward_cuda(&self, dy: &Tensor, y: &Tensor) -> Result<Tensor> {
        let (dx, dtype, spec) = (y.empty_like(y.shape().clone())?, y.dtype(), self.kernels(y)?);
        if y.numel() > 0 {
            y.cuda()?.launch_one(
                &("backward", spec, dtype),
                &[dy.argument()?, y.argument()?, dx.argument()?],
                |_, target| dispatch_cuda!(dtype, T => spec.backward::<T>(target)),
            )?;
        }
        Ok(dx)
    }
}
