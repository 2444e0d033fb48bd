//! The model of a checkpoint, and the configuration of its training.

use std::path::{Path, PathBuf};

use ssmv_autograd::DType;

use crate::checkpoint::Checkpoint;
use crate::config::{self, ConfigFile, TrainConfig, TrainOptions};
use crate::model::{Predictor, Preset, state};
use crate::train::EMA;
use crate::{Error, Result};
use ssmv_autograd::tensor_file::TensorFile;

/// Information of [`load`] about a model.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Folder of the checkpoint, or the bare file; the latest checkpoint of a run folder.
    pub path: PathBuf,
    /// The step after which it was written; `None` for a bare file of weights.
    pub step: Option<u64>,
    /// Configuration of its run, if it exists and fits.
    pub config: Option<TrainConfig>,
    /// Warnings for the user: damaged checkpoints that were skipped, a configuration that was not used.
    pub warnings: Vec<String>,
}

/// Opens a checkpoint, the latest one of a run folder, or a bare safetensors file as PyTorch writes it, whose preset
/// follows from its tensors. The weights are the moving average if the training kept one (`--ema`).
///
/// # Errors
/// As [`Checkpoint::open`] and [`state::import`]; a preset that this program does not have.
pub fn load(path: &Path) -> Result<(Predictor, Loaded)> {
    let checkpoint = Checkpoint::open(path)?;
    let preset = match checkpoint.preset() {
        Some(name) => {
            let preset = Preset::find(name).ok_or_else(|| {
                let shown: String = name.escape_default().take(64).collect();
                Error::file(
                    checkpoint.path(),
                    format!("has the preset `{shown}`, which this program does not have"),
                )
            })?;
            state::sized(preset, checkpoint.model())
        }
        None => state::recognise(checkpoint.model())?,
    };
    let mut model = Predictor::zeros(&preset, DType::F32)?;
    state::import(&mut model, checkpoint.model())?;
    if checkpoint.step().is_some() {
        use_mean_weights(&mut model, checkpoint.optimizer()?)?;
    }

    let mut warnings = checkpoint.warnings().to_vec();
    let config = config::find_config(checkpoint.path()).and_then(|file| match read_config(&file, &preset) {
        Ok(config) => Some(config),
        Err(e) => {
            warnings.push(format!("the run's configuration is not used: {e}"));
            None
        }
    });
    let (path, step) = (checkpoint.path().to_owned(), checkpoint.step());
    Ok((model, Loaded { path, step, config, warnings }))
}

/// Uses the moving average of the weights if the training kept one.
fn use_mean_weights(model: &mut Predictor, optimizer: &TensorFile) -> Result<()> {
    if optimizer.names().any(|name| name.starts_with(EMA)) {
        let mean = state::import_arena(&model.parameters, model.arena.layout(), EMA, optimizer)?;
        model.arena.values_mut::<f32>()?.copy_from_slice(&mean);
    }
    Ok(())
}

fn read_config(path: &Path, preset: &Preset) -> Result<TrainConfig> {
    let file = ConfigFile::read(path)?;
    let config = config::resolve(&TrainOptions::default(), Some(&file))?;
    if config.preset != preset.name {
        let message = format!("has the preset `{}`, but the checkpoint has `{}`", config.preset, preset.name);
        return Err(Error::file(path, message));
    }
    if (config.size, config.frames_out) != (preset.size, preset.frames_out) {
        let message = format!(
            "is of frames of {} pixels and {} predicted frames, but the checkpoint of {} and {}",
            config.size, config.frames_out, preset.size, preset.frames_out
        );
        return Err(Error::file(path, message));
    }
    Ok(config)
}
