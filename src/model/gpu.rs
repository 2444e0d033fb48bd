//! The predictor on a GPU: f32 masters and their f16 copy, activations in f16, running statistics in f32.

use std::{ops::Range, sync::Arc};

use ssmv_autograd::{
    Arena, DType, Tensor,
    cuda::{Cuda, DeviceMemory},
    no_grad,
};

use super::{
    Network, PartListener, Predict, Predictor, Preset,
    layers::{Context, Norms},
    parameters::{NormId, RunningStatistics},
};
use crate::{Error, Result};

/// Alignment of a norm's statistics in elements.
const ALIGN: usize = 64;

/// Running statistics of all batch normalisations in device memory: all means, then all variances. A copy is another handle
/// to them.
#[derive(Clone)]
pub struct DeviceNorms {
    ranges: Vec<Range<usize>>,
    len: usize,
    kept: DeviceMemory,
    pending: DeviceMemory,
}

impl DeviceNorms {
    fn new(cuda: &Cuda, norms: &[RunningStatistics]) -> Result<Self> {
        let (mut ranges, mut len) = (Vec::new(), 0);
        for norm in norms {
            ranges.push(len..len + norm.mean.len());
            len = (len + norm.mean.len()).next_multiple_of(ALIGN);
        }
        let memory = || DeviceMemory::new(cuda, DType::F32, 2 * len);
        let norms_on_device = Self { ranges, len, kept: memory()?, pending: memory()? };
        norms_on_device.upload_again(norms)?;
        Ok(norms_on_device)
    }

    /// Copies the host's statistics of the same norms.
    pub fn upload_again(&self, norms: &[RunningStatistics]) -> Result<()> {
        let mut values = vec![0f32; 2 * self.len];
        for (norm, range) in norms.iter().zip(&self.ranges) {
            for (part, statistics) in [(0, &norm.mean), (self.len, &norm.variance)] {
                let slots = &mut values[part + range.start..part + range.end];
                slots.iter_mut().zip(statistics).for_each(|(slot, &v)| *slot = v as f32);
            }
        }
        self.kept.upload(&values)?;
        Ok(self.pending.upload(&values)?)
    }

    /// Statistics of finished steps, which an evaluation and a checkpoint read.
    pub fn kept_memory(&self) -> &DeviceMemory {
        &self.kept
    }

    /// Statistics of the current step, which are kept unless it is skipped.
    pub fn pending_memory(&self) -> &DeviceMemory {
        &self.pending
    }

    /// Mean and variance of a norm, of finished steps.
    pub(super) fn kept(&self, id: NormId) -> Result<[Tensor; 2]> {
        self.pair(&self.kept, id)
    }

    /// Mean and variance of a norm, of the current step.
    pub(super) fn pending(&self, id: NormId) -> Result<[Tensor; 2]> {
        self.pair(&self.pending, id)
    }

    fn pair(&self, memory: &DeviceMemory, id: NormId) -> Result<[Tensor; 2]> {
        let Range { start, end } = self.ranges[id.0];
        let part = |from: usize| Tensor::over_cuda([end - start], memory, from + start);
        Ok([part(0)?, part(self.len)?])
    }

    fn write_back(&self, norms: &mut [RunningStatistics]) -> Result<()> {
        let values = self.kept.download(0..2 * self.len)?;
        for (norm, range) in norms.iter_mut().zip(&self.ranges) {
            for (part, statistics) in [(0, &mut norm.mean), (self.len, &mut norm.variance)] {
                let values = &values[part + range.start..part + range.end];
                statistics.iter_mut().zip(values).for_each(|(slot, &v)| *slot = f64::from(v));
            }
        }
        Ok(())
    }
}

/// A predictor whose parameters and computation are on a device.
pub struct DevicePredictor {
    /// Preset of the model, with its sizes.
    pub preset: Preset,
    /// Values of the parameters.
    pub arena: Arena,
    /// Running statistics of the batch normalisations.
    pub norms: DeviceNorms,
    cuda: Cuda,
    network: Arc<Network>,
}

impl DevicePredictor {
    /// A copy of a predictor on a device.
    pub fn upload(model: &Predictor, cuda: &Cuda) -> Result<Self> {
        let halved: Vec<bool> = model.parameters.iter().map(|p| p.role.halved()).collect();
        let arena =
            Arena::on_cuda(cuda, model.arena.layout().clone(), model.arena.values::<f32>()?, &halved)?;
        let norms = DeviceNorms::new(cuda, &model.norms)?;
        Ok(Self {
            preset: model.preset,
            arena,
            norms,
            cuda: cuda.clone(),
            network: Arc::clone(&model.network),
        })
    }

    /// The same model with other weights of the same layout and a new f16 copy; the running statistics are shared.
    pub fn with_weights(&self, masters: &DeviceMemory) -> Result<Self> {
        let (cuda, network) = (self.cuda.clone(), Arc::clone(&self.network));
        Ok(Self {
            preset: self.preset,
            arena: self.arena.with_masters(masters)?,
            norms: self.norms.clone(),
            cuda,
            network,
        })
    }

    /// Copies parameters and running statistics back, without the count of their batches; waits for the device.
    pub fn write_back(&self, model: &mut Predictor) -> Result<()> {
        let [masters, _] = self.arena.memories()?;
        let values = masters.download(0..masters.len())?;
        model.arena.values_mut::<f32>()?.copy_from_slice(&values);
        self.norms.write_back(&mut model.norms)
    }

    /// Device of the model.
    pub fn cuda(&self) -> &Cuda {
        &self.cuda
    }

    /// frames [B,T,S,S,3] in f16 on the device → the next frames [B,next,S,S,3], recorded for a backward pass. The batch's
    /// statistics update the pending ones.
    pub fn train(&self, frames: &Tensor) -> Result<Tensor> {
        self.train_with_hook(frames, None)
    }

    /// As above, with a callback at the outputs of the parts.
    pub fn train_with_hook(&self, frames: &Tensor, listener: Option<PartListener>) -> Result<Tensor> {
        let cx = Context::new(&self.arena, Norms::Device(&self.norms), true).with_listener(listener);
        self.network.forward(&cx, &self.preset, frames)
    }

    /// As above, with running statistics, and not recorded.
    pub fn forward(&self, frames: &Tensor) -> Result<Tensor> {
        let cx = Context::new(&self.arena, Norms::Device(&self.norms), false);
        no_grad(|| self.network.forward(&cx, &self.preset, frames))
    }
}

impl Predict for DevicePredictor {
    fn preset(&self) -> &Preset {
        &self.preset
    }

    fn predict(&self, frames: &Tensor) -> Result<Tensor> {
        if frames.numel() == 0 {
            return Err(Error::Failure("the input has 0 frames".into()));
        }
        Ok(self.forward(&frames.to_cuda(&self.cuda, DType::F16)?)?.to_host()?)
    }
}
