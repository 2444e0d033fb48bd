//! The run's log: every record goes to `metrics.jsonl` and to TensorBoard at once.

use super::EventFile;
use crate::{Error, Result};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

const METRICS_FILE: &str = "metrics.jsonl";
const TENSORBOARD_FOLDER: &str = "tensorboard";
/// No record of ours comes near this many bytes; a longer line is damage.
const MAX_LINE: u64 = 1 << 20;

/// The figures of training at one optimiser step.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct StepRecord {
    /// Optimiser steps taken, this one included.
    pub step: u64,
    /// The epoch, counted as training counts it; a fraction is fine.
    pub epoch: f64,
    /// The loss.
    pub loss: f64,
    /// The learning rate.
    pub lr: f64,
    /// The L2 norm of all gradients, before clipping.
    pub grad_norm: f64,
    /// Sequences trained on a second.
    pub samples_per_second: f64,
    /// Seconds waited for data since the last record.
    pub data_wait: f64,
    /// The loss scale; 1 without scaling.
    pub loss_scale: f64,
}

/// Figures of another kind, such as an evaluation's.
#[derive(Debug, Clone, Copy)]
pub struct EvalRecord<'a, T> {
    /// The step they belong to.
    pub step: u64,
    /// The epoch they belong to.
    pub epoch: f64,
    /// The key that holds the figures, such as "eval"; also the first part of the scalars' tags.
    pub kind: &'a str,
    /// All figures, as they should stand in the log.
    pub figures: &'a T,
    /// What TensorBoard draws, by the second part of its tag: `("mse", 80.0)` becomes "eval/mse".
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
/// A record is in both files when its call returns. JSON has no NaN and no infinity: they are written as `null`, so
/// that a column of numbers stays one; TensorBoard gets them as they are.
#[derive(Debug)]
pub struct Recorder {
    path: PathBuf,
    metrics: File,
    events: EventFile,
}

impl Recorder {
    /// Starts the log of a new run; `run` is made if it is missing.
    ///
    /// # Errors
    /// A log that exists already, a folder that cannot be written.
    pub fn create(run: &Path) -> Result<Self> {
        let path = run.join(METRICS_FILE);
        fs::create_dir_all(run).map_err(|e| Error::file(run, format_args!("cannot write: {e}")))?;
        let metrics = File::create_new(&path).map_err(|e| match e.kind() {
            ErrorKind::AlreadyExists => Error::file(
                &path,
                "exists already: --resume continues that run, another --out begins a new one",
            ),
            _ => Error::file(&path, format_args!("cannot write: {e}")),
        })?;
        Ok(Self { path, metrics, events: EventFile::create(&run.join(TENSORBOARD_FOLDER))? })
    }

    /// Continues the log of a run that was resumed after `step` steps: records of later steps, which will come
    /// again, and a last line that a kill cut short are removed; TensorBoard is told to do the same. A log that is
    /// missing is started.
    ///
    /// # Errors
    /// Files that cannot be read or written.
    pub fn append(run: &Path, step: u64) -> Result<Self> {
        let path = run.join(METRICS_FILE);
        fs::create_dir_all(run).map_err(|e| Error::file(run, format_args!("cannot write: {e}")))?;
        if path.exists() {
            truncate_after(&path, step)?;
        }
        let metrics = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(|e| Error::file(&path, format_args!("cannot write: {e}")))?;
        let mut events = EventFile::create(&run.join(TENSORBOARD_FOLDER))?;
        events.restart(step.saturating_add(1))?;
        Ok(Self { path, metrics, events })
    }

    /// The log's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the figures of a training step (TensorBoard: "train/loss", …).
    ///
    /// # Errors
    /// A file that cannot be written.
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

    /// Writes `{"step": …, "epoch": …, "eval": {…}}` (for kind "eval").
    ///
    /// # Errors
    /// Figures that are not JSON, a kind named "step" or "epoch", a file that cannot be written.
    pub fn log_eval<T: Serialize>(&mut self, record: &EvalRecord<T>) -> Result<()> {
        if matches!(record.kind, "step" | "epoch") {
            return Err(Error::Failure(format!("a record cannot be of kind {:?}", record.kind)));
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
    /// A file that cannot be written.
    pub fn log_warning(&mut self, step: u64, warning: &str) -> Result<()> {
        self.line(&serde_json::json!({ "step": step, "warning": warning }))
    }

    /// Shows an image in TensorBoard: the bytes of a PNG or GIF file.
    ///
    /// # Errors
    /// Bytes that are neither, a file that cannot be written.
    pub fn log_image(&mut self, step: u64, tag: &str, encoded: &[u8]) -> Result<()> {
        self.events.image(step, tag, encoded)
    }

    fn line(&mut self, record: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_vec(record).map_err(|e| Error::file(&self.path, e))?;
        line.push(b'\n');
        // One call a line, and no buffer: what was logged is in the file.
        self.metrics.write_all(&line).map_err(|e| Error::file(&self.path, format_args!("cannot write: {e}")))
    }
}

/// Rewrites the log without records of steps after `step` and without a torn last line.
fn truncate_after(path: &Path, step: u64) -> Result<()> {
    let temporary = path.with_extension(format!("jsonl.tmp-{}", std::process::id()));
    let result = copy_until(path, &temporary, step).and_then(|()| fs::rename(&temporary, path));
    result.map_err(|e| {
        let _ = fs::remove_file(&temporary);
        Error::file(path, format_args!("cannot be cut back to step {step}: {e}"))
    })
}

fn copy_until(path: &Path, copy: &Path, step: u64) -> std::io::Result<()> {
    let mut reader = BufReader::new(File::open(path)?);
    let mut writer = BufWriter::new(File::create(copy)?);
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
        // A line that is not a record is not ours to delete, unless it is the torn last one.
        let later = serde_json::from_slice::<Value>(&line)
            .ok()
            .and_then(|record| record.get("step").and_then(Value::as_u64))
            .is_some_and(|s| s > step);
        if whole && !later {
            writer.write_all(&line)?;
        }
    }
    writer.into_inner().map_err(|e| e.into_error())?.sync_all()
}
