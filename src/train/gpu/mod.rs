//! Training on a GPU: one stream-ordered step that the host does not wait for, captured as a graph and replayed.
//!
//! | phase of a step | where | captured |
//! | --- | --- | --- |
//! | frames (u8) and learning rate from pinned memory | copy stream, beside the step before | no |
//! | u8 → f16, the rate to its place | compute stream | no |
//! | forward, loss, backward from the loss scale, norm, AdamW, running statistics | compute stream | yes |
//! | loss, norm, scale, counters to pinned memory | compute stream; read by the host one step later | no |
//!
//! The kernels are compiled before the first step (`compile.rs`). The first two steps run launch by launch: they fill the pool with the memory that the graph then
//! takes over. Replayed or not, the launches are the same, and so are the bits.
//!
//! With several ranks the step is captured in parts that end where a bucket of gradients is whole: between them the bucket is
//! given to the stream that adds up all ranks', while the next part goes on with the backward pass. The update waits for
//! the sums and is a graph of its own. See [`ranks`](super::ranks).

mod backend;
mod compile;
mod data_parallel;
mod footprint;
mod inputs;
mod readback;

use std::ops::Range;

use ssmv_autograd::{
    Gradients,
    cuda::{Captured, Cuda, DeviceMemory},
    no_grad,
    optim::DeviceAdamW,
};
use ssmv_kernels::optim::StepState;

pub(super) use self::compile::compile;
pub use self::footprint::{MemoryPart, StepMemory, largest_batch, step_kernels, step_memory};
use self::{
    data_parallel::{Cut, SharedStep},
    inputs::Inputs,
    readback::Readback,
};
use super::{
    backend::{Backend, Source, loss},
    loss_scale::LossScale,
    phase::{OnPhase, Phase, ended, of_parts},
    ranks::GpuSharing,
    snapshot::Snapshot,
};
use crate::{
    Error, Result,
    config::{Loss, TrainConfig},
    model::DevicePredictor,
};

/// Steps that run launch by launch before one is captured.
const WARM_UP: u32 = 2;

/// A model on a GPU with all that its training carries from step to step.
pub struct Gpu {
    /// Read for a checkpoint and written from one; as of the last of both.
    snapshot: Snapshot,
    cuda: Cuda,
    model: DevicePredictor,
    gradients: Gradients,
    optimiser: DeviceAdamW,
    /// Running mean of the weights.
    ema: Option<DeviceMemory>,
    inputs: Inputs,
    readback: Readback,
    graph: Graph,
    source: Source,
    loss: Loss,
    /// The other ranks, where there are any, and how the arena is cut for them.
    sharing: Option<GpuSharing>,
    cut: Option<Cut>,
    /// Called when a phase of a step is queued.
    on_phase: Option<OnPhase>,
    /// Why the step could not be captured, and other problems that did not end the training, until they are taken.
    uncaptured: Option<Error>,
    warnings: Vec<String>,
    /// Steps launched, skipped ones included.
    step: u64,
}

/// Whether the step is captured.
enum Graph {
    /// The step is launched kernel by kernel.
    Off,
    /// After so many more steps.
    WarmingUp(u32),
    /// It is, as a whole.
    Ready(Captured),
    /// It is, in parts.
    Shared(SharedStep),
}

/// What a backward pass is given to tell which buckets are whole.
type OnBuckets<'a> = dyn FnMut(Range<usize>, &mut Gradients) -> Result<()> + 'a;

impl Gpu {
    /// Trains a model that begins under the configuration's seed.
    pub fn new(config: &TrainConfig, source: Source, cuda: &Cuda) -> Result<Self> {
        Self::of(Snapshot::new(config)?, config, source, cuda)
    }

    /// Trains on from a snapshot.
    fn of(mut snapshot: Snapshot, config: &TrainConfig, source: Source, cuda: &Cuda) -> Result<Self> {
        snapshot.loss_scale = LossScale::default();
        let model = DevicePredictor::upload(&snapshot.model, cuda)?;
        let gradients = model.arena.gradients()?;
        let state = StepState {
            weight_decay: config.weight_decay,
            max_norm: config.clip_norm.unwrap_or(f64::INFINITY),
            ema_decay: config.ema.unwrap_or_default(),
            ..StepState::default()
        };
        let len = snapshot.model.arena.layout().len();
        let optimiser = DeviceAdamW::new(cuda, len, &snapshot.optimiser.decaying, &state)?;
        let copy = |ema: &Vec<f32>| DeviceMemory::copy_of(cuda, ssmv_autograd::DType::F32, ema);
        let ema = snapshot.ema.as_ref().map(copy).transpose()?;
        Ok(Self {
            model,
            gradients,
            optimiser,
            ema,
            inputs: Inputs::new(cuda, source)?,
            readback: Readback::new(cuda)?,
            // A check waits for the device, which a capture may not.
            graph: if config.no_graph || config.check_finite {
                Graph::Off
            } else {
                Graph::WarmingUp(WARM_UP)
            },
            source,
            loss: config.loss,
            sharing: None,
            cut: None,
            on_phase: None,
            uncaptured: None,
            warnings: Vec::new(),
            step: snapshot.step,
            snapshot,
            cuda: cuda.clone(),
        })
    }

    /// Captures a step, and runs it. One that cannot be captured is launched kernel by kernel, and so are all after it: to the
    /// same bits, so other ranks may do otherwise.
    fn capture(&mut self) -> Result<()> {
        let cuda = self.cuda.clone();
        let captured = match self.sharing {
            None => cuda.capture(|| self.run()).map(|(graph, ())| Graph::Ready(graph)),
            Some(_) => self.capture_shared().map(Graph::Shared),
        };
        self.graph = captured.unwrap_or_else(|error| {
            self.uncaptured = Some(error);
            Graph::Off
        });
        match &self.graph {
            Graph::Ready(graph) => Ok(graph.launch()?),
            Graph::Shared(_) => self.replay_shared(),
            Graph::Off | Graph::WarmingUp(_) => self.run(),
        }
    }

    /// Forward and backward of all batches. With several ranks, `on_buckets` gets the buckets whose gradients are complete,
    /// and at the end the remaining ones.
    fn passes(&mut self, on_buckets: &mut OnBuckets) -> Result<()> {
        ended(&self.on_phase, Phase::Input)?;
        let norms = &self.model.norms;
        norms.pending_memory().copy_from(norms.kept_memory())?;
        self.gradients.reset();
        let (mean, scale) = (self.optimiser.loss()?, self.optimiser.scale()?);
        // A rank's part of the mean over all ranks: the sum of many overflows no sooner than one rank's.
        let batches = self.source.accumulate * self.cut.as_ref().map_or(1, |cut| cut.ranks);
        let share = 1.0 / batches as f64;
        let mut progress = self.cut.as_ref().map(|cut| cut.buckets.progress());
        for (i, (frames, target)) in self.inputs.batches().enumerate() {
            let y = self.model.train_with_hook(frames, of_parts(&self.on_phase))?;
            let loss = loss(self.loss, &y, target)?;
            drop(y);
            loss.flag_non_finite(self.optimiser.overflow_address())?;
            let shared = if share == 1.0 { loss } else { loss.scale(share)? };
            no_grad(|| if i == 0 { mean.assign(&shared) } else { mean.accumulate(&shared) })?;
            ended(&self.on_phase, Phase::Loss)?;
            match &mut progress {
                Some(progress) if i + 1 == self.source.accumulate => {
                    let mut whole = |parameter: usize, gradients: &mut Gradients| {
                        let buckets = progress.complete(parameter);
                        if buckets.is_empty() { Ok(()) } else { on_buckets(buckets, gradients) }
                    };
                    shared.backward_with_hook(scale.clone(), &mut self.gradients, Some(&mut whole))?;
                }
                _ => shared.backward_from(scale.clone(), &mut self.gradients)?,
            }
            ended(&self.on_phase, Phase::EncoderBackward)?;
        }
        match progress.map(|progress| progress.rest()) {
            Some(rest) if !rest.is_empty() => {
                // What no pass has come to is zero.
                self.gradients.memory()?;
                on_buckets(rest, &mut self.gradients)
            }
            _ => Ok(()),
        }
    }

    /// Norm, AdamW, loss scale, running statistics and the mean of the weights.
    fn optimise(&mut self) -> Result<()> {
        if self.cut.is_some() {
            // The mean loss of all ranks: where one is not finite, all skip the step.
            self.optimiser.loss()?.flag_non_finite(self.optimiser.overflow_address())?;
        }
        let (memories, norms) = (self.model.arena.memories()?, &self.model.norms);
        let gradients = self.gradients.memory()?;
        match self.cut.as_ref().and_then(|cut| cut.share.as_ref()) {
            Some(share) => share.step(&self.optimiser, memories, gradients)?,
            None => self.optimiser.step(memories, gradients)?,
        }
        self.optimiser.keep(norms.pending_memory(), norms.kept_memory())?;
        if let Some(average) = &self.ema {
            self.optimiser.average(memories[0], average)?;
        }
        Ok(ended(&self.on_phase, Phase::Optimiser)?)
    }

    /// From now on launches each kernel by itself, and lets `on_phase` hear when a phase of a step has been queued.
    pub(in crate::train) fn listen(&mut self, on_phase: OnPhase) {
        (self.graph, self.on_phase) = (Graph::Off, Some(on_phase));
    }
}

#[cfg(test)]
mod tests;
