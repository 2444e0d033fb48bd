//! What a training run asks of whatever computes its steps.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{StepFigures, TrainState, Trainer, loss_scale::LossScale, ranks::Ranks};
use crate::{
    Result,
    checkpoint::Checkpoint,
    config::{Comm, FRAMES_OUT},
    data::Batch,
    model::{
        Predict,
        frames::{FrameShape, to_tensor},
    },
};

/// Hands the next batch to a reader.
pub(super) type NextBatch<'a> = dyn FnMut(&mut dyn FnMut(&Batch) -> Result<()>) -> Result<()> + 'a;

/// What batches look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Source {
    /// Sequences in a batch.
    pub batch: usize,
    /// Batches in an optimiser step.
    pub accumulate: usize,
    /// Frames that the model sees; the [`FRAMES_OUT`] after them are the target.
    pub seen: usize,
    /// Frames of a sequence.
    pub steps: usize,
    /// Height and width of a frame.
    pub side: usize,
    /// Bytes a pixel: 1 (grey) or 3.
    pub channels: usize,
}

impl Source {
    /// Bytes of a frame.
    pub fn frame_bytes(&self) -> usize {
        self.side * self.side * self.channels
    }

    /// Bytes of a batch.
    pub fn batch_bytes(&self) -> usize {
        self.batch * self.steps * self.frame_bytes()
    }
}

/// Optimiser steps, evaluations and checkpoints of one training, on the CPU or on a device.
pub(super) trait Engine {
    /// Steps taken, skipped ones included.
    fn steps(&self) -> u64;

    /// Takes a step. Gives the figures that became known by it: on a device those of an earlier step, for nothing waits for
    /// the one in hand.
    fn step(&mut self, next: &mut NextBatch) -> Result<Vec<StepFigures>>;

    /// Waits for all steps; the figures that were not given yet.
    fn settle(&mut self) -> Result<Vec<StepFigures>>;

    /// Runs `body` on the model as it would be used: with the running mean of the weights where there is one.
    fn with_final_weights(&mut self, body: &mut dyn FnMut(&dyn Predict) -> Result<()>) -> Result<()>;

    /// Shares every step with other ranks from now on, on GPUs by what `comm` says. A line on how, where there is something
    /// to say.
    ///
    /// # Errors
    /// What this engine cannot share.
    fn share(&mut self, ranks: Arc<Ranks>, comm: Comm) -> Result<Option<String>>;

    /// Gives all ranks rank 0's running statistics, and with `moments` rank 0 all that a checkpoint keeps. Every rank must
    /// come here.
    fn gather_state(&mut self, moments: bool) -> Result<()>;

    /// What went wrong on this rank and did not end the training, since the last call.
    fn take_warnings(&mut self) -> Vec<String> {
        Vec::new()
    }

    /// Ends what is shared with other ranks, in good order: every rank must come here, and takes no further step.
    ///
    /// # Errors
    /// A rank or a device that failed.
    fn close(&mut self) -> Result<()> {
        Ok(())
    }

    /// Ends what waits for other ranks, in no order: this rank has failed, or another.
    fn abort(&mut self) {}

    /// Whether what this engine has queued waits for other ranks: then nothing of it is known once one of them is gone.
    fn waits_for_ranks(&self) -> bool {
        false
    }

    /// Writes a checkpoint into the run folder; keeps the newest `keep_last`.
    fn save(&mut self, run: &Path, seconds: f64, keep_last: Option<usize>) -> Result<PathBuf>;

    /// Takes over all that a checkpoint holds.
    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<TrainState>;

    /// All that a checkpoint would keep, as it stands after the last step; waits for it.
    fn host(&mut self) -> Result<&Trainer>;

    /// What waits of memory goes back to where it came from.
    fn trim(&mut self) -> Result<()>;
}

/// The CPU.
pub(super) struct Host {
    trainer: Trainer,
    source: Source,
}

impl Host {
    /// Trains as `trainer` does.
    pub fn new(trainer: Trainer, source: Source) -> Self {
        Self { trainer, source }
    }
}

impl Engine for Host {
    fn steps(&self) -> u64 {
        self.trainer.step
    }

    fn step(&mut self, next: &mut NextBatch) -> Result<Vec<StepFigures>> {
        let Source { steps, side, channels, seen, accumulate, .. } = self.source;
        let figures = self.trainer.step(accumulate, || {
            let mut pair = None;
            next(&mut |batch| {
                let shape = FrameShape { batch: batch.batch, steps, side, channels };
                let input = to_tensor(&batch.frames, shape, 0..seen)?;
                pair = Some((input, to_tensor(&batch.frames, shape, seen..seen + FRAMES_OUT)?));
                Ok(())
            })?;
            pair.ok_or_else(|| crate::Error::Failure("there was no batch".into()))
        })?;
        Ok(vec![figures])
    }

    fn settle(&mut self) -> Result<Vec<StepFigures>> {
        Ok(Vec::new())
    }

    fn with_final_weights(&mut self, body: &mut dyn FnMut(&dyn Predict) -> Result<()>) -> Result<()> {
        self.trainer.with_final_weights(|model| body(model))
    }

    fn share(&mut self, ranks: Arc<Ranks>, _comm: Comm) -> Result<Option<String>> {
        self.trainer.share(ranks);
        Ok(None)
    }

    fn gather_state(&mut self, moments: bool) -> Result<()> {
        self.trainer.gather_state(moments)
    }

    fn save(&mut self, run: &Path, seconds: f64, keep_last: Option<usize>) -> Result<PathBuf> {
        self.trainer.save(run, seconds, keep_last)
    }

    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<TrainState> {
        let state = self.trainer.restore(checkpoint)?;
        // A scale that f16 needed would only cost f32 its range.
        if state.loss_scale.is_on() {
            self.trainer.loss_scale = LossScale::off();
        }
        Ok(state)
    }

    fn host(&mut self) -> Result<&Trainer> {
        Ok(&self.trainer)
    }

    fn trim(&mut self) -> Result<()> {
        ssmv_autograd::trim();
        Ok(())
    }
}
