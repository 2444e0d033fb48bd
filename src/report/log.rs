//! The log of a run, `metrics.jsonl`, read as far as it has been written and in bounded memory.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::curves::Curves;
use crate::eval::{Comparison, Horizons};
use crate::record::{MAX_LINE, METRICS_FILE};
use crate::{Error, Result};

/// Quantities of a step that a report draws, in the order of the curves.
pub const LOSS: usize = 0;
/// The learning rate.
pub const RATE: usize = 1;
/// The norm of the gradient.
pub const GRADIENT: usize = 2;
/// Sequences trained per second.
pub const SPEED: usize = 3;
/// The loss scale.
pub const SCALE: usize = 4;
/// Number of the quantities.
pub const QUANTITIES: usize = 5;

/// Most evaluations that are kept.
const MOST_EVALUATIONS: usize = 512;
/// Most predicted frames of an evaluation that are kept.
const MOST_FRAMES: usize = 64;
/// Most warnings that are kept, the newest.
const MOST_WARNINGS: usize = 20;
/// Longest warning in characters.
const LONGEST_WARNING: usize = 500;

/// An evaluation during the training.
#[derive(Clone, Debug)]
pub struct LoggedEvaluation {
    /// Optimiser steps before it.
    pub step: u64,
    /// Number of test sequences.
    pub sequences: u64,
    /// Errors of the next frames.
    pub next: Comparison,
}

/// The contents of a log.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    /// Bytes of whole lines that were read.
    offset: u64,
    /// Quantities of the steps.
    pub curves: Curves<QUANTITIES>,
    /// Evaluations by time; of very many, a part that always has the last one.
    pub evaluations: Vec<LoggedEvaluation>,
    /// Step and text of the newest warnings.
    pub warnings: VecDeque<(u64, String)>,
    /// Number of all warnings.
    pub warning_count: u64,
    /// Last step that has a record.
    pub step: u64,
    /// Epochs trained at that step.
    pub epoch: f64,
    /// Number of steps with a record.
    pub steps: u64,
    /// Sum over the steps of the seconds that a sequence took.
    pub seconds_per_sequence: f64,
    /// Whole lines that are not records.
    pub damaged: u64,
}

/// A line of the log; the fields that its kind of record lacks are `None`. A number that is not finite is null: `Some(None)`.
#[derive(Deserialize)]
struct Line {
    step: u64,
    epoch: Option<f64>,
    #[serde(default, deserialize_with = "given")]
    loss: Option<Option<f64>>,
    lr: Option<f64>,
    grad_norm: Option<f64>,
    samples_per_second: Option<f64>,
    loss_scale: Option<f64>,
    eval: Option<Value>,
    warning: Option<String>,
}

#[derive(Deserialize)]
struct EvaluationLine {
    #[serde(default)]
    sequences: u64,
    next: Comparison,
}

/// A field that is present, even if it is null.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<f64>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl Log {
    /// The log of the folder `run`, of which nothing is read yet.
    pub fn new(run: &Path) -> Self {
        Self {
            path: run.join(METRICS_FILE),
            offset: 0,
            curves: Curves::default(),
            evaluations: Vec::new(),
            warnings: VecDeque::new(),
            warning_count: 0,
            step: 0,
            epoch: 0.0,
            steps: 0,
            seconds_per_sequence: 0.0,
            damaged: 0,
        }
    }

    /// Reads the lines that were written since the last call. A last line without its end is left for the next call: it is
    /// still being written, or a kill cut it short. A missing file has no lines.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read_on(&mut self) -> Result<()> {
        let path = self.path.clone();
        match File::open(&path) {
            Ok(file) => self.read_lines(file).map_err(|e| Error::file(path, format!("cannot be read: {e}"))),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
            Err(e) => Err(Error::file(path, format!("cannot be read: {e}"))),
        }
    }

    fn read_lines(&mut self, mut file: File) -> std::io::Result<()> {
        if file.metadata()?.len() < self.offset {
            // A resumption cut it back.
            let run = self.path.parent().map(Path::to_owned).unwrap_or_default();
            *self = Self::new(&run);
        }
        file.seek(SeekFrom::Start(self.offset))?;
        let mut reader = BufReader::with_capacity(1 << 16, file);
        let mut line = Vec::new();
        // Bytes of a line that is too long to be a record.
        let mut skipped = 0;
        loop {
            line.clear();
            let read = reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)? as u64;
            if line.ends_with(b"\n") {
                self.offset += skipped + read;
                if skipped > 0 {
                    self.damaged += 1;
                } else {
                    self.add(&line);
                }
                skipped = 0;
            } else if read < MAX_LINE {
                return Ok(());
            } else {
                skipped += read;
            }
        }
    }

    fn add(&mut self, line: &[u8]) {
        if line.iter().all(u8::is_ascii_whitespace) {
            return;
        }
        match serde_json::from_slice(line) {
            Ok(line) => self.add_record(line),
            Err(_) => self.damaged += 1,
        }
    }

    fn add_record(&mut self, line: Line) {
        let Line { step, epoch, loss, lr, grad_norm, samples_per_second, loss_scale, eval, warning } = line;
        if let Some(loss) = loss {
            self.curves.add(step, [loss, lr, grad_norm, samples_per_second, loss_scale]);
            self.steps += 1;
            let speed = samples_per_second.filter(|&speed| speed > 0.0);
            self.seconds_per_sequence += speed.map_or(0.0, |speed| 1.0 / speed);
        }
        if let Some(warning) = warning {
            self.warning_count += 1;
            self.warnings.push_back((step, warning.chars().take(LONGEST_WARNING).collect()));
            if self.warnings.len() > MOST_WARNINGS {
                self.warnings.pop_front();
            }
        }
        if let Some(eval) = eval {
            match serde_json::from_value(eval) {
                Ok(evaluation) => self.add_evaluation(step, evaluation),
                Err(_) => self.damaged += 1,
            }
        }
        if let Some(epoch) = epoch
            && step >= self.step
        {
            (self.step, self.epoch) = (step, epoch);
        }
    }

    fn add_evaluation(&mut self, step: u64, EvaluationLine { sequences, mut next }: EvaluationLine) {
        for Horizons { frames, .. } in [&mut next.model, &mut next.black, &mut next.copy] {
            frames.truncate(MOST_FRAMES);
            frames.shrink_to_fit();
        }
        if self.evaluations.len() >= MOST_EVALUATIONS {
            let mut keep = [true, false].into_iter().cycle();
            self.evaluations.retain(|_| keep.next().unwrap_or(true));
        }
        self.evaluations.push(LoggedEvaluation { step, sequences, next });
    }

    /// True if the loss was scaled at any step.
    pub fn scales_loss(&self) -> bool {
        let scaled = |summary: &super::curves::Summary| {
            summary.mean().is_some() && summary.low.min(1.0) < summary.high.max(1.0)
        };
        self.curves.points().iter().any(|point| scaled(&point.values[SCALE]))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs;
    use std::io::Write;

    use serde_json::json;

    use super::*;

    /// Errors of an evaluation in the form of the log.
    pub fn figures(mse: &[f64]) -> Value {
        let score = |mse: f64| json!({ "mse": mse, "mae": 2.0 * mse, "psnr": 20.0, "ssim": 0.5 });
        let horizons = |factor: f64| {
            let frames: Vec<_> = mse.iter().map(|mse| score(mse * factor)).collect();
            let mean = mse.iter().sum::<f64>() / mse.len() as f64;
            json!({ "frames": frames, "mean": score(mean * factor) })
        };
        json!({
            "sequences": 8, "frames_in": 10, "future": "field",
            "next": { "model": horizons(1.0), "black": horizons(3.0), "copy": horizons(2.0) },
        })
    }

    fn read(text: &[u8]) -> Log {
        let run = tempfile::tempdir().unwrap();
        fs::write(run.path().join(METRICS_FILE), text).unwrap();
        let mut log = Log::new(run.path());
        log.read_on().unwrap();
        log
    }

    #[test]
    fn a_log_is_read_as_far_as_it_is_written() {
        let run = tempfile::tempdir().unwrap();
        let mut log = Log::new(run.path());
        log.read_on().unwrap();
        assert_eq!((log.steps, log.damaged), (0, 0));
        let path = run.path().join(METRICS_FILE);
        let mut file = File::create(&path).unwrap();
        let step = |n: u64, loss: f64| {
            format!("{}\n", json!({"step": n, "epoch": 0.5, "loss": loss, "samples_per_second": 4.0}))
        };
        let second = step(2, 0.25);
        file.write_all((step(1, 0.5) + &second[..9]).as_bytes()).unwrap();
        log.read_on().unwrap();
        assert_eq!((log.steps, log.damaged, log.step), (1, 0, 1));
        file.write_all(&second.as_bytes()[9..]).unwrap();
        log.read_on().unwrap();
        log.read_on().unwrap();
        assert_eq!((log.steps, log.damaged, log.step, log.seconds_per_sequence), (2, 0, 2, 0.5));
        // Cut back by a resumption.
        fs::write(&path, step(1, 0.5)).unwrap();
        log.read_on().unwrap();
        assert_eq!((log.steps, log.step), (1, 1));
    }

    #[test]
    fn damage_and_numbers_that_are_not_finite_are_counted() {
        let mut text = b"\xff\xfe\n{\"step\":-1}\n[]\n\n".to_vec();
        text.extend(b"{\"step\":4,\"epoch\":1.0,\"loss\":null,\"lr\":0.1,\"grad_norm\":null}\n");
        text.extend(vec![b'x'; 3 << 20]);
        text.extend(b"\n{\"step\":5,\"epoch\":1.5,\"eval\":7}\n{\"step\":5,\"note\":\"of another kind\"}\n");
        text.extend(b"{\"step\":6,\"warning\":\"<b>\"}\n{\"step\":6,\"lo");
        let log = read(&text);
        assert_eq!((log.damaged, log.steps, log.step, log.epoch), (5, 1, 5, 1.5));
        let point = &log.curves.points()[0];
        assert_eq!(point.values.map(|value| value.mean()), [None, Some(0.1), None, None, None]);
        assert_eq!(log.warnings, [(6, "<b>".to_owned())]);
        assert!(log.evaluations.is_empty() && !log.scales_loss());
    }

    #[test]
    fn evaluations_are_kept_within_bounds_with_the_last_one() {
        let many = vec![80.0; 500];
        let lines: Vec<_> = (1..=2000u64)
            .map(|n| {
                format!(
                    "{}\n",
                    json!({"step": n, "epoch": 1.0, "eval": figures(&many[..if n == 9 { 500 } else { 2 }])})
                )
            })
            .collect();
        let log = read(lines.concat().as_bytes());
        assert_eq!((log.damaged, log.step), (0, 2000));
        assert!(log.evaluations.len() <= MOST_EVALUATIONS && log.evaluations.len() > MOST_EVALUATIONS / 4);
        let last = log.evaluations.last().unwrap();
        assert_eq!((last.step, last.sequences, last.next.black.mean.mse), (2000, 8, 240.0));
        assert!(log.evaluations.iter().all(|evaluation| evaluation.next.model.frames.len() <= MOST_FRAMES));
        let undefined = read(
            b"{\"step\":1,\"epoch\":1,\"eval\":{\"next\":{\
            \"model\":{\"frames\":[],\"mean\":{\"mse\":null,\"mae\":null,\"psnr\":null,\"ssim\":null}},\
            \"black\":{\"frames\":[],\"mean\":{\"mse\":1,\"mae\":1,\"psnr\":1,\"ssim\":1}},\
            \"copy\":{\"frames\":[],\"mean\":{\"mse\":1,\"mae\":1,\"psnr\":1,\"ssim\":1}}}}}\n",
        );
        assert!(undefined.evaluations[0].next.model.mean.mse.is_nan());
    }

    #[test]
    fn a_scaled_loss_is_seen() {
        let step = |scale: f64| format!("{}\n", json!({"step": 1, "loss": 0.5, "loss_scale": scale}));
        assert!(!read(step(1.0).as_bytes()).scales_loss());
        assert!(read(step(65536.0).as_bytes()).scales_loss());
        assert!(read(step(0.5).as_bytes()).scales_loss());
    }
}
