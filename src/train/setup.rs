//! The start of a training: data, a trainer on the configured device, the run folder.

use std::{fs, path::Path, sync::Arc};

use ssmv_autograd::bf16_available;

use super::{
    backend::Source,
    divergence::DivergenceMonitor,
    gpu::compile,
    interrupt::Interrupt,
    memory, precision, preview,
    ranks::Ranks,
    resumption,
    run::{Observer, Pace, Run, Shown},
    trainer::Trainer,
};
use crate::{
    Error, Result,
    checkpoint::{self, CHECKPOINTS_FOLDER, Checkpoint},
    config::{CLIPS_FILE, CONFIG_FILE, TrainConfig},
    data::{Dataset, Loader, LoaderSpec, Split},
    device,
    record::{METRICS_FILE, Recorder, RunFolder, Start, host_name},
    report::LiveReport,
    text::now,
};

/// Number of batches that the loader keeps ready.
const AHEAD: usize = 4;

impl<'a> Run<'a> {
    /// Prepares everything for the first step.
    pub(super) fn prepare(
        config: &TrainConfig,
        resume: Option<&Path>,
        interrupt: &'a Interrupt,
        ranks: Option<Arc<Ranks>>,
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        let mut config = config.clone();
        let out = config.out.clone().ok_or_else(|| Error::Usage("--out: no run folder was named".into()))?;
        let dataset = open_data(&mut config, &out, ranks.is_some(), observer)?;
        let held = usize::try_from(dataset.epoch_len(Split::Train)).unwrap_or(usize::MAX);
        if (held as u64) < config.sequences_per_step() {
            let (batch, parts, ranks) = (config.batch_size, config.accumulate, config.ranks);
            let of_ranks = if ranks > 1 { format!(" × {ranks} ranks") } else { String::new() };
            return Err(Error::Usage(format!(
                "--data {}: has {held} training sequences, and one optimiser step takes {batch} (--batch-size) × \
                 {parts} (--accumulate){of_ranks}",
                config.data
            )));
        }
        if held < config.sequences {
            observer.note(&format!("the data has {held} training sequences: that is an epoch"));
            config.sequences = held;
        }
        // Shown only when the training can start: a refused one prints just its error.
        let mut notes = Vec::new();
        if let Some(all) = dataset.len(Split::Train).filter(|&all| all > config.sequences as u64) {
            notes.push(format!(
                "an epoch is {} of the data's {all} training sequences (--sequences)",
                config.sequences
            ));
        }
        let steps = config.total_steps();
        if config.warmup > steps {
            let warmup = steps / 10;
            notes.push(format!(
                "the warm-up of {} steps is longer than the training of {steps}: it is shortened to {warmup} (--warmup)",
                config.warmup
            ));
            config.warmup = warmup;
        }
        notes.extend(preview::note(config.frames_in));
        let rank = ranks.as_ref().map_or(0, |ranks| ranks.rank());
        // Before the checkpoint is read, which another process might replace.
        let locked = (rank == 0 && resume.is_some()).then(|| RunFolder::lock(&out)).transpose()?;
        let local = ranks.as_ref().map_or(0, |ranks| ranks.local().rank);
        let (mut trainer, mut start) = trainer(&config, source(&config, &dataset), local, observer)?;
        notes.iter().for_each(|note| observer.note(note));
        let checkpoint = resume.map(Checkpoint::open).transpose()?;
        if let (None, Some(path)) = (&checkpoint, &config.init) {
            initialise(&mut trainer, path, observer)?;
        }
        let seconds = match &checkpoint {
            Some(checkpoint) => {
                checkpoint.warnings().iter().for_each(|w| observer.warn(w));
                let state = trainer.restore(checkpoint)?;
                observer.note(&format!("resumed {} at step {}", checkpoint.path().display(), state.step));
                if let Some(old) = resumption::saved_config(checkpoint.path())? {
                    let lines = resumption::changes(&old, (&config, trainer.epochs()), &state)?;
                    lines.iter().for_each(|line| observer.note(line));
                }
                state.seconds
            }
            None => 0.0,
        };
        if let Some(ranks) = &ranks {
            let start = trainer.snapshot()?;
            ranks.compare_start(start.step, start.model.arena.values()?)?;
            if let Some(line) = trainer.share(Arc::clone(ranks), config.comm)? {
                observer.note(&line);
            }
        }
        let (epochs, steps) = (trainer.epochs(), trainer.steps());
        let total = epochs.total_steps(&config);
        let spec = loader_spec(&config, epochs.position(steps), rank);
        let dataset = Arc::new(dataset);
        let loader = Loader::new(Arc::clone(&dataset), spec)?;
        let records = rank == 0;
        if records && checkpoint.is_some() {
            resumption::check_unfinished(&out, steps, total)?;
        }
        (start.step, start.total_steps) = (trainer.steps(), total);
        let recorder = records
            .then(|| open_folder(&config, &out, locked, checkpoint.is_some(), &start, observer))
            .transpose()?;
        let report = (records && config.report).then(|| (LiveReport::new(&out), false));
        Ok(Self {
            total,
            epochs,
            saved: trainer.steps(),
            config,
            interrupt,
            ranks,
            out,
            trainer,
            dataset,
            loader,
            recorder,
            report,
            divergence_monitor: DivergenceMonitor::new(),
            seconds,
            seconds_before: seconds,
            samples: 0,
            shown: Shown::default(),
            pace: Pace::default(),
        })
    }
}

/// Opens the data. What was found out about an array is written to the configuration, so that an evaluation reads it alike.
fn open_data(
    config: &mut TrainConfig,
    out: &Path,
    shared: bool,
    observer: &mut dyn Observer,
) -> Result<Dataset> {
    let mut spec = config.data_spec()?;
    // Several ranks must not write one file. Clips that need no decoding leave no file.
    spec.cache = (!shared).then(|| out.join(CLIPS_FILE));
    let dataset = Dataset::open_with(&spec, &mut |done, total| observer.decoding(done, total))?;
    dataset.notes().iter().for_each(|note| observer.note(note));
    dataset.warnings().iter().for_each(|line| observer.warn(line));
    if let Some(found) = dataset.clip_options() {
        config.layout = found.layout;
    }
    Ok(dataset)
}

/// Takes the weights of `path` that fit, and lists those that do not.
fn initialise(trainer: &mut Trainer, path: &Path, observer: &mut dyn Observer) -> Result<()> {
    let from = Checkpoint::open(path)?;
    from.warnings().iter().for_each(|line| observer.warn(line));
    let adopted = trainer.initialise(&from)?;
    let (taken, all) = (adopted.taken, adopted.all);
    observer
        .note(&format!("--init {}: {taken} of the model's {all} tensors are taken", from.path().display()));
    adopted.lines.iter().for_each(|line| observer.note(&format!("--init: {line}")));
    Ok(())
}

/// Creates the run folder, or continues in it, and writes the configuration and the start to it.
fn open_folder(
    config: &TrainConfig,
    out: &Path,
    locked: Option<RunFolder>,
    resumed: bool,
    start: &Start,
    observer: &mut dyn Observer,
) -> Result<Recorder> {
    let folder = locked.map_or_else(|| RunFolder::lock(out), Ok)?;
    folder.warning().into_iter().for_each(|line| observer.warn(line));
    let log_exists = fs::exists(out.join(METRICS_FILE)).unwrap_or(false);
    let recorder =
        if resumed && log_exists { Recorder::append(folder, start.step)? } else { Recorder::create(folder)? };
    if resumed {
        // Checkpoints of later steps belong to a course that this resumption abandons.
        for path in checkpoint::set_aside_after(&out.join(CHECKPOINTS_FOLDER), start.step)? {
            observer.warn(&format!("a checkpoint of a later step was set aside: {}", path.display()));
        }
    }
    let path = out.join(CONFIG_FILE);
    // Omit the folder's own name: the folder may be moved, and the file can configure other runs.
    // Also omit the options that only serve to examine one failure.
    let here = || std::env::current_dir().ok().filter(|_| config.data != "digits");
    let started_in = config.started_in.clone().or_else(here);
    let written =
        TrainConfig { started_in, out: None, no_graph: false, check_finite: false, ..config.clone() };
    crate::OutputFile::write(&path, written.to_toml()?.as_bytes())?;
    start.append(out)?;
    Ok(recorder)
}

/// The shape of a training's batches.
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

/// The batches that rank `rank` takes from position `steps` in its epochs on.
pub(super) fn loader_spec(config: &TrainConfig, steps: u64, rank: usize) -> LoaderSpec {
    let (per_epoch, parts) = (config.steps_per_epoch(), config.accumulate as u64);
    LoaderSpec {
        split: Split::Train,
        batch: config.batch_size,
        epoch: steps / per_epoch,
        first_batch: steps % per_epoch * parts,
        sequences_per_epoch: per_epoch * config.sequences_per_step(),
        share: (rank as u64, config.ranks as u64),
        seed: config.seed,
        shuffle: true,
        workers: 1,
        ahead: AHEAD,
    }
}

/// A trainer on the configured device (with several GPUs, on this rank's), and a description of the machine.
fn trainer(
    config: &TrainConfig,
    source: Source,
    local_rank: usize,
    observer: &mut dyn Observer,
) -> Result<(Trainer, Start)> {
    let gpu = device::open_for(config.device, local_rank)?;
    let precision =
        precision::resolve(config.precision, gpu.as_ref().map(|_| config.device), bf16_available())?;
    let start = Start {
        time: now(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        host: host_name(),
        device: gpu.as_ref().map_or("cpu".to_owned(), |cuda| cuda.device().name.clone()),
        precision: precision.to_string(),
        processor: ssmv_autograd::processor(),
        threads: rayon::current_num_threads(),
        memory_bytes: ssmv_autograd::host_memory().map(|memory| memory.total),
        ranks: config.ranks,
        ..Start::default()
    };
    let trainer = match gpu {
        Some(cuda) => {
            compile(config, source, &cuda, &mut |done, total| observer.compiling(done, total))?;
            Trainer::on_gpu(config, source, &cuda)?.boxed()
        }
        None => {
            memory::check(config)?;
            Trainer::on_cpu(config, source)?.boxed()
        }
    };
    Ok((trainer, start))
}
