//! The contents of a training's checkpoint.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use ssmv_autograd::{
    DType,
    optim::{AdamW, AdamWOptions},
};

use super::{epochs::Epochs, loss_scale::LossScale};
use crate::{
    Error, Result,
    checkpoint::{self, CHECKPOINTS_FOLDER, Checkpoint, Contents},
    config::TrainConfig,
    model::{
        Predictor,
        adopt::{Adopted, Weights, adopt},
        state::{export, export_arena, import, import_arena, sized},
    },
};

/// Counters and loss scale: `state.json` of a checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainState {
    /// Steps taken, including skipped ones: determines the next data.
    pub step: u64,
    /// Number of steps that changed the parameters.
    pub updates: u64,
    /// Seconds of training so far, without evaluations.
    pub seconds: f64,
    /// Factor of the loss; 1 in f32.
    pub loss_scale: LossScale,
    /// Position in the epochs; missing in checkpoints of older versions.
    #[serde(default)]
    pub place: Option<Place>,
}

/// The position of a training in its epochs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Optimiser steps from the start, counted with this number of steps per epoch.
    pub position: u64,
    /// Optimiser steps per epoch.
    pub steps_per_epoch: u64,
}

impl Place {
    /// The count of epochs that is at this position after `step` steps.
    pub(super) fn epochs(self, step: u64) -> Epochs {
        let shift = i64::try_from(i128::from(self.position) - i128::from(step)).unwrap_or(0);
        Epochs { per_epoch: self.steps_per_epoch, shift }
    }
}

/// Prefixes of the names in `optimizer.safetensors`.
const FIRST: &str = "m.";
const SECOND: &str = "v.";
/// The moving average of the weights.
pub(crate) const EMA: &str = "ema.";

/// A model with all state that its training carries from step to step. The CPU trains it in place; a GPU copies its
/// state here before a checkpoint.
pub struct Snapshot {
    /// Parameters and running statistics.
    pub model: Predictor,
    /// AdamW with its moments; its count of updates excludes skipped steps.
    pub optimiser: AdamW<f32>,
    /// Moving average of the weights in the arena's layout, if the configuration enables it.
    pub ema: Option<Vec<f32>>,
    /// The loss scale; off in f32.
    pub loss_scale: LossScale,
    /// Steps taken, skipped ones included.
    pub step: u64,
    /// The count of epochs so far.
    pub epochs: Epochs,
}

impl Snapshot {
    /// The state before the first step of a model with the configuration's seed.
    pub fn new(config: &TrainConfig) -> Result<Self> {
        Self::of(config, Predictor::new(&config.model()?, config.seed, DType::F32)?)
    }

    /// The state before the first step of `model`.
    pub fn of(config: &TrainConfig, model: Predictor) -> Result<Self> {
        let layout = model.arena.layout();
        let decaying = model.parameters.iter().zip(layout.ranges());
        let decaying = decaying.filter(|(p, _)| p.role.decays()).map(|(_, r)| r.clone()).collect();
        let options = AdamWOptions { weight_decay: config.weight_decay, ..AdamWOptions::default() };
        Ok(Self {
            optimiser: AdamW::new(options, layout.len(), decaying),
            ema: config.ema.map(|_| model.arena.values::<f32>().map(<[f32]>::to_vec)).transpose()?,
            loss_scale: LossScale::off(),
            step: 0,
            epochs: Epochs::new(config),
            model,
        })
    }

    /// Writes a checkpoint into the run folder `run`; keeps the newest `keep_last`.
    pub fn save(&self, run: &Path, seconds: f64, keep_last: Option<usize>) -> Result<PathBuf> {
        let (parameters, layout) = (&self.model.parameters, self.model.arena.layout());
        let mut optimizer = export_arena(parameters, layout, FIRST, &self.optimiser.m)?;
        optimizer.extend(export_arena(parameters, layout, SECOND, &self.optimiser.v)?);
        if let Some(ema) = &self.ema {
            optimizer.extend(export_arena(parameters, layout, EMA, ema)?);
        }
        let contents = Contents { preset: self.model.preset.name, model: export(&self.model)?, optimizer };
        let (step, updates, loss_scale) = (self.step, self.optimiser.updates, self.loss_scale.clone());
        let place =
            Some(Place { position: self.epochs.position(step), steps_per_epoch: self.epochs.per_epoch });
        let state = TrainState { step, updates, seconds, loss_scale, place };
        checkpoint::write(&run.join(CHECKPOINTS_FOLDER), step, &contents, &state, keep_last)
    }

    /// Takes the weights that fit from a checkpoint or a file of weights (the moving average, if it has one), before the
    /// first step.
    ///
    /// # Errors
    /// As [`adopt`].
    pub fn initialise(&mut self, from: &Checkpoint) -> Result<Adopted> {
        let model = from.model();
        let average = match from.step() {
            Some(_) => Some(from.optimizer()?).filter(|file| file.names().any(|name| name.starts_with(EMA))),
            None => None,
        };
        let weights = match average {
            Some(parameters) => Weights { model, parameters, prefix: EMA },
            None => Weights { model, parameters: model, prefix: "" },
        };
        let adopted = adopt(&mut self.model, weights)?;
        if let Some(ema) = &mut self.ema {
            ema.copy_from_slice(self.model.arena.values::<f32>()?);
        }
        Ok(adopted)
    }

    /// Restores all contents of a checkpoint.
    pub fn restore(&mut self, checkpoint: &Checkpoint) -> Result<TrainState> {
        let model = &self.model.preset;
        match checkpoint.preset() {
            Some(preset) if preset != model.name => {
                let message = format!("is a checkpoint of preset {preset}, and --preset is {}", model.name);
                return Err(Error::file(checkpoint.path(), message));
            }
            _ => {}
        }
        let saved = sized(model, checkpoint.model());
        for (option, saved, now) in
            [("size", saved.size, model.size), ("frames-out", saved.frames_out, model.frames_out)]
        {
            if saved != now {
                let message = format!(
                    "is a checkpoint of --{option} {saved}, and --{option} is {now}; --init starts a new training from it"
                );
                return Err(Error::file(checkpoint.path(), message));
            }
        }
        let state: TrainState = checkpoint.state()?;
        state.loss_scale.validate()?;
        import(&mut self.model, checkpoint.model())?;
        let optimizer = checkpoint.optimizer()?;
        let (parameters, layout) = (&self.model.parameters, self.model.arena.layout());
        self.optimiser.m = import_arena(parameters, layout, FIRST, optimizer)?;
        self.optimiser.v = import_arena(parameters, layout, SECOND, optimizer)?;
        if let Some(ema) = &mut self.ema {
            // A moving average that is enabled only now starts from the current weights.
            *ema = match optimizer.names().any(|name| name.starts_with(EMA)) {
                true => import_arena(parameters, layout, EMA, optimizer)?,
                false => self.model.arena.values::<f32>()?.to_vec(),
            };
        }
        (self.step, self.optimiser.updates) = (state.step, state.updates);
        self.loss_scale = state.loss_scale.clone();
        if let Some(place) = state.place {
            self.epochs.resume(state.step, place.epochs(state.step));
        }
        Ok(state)
    }
}
