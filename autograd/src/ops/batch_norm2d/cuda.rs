//! Launches of batch normalisation. Statistics, weights and their gradients are f32; images are of their own dtype.

use ssmv_kernels::{
    Plan,
    batch_norm::{Apply, InputGradient, Mode, Statistics as Gather, Sums},
};

use super::{BatchNorm2d, BatchStatistics, Statistics};
use crate::{
    Backward, DType, Error, Forward, Result, Tensor,
    cuda::plan::{dispatch_cuda, size},
};

impl BatchNorm2d {
    fn mode(&self) -> Mode {
        match self.statistics {
            Statistics::Running(..) => Mode::Eval,
            _ => Mode::Train,
        }
    }

    /// The mean of each channel, and the spread that kernels read: 1/√(σ² + ε) of a batch, or a running variance.
    fn moments(&self, x: &Tensor, [rows, cols]: [u32; 2]) -> Result<[Tensor; 2]> {
        let cuda = x.cuda()?;
        let channels = || Tensor::on_cuda(cuda, [cols as usize], DType::F32, None);
        let (running_mean, running_variance, momentum) = match &self.statistics {
            Statistics::Running(mean, variance) => return Ok([mean.clone(), variance.clone()]),
            Statistics::Tracked { mean, variance, momentum } => (mean.clone(), variance.clone(), *momentum),
            Statistics::Across(_) => {
                return Err(Error::misuse("batch_norm2d", "a device has no statistics across ranks"));
            }
            // Without running statistics: momentum 1 from zero leaves the batch's own.
            Statistics::Batch => {
                let zeros = || Tensor::cuda_zeros(cuda, [cols as usize], DType::F32);
                (zeros()?, zeros()?, 1.0)
            }
        };
        let [mean, inverse] = [channels()?, channels()?];
        let (gather, dtype) = (Gather { rows, cols }, x.dtype());
        let partials = cuda.plan(&("batch norm groups", rows, cols, dtype), |_, target| {
            let kernel = dispatch_cuda!(dtype, T => gather.partials::<T>(target))?;
            Ok(Plan { kernels: vec![kernel], workspace_bytes: gather.workspace_bytes() })
        })?;
        let groups = partials.workspace(cuda)?;
        partials.launch(cuda, &[x.argument()?, (&groups).into()])?;
        let arguments = [
            (&groups).into(),
            running_mean.argument()?,
            running_variance.argument()?,
            mean.argument()?,
            inverse.argument()?,
            (self.eps as f32).into(),
            (momentum as f32).into(),
        ];
        cuda.launch_one(&("batch norm statistics", rows, cols), &arguments, |_, target| {
            gather.finish(target)
        })?;
        if matches!(self.statistics, Statistics::Batch) {
            let seen = BatchStatistics { mean: running_mean.to_f64()?, variance: running_variance.to_f64()? };
            // Set once: an operator's forward pass runs once.
            let _ = self.seen.set(seen);
        }
        Ok([mean, inverse])
    }

    pub(super) fn forward_cuda(&self, cx: &mut Forward, inputs: &[&Tensor]) -> Result<Tensor> {
        let (x, gamma, beta, residual) = (inputs[0], inputs[1], inputs[2], inputs.get(3));
        let [rows, cols] = matrix(x)?;
        let [mean, spread] = self.moments(x, [rows, cols])?;
        let y = x.empty_like(x.shape().clone())?;
        let apply = Apply { rows, cols, mode: self.mode(), relu: self.relu, residual: residual.is_some() };
        let mut arguments =
            [x, gamma, beta, &mean, &spread].iter().map(|t| t.argument()).collect::<Result<Vec<_>>>()?;
        arguments.extend(residual.map(|r| r.argument()).transpose()?);
        arguments.extend([y.argument()?, (self.eps as f32).into()]);
        let dtype = x.dtype();
        x.cuda()?.launch_one(
            &(apply, dtype),
            &arguments,
            |_, target| dispatch_cuda!(dtype, T => apply.kernel::<T>(target)),
        )?;
        [x, gamma, &mean, &spread].iter().for_each(|t| cx.save(t));
        if self.relu {
            cx.save(&y);
        }
        Ok(y)
    }

    pub(super) fn backward_cuda(&self, cx: &mut Backward, dy: &Tensor, saved: &[Tensor]) -> Result<()> {
        let [x, gamma, mean, spread, y @ ..] = saved else {
            return Err(Error::Backward("batch_norm2d saved too little".into()));
        };
        let (cuda, [rows, cols], dtype) = (x.cuda()?, matrix(x)?, x.dtype());
        let (y, mode, eps) = (y.first().map(Tensor::argument).transpose()?, self.mode(), self.eps as f32);
        let sums = Sums { rows, cols, relu: self.relu };
        let partials = cuda.plan(&("batch norm sums", sums, dtype), |_, target| {
            let kernel = dispatch_cuda!(dtype, T => sums.partials::<T>(target))?;
            Ok(Plan { kernels: vec![kernel], workspace_bytes: sums.workspace_bytes() })
        })?;
        let parts = partials.workspace(cuda)?;
        let mut arguments = vec![dy.argument()?, x.argument()?];
        arguments.extend(y);
        arguments.extend([mean.argument()?, (&parts).into()]);
        partials.launch(cuda, &arguments)?;
        // dx needs these sums too, wherever they are stored.
        let mut found = None;
        cx.fill_together([1, 2], |[dgamma, dbeta]| {
            found = Some([dgamma.clone(), dbeta.clone()]);
            let arguments =
                [(&parts).into(), spread.argument()?, dgamma.argument()?, dbeta.argument()?, eps.into()];
            cuda.launch_one(&("batch norm sums", sums, mode), &arguments, |_, target| {
                sums.finish(mode, target)
            })
        })?;
        let [dgamma, dbeta] = found.ok_or_else(|| Error::Backward("batch_norm2d made no sums".into()))?;

        let masked = self.relu && cx.needs(3);
        let gradient = InputGradient { rows, cols, mode, relu: self.relu, residual: masked };
        let launch = |dx: &Tensor, dresidual: Option<&Tensor>| {
            let mut arguments = vec![dy.argument()?];
            let train = mode == Mode::Train;
            if train {
                arguments.push(x.argument()?);
            }
            arguments.extend(y);
            arguments.push(gamma.argument()?);
            if train {
                arguments.push(mean.argument()?);
            }
            arguments.push(spread.argument()?);
            if train {
                arguments.extend([dgamma.argument()?, dbeta.argument()?]);
            }
            arguments.push(dx.argument()?);
            arguments.extend(dresidual.map(Tensor::argument).transpose()?);
            arguments.push(eps.into());
            cuda.launch_one(
                &(gradient, dtype),
                &arguments,
                |_, target| dispatch_cuda!(dtype, T => gradient.kernel::<T>(target)),
            )
        };
        if masked {
            return cx.fill_together([0, 3], |[dx, dresidual]| launch(dx, Some(dresidual)));
        }
        cx.fill(0, |dx| launch(dx, None))?;
        if cx.needs(3) {
            cx.give(3, dy.clone())?;
        }
        Ok(())
    }
}

/// Rows and channels of x, as the kernels take them.
fn matrix(x: &Tensor) -> Result<[u32; 2]> {
    let (rows, cols) = x.shape().rows_cols();
    size("batch_norm2d", x.numel())?;
    Ok([size("batch_norm2d", rows)?, size("batch_norm2d", cols)?])
}
