//! What a checkpoint keeps of a training besides the weights.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Trainer, loss_scale::LossScale};
use crate::{
    Error, Result,
    checkpoint::{self, CHECKPOINTS_FOLDER, Checkpoint, Contents},
    model::state::{export, export_arena, import, import_arena},
};

/// The counters and the loss scale; `state.json` of a checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainState {
    /// Steps taken, skipped ones included: also says which data comes next.
    pub step: u64,
    /// Steps that changed the parameters.
    pub updates: u64,
    /// Seconds of training so far, evaluations left out.
    pub seconds: f64,
    /// The loss scale.
    pub loss_scale: LossScale,
}

/// Prefixes of the names in `optimizer.safetensors`.
const FIRST: &str = "m.";
const SECOND: &str = "v.";
/// The running mean of the weights.
pub(crate) const EMA: &str = "ema.";

impl Trainer {
    /// Writes a checkpoint into the run folder `run`; keeps the newest `keep_last`.
    pub fn save(&self, run: &Path, seconds: f64, keep_last: Option<usize>) -> Result<PathBuf> {
        let (parameters, layout) = (&self.model.parameters, self.model.arena.layout());
        let mut optimizer = export_arena(parameters, layout, FIRST, &self.moments.m)?;
        optimizer.extend(export_arena(parameters, layout, SECOND, &self.moments.v)?);
        if let Some(ema) = &self.ema {
            optimizer.extend(export_arena(parameters, layout, EMA, ema)?);
        }
        let contents = Contents { preset: self.model.preset.name, model: export(&self.model)?, optimizer };
        let (step, updates, loss_scale) = (self.step, self.updates, self.loss_scale.clone());
        let state = TrainState { step, updates, seconds, loss_scale };
        checkpoint::write(&run.join(CHECKPOINTS_FOLDER), step, &contents, &state, keep_last)
    }

    /// Takes over all that a checkpoint holds.
    pub fn restore(&mut self, checkpoint: &Checkpoint) -> Result<TrainState> {
        let name = self.model.preset.name;
        match checkpoint.preset() {
            Some(preset) if preset != name => {
                let message = format!("is a checkpoint of preset {preset}, and --preset is {name}");
                return Err(Error::file(checkpoint.path(), message));
            }
            _ => {}
        }
        let state: TrainState = checkpoint.state()?;
        state.loss_scale.validate()?;
        import(&mut self.model, checkpoint.model())?;
        let optimizer = checkpoint.optimizer()?;
        let (parameters, layout) = (&self.model.parameters, self.model.arena.layout());
        self.moments.m = import_arena(parameters, layout, FIRST, optimizer)?;
        self.moments.v = import_arena(parameters, layout, SECOND, optimizer)?;
        if let Some(ema) = &mut self.ema {
            // A mean that is asked for only now starts from where the weights are.
            *ema = match optimizer.names().any(|name| name.starts_with(EMA)) {
                true => import_arena(parameters, layout, EMA, optimizer)?,
                false => self.model.arena.values::<f32>()?.to_vec(),
            };
        }
        (self.step, self.updates) = (state.step, state.updates);
        self.loss_scale = state.loss_scale.clone();
        Ok(state)
    }
}
