//! One training: optimiser steps, evaluations and checkpoints, on the CPU or on a GPU.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use ssmv_autograd::cuda::Cuda;

use super::{
    TrainState,
    backend::{Backend, NextBatch, Source},
    cpu::Cpu,
    epochs::Epochs,
    gpu::Gpu,
    loss_scale::LossScale,
    ranks::Ranks,
    schedule::Schedule,
    snapshot::Snapshot,
};
use crate::{
    Result,
    checkpoint::Checkpoint,
    config::{Comm, Duration, ScheduleKind, TrainConfig},
    model::{Predict, adopt::Adopted},
};

/// Number of steps in a row with gradients that are not finite, after which training stops.
const MOST_SKIPS: u32 = 20;

/// The results of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepFigures {
    /// Number of the step, from 1.
    pub step: u64,
    /// The loss, the mean over the batches of the step.
    pub loss: f64,
    /// Learning rate of the last step.
    pub lr: f64,
    /// Norm of all gradients, before clipping.
    pub grad_norm: f64,
    /// Whether the gradients were not finite, so that the parameters were not updated.
    pub skipped: bool,
    /// Factor of the next loss.
    pub loss_scale: f32,
    /// Number of steps skipped since the last that was not.
    pub consecutive_skips: u32,
}

impl StepFigures {
    /// Checks that training may continue after this step.
    ///
    /// # Errors
    /// Too many steps skipped in a row, a loss scale below its floor.
    pub fn verdict(&self) -> Result<()> {
        give_up(self.step, self.consecutive_skips)?;
        LossScale::check_scale(self.step, self.loss_scale, LossScale::FLOOR, self.consecutive_skips)
    }
}

/// An error if too many steps in a row, up to step `step`, were skipped.
pub(super) fn give_up(step: u64, consecutive_skips: u32) -> Result<()> {
    if consecutive_skips < MOST_SKIPS {
        return Ok(());
    }
    Err(crate::Error::Failure(format!(
        "step {step}: {MOST_SKIPS} steps in a row had gradients that are not finite; training has diverged: lower --lr, \
         set --clip-norm 1, or find with --check-finite the first operator whose forward output is not finite, if one is"
    )))
}

/// The learning rates of a training. After a resumption with another number of steps per epoch they continue by epochs,
/// or by steps for a cosine whose length is in steps.
pub(super) fn schedule(config: &TrainConfig, epochs: Epochs) -> Schedule {
    let total = epochs.total_steps(config);
    let shift = match (config.schedule, config.duration()) {
        (ScheduleKind::Cosine, Duration::Steps(_)) => 0,
        _ => epochs.shift,
    };
    Schedule {
        kind: config.schedule,
        base_lr: config.lr,
        warmup: config.warmup,
        total_steps: total.saturating_add_signed(shift),
        steps_per_epoch: epochs.per_epoch,
        epochs: epochs.position(total).div_ceil(epochs.per_epoch),
        shift,
    }
}

/// Steps of one training, which a backend computes.
pub struct Trainer<B: Backend + ?Sized = dyn Backend> {
    config: TrainConfig,
    schedule: Schedule,
    /// Steps taken, including skipped ones.
    step: u64,
    pub(super) backend: Box<B>,
}

impl Trainer<Cpu> {
    /// Trains a new model with the configuration's seed on the CPU.
    pub fn on_cpu(config: &TrainConfig, source: Source) -> Result<Self> {
        Self::new(config, Cpu::new(config, source)?)
    }
}

impl Trainer<Gpu> {
    /// Trains a new model with the configuration's seed on a GPU.
    pub fn on_gpu(config: &TrainConfig, source: Source, cuda: &Cuda) -> Result<Self> {
        Self::new(config, Gpu::new(config, source, cuda)?)
    }
}

impl<B: Backend + 'static> Trainer<B> {
    /// A trainer before its first step.
    pub fn new(config: &TrainConfig, backend: B) -> Result<Self> {
        let schedule = schedule(config, Epochs::new(config));
        schedule.validate()?;
        Ok(Self { config: config.clone(), schedule, step: 0, backend: Box::new(backend) })
    }

    /// The same trainer with its backend as a trait object.
    pub fn boxed(self) -> Trainer {
        Trainer { config: self.config, schedule: self.schedule, step: self.step, backend: self.backend }
    }
}

impl<B: Backend + ?Sized> Trainer<B> {
    /// Steps taken, including skipped ones.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// The count of epochs so far.
    pub(super) fn epochs(&mut self) -> Epochs {
        self.backend.snapshot().epochs
    }

    /// Runs a step: the gradients of several batches and of all ranks are averaged. If they contain an infinity or NaN,
    /// the parameters and the running statistics do not change; many such steps in a row are an error. Returns the
    /// figures that are available now.
    pub fn step(&mut self, next: &mut NextBatch) -> Result<Vec<StepFigures>> {
        self.feed(next)?;
        self.compute()
    }

    pub(super) fn feed(&mut self, next: &mut NextBatch) -> Result<()> {
        self.backend.feed(self.step, self.schedule.rate(self.step), next)
    }

    pub(super) fn compute(&mut self) -> Result<Vec<StepFigures>> {
        self.backend.compute()?;
        self.step += 1;
        self.backend.figures()
    }

    /// Waits for all steps; returns the remaining figures.
    pub fn settle(&mut self) -> Result<Vec<StepFigures>> {
        self.backend.settle()
    }

    /// Runs `body` on the model for evaluation: with the moving average of the weights if there is one.
    pub fn with_final_weights(&mut self, body: &mut dyn FnMut(&dyn Predict) -> Result<()>) -> Result<()> {
        self.backend.with_final_weights(body)
    }

    /// Shares every step with other ranks from now on, as [`Backend::share`] does.
    pub fn share(&mut self, ranks: Arc<Ranks>, comm: Comm) -> Result<Option<String>> {
        self.backend.share(ranks, comm)
    }

    /// The contents of a checkpoint after the last step; waits for that step.
    pub fn snapshot(&mut self) -> Result<&Snapshot> {
        self.backend.read_back()?;
        Ok(self.backend.snapshot())
    }

    /// Writes a checkpoint into the run folder `run`; keeps the newest `keep_last`.
    pub fn save(&mut self, run: &Path, seconds: f64, keep_last: Option<usize>) -> Result<PathBuf> {
        self.snapshot()?.save(run, seconds, keep_last)
    }

    /// Takes the weights that fit from a checkpoint or a file of weights, before the first step.
    pub fn initialise(&mut self, from: &Checkpoint) -> Result<Adopted> {
        let adopted = self.backend.snapshot().initialise(from)?;
        self.backend.load()?;
        Ok(adopted)
    }

    /// Restores the state of a checkpoint.
    pub fn restore(&mut self, checkpoint: &Checkpoint) -> Result<TrainState> {
        let state = self.backend.snapshot().restore(checkpoint)?;
        self.backend.load()?;
        self.step = state.step;
        let epochs = self.epochs();
        self.schedule = schedule(&self.config, epochs);
        Ok(state)
    }
}
