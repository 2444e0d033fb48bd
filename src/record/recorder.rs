//! Writes every record of a run to `metrics.jsonl` and to TensorBoard.

use super::{EventFile, RunFolder};
use crate::{Error, OutputFile, Result};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

/// File name of the log in a run folder.
pub const METRICS_FILE: &str = "metrics.jsonl";
const TENSORBOARD_FOLDER: &str = "tensorboard";
/// Kind of the records of evaluations.
const EVAL: &str = "eval";
/// Maximum length of a record in bytes; a longer line is damage.
pub(crate) const MAX_LINE: u64 = 1 << 20;

/// Metrics of the training at one optimiser step.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct StepRecord {
    /// Optimiser steps taken, this one included.
    pub step: u64,
    /// Epochs trained, as a fraction.
    pub epoch: f64,
    /// Training loss of the step.
    pub loss: f64,
    /// Learning rate of the step.
    pub lr: f64,
    /// The L2 norm of all gradients, before clipping.
    pub grad_norm: f64,
    /// Sequences trained per second.
    pub samples_per_second: f64,
    /// Seconds waited for data since the last record.
    pub data_wait: f64,
    /// The loss scale; 1 without scaling.
    pub loss_scale: f64,
}

/// Metrics of another kind, such as those of an evaluation.
#[derive(Debug, Clone, Copy)]
pub struct EvalRecord<'a, T> {
    /// Optimiser step of the metrics.
    pub step: u64,
    /// Epoch of the metrics.
    pub epoch: f64,
    /// Key of the metrics in the log, such as "eval"; also the first part of the scalars' tags.
    pub kind: &'a str,
    /// All metrics, as JSON for the log.
    pub figures: &'a T,
    /// Scalars for TensorBoard, by the second part of the tag: `("mse", 80.0)` becomes "eval/mse".
    pub scalars: &'a [(&'a str, f64)],
}

impl<T: Serialize> Serialize for EvalRecord<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry("step", &self.step)?;
        map.serialize_entry("epoch", &self.epoch)?;
        map.serialize_entry(self.kind, self.figures)?;
        map.end()
    }
}

/// Writes `RUN/metrics.jsonl`, one object a line, and `RUN/tensorboard/events.out.tfevents.…`.
///
/// A record is in both files when its call returns. JSON lacks NaN and infinity: they are `null` there, so that
/// a column stays numeric; TensorBoard gets their values.
#[derive(Debug)]
pub struct Recorder {
    folder: RunFolder,
    path: PathBuf,
    metrics: File,
    events: EventFile,
    /// Step of the last evaluation in the log.
    evaluated: Option<u64>,
}

impl Recorder {
    /// Starts the log of a new run.
    ///
    /// # Errors
    /// The log exists already, or the folder cannot be written.
    pub fn create(folder: RunFolder) -> Result<Self> {
        let path = folder.path().join(METRICS_FILE);
        let metrics = File::create_new(&path).map_err(|e| match e.kind() {
            ErrorKind::AlreadyExists => Error::file(
                &path,
                "exists already: use --resume to continue that run, or another --out for a new one",
            ),
            _ => Error::file(&path, format_args!("cannot write: {e}")),
        })?;
        let events = EventFile::create(&folder.path().join(TENSORBOARD_FOLDER))?;
        Ok(Self { folder, path, metrics, events, evaluated: None })
    }

    /// Continues the log of a run that was resumed after `step` steps: records of later steps, which will be
    /// written again, and a last line that a kill cut short are removed; TensorBoard gets a mark to do the same. A missing
    /// log is created.
    ///
    /// # Errors
    /// The files cannot be read or written.
    pub fn append(folder: RunFolder, step: u64) -> Result<Self> {
        let path = folder.path().join(METRICS_FILE);
        if path.exists() {
            truncate_after(&path, step)?;
        }
        let metrics = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(|e| Error::file(&path, format_args!("cannot write: {e}")))?;
        let mut events = EventFile::create(&folder.path().join(TENSORBOARD_FOLDER))?;
        events.restart(step.saturating_add(1))?;
        let evaluated = is_evaluated(folder.path(), step).then_some(step);
        Ok(Self { folder, path, metrics, events, evaluated })
    }

    /// Path of `metrics.jsonl`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Before a checkpoint: syncs the log to the disk.
    ///
    /// # Errors
    /// The run folder was moved or removed, or the disk fails.
    pub fn sync(&self) -> Result<()> {
        self.folder.check()?;
        self.metrics.sync_all().map_err(|e| Error::file(&self.path, format_args!("cannot write: {e}")))
    }

    /// Writes the metrics of a training step (TensorBoard: "train/loss", …).
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn log_step(&mut self, record: &StepRecord) -> Result<()> {
        self.line(record)?;
        let scalars = [
            ("train/loss", record.loss),
            ("train/lr", record.lr),
            ("train/grad_norm", record.grad_norm),
            ("train/samples_per_second", record.samples_per_second),
            ("train/data_wait", record.data_wait),
            ("train/loss_scale", record.loss_scale),
            ("train/epoch", record.epoch),
        ];
        self.events.scalars(record.step, &scalars)
    }

    /// Writes `{"step": …, "epoch": …, "eval": {…}}` (for kind "eval"). A step has one such record: another one is left out.
    ///
    /// # Errors
    /// The metrics are not JSON, the kind is "step" or "epoch", or the file cannot be written.
    pub fn log_eval<T: Serialize>(&mut self, record: &EvalRecord<T>) -> Result<()> {
        if matches!(record.kind, "step" | "epoch") {
            return Err(Error::Failure(format!("a record cannot be of kind {:?}", record.kind)));
        }
        if record.kind == EVAL && self.evaluated.replace(record.step) == Some(record.step) {
            return Ok(());
        }
        self.line(record)?;
        let tags: Vec<_> = record.scalars.iter().map(|(name, _)| format!("{}/{name}", record.kind)).collect();
        let scalars: Vec<_> =
            tags.iter().zip(record.scalars).map(|(tag, (_, v))| (tag.as_str(), *v)).collect();
        self.events.scalars(record.step, &scalars)
    }

    /// Writes `{"step": …, "warning": "…"}`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn log_warning(&mut self, step: u64, warning: &str) -> Result<()> {
        self.line(&serde_json::json!({ "step": step, "warning": warning }))
    }

    /// Writes an image for TensorBoard: the bytes of a PNG or GIF file.
    ///
    /// # Errors
    /// The bytes are neither, or the file cannot be written.
    pub fn log_image(&mut self, step: u64, tag: &str, encoded: &[u8]) -> Result<()> {
        self.events.image(step, tag, encoded)
    }

    fn line(&mut self, record: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_vec(record).map_err(|e| Error::file(&self.path, e))?;
        line.push(b'\n');
        self.folder.check()?;
        // One call for each line, without a buffer: every logged line is in the file.
        self.metrics.write_all(&line).map_err(|e| Error::file(&self.path, format_args!("cannot write: {e}")))
    }
}

/// True if the log of the folder `run` has an evaluation after `step` steps.
pub fn is_evaluated(run: &Path, step: u64) -> bool {
    let Ok(log) = File::open(run.join(METRICS_FILE)) else { return false };
    let records = BufReader::new(log).split(b'\n').map_while(Result::ok);
    // Most lines are of steps: they need not be parsed.
    let evaluations = records.filter(|line| line.windows(EVAL.len()).any(|part| part == EVAL.as_bytes()));
    let mut parsed = evaluations.filter_map(|line| serde_json::from_slice::<Value>(&line).ok());
    parsed
        .any(|record| record.get(EVAL).is_some() && record.get("step").and_then(Value::as_u64) == Some(step))
}

/// Rewrites the log without records of steps after `step` and without a torn last line.
fn truncate_after(path: &Path, step: u64) -> Result<()> {
    let mut copy = OutputFile::create(path, true)?;
    copy_until(path, copy.file(), step)
        .map_err(|e| Error::file(path, format_args!("cannot be cut back to step {step}: {e}")))?;
    copy.commit()
}

fn copy_until(path: &Path, copy: &mut File, step: u64) -> std::io::Result<()> {
    let mut reader = BufReader::new(File::open(path)?);
    let mut writer = BufWriter::new(copy);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)?;
        if read == 0 {
            break;
        }
        let whole = line.ends_with(b"\n");
        if !whole && read as u64 == MAX_LINE {
            return Err(std::io::Error::new(ErrorKind::InvalidData, "a line is too long for a record"));
        }
        // A line that is not a record is kept, unless it is the torn last one.
        let later = serde_json::from_slice::<Value>(&line)
            .ok()
            .and_then(|record| record.get("step").and_then(Value::as_u64))
            .is_some_and(|s| s > step);
        if whole && !later {
            writer.write_all(&line)?;
        }
    }
    writer.flush()
}
