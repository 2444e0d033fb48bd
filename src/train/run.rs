//! A whole training: data, steps, the log, evaluations, checkpoints, the preview, and the way out on a signal.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use serde::Serialize;

use super::{
    StepFigures, Trainer,
    collapse::{Figures, Watcher},
    device::DeviceTrainer,
    engine::{Engine, Host, Source},
    interrupt::Interrupt,
    memory, preview,
};
use crate::{
    Error, Result,
    checkpoint::{self, CHECKPOINTS_FOLDER, Checkpoint},
    config::{CONFIG_FILE, Precision, TrainConfig},
    data::{Dataset, Loader, LoaderSpec, Split},
    device,
    eval::{EvalSpec, Evaluation, evaluate},
    record::{EvalRecord, Recorder, StepRecord},
};

/// Steps that the shown loss and pace are smoothed over.
const SMOOTHING: f64 = 20.0;
/// Batches that are kept ready.
const AHEAD: usize = 4;

/// Where a training is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Status {
    /// The epoch, counted from 1.
    pub epoch: u64,
    /// How many epochs there will be.
    pub epochs: u64,
    /// Optimiser steps done.
    pub step: u64,
    /// The loss of late.
    pub loss: f64,
    /// The learning rate.
    pub lr: f64,
    /// Sequences trained on in a second.
    pub samples_per_second: f64,
}

/// Whoever watches a training: the command line, a test, another program.
pub trait Observer {
    /// After each step.
    fn status(&mut self, _status: &Status) {}
    /// Something worth a line.
    fn note(&mut self, _line: &str) {}
    /// Something that is wrong or goes wrong.
    fn warn(&mut self, _line: &str) {}
}

/// Watches nothing.
impl Observer for () {}

/// What came of a training.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The run folder.
    pub out: PathBuf,
    /// The last checkpoint.
    pub checkpoint: PathBuf,
    /// The animation of test sequences with their predictions.
    pub preview: PathBuf,
    /// Optimiser steps of the whole training.
    pub steps: u64,
    /// Seconds of training, those before a resumption included; evaluations and checkpoints left out.
    pub seconds: f64,
    /// Sequences a second of this process's training.
    pub samples_per_second: f64,
    /// Seconds that this process's training waited for data.
    pub data_wait: f64,
    /// The final evaluation.
    pub evaluation: Evaluation,
}

/// Trains as `config` says, whose `out` is the run folder, from the checkpoint `resume` on where one is given. A signal
/// ends it with [`Error::Interrupted`], after a checkpoint.
pub fn run(
    config: &TrainConfig,
    resume: Option<&Path>,
    interrupt: &Interrupt,
    observer: &mut dyn Observer,
) -> Result<Summary> {
    let run = || attempt(config, resume, interrupt, observer);
    ssmv_autograd::check_finite(config.check_finite, run).map_err(|error| memory::advise(config, error))
}

fn attempt(
    config: &TrainConfig,
    resume: Option<&Path>,
    interrupt: &Interrupt,
    observer: &mut dyn Observer,
) -> Result<Summary> {
    let mut run = Run::prepare(config, resume, interrupt, observer)?;
    match run.go(observer) {
        Err(Error::Interrupted(signal)) => {
            // What the last step came to matters less than that it is saved.
            let _ = run.settle(observer);
            let saved = run.save()?;
            observer.warn(&format!(
                "signal {signal}: saved {} at step {} of {}; go on with `ssmv-raw train --resume {}`",
                saved.display(),
                run.trainer.steps(),
                run.total,
                run.out.display()
            ));
            Err(Error::Interrupted(signal))
        }
        Err(error) if run.trainer.steps() > run.saved => {
            // Whatever went wrong, the steps since the last checkpoint are not lost if they can be kept.
            let _ = run.settle(observer);
            if let Ok(saved) = run.save() {
                observer.warn(&format!("saved {} before ending", saved.display()));
            }
            Err(error)
        }
        result => result,
    }
}

/// A training under way.
struct Run<'a> {
    config: TrainConfig,
    interrupt: &'a Interrupt,
    out: PathBuf,
    trainer: Box<dyn Engine>,
    dataset: Arc<Dataset>,
    loader: Loader,
    recorder: Recorder,
    watcher: Watcher,
    total: u64,
    /// The step of the last checkpoint.
    saved: u64,
    /// Seconds of training so far, and how many of them before this process.
    seconds: f64,
    seconds_before: f64,
    samples: u64,
    shown: Shown,
    /// Of the last step.
    pace: Pace,
}

/// How a step went by the clock.
#[derive(Clone, Copy, Default)]
struct Pace {
    seconds: f64,
    samples: f64,
    data_wait: f64,
}

/// Smoothed figures for the eye.
#[derive(Default)]
struct Shown {
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

impl<'a> Run<'a> {
    fn prepare(
        config: &TrainConfig,
        resume: Option<&Path>,
        interrupt: &'a Interrupt,
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        let mut config = config.clone();
        let out = config.out.clone().ok_or_else(|| Error::Usage("--out: no run folder was named".into()))?;
        let dataset = Dataset::open(&config.data_spec()?)?;
        if let Some(note) = dataset.note() {
            observer.note(note);
        }
        let held = usize::try_from(dataset.epoch_len(Split::Train)).unwrap_or(usize::MAX);
        if held < config.batch_size * config.accumulate {
            let (batch, parts) = (config.batch_size, config.accumulate);
            return Err(Error::Usage(format!(
                "--data {}: has {held} training sequences, and one optimiser step takes {batch} (--batch-size) × \
                 {parts} (--accumulate)",
                config.data
            )));
        }
        if held < config.sequences {
            observer.note(&format!("the data has {held} training sequences: that is an epoch"));
            config.sequences = held;
        }
        if dataset.side() != config.canvas {
            let (side, canvas, preset) = (dataset.side(), config.canvas, &config.preset);
            return Err(Error::Usage(format!(
                "--data {}: frames of {side} pixels; the model `{preset}` takes {canvas}",
                config.data
            )));
        }
        let mut trainer = engine(&config, source(&config, &dataset))?;
        let checkpoint = resume.map(Checkpoint::open).transpose()?;
        let seconds = match &checkpoint {
            Some(checkpoint) => {
                checkpoint.warnings().iter().for_each(|w| observer.warn(w));
                let state = trainer.restore(checkpoint)?;
                observer.note(&format!("resumed {} at step {}", checkpoint.path().display(), state.step));
                state.seconds
            }
            None => 0.0,
        };
        let spec = loader_spec(&config, trainer.steps());
        let dataset = Arc::new(dataset);
        let loader = Loader::new(Arc::clone(&dataset), spec)?;
        let made = |e: std::io::Error| Error::file(&out, format!("cannot make the run folder: {e}"));
        fs::create_dir_all(&out).map_err(made)?;
        let log_exists = fs::exists(out.join("metrics.jsonl")).unwrap_or(false);
        let recorder = if checkpoint.is_some() && log_exists {
            Recorder::append(&out, trainer.steps())?
        } else {
            Recorder::create(&out)?
        };
        if checkpoint.is_some() {
            // Checkpoints of later steps belong to a course that is given up by going on from this one.
            for path in checkpoint::set_aside_after(&out.join(CHECKPOINTS_FOLDER), trainer.steps())? {
                observer.warn(&format!("a checkpoint of a later step was set aside: {}", path.display()));
            }
        }
        let path = out.join(CONFIG_FILE);
        // Without its own name: the folder may be moved, and the file serves other runs.
        // And without what is for one look at what goes wrong.
        let written = TrainConfig { out: None, no_graph: false, check_finite: false, ..config.clone() };
        crate::OutputFile::write(&path, written.to_toml()?.as_bytes())?;
        Ok(Self {
            total: config.total_steps(),
            saved: trainer.steps(),
            config,
            interrupt,
            out,
            trainer,
            dataset,
            loader,
            recorder,
            watcher: Watcher::new(),
            seconds,
            seconds_before: seconds,
            samples: 0,
            shown: Shown::default(),
            pace: Pace::default(),
        })
    }

    fn go(&mut self, observer: &mut dyn Observer) -> Result<Summary> {
        let per_epoch = self.config.steps_per_epoch();
        let every = |period: Option<u64>, count: u64| period.is_some_and(|p| count.is_multiple_of(p));
        while self.trainer.steps() < self.total {
            self.interrupt.check()?;
            self.step(observer)?;
            let step = self.trainer.steps();
            if step == self.total {
                break;
            }
            let (epoch, at_epoch) = (step / per_epoch, step.is_multiple_of(per_epoch));
            if at_epoch && every(self.config.eval_every, epoch) {
                self.evaluate(observer)?;
            }
            if (at_epoch && every(self.config.save_every, epoch)) || every(self.config.save_every_steps, step)
            {
                self.settle(observer)?;
                self.save()?;
            }
        }
        self.interrupt.check()?;
        let evaluation = self.evaluate(observer)?;
        let checkpoint = self.save()?;
        let preview = self.out.join("preview.gif");
        let (dataset, config) = (&self.dataset, &self.config);
        let mut strip = Vec::new();
        self.trainer.with_final_weights(&mut |model| {
            strip = preview::write(model, dataset, config.frames_in, &preview)?;
            Ok(())
        })?;
        self.recorder.log_image(self.trainer.steps(), "preview", &strip)?;
        let trained = self.seconds - self.seconds_before;
        Ok(Summary {
            out: self.out.clone(),
            checkpoint,
            preview,
            steps: self.trainer.steps(),
            seconds: self.seconds,
            samples_per_second: if trained > 0.0 { self.samples as f64 / trained } else { 0.0 },
            data_wait: self.loader.waited().as_secs_f64(),
            evaluation,
        })
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
        let samples = (self.config.batch_size * self.config.accumulate) as u64;
        self.seconds += seconds;
        self.samples += samples;
        let pace = Pace {
            seconds,
            samples: samples as f64,
            data_wait: (self.loader.waited() - waited).as_secs_f64(),
        };
        known.iter().try_for_each(|figures| self.told(figures, pace, observer))?;
        self.pace = pace;
        Ok(())
    }

    /// Waits for what the device still computes, and records it.
    fn settle(&mut self, observer: &mut dyn Observer) -> Result<()> {
        let known = self.trainer.settle()?;
        let pace = self.pace;
        known.iter().try_for_each(|figures| self.told(figures, pace, observer))
    }

    /// Shows and records a step.
    fn told(&mut self, figures: &StepFigures, pace: Pace, observer: &mut dyn Observer) -> Result<()> {
        self.shown.add(figures.loss, pace.seconds);
        self.record(figures, pace.samples / pace.seconds, pace.data_wait, observer)?;
        figures.verdict()?;
        let per_epoch = self.config.steps_per_epoch();
        observer.status(&Status {
            epoch: (figures.step - 1) / per_epoch + 1,
            epochs: self.total.div_ceil(per_epoch),
            step: figures.step,
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
        self.recorder.log_step(&StepRecord {
            step,
            epoch: self.epoch_of(step),
            loss: figures.loss,
            lr: figures.lr,
            grad_norm: figures.grad_norm,
            samples_per_second,
            data_wait,
            loss_scale: f64::from(figures.loss_scale),
        })?;
        if figures.skipped {
            let warning = format!("step {step}: the gradients are not finite; the step was skipped");
            observer.warn(&warning);
            self.recorder.log_warning(step, &warning)?;
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
        let (dataset, interrupt) = (&self.dataset, self.interrupt);
        let mut evaluated = Evaluation::default();
        self.trainer.with_final_weights(&mut |model| {
            evaluated = evaluate(model, dataset, &spec, &mut |_| interrupt.check())?;
            Ok(())
        })?;
        self.trainer.trim()?;
        let step = self.trainer.steps();
        let epoch = self.epoch_of(step);
        let mean = &evaluated.next.model.mean;
        let scalars = [("mse", mean.mse), ("mae", mean.mae), ("psnr", mean.psnr), ("ssim", mean.ssim)];
        self.recorder.log_eval(&EvalRecord {
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
        Ok(evaluated)
    }

    /// Says and records what is going wrong.
    fn watch(&mut self, step: u64, figures: Figures, observer: &mut dyn Observer) -> Result<()> {
        for warning in self.watcher.observe(step, &figures) {
            observer.warn(&warning);
            self.recorder.log_warning(step, &warning)?;
        }
        Ok(())
    }

    fn epoch_of(&self, step: u64) -> f64 {
        step as f64 / self.config.steps_per_epoch() as f64
    }

    fn save(&mut self) -> Result<PathBuf> {
        let keep = self.config.keep_last.map(|n| usize::try_from(n).unwrap_or(usize::MAX));
        let path = self.trainer.save(&self.out, self.seconds, keep)?;
        self.saved = self.trainer.steps();
        Ok(path)
    }
}

/// What the batches of a training look like.
pub(super) fn source(config: &TrainConfig, dataset: &Dataset) -> Source {
    Source {
        batch: config.batch_size,
        accumulate: config.accumulate,
        seen: config.frames_in,
        steps: dataset.frames(),
        side: dataset.side(),
        channels: dataset.channels(),
    }
}

/// Which batches a training takes after `steps` steps.
pub(super) fn loader_spec(config: &TrainConfig, steps: u64) -> LoaderSpec {
    let (per_epoch, parts) = (config.steps_per_epoch(), config.accumulate as u64);
    LoaderSpec {
        split: Split::Train,
        batch: config.batch_size,
        epoch: steps / per_epoch,
        first_batch: steps % per_epoch * parts,
        sequences_per_epoch: per_epoch * parts * config.batch_size as u64,
        seed: config.seed,
        shuffle: true,
        workers: 1,
        ahead: AHEAD,
    }
}

/// Whatever computes the steps on the device of the configuration.
fn engine(config: &TrainConfig, source: Source) -> Result<Box<dyn Engine>> {
    let (device, precision) = (config.device, config.precision);
    match device::open(device)? {
        Some(_) if precision == Precision::F32 => Err(Error::Usage(format!(
            "--precision f32: a GPU's tensor cores take f16; take --precision f16, or --device cpu (--device is {device})"
        ))),
        Some(cuda) => Ok(Box::new(DeviceTrainer::new(config, source, &cuda)?)),
        None if precision == Precision::F16 => Err(Error::Usage(
            "--precision f16: the processor trains in f32; take --precision f32, or --device cuda".into(),
        )),
        None => {
            memory::check(config)?;
            Ok(Box::new(Host::new(Trainer::new(config)?, source)))
        }
    }
}
