//! The interface between a trainer and the processor or GPU that computes its steps.

use std::sync::Arc;

use ssmv_autograd::Tensor;

use super::{StepFigures, ranks::Ranks, snapshot::Snapshot};
use crate::{
    Result,
    config::{Comm, Loss, TrainConfig},
    data::Batch,
    model::Predict,
};

/// Passes the next batch to a reader.
pub type NextBatch<'a> = dyn FnMut(&mut dyn FnMut(&Batch) -> Result<()>) -> Result<()> + 'a;

/// The shape of a training's batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// Number of sequences per batch.
    pub batch: usize,
    /// Number of batches per optimiser step.
    pub accumulate: usize,
    /// Input frames of the model; the other frames, after them, are the target.
    pub seen: usize,
    /// Number of frames per sequence.
    pub steps: usize,
    /// Height and width of a frame, in pixels.
    pub side: usize,
    /// Bytes per pixel: 1 (grey) or 3.
    pub channels: usize,
}

impl Source {
    /// Batches of generated digits, which are grey, as a configuration trains on them.
    pub fn made_digits(config: &TrainConfig) -> Self {
        Self {
            batch: config.batch_size,
            accumulate: config.accumulate,
            seen: config.frames_in,
            steps: config.frames_in + config.frames_out,
            side: config.size,
            channels: 1,
        }
    }

    /// Number of frames that the model predicts: the target's.
    pub fn predicted(&self) -> usize {
        self.steps - self.seen
    }

    /// Size of a frame in bytes.
    pub fn frame_bytes(&self) -> usize {
        self.side * self.side * self.channels
    }

    /// Size of a batch in bytes.
    pub fn batch_bytes(&self) -> usize {
        self.batch * self.steps * self.frame_bytes()
    }
}

/// A processor or GPU that computes the steps of one training. The parts of a step are called in their order here.
pub trait Backend {
    /// Reads the batches of the step after `step` steps, and stores them and its learning rate for the step. If it
    /// fails, the step has not begun.
    fn feed(&mut self, step: u64, lr: f64, next: &mut NextBatch) -> Result<()>;

    /// Forward and backward passes of all batches. Gradients are sent to other ranks bucket by bucket, as soon as they
    /// are complete.
    fn pass(&mut self) -> Result<()>;

    /// Waits for the gradients and losses of all ranks.
    fn reduce(&mut self) -> Result<()>;

    /// Norm, clipping, AdamW, loss scale, running statistics, and the moving average of the weights; with `--zero 1`
    /// only of this rank's share, which it then exchanges with the other ranks.
    fn update(&mut self) -> Result<()>;

    /// Runs the three parts.
    fn run(&mut self) -> Result<()> {
        self.pass()?;
        self.reduce()?;
        self.update()
    }

    /// As [`run`](Self::run), or replays its captured graph; then compares the ranks if that is due.
    fn compute(&mut self) -> Result<()>;

    /// The figures that are new since the last call. A GPU returns those of the step before, because the host does not
    /// wait for the current one.
    fn figures(&mut self) -> Result<Vec<StepFigures>>;

    /// Waits for all steps; returns the remaining figures.
    fn settle(&mut self) -> Result<Vec<StepFigures>>;

    /// The contents of a checkpoint. On a GPU a copy, as of the last [`read_back`](Self::read_back).
    fn snapshot(&mut self) -> &mut Snapshot;

    /// Updates the snapshot; waits for all steps.
    fn read_back(&mut self) -> Result<()>;

    /// Continues from the snapshot, after it was changed.
    fn load(&mut self) -> Result<()>;

    /// Runs `body` on the model for evaluation: with the moving average of the weights if there is one.
    fn with_final_weights(&mut self, body: &mut dyn FnMut(&dyn Predict) -> Result<()>) -> Result<()>;

    /// Shares every step with other ranks from now on; GPUs use the transport that `comm` names. Returns a line that
    /// names the transport, if there is a choice.
    ///
    /// # Errors
    /// Options that this backend does not support, and ranks that fail.
    fn share(&mut self, ranks: Arc<Ranks>, comm: Comm) -> Result<Option<String>>;

    /// Copies rank 0's running statistics to all ranks; with `moments`, also collects the contents of a checkpoint on
    /// rank 0. Every rank must call this.
    fn gather_state(&mut self, moments: bool) -> Result<()>;

    /// Problems of this rank that did not end the training, since the last call.
    fn take_warnings(&mut self) -> Vec<String> {
        Vec::new()
    }

    /// Disconnects from the other ranks. Every rank must call this, and runs no further step.
    ///
    /// # Errors
    /// A rank or a device that failed.
    fn close(&mut self) -> Result<()> {
        Ok(())
    }

    /// Disconnects at once, after a failure of this rank or another.
    fn abort(&mut self) {}

    /// True if queued work depends on other ranks.
    fn waits_for_ranks(&self) -> bool {
        false
    }

    /// Frees the cached memory of the backend.
    fn trim(&mut self) -> Result<()>;
}

/// The loss of predicted frames, as a scalar.
pub(super) fn loss(kind: Loss, y: &Tensor, target: &Tensor) -> Result<Tensor> {
    Ok(match kind {
        Loss::L1 => y.l1_loss(target)?,
        Loss::Mse => y.mse_loss(target)?,
        Loss::L1Mse => y.l1_loss(target)?.add(&y.mse_loss(target)?)?,
    })
}
