//! Launches of nearest upsampling.

use ssmv_kernels::upsample::Nearest;

use super::UpsampleNearest2d;
use crate::{
    Result, Shape, Tensor,
    cuda::plan::{dispatch_cuda, size},
};

impl UpsampleNearest2d {
    fn kernels(&self) -> Result<Nearest> {
        let size = |n| size("upsample_nearest2d", n);
        let [n, h, w, c] = self.from;
        let input = [size(h)?, size(w)?];
        Ok(Nearest { count: size(n)?, input, channels: size(c)?, factor: size(self.scale)? })
    }

    pub(super) fn forward_cuda(&self, x: &Tensor, shape: Shape) -> Result<Tensor> {
        let (nearest, dtype, y) = (self.kernels()?, x.dtype(), x.empty_like(shape)?);
        if y.numel() > 0 {
            x.cuda()?.launch_one(
                &("forward", nearest, dtype),
                &[x.argument()?, y.argument()?],
                |_, target| dispatch_cuda!(dtype, T => nearest.forward::<T>(target)),
            )?;
        }
        Ok(y)
    }

    pub(super) fn backward_cuda(&self, dy: &Tensor, dx: &Tensor) -> Result<()> {
        let (nearest, dtype) = (self.kernels()?, dy.dtype());
        if dx.numel() == 0 {
            return Ok(());
        }
        dy.cuda()?.launch_one(
            &("backward", nearest, dtype),
            &[dy.argument()?, dx.argument()?],
            |_, target| dispatch_cuda!(dtype, T => nearest.backward::<T>(target)),
        )
    }
}
