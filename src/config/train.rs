//! Quantities derived from the resolved configuration of a training.

use std::path::Path;

use super::{TrainConfig, TrainOptions, resolve};
use crate::clips::ClipOptions;
use crate::data::{DataSource, DataSpec};
use crate::model::Preset;
use crate::{Error, Result};

/// Length of a training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duration {
    /// Length as a number of epochs.
    Epochs(u64),
    /// Number of optimiser steps.
    Steps(u64),
}

impl TrainConfig {
    /// The defaults of a preset. An unknown name is an [`Error::Usage`] that lists the known ones.
    pub fn preset(name: &str) -> Result<Self> {
        resolve(&TrainOptions { preset: Some(name.to_owned()), ..TrainOptions::default() }, None)
    }

    /// The defaults of a model: those of its preset, for frames of its side and its number of predicted frames.
    ///
    /// # Errors
    /// A preset with other sizes than a training can have.
    pub fn of(model: &Preset) -> Result<Self> {
        let options = TrainOptions {
            preset: Some(model.name.to_owned()),
            size: Some(model.size as i64),
            frames_out: Some(model.frames_out as i64),
            ..TrainOptions::default()
        };
        resolve(&options, None)
    }

    /// The model that this configuration trains.
    ///
    /// # Errors
    /// [`Error::Usage`] for an unknown preset, and sizes that it cannot have.
    pub fn model(&self) -> Result<Preset> {
        Preset::find(&self.preset)
            .ok_or_else(|| Error::Usage(format!("--preset: unknown preset `{}`", self.preset)))?
            .with(self.size, self.frames_out)
    }

    /// The configuration as TOML, one option a line.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|e| Error::Failure(format!("the configuration does not fit TOML: {e}")))
    }

    /// The training's data, for [`Dataset::open`](crate::data::Dataset::open): sequences of `frames_in` + `frames_out`
    /// frames.
    ///
    /// # Errors
    /// As [`DataSource::from_name`].
    pub fn data_spec(&self) -> Result<DataSpec> {
        Ok(DataSpec {
            source: DataSource::from_name(&self.data_name(), self.clip_options())?,
            rule: self.rule,
            digits: self.digits,
            canvas: self.size,
            digit_size: self.digit_size,
            frames: self.frames_in + self.frames_out,
            stride: self.stride,
            seed: self.seed,
            sequences: self.sequences as u64,
            cache: None,
        })
    }

    /// The data, where it is now: a relative path that does not exist here is taken from the folder in which the training was
    /// started.
    pub fn data_name(&self) -> String {
        let there = self.started_in.as_ref().map(|folder| folder.join(&self.data));
        match there.filter(|there| self.data != "digits" && !Path::new(&self.data).exists() && there.exists())
        {
            Some(there) => there.to_string_lossy().into_owned(),
            None => self.data.clone(),
        }
    }

    /// How clips are read.
    pub fn clip_options(&self) -> ClipOptions {
        ClipOptions { layout: self.layout, range: self.range, resize: self.resize, fps: self.fps }
    }

    /// Length of the training.
    pub fn duration(&self) -> Duration {
        match (self.steps, self.epochs) {
            (Some(steps), _) => Duration::Steps(steps),
            (None, epochs) => Duration::Epochs(epochs.unwrap_or(1)),
        }
    }

    /// Sequences in an optimiser step, summed over all ranks.
    pub fn sequences_per_step(&self) -> u64 {
        (self.batch_size as u64).saturating_mul(self.accumulate as u64).saturating_mul(self.ranks as u64)
    }

    /// Optimiser steps in an epoch, at least 1. Sequences that do not fill a last step are left out.
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
