//! Launches of max-pooling; the positions of the maxima are saved as bytes in device memory.

use ssmv_kernels::max_pool::MaxPool;

use super::MaxPool2d;
use crate::{
    Backward, Error, Forward, Result, Shape, Tensor,
    cuda::plan::{dispatch_cuda, size},
};

impl MaxPool2d {
    fn kernels(&self) -> Result<MaxPool> {
        let size = |n| size("max_pool2d", n);
        let [n, h, w, c] = self.from;
        Ok(MaxPool {
            count: size(n)?,
            input: [size(h)?, size(w)?],
            channels: size(c)?,
            kernel: size(self.kernel)?,
            stride: size(self.stride)?,
            padding: size(self.padding)?,
        })
    }

    pub(super) fn forward_cuda(&self, cx: &mut Forward, x: &Tensor, shape: Shape) -> Result<Tensor> {
        let (cuda, pool, dtype) = (x.cuda()?, self.kernels()?, x.dtype());
        let winners = cuda.uninit::<u8>(shape.numel())?;
        let y = x.empty_like(shape)?;
        cuda.launch_one(
            &("forward", pool, dtype),
            &[x.argument()?, y.argument()?, (&winners).into()],
            |_, target| dispatch_cuda!(dtype, T => pool.forward::<T>(target)),
        )?;
        cx.save_device_bytes(winners);
        Ok(y)
    }

    pub(super) fn backward_cuda(&self, cx: &mut Backward, dy: &Tensor) -> Result<()> {
        let (cuda, pool, dtype) = (dy.cuda()?, self.kernels()?, dy.dtype());
        let winners = cx.saved_device_bytes();
        let winners = winners.ok_or_else(|| Error::Backward("max_pool2d saved no winners".into()))?;
        cx.fill(0, |dx| {
            let arguments = [dy.argument()?, (&winners).into(), dx.argument()?];
            cuda.launch_one(
                &("backward", pool, dtype),
                &arguments,
                |_, target| dispatch_cuda!(dtype, T => pool.backward::<T>(target)),
            )
        })
    }
}
