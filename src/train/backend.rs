//! The interface between a trainer and the processor or GPU that computes its steps.

use std::sync::Arc;

use ssmv_autograd::Tensor;

use super::{StepFigures, ranks::Ranks, snapshot::Snapshot};
use crate::{
    Result,
    config::{Comm, FRAMES_OUT, Loss, TrainConfig},
    data::Batch,
    model::Predict,
};

/// Lends the next batch to a reader.
pub type NextBatch<'a> = dyn FnMut(&mut dyn FnMut(&Batch) -> Result<()>) -> Result<()> + 'a;

/// The shape of a training's batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// Sequences in a batch.
    pub batch: usize,
    /// Batches in an optimiser step.
    pub accumulate: usize,
    /// Frames that the model sees; the [`FRAMES_OUT`] after them are the target.
    pub seen: usize,
    /// Frames of a sequence.
    pub steps: usize,
    /// Height and width of a frame, in pixels.
    pub side: usize,
    /// Bytes a pixel: 1 (grey) or 3.
    pub channels: usize,
}

impl Source {
    /// Batches of made digits, which are grey, as a configuration trains on them.
    pub fn made_digits(config: &TrainConfig) -> Self {
        Self {
            batch: config.batch_size,
            accumulate: config.accumulate,
            seen: config.frames_in,
            steps: config.frames_in + FRAMES_OUT,
            side: config.canvas,
            channels: 1,
        }
    }

    /// Bytes of a frame.
    pub fn frame_bytes(&self) -> usize {
        self.side * self.side * self.channels
    }

    /// Bytes of a batch.
    pub fn batch_bytes(&self) -> usize {
        self.batch * self.steps * self.frame_bytes()
    }
}

/// A processor or GPU that computes the steps of one training. The parts of a step are in their order.
pub trait Backend {
    /// Reads the batches of the step that follows `step` steps, and puts them and its learning rate where the step reads
    /// them. After an error the step has not begun.
    fn feed(&mut self, step: u64, lr: f64, next: &mut NextBatch) -> Result<()>;

    /// Forward and backward passes of all batches. Gradients go to other ranks bucket by bucket, as soon as they are
    /// complete.
    fn pass(&mut self) -> Result<()>;

    /// Waits for the gradients and losses of all ranks.
    fn reduce(&mut self) -> Result<()>;

    /// Norm, clipping, AdamW, loss scale, running statistics, mean of the weights; with `--zero 1` of this rank's share,
    /// which it then exchanges with the other ranks.
    fn update(&mut self) -> Result<()>;

    /// The three together.
    fn run(&mut self) -> Result<()> {
        self.pass()?;
        self.reduce()?;
        self.update()
    }

    /// [`run`](Self::run), or the graph that was captured of it; then compares the ranks when that is due.
    fn compute(&mut self) -> Result<()>;

    /// The figures that became known since the last call. A GPU gives those of the step before, for the host does not wait
    /// for the current one.
    fn figures(&mut self) -> Result<Vec<StepFigures>>;

    /// Waits for all steps; the figures that were not given yet.
    fn settle(&mut self) -> Result<Vec<StepFigures>>;

    /// All that a checkpoint keeps. On a GPU a copy, as of the last [`read_back`](Self::read_back).
    fn snapshot(&mut self) -> &mut Snapshot;

    /// Brings the snapshot up to date; waits for all steps.
    fn read_back(&mut self) -> Result<()>;

    /// Goes on from the snapshot, after it was changed.
    fn load(&mut self) -> Result<()>;

    /// Runs `body` on the model as it is evaluated: with the running mean of the weights where there is one.
    fn with_final_weights(&mut self, body: &mut dyn FnMut(&dyn Predict) -> Result<()>) -> Result<()>;

    /// Shares every step with other ranks from now on; GPUs by the transport that `comm` names. A line that names the
    /// transport, where there is a choice.
    ///
    /// # Errors
    /// Options that this backend does not support, and ranks that fail.
    fn share(&mut self, ranks: Arc<Ranks>, comm: Comm) -> Result<Option<String>>;

    /// Gives all ranks rank 0's running statistics, and with `moments` rank 0 all that a checkpoint keeps. Every rank must
    /// call this.
    fn gather_state(&mut self, moments: bool) -> Result<()>;

    /// Problems of this rank that did not end the training, since the last call.
    fn take_warnings(&mut self) -> Vec<String> {
        Vec::new()
    }

    /// Disconnects from the other ranks in good order: every rank must call this, and takes no further step.
    ///
    /// # Errors
    /// A rank or a device that failed.
    fn close(&mut self) -> Result<()> {
        Ok(())
    }

    /// Disconnects at once: this rank has failed, or another.
    fn abort(&mut self) {}

    /// True if queued work depends on other ranks.
    fn waits_for_ranks(&self) -> bool {
        false
    }

    /// Frees cached memory.
    fn trim(&mut self) -> Result<()>;
}

/// The loss of predicted frames, a scalar.
pub(super) fn loss(kind: Loss, y: &Tensor, target: &Tensor) -> Result<Tensor> {
    Ok(match kind {
        Loss::L1 => y.l1_loss(target)?,
        Loss::Mse => y.mse_loss(target)?,
        Loss::L1Mse => y.l1_loss(target)?.add(&y.mse_loss(target)?)?,
    })
}
