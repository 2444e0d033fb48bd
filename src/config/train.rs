//! The resolved configuration: every value present and within its limits.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Comm, Device, Layout, Loss, Precision, Rule, ScheduleKind, TrainOptions, resolve};
use crate::data::{DataSource, DataSpec};
use crate::{Error, Result};

/// Frames that the model predicts at once.
pub const FRAMES_OUT: usize = crate::model::NEXT_FRAMES;

/// What a training run does. Made by [`resolve`](super::resolve()); as TOML ([`TrainConfig::to_toml`]) it can
/// be given back as a configuration file and resolves to itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TrainConfig {
    /// The model's name: one of [`presets::names`](super::presets::names).
    pub preset: String,
    /// Where the tensors live.
    pub device: Device,
    /// What activations and matrix products are computed in.
    #[serde(default)]
    pub precision: Precision,
    /// Launches a device's kernels one by one instead of capturing a step.
    #[serde(default)]
    pub no_graph: bool,
    /// Ends at the first operator whose output is not finite.
    #[serde(default)]
    pub check_finite: bool,
    /// CPU threads; `None`: one a core.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
    /// Seed of weights and data.
    pub seed: u64,
    /// The run folder; `None`: [`default_run_folder`](super::default_run_folder), named when training starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out: Option<PathBuf>,

    /// `digits`, a folder of MNIST's IDX files, or an .npy file.
    pub data: String,
    /// Order of the axes in an .npy file.
    pub layout: Layout,
    /// How the digits move.
    pub rule: Rule,
    /// Digits in a sequence.
    pub digits: usize,
    /// Side of a frame in pixels: the preset's.
    pub canvas: usize,
    /// Side of a digit in pixels, at most the canvas.
    pub digit_size: usize,
    /// Frames that the model sees; it predicts the next [`FRAMES_OUT`].
    pub frames_in: usize,
    /// Sequences in an epoch, at least those of one optimiser step.
    pub sequences: usize,

    /// Length in epochs; exactly one of this and `steps` is there (see [`TrainConfig::duration`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epochs: Option<u64>,
    /// Length in optimiser steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// Sequences in a batch.
    pub batch_size: usize,
    /// Batches in an optimiser step.
    pub accumulate: usize,
    /// The highest learning rate.
    pub lr: f64,
    /// Steps in which the learning rate rises from zero.
    pub warmup: u64,
    /// How the learning rate falls after that.
    pub schedule: ScheduleKind,
    /// AdamW's weight decay.
    pub weight_decay: f64,
    /// What training makes small.
    pub loss: Loss,
    /// Norm to which longer gradients are scaled; `None`: off.
    #[serde(with = "zero_is_off")]
    pub clip_norm: Option<f64>,
    /// Decay of the running mean of the weights; `None`: no such mean.
    #[serde(with = "zero_is_off")]
    pub ema: Option<f64>,

    /// Epochs between checkpoints; `None`: none before the end.
    #[serde(with = "zero_is_off")]
    pub save_every: Option<u64>,
    /// Optimiser steps between checkpoints; `None`: off.
    #[serde(with = "zero_is_off")]
    pub save_every_steps: Option<u64>,
    /// Checkpoints to keep, the newest; `None`: all.
    #[serde(with = "zero_is_off")]
    pub keep_last: Option<u64>,
    /// Epochs between evaluations; `None`: only at the end.
    #[serde(with = "zero_is_off")]
    pub eval_every: Option<u64>,
    /// Test sequences in an evaluation.
    pub eval_sequences: usize,

    /// 1: each rank updates a share of the parameters.
    #[serde(default)]
    pub zero: u8,
    /// Normalises by the statistics of all ranks' batches.
    #[serde(default)]
    pub sync_batchnorm: bool,
    /// Gradients that are reduced together, in MiB.
    pub bucket_mib: usize,
    /// Steps between two comparisons of all ranks' parameters; `None`: off.
    #[serde(with = "zero_is_off")]
    pub check_ranks_every: Option<u64>,
    /// How gradients on GPUs are added up.
    #[serde(default)]
    pub comm: Comm,
    /// Seconds without a byte after which a rank gives up.
    pub comm_timeout: f64,
    /// How many ranks train together; each takes batches of its own.
    pub ranks: usize,
}

/// How long a training is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duration {
    /// In epochs.
    Epochs(u64),
    /// In optimiser steps.
    Steps(u64),
}

impl TrainConfig {
    /// The defaults of a preset. An unknown name is an [`Error::Usage`] that lists the known ones.
    pub fn preset(name: &str) -> Result<Self> {
        resolve(&TrainOptions { preset: Some(name.to_owned()), ..TrainOptions::default() }, None)
    }

    /// The configuration as TOML, one option a line.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|e| Error::Failure(format!("the configuration does not fit TOML: {e}")))
    }

    /// What [`Dataset::open`](crate::data::Dataset::open) takes for this training's data: sequences of `frames_in` +
    /// [`FRAMES_OUT`] frames.
    ///
    /// # Errors
    /// As [`DataSource::from_name`].
    pub fn data_spec(&self) -> Result<DataSpec> {
        Ok(DataSpec {
            source: DataSource::from_name(&self.data, self.layout)?,
            rule: self.rule,
            digits: self.digits,
            canvas: self.canvas,
            digit_size: self.digit_size,
            frames: self.frames_in + FRAMES_OUT,
            seed: self.seed,
            sequences: self.sequences as u64,
        })
    }

    /// How long the training is.
    pub fn duration(&self) -> Duration {
        match (self.steps, self.epochs) {
            (Some(steps), _) => Duration::Steps(steps),
            (None, epochs) => Duration::Epochs(epochs.unwrap_or(1)),
        }
    }

    /// Sequences that an optimiser step takes, those of all ranks.
    pub fn sequences_per_step(&self) -> u64 {
        (self.batch_size as u64).saturating_mul(self.accumulate as u64).saturating_mul(self.ranks as u64)
    }

    /// Optimiser steps in an epoch: a remainder too small for a step is left out. At least 1.
    pub fn steps_per_epoch(&self) -> u64 {
        (self.sequences as u64 / self.sequences_per_step()).max(1)
    }

    /// Optimiser steps in the whole training.
    pub fn total_steps(&self) -> u64 {
        match self.duration() {
            Duration::Steps(steps) => steps,
            Duration::Epochs(epochs) => epochs.saturating_mul(self.steps_per_epoch()),
        }
    }
}

/// `None` is written as 0, so that a file can also turn off what a lower layer turns on.
mod zero_is_off {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<T, S>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error>
    where
        T: Copy + Default + Serialize,
        S: Serializer,
    {
        value.unwrap_or_default().serialize(serializer)
    }

    pub fn deserialize<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
    where
        T: Default + PartialEq + Deserialize<'de>,
        D: Deserializer<'de>,
    {
        Ok(Some(T::deserialize(deserializer)?).filter(|value| *value != T::default()))
    }
}
