//! The weights of another model as far as they fit: a training can start from them.

use std::path::Path;

use ssmv_autograd::tensor_file::TensorFile;

use super::{
    Predictor, Preset, outline,
    parameters::{Parameter, RunningStatistics},
    state::{MEAN, VARIANCE, named},
};
use crate::{Error, Result, checkpoint::Checkpoint, train::EMA};

/// Most tensors that a line names.
const NAMED: usize = 8;

/// Weights to start from, and which tensors of a model they have.
pub struct Weights {
    checkpoint: Checkpoint,
    /// The part of the names of the moving average, if the training kept one.
    mean: bool,
}

/// What a model takes of a tensor.
#[derive(Debug, PartialEq)]
enum Share {
    Whole,
    /// The first rows, of the frames that both models predict.
    Rows(usize),
    Nothing(String),
}

/// Tensors that are made for each predicted frame: their rows are the frames' one after the other.
fn is_of_frames(name: &str) -> bool {
    name.starts_with("temporal.out_proj.") || name.ends_with(".skip.weight")
}

impl Weights {
    /// Opens a run folder, a checkpoint, or a bare safetensors file. The weights are the moving average if the training kept one.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn open(path: &Path) -> Result<Self> {
        let checkpoint = Checkpoint::open(path)?;
        let has_mean = |optimizer: &TensorFile| optimizer.names().any(|name| name.starts_with(EMA));
        let mean = checkpoint.optimizer().is_ok_and(has_mean);
        Ok(Self { checkpoint, mean })
    }

    /// File and name of a parameter.
    fn find(&self, parameter: &str) -> Result<(&TensorFile, String)> {
        Ok(match self.mean {
            true => (self.checkpoint.optimizer()?, format!("{EMA}{parameter}")),
            false => (self.checkpoint.model(), parameter.to_owned()),
        })
    }

    fn share(&self, name: &str, wanted: &[usize]) -> Result<Share> {
        let (file, full) = self.find(name)?;
        let Some(info) = file.get(&full) else { return Ok(Share::Nothing("not in the file".to_owned())) };
        let same_rest = info.shape.get(1..) == wanted.get(1..) && !wanted.is_empty();
        Ok(match () {
            () if info.shape == wanted => Share::Whole,
            () if is_of_frames(name) && same_rest => Share::Rows(info.shape[0].min(wanted[0])),
            () => Share::Nothing(format!("{:?} there, {wanted:?} here", info.shape)),
        })
    }

    /// Lines about what a model of this preset takes and what it does not.
    ///
    /// # Errors
    /// [`Error::File`] when nothing fits.
    pub fn summary(&self, preset: &Preset) -> Result<Vec<String>> {
        let (parameters, norms) = outline(preset);
        let (mut taken, mut part, mut left) = (0, Vec::new(), Vec::new());
        for Parameter { name, layout, .. } in &parameters {
            match self.share(name, &layout.external)? {
                Share::Whole => taken += 1,
                Share::Rows(rows) => {
                    part.push(format!("{name} (its first {rows} of {} rows)", layout.external[0]))
                }
                Share::Nothing(why) => left.push(format!("{name} ({why})")),
            }
        }
        let path = self.checkpoint.path().display();
        if taken == 0 {
            let example = left.first().cloned().unwrap_or_default();
            let message = format!("--init: no tensor fits the preset `{}`: {example}", preset.name);
            return Err(Error::file(self.checkpoint.path(), message));
        }
        let statistics = norms.iter().filter(|norm| self.has_statistics(norm)).count();
        let mean = if self.mean { " (their moving average)" } else { "" };
        let mut lines = vec![format!(
            "--init {path}: {taken} of {} parameters{mean} and the statistics of {statistics} of {} norms are taken",
            parameters.len(),
            norms.len()
        )];
        let listed = |what: &str, tensors: &[String]| {
            let more = tensors.len().saturating_sub(NAMED);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            format!("--init: {what}: {}{more}", tensors[..tensors.len().min(NAMED)].join(", "))
        };
        lines.extend((!part.is_empty()).then(|| listed("taken in part", &part)));
        lines.extend((!left.is_empty()).then(|| listed("not taken, and drawn anew", &left)));
        Ok(lines)
    }

    fn has_statistics(&self, norm: &RunningStatistics) -> bool {
        let fits = |part| {
            let info = self.checkpoint.model().get(&named(norm, part));
            info.is_some_and(|info| info.shape == [norm.mean.len()])
        };
        fits(MEAN) && fits(VARIANCE)
    }

    /// Sets a model's parameters and statistics from the weights, as far as they fit.
    ///
    /// # Errors
    /// [`Error::File`] for values that are not finite, or not read.
    pub fn give_to(&self, model: &mut Predictor) -> Result<()> {
        let layout = model.arena.layout().clone();
        let values = model.arena.values_mut::<f32>()?;
        for (parameter, range) in model.parameters.iter().zip(layout.ranges()) {
            let (wanted, slots) = (&parameter.layout.external, &mut values[range.clone()]);
            let (file, full) = self.find(&parameter.name)?;
            let rows = match self.share(&parameter.name, wanted)? {
                Share::Nothing(_) => continue,
                Share::Whole => wanted.first().copied().unwrap_or(1),
                Share::Rows(rows) => rows,
            };
            let mut shape = wanted.clone();
            if let (Some(first), Some(info)) = (shape.first_mut(), file.get(&full)) {
                *first = info.shape[0];
            }
            let read = file.read_f32(&full, &shape)?;
            let mut external = parameter.layout.export(slots);
            let row = external.len() / wanted.first().copied().unwrap_or(1).max(1);
            let taken = (rows * row).min(read.len());
            external[..taken].copy_from_slice(&read[..taken]);
            slots.copy_from_slice(&parameter.layout.import(&external));
        }
        for norm in &mut model.norms {
            if !self.has_statistics(norm) {
                continue;
            }
            let channels = [norm.mean.len()];
            let read = |part| -> Result<Vec<f64>> {
                let values = self.checkpoint.model().read_f32(&named(norm, part), &channels)?;
                Ok(values.into_iter().map(f64::from).collect())
            };
            let (mean, variance) = (read(MEAN)?, read(VARIANCE)?);
            if variance.iter().any(|v| *v < 0.0) {
                let message = format!("tensor {:?} has a negative variance", named(norm, VARIANCE));
                return Err(Error::file(self.checkpoint.path(), message));
            }
            (norm.mean, norm.variance) = (mean, variance);
        }
        Ok(())
    }
}
