//! Training on a GPU: one stream-ordered step that the host does not wait for, captured as a graph and replayed.
//!
//! | phase of a step | where | captured |
//! | --- | --- | --- |
//! | frames (u8) and learning rate from pinned memory | copy stream, beside the step before | no |
//! | u8 → f16, the rate to its place | compute stream | no |
//! | forward, loss, backward from the loss scale, norm, AdamW, running statistics | compute stream | yes |
//! | loss, norm, scale, counters to pinned memory | compute stream; read by the host one step later | no |
//!
//! The first two steps run launch by launch: they compile the kernels, and fill the pool with the memory that the graph then
//! takes over. Replayed or not, the launches are the same, and so are the bits.

mod footprint;
mod inputs;
mod readback;
mod state;

use ssmv_autograd::{
    DType, Gradients, Tensor,
    cuda::{Captured, Cuda, DeviceMemory},
    no_grad,
};
use ssmv_kernels::optim::StepState;

pub use self::footprint::{MemoryPart, StepMemory, largest_batch, step_kernels, step_memory};
use self::{inputs::Inputs, readback::Readback};
use super::{
    StepFigures, Trainer,
    engine::{NextBatch, Source},
    loss_scale::LossScale,
    phase::{OnPhase, Phase, ended, of_parts},
    schedule::Schedule,
    trainer::preset,
};
use crate::{
    Result,
    config::{Loss, TrainConfig},
    model::{DevicePredictor, Predictor},
    optim::DeviceOptimiser,
};

/// Steps that run launch by launch before one is captured.
const WARM_UP: u32 = 2;

/// A model on a device with everything that its training carries from step to step.
pub(super) struct DeviceTrainer {
    /// What a checkpoint is written from and read into; its numbers are those of the last one.
    host: Trainer,
    cuda: Cuda,
    model: DevicePredictor,
    gradients: Gradients,
    optimiser: DeviceOptimiser,
    /// Running mean of the weights and how much of each step's goes into it.
    ema: Option<(DeviceMemory, f32)>,
    inputs: Inputs,
    readback: Readback,
    graph: Graph,
    source: Source,
    schedule: Schedule,
    loss: Loss,
    /// Hears when a phase of a step ends.
    on_phase: Option<OnPhase>,
    /// Steps launched, skipped ones included.
    step: u64,
}

/// Whether the step is captured.
enum Graph {
    /// Never.
    Off,
    /// After so many more steps.
    WarmingUp(u32),
    /// It is.
    Ready(Captured),
}

impl DeviceTrainer {
    /// Training of a model that begins under the configuration's seed, on a device.
    pub fn new(config: &TrainConfig, source: Source, cuda: &Cuda) -> Result<Self> {
        Self::of(Predictor::new(preset(config)?, config.seed, DType::F32)?, config, source, cuda)
    }

    /// The same of a model that is there.
    fn of(model: Predictor, config: &TrainConfig, source: Source, cuda: &Cuda) -> Result<Self> {
        // The device has its own gradients.
        let mut host = Trainer::of(config, model, Gradients::of_leaves())?;
        host.loss_scale = LossScale::default();
        let model = DevicePredictor::upload(&host.model, cuda)?;
        let gradients = model.arena.gradients()?;
        let state = StepState {
            weight_decay: config.weight_decay,
            max_norm: config.clip_norm.unwrap_or(f64::INFINITY),
            ..StepState::default()
        };
        let optimiser = DeviceOptimiser::new(cuda, host.model.arena.layout().len(), &host.decaying, &state)?;
        let ema = match (&host.ema, config.ema) {
            (Some(ema), Some(decay)) => {
                Some((DeviceMemory::copy_of(cuda, DType::F32, ema)?, 1.0 - decay as f32))
            }
            _ => None,
        };
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
            schedule: host.schedule.clone(),
            loss: config.loss,
            on_phase: None,
            step: host.step,
            host,
            cuda: cuda.clone(),
        })
    }

    /// A step; the figures of the one before.
    fn take_step(&mut self, next: &mut NextBatch) -> Result<Vec<StepFigures>> {
        self.queue(next)?;
        // The step before this one is looked at while this one runs.
        let known = self.readback.receive(self.step - 1)?;
        Ok(known.into_iter().map(|(step, record)| state::figures(step, &record)).collect())
    }

    /// Gives a step to the device and does not wait for it.
    fn queue(&mut self, next: &mut NextBatch) -> Result<()> {
        let rate = self.schedule.rate(self.step);
        self.inputs.fill(self.step, rate, self.optimiser.field("rate")?, next)?;
        match &mut self.graph {
            Graph::Ready(graph) => graph.launch()?,
            Graph::Off => self.launches()?,
            Graph::WarmingUp(0) => {
                let cuda = self.cuda.clone();
                let (graph, ()) = cuda.capture(|| self.launches())?;
                graph.launch()?;
                self.graph = Graph::Ready(graph);
            }
            Graph::WarmingUp(left) => {
                *left -= 1;
                self.launches()?;
            }
        }
        self.step += 1;
        self.readback.send(self.step, self.optimiser.address())
    }

    /// All that a step computes from its input on, into memory that stays where it is.
    fn launches(&mut self) -> Result<()> {
        ended(&self.on_phase, Phase::Input)?;
        let norms = &self.model.norms;
        norms.pending_memory().copy_from(norms.kept_memory())?;
        self.gradients.reset();
        let (mean, scale) = (self.optimiser.loss()?, self.optimiser.scale()?);
        let share = 1.0 / self.source.accumulate as f64;
        for (i, (frames, target)) in self.inputs.batches().enumerate() {
            let y = self.model.train_heard(frames, of_parts(&self.on_phase))?;
            let loss = loss(self.loss, &y, target)?;
            drop(y);
            loss.flag_non_finite(self.optimiser.field("overflow")?)?;
            let shared = if share == 1.0 { loss } else { loss.scale(share)? };
            no_grad(|| if i == 0 { mean.assign(&shared) } else { mean.accumulate(&shared) })?;
            ended(&self.on_phase, Phase::Loss)?;
            shared.backward_from(scale.clone(), &mut self.gradients)?;
            ended(&self.on_phase, Phase::EncoderBackward)?;
        }
        let memories = self.model.arena.memories()?;
        self.optimiser.step(memories, self.gradients.memory()?)?;
        self.optimiser.keep(norms.pending_memory(), norms.kept_memory())?;
        if let Some((average, share)) = &self.ema {
            self.optimiser.average(memories[0], average, *share)?;
        }
        Ok(ended(&self.on_phase, Phase::Optimiser)?)
    }

    /// From now on launches each kernel by itself, and lets `on_phase` hear when a phase of a step has been queued.
    pub(super) fn listen(&mut self, on_phase: OnPhase) {
        (self.graph, self.on_phase) = (Graph::Off, Some(on_phase));
    }
}

/// The loss, a scalar in f32.
fn loss(kind: Loss, y: &Tensor, target: &Tensor) -> Result<Tensor> {
    Ok(match kind {
        Loss::L1 => y.l1_loss(target)?,
        Loss::Mse => y.mse_loss(target)?,
        Loss::L1Mse => y.l1_loss(target)?.add(&y.mse_loss(target)?)?,
    })
}

#[cfg(test)]
mod tests;
