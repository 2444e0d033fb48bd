//! A whole training: data, steps, the log, evaluations, checkpoints, the preview, and the end on a signal.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use serde::Serialize;

use super::{
    StepFigures,
    divergence::{DivergenceMonitor, Figures},
    epochs::Epochs,
    interrupt::Interrupt,
    memory, preview,
    ranks::{Member, Ranks},
    trainer::Trainer,
};
use crate::{
    Error, Result,
    config::{ANIMATION_FILE, TrainConfig},
    data::{Dataset, Loader, Split},
    eval::{EvalSpec, Evaluation, Share, evaluate_among},
    record::{EvalRecord, Recorder, StepRecord},
    report::LiveReport,
};

/// Number of steps over which the shown loss and speed are smoothed.
const SMOOTHING: f64 = 20.0;

/// Progress of a training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Status {
    /// Current epoch, from 1.
    pub epoch: u64,
    /// Total number of epochs.
    pub epochs: u64,
    /// Optimiser steps taken so far.
    pub step: u64,
    /// Optimiser steps of the whole training: the data may have fewer sequences than the configuration asks for.
    pub total: u64,
    /// Training loss, smoothed over steps.
    pub loss: f64,
    /// Learning rate of the last step.
    pub lr: f64,
    /// Sequences trained per second.
    pub samples_per_second: f64,
}

/// Callbacks of a training, for the command line, a test, or another program.
pub trait Observer {
    /// Called before the first step on a device: `done` of `total` kernels are compiled.
    fn compiling(&mut self, _done: usize, _total: usize) {}
    /// Called before the first step: `done` of `total` clips are decoded.
    fn decoding(&mut self, _done: usize, _total: usize) {}
    /// Called during an evaluation: `done` of `total` test sequences are evaluated.
    fn evaluating(&mut self, _done: u64, _total: u64) {}
    /// Called after each step.
    fn status(&mut self, _status: &Status) {}
    /// Called with a note for the user.
    fn note(&mut self, _line: &str) {}
    /// Called with a warning.
    fn warn(&mut self, _line: &str) {}
}

/// An observer that ignores all calls.
impl Observer for () {}

/// Results of a training.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Path of the run folder.
    pub out: PathBuf,
    /// Path of the last checkpoint.
    pub checkpoint: PathBuf,
    /// Path of the animation of test sequences with their predictions; `None` if it could not be drawn.
    pub preview: Option<PathBuf>,
    /// Optimiser steps of the whole training.
    pub steps: u64,
    /// Seconds of training, including those before a resumption; without evaluations and checkpoints.
    pub seconds: f64,
    /// Sequences per second of this process's training.
    pub samples_per_second: f64,
    /// Seconds that this process's training waited for data.
    pub data_wait: f64,
    /// Results of the evaluation after the last step.
    pub evaluation: Evaluation,
}

/// Trains with `config`, whose `out` is the run folder; resumes from the checkpoint `resume` if it is given. A signal
/// ends it with [`Error::Interrupted`], after a checkpoint.
pub fn run(
    config: &TrainConfig,
    resume: Option<&Path>,
    interrupt: &Interrupt,
    observer: &mut dyn Observer,
) -> Result<Summary> {
    run_with_ranks(None, config, resume, interrupt, observer)
}

/// As [`run`], for one of several ranks. Each calls this with the same configuration, whose `ranks` is their number.
/// Rank 0 writes the run folder. If one rank fails, all ranks stop.
pub fn run_with_ranks(
    member: Option<Member>,
    config: &TrainConfig,
    resume: Option<&Path>,
    interrupt: &Interrupt,
    observer: &mut dyn Observer,
) -> Result<Summary> {
    let run = || {
        let ranks = member.map(|member| Ranks::start(member, config, interrupt)).transpose()?.map(Arc::new);
        let result = attempt(config, resume, interrupt, ranks.clone(), observer);
        if let (Some(ranks), Err(error)) = (&ranks, &result) {
            ranks.abandon(&error.to_string());
        }
        result
    };
    ssmv_autograd::check_finite(config.check_finite, run).map_err(|error| memory::advise(config, error))
}

fn attempt(
    config: &TrainConfig,
    resume: Option<&Path>,
    interrupt: &Interrupt,
    ranks: Option<Arc<Ranks>>,
    observer: &mut dyn Observer,
) -> Result<Summary> {
    let mut run = Run::prepare(config, resume, interrupt, ranks, observer)?;
    let result = finish(&mut run, observer);
    if run.trainer.backend.waits_for_ranks() {
        // A successful training has closed its connections. Otherwise work that is still queued may wait for a rank
        // that is gone: abort the kernels that spin, and drop nothing that would wait for the device.
        run.trainer.backend.abort();
        // Frees the lock of the run folder.
        drop(run.recorder.take());
        std::mem::forget(run);
    }
    result
}

/// Trains to the end; saves a checkpoint on failure. Then the report no longer reloads itself.
fn finish(run: &mut Run, observer: &mut dyn Observer) -> Result<Summary> {
    let result = train(run, observer);
    run.write_report(false, observer);
    result
}

fn train(run: &mut Run, observer: &mut dyn Observer) -> Result<Summary> {
    match run.go(observer) {
        Err(Error::Interrupted(signal)) => {
            // Saving matters more than an error of the last step.
            let _ = run.settle(observer);
            let saved = run.save()?;
            // All ranks are connected. The checkpoint is saved even if this fails.
            let _ = run.trainer.backend.close();
            if run.leads() {
                let again = match run.config.ranks {
                    1 => String::new(),
                    ranks => format!(", run by {ranks} ranks again"),
                };
                observer.warn(&format!(
                    "signal {signal}: saved {} at step {} of {}; go on with `ssmv-raw train --resume {}`{again}",
                    saved.display(),
                    run.trainer.steps(),
                    run.total,
                    run.out.display()
                ));
            }
            Err(Error::Interrupted(signal))
        }
        Err(error) if run.trainer.steps() > run.saved && run.can_save_alone() => {
            if let Some(ranks) = &run.ranks {
                // The other ranks need not wait for the disk.
                ranks.abandon(&error.to_string());
            }
            // After any error, the steps since the last checkpoint are saved if possible.
            let _ = run.settle(observer);
            if let Ok(saved) = run.write() {
                observer.warn(&format!("saved {} before ending", saved.display()));
            }
            Err(error)
        }
        result => result,
    }
}

/// A training in progress.
pub(super) struct Run<'a> {
    pub config: TrainConfig,
    pub interrupt: &'a Interrupt,
    /// The ranks that train together, if there are several.
    pub ranks: Option<Arc<Ranks>>,
    pub out: PathBuf,
    pub trainer: Trainer,
    pub dataset: Arc<Dataset>,
    pub loader: Loader,
    /// Writes the logs; only on rank 0.
    pub recorder: Option<Recorder>,
    /// The report that is kept current, and whether its last write failed; only on rank 0, if it is asked for.
    pub report: Option<(LiveReport, bool)>,
    pub divergence_monitor: DivergenceMonitor,
    /// Optimiser steps of the whole training.
    pub total: u64,
    pub epochs: Epochs,
    /// Step of the last checkpoint.
    pub saved: u64,
    /// Seconds of training so far, and those before this process.
    pub seconds: f64,
    pub seconds_before: f64,
    pub samples: u64,
    pub shown: Shown,
    /// Timing of the last step.
    pub pace: Pace,
}

/// Timing of a step.
#[derive(Clone, Copy, Default)]
pub(super) struct Pace {
    seconds: f64,
    samples: f64,
    data_wait: f64,
}

/// Smoothed figures for the progress display.
#[derive(Default)]
pub(super) struct Shown {
    loss: f64,
    step_seconds: f64,
    steps: u64,
}

impl Shown {
    fn add(&mut self, loss: f64, seconds: f64) {
        self.steps += 1;
        let share = (1.0 / self.steps as f64).max(1.0 / SMOOTHING);
        self.step_seconds += share * (seconds - self.step_seconds);
        if loss.is_finite() {
            self.loss += share * (loss - self.loss);
        }
    }
}

impl Run<'_> {
    fn go(&mut self, observer: &mut dyn Observer) -> Result<Summary> {
        let per_epoch = self.epochs.per_epoch;
        let every = |period: Option<u64>, count: u64| period.is_some_and(|p| count.is_multiple_of(p));
        while self.trainer.steps() < self.total {
            self.check_signals()?;
            self.step(observer)?;
            if self.report.as_ref().is_some_and(|(report, _)| report.is_due()) {
                self.write_report(true, observer);
            }
            let step = self.trainer.steps();
            if step == self.total {
                break;
            }
            let position = self.epochs.position(step);
            let (epoch, at_epoch) = (position / per_epoch, position.is_multiple_of(per_epoch));
            if at_epoch && every(self.config.eval_every, epoch) {
                self.evaluate(observer)?;
            }
            if (at_epoch && every(self.config.save_every, epoch)) || every(self.config.save_every_steps, step)
            {
                self.settle(observer)?;
                self.save()?;
            }
        }
        self.check_signals()?;
        let evaluation = self.evaluate(observer)?;
        let checkpoint = self.save()?;
        // The rest concerns only rank 0.
        self.trainer.backend.close()?;
        // The training is already saved: a missing picture is not a failure.
        let drawn = self.preview();
        if let Err(error) = &drawn {
            observer.warn(&format!("the preview is missing: {error}"));
        }
        let trained = self.seconds - self.seconds_before;
        Ok(Summary {
            out: self.out.clone(),
            checkpoint,
            preview: drawn.is_ok().then(|| self.out.join(ANIMATION_FILE)),
            steps: self.trainer.steps(),
            seconds: self.seconds,
            samples_per_second: if trained > 0.0 { self.samples as f64 / trained } else { 0.0 },
            data_wait: self.loader.waited().as_secs_f64(),
            evaluation,
        })
    }

    /// Draws the preview, on rank 0.
    fn preview(&mut self) -> Result<()> {
        let Self { trainer, dataset, config, recorder, out, .. } = self;
        let Some(recorder) = recorder else { return Ok(()) };
        let mut strip = Vec::new();
        trainer.with_final_weights(&mut |model| {
            strip = preview::write(model, dataset, config.frames_in, out)?;
            Ok(())
        })?;
        recorder.log_image(trainer.steps(), "preview", &strip)
    }

    /// Writes the report, if there is one; a failure is a warning, of several in a row only the first.
    fn write_report(&mut self, goes_on: bool, observer: &mut dyn Observer) {
        let Some((report, failed)) = &mut self.report else { return };
        let result = report.write(goes_on);
        if let (Err(error), false) = (&result, *failed) {
            observer.warn(&format!("the report is not current: {error}"));
        }
        *failed = result.is_err();
    }

    /// An error if a signal requested the end; with several ranks, after all ranks agreed on it.
    fn check_signals(&self) -> Result<()> {
        self.ranks.as_ref().map_or_else(|| self.interrupt.check(), |ranks| ranks.check())
    }

    /// Whether this rank writes files and prints.
    fn leads(&self) -> bool {
        self.ranks.as_ref().is_none_or(|ranks| ranks.leads())
    }

    /// Whether this process holds a complete checkpoint after the other ranks are gone.
    fn can_save_alone(&self) -> bool {
        !self.trainer.backend.waits_for_ranks()
            && self.ranks.as_ref().is_none_or(|ranks| ranks.leads() && ranks.is_sound() && !ranks.zero)
    }

    fn step(&mut self, observer: &mut dyn Observer) -> Result<()> {
        let (start, waited) = (Instant::now(), self.loader.waited());
        let Self { trainer, loader, .. } = self;
        let known = trainer.step(&mut |read| {
            let batch = loader.next()?;
            let result = read(&batch);
            loader.recycle(batch);
            result
        })?;
        let seconds = start.elapsed().as_secs_f64();
        let samples = self.config.sequences_per_step();
        self.seconds += seconds;
        self.samples += samples;
        let pace = Pace {
            seconds,
            samples: samples as f64,
            data_wait: (self.loader.waited() - waited).as_secs_f64(),
        };
        known.iter().try_for_each(|figures| self.report(figures, pace, observer))?;
        self.pace = pace;
        for line in self.trainer.backend.take_warnings() {
            match &self.recorder {
                Some(_) => self.warn(self.trainer.steps(), &line, observer)?,
                // It is this rank's alone.
                None => observer.warn(&line),
            }
        }
        let slow = self.ranks.as_ref().and_then(|ranks| ranks.take_line());
        slow.map_or(Ok(()), |line| self.warn(self.trainer.steps(), &line, observer))
    }

    /// Waits for the device's remaining steps, and records them.
    fn settle(&mut self, observer: &mut dyn Observer) -> Result<()> {
        let known = self.trainer.settle()?;
        let pace = self.pace;
        known.iter().try_for_each(|figures| self.report(figures, pace, observer))
    }

    /// Shows and records a step.
    fn report(&mut self, figures: &StepFigures, pace: Pace, observer: &mut dyn Observer) -> Result<()> {
        self.shown.add(figures.loss, pace.seconds);
        self.record(figures, pace.samples / pace.seconds, pace.data_wait, observer)?;
        figures.verdict()?;
        let Epochs { per_epoch, .. } = self.epochs;
        observer.status(&Status {
            epoch: self.epochs.position(figures.step - 1) / per_epoch + 1,
            epochs: self.epochs.position(self.total).div_ceil(per_epoch),
            step: figures.step,
            total: self.total,
            loss: self.shown.loss,
            lr: figures.lr,
            samples_per_second: pace.samples / self.shown.step_seconds,
        });
        Ok(())
    }

    fn record(
        &mut self,
        figures: &StepFigures,
        samples_per_second: f64,
        data_wait: f64,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let step = figures.step;
        let epoch = self.epochs.epoch(step);
        let Some(recorder) = &mut self.recorder else { return Ok(()) };
        recorder.log_step(&StepRecord {
            step,
            epoch,
            loss: figures.loss,
            lr: figures.lr,
            grad_norm: figures.grad_norm,
            samples_per_second,
            data_wait,
            loss_scale: f64::from(figures.loss_scale),
        })?;
        if figures.skipped {
            let warning = format!("step {step}: the gradients are not finite; the step was skipped");
            self.warn(step, &warning, observer)?;
        }
        let loss_scale = Some(figures.loss_scale);
        self.watch(step, Figures { loss: Some(figures.loss), loss_scale, ..Figures::default() }, observer)
    }

    fn evaluate(&mut self, observer: &mut dyn Observer) -> Result<Evaluation> {
        let spec = EvalSpec {
            sequences: self.config.eval_sequences as u64,
            frames_in: self.config.frames_in,
            roll_out: 0,
            batch_size: self.config.batch_size,
            ssim_range: 1.0,
        };
        self.settle(observer)?;
        self.trainer.backend.gather_state(false)?;
        let draws = self.report.is_some() && self.trainer.steps() < self.total;
        let Self { dataset, interrupt, ranks, trainer, config, out, .. } = self;
        let share = ranks.as_deref().map(|ranks| ranks as &dyn Share);
        let total = dataset.len(Split::Test).map_or(spec.sequences, |has| has.min(spec.sequences));
        let mut tick = |done| {
            observer.evaluating(done, total);
            ranks.as_ref().map_or_else(|| interrupt.check(), |ranks| ranks.agree_on_signals())
        };
        let mut evaluated = Evaluation::default();
        let mut drawn = Ok(());
        trainer.with_final_weights(&mut |model| {
            evaluated = evaluate_among(share, model, dataset, &spec, &mut tick)?;
            if draws {
                drawn = preview::write(model, dataset, config.frames_in, out).map(drop);
            }
            Ok(())
        })?;
        if let Err(error) = drawn {
            observer.warn(&format!("the pictures of the report are missing: {error}"));
        }
        self.trainer.backend.trim()?;
        let step = self.trainer.steps();
        let epoch = self.epochs.epoch(step);
        let mean = &evaluated.next.model.mean;
        let scalars = [("mse", mean.mse), ("mae", mean.mae), ("psnr", mean.psnr), ("ssim", mean.ssim)];
        let Some(recorder) = &mut self.recorder else { return Ok(evaluated) };
        recorder.log_eval(&EvalRecord {
            step,
            epoch,
            kind: "eval",
            figures: &evaluated,
            scalars: &scalars,
        })?;
        let black = evaluated.next.black.mean.mse;
        observer.note(&format!(
            "epoch {epoch:.2}: MSE {:.1}, MAE {:.1}, SSIM {:.3} (all black: MSE {black:.1})",
            mean.mse, mean.mae, mean.ssim
        ));
        let figures = Figures {
            predicted_mean: Some(evaluated.brightness.predicted_mean),
            target_mean: Some(evaluated.brightness.target_mean),
            l1: Some(evaluated.brightness.l1),
            black_l1: Some(evaluated.brightness.black_l1),
            ..Figures::default()
        };
        self.watch(step, figures, observer)?;
        self.write_report(true, observer);
        Ok(evaluated)
    }

    /// Reports and records problems of the training.
    fn watch(&mut self, step: u64, figures: Figures, observer: &mut dyn Observer) -> Result<()> {
        let warnings = self.divergence_monitor.observe(step, &figures);
        warnings.iter().try_for_each(|warning| self.warn(step, warning, observer))
    }

    /// Reports and records a warning; only rank 0 does, because all ranks get the same one.
    fn warn(&mut self, step: u64, warning: &str, observer: &mut dyn Observer) -> Result<()> {
        let Some(recorder) = &mut self.recorder else { return Ok(()) };
        observer.warn(warning);
        recorder.log_warning(step, warning)
    }

    /// Saves a checkpoint of all ranks, which rank 0 writes; every rank waits until it is complete.
    fn save(&mut self) -> Result<PathBuf> {
        self.trainer.backend.gather_state(true)?;
        let path = if self.leads() { self.write()? } else { self.out.clone() };
        self.saved = self.trainer.steps();
        self.ranks.as_ref().map_or(Ok(()), |ranks| ranks.barrier())?;
        Ok(path)
    }

    /// Writes a checkpoint of this process's state.
    fn write(&mut self) -> Result<PathBuf> {
        // A checkpoint is only useful together with the log of its steps on the disk.
        self.recorder.as_ref().map_or(Ok(()), Recorder::sync)?;
        let keep = self.config.keep_last.map(|n| usize::try_from(n).unwrap_or(usize::MAX));
        let path = self.trainer.save(&self.out, self.seconds, keep).map_err(|error| {
            // If the folder was moved while the checkpoint was written, that is the better error message.
            self.recorder.as_ref().and_then(|recorder| recorder.sync().err()).unwrap_or(error)
        })?;
        self.saved = self.trainer.steps();
        Ok(path)
    }
}
