//! `train`: resolves the options; the training is in [`crate::train`].

use std::path::{Path, PathBuf};

use clap::Args;

use super::eval::comparison_table;
use super::{Progress, Table, Ui, files, ranks};
use crate::config::{
    CONFIG_FILE, ConfigFile, PRESETS, TrainConfig, TrainOptions, check_run_folder, create_run_folder,
    default_run_folder, find_config, resolve_over, shown_defaults,
};
use crate::data::DataSource;
use crate::report::REPORT_FILE;
use crate::text::clock;
use crate::train::{self, Observer, Status, Summary, interrupt::Interrupt, ranks::Member};
use crate::{Error, Result, device};
use ssmv_comm::rendezvous::Place;

/// Command-line arguments of `train`.
#[derive(Args, Clone, Debug, Default)]
pub struct TrainArgs {
    /// Options that a configuration file can also set
    #[command(flatten)]
    pub options: TrainOptions,
    /// TOML file with any of these options; it overrides the preset, and the command line overrides it
    #[arg(long, value_name = "FILE", help_heading = "Run")]
    pub config: Option<PathBuf>,
    /// Continue a run, with the same bits as without the interruption. PATH is a checkpoint, or a run folder, which stands
    /// for its latest checkpoint; without PATH it is --out. Options saved with the run apply unless overridden
    #[arg(long, value_name = "PATH", num_args = 0..=1, help_heading = "Run")]
    pub resume: Option<Option<PathBuf>>,
    /// Join ranks on other machines without a token; only for a network that is trusted
    #[arg(long, help_heading = "Several ranks")]
    pub insecure: bool,
    /// Print the resolved configuration as TOML, which --config can read, and exit
    #[arg(long, help_heading = "Run")]
    pub print_config: bool,
    /// Print the final summary as JSON
    #[arg(long, help_heading = "Run")]
    pub json: bool,
}

const EXAMPLES: &str = "\
Examples:
  ssmv-raw train
  ssmv-raw train --preset small --epochs 20 --out runs/small
  ssmv-raw train --out runs/small --resume
  ssmv-raw train --preset small --frames-out 5 --init runs/small
  ssmv-raw train --size 128 --data clips.npy
  ssmv-raw train --data mnist/ --digits 3 --loss l1 --lr 1e-3 --warmup 200
  ssmv-raw train --preset base --print-config > base.toml
  ssmv-raw train --config base.toml --batch-size 2 --accumulate 8

Defaults of the presets:
";

/// Examples, and a table of the presets' defaults.
pub fn after_help() -> String {
    // A column a preset: with a row a preset, the table would be wider than a terminal.
    let mut table = Table::new(std::iter::once("option").chain(PRESETS));
    for option in [
        "size",
        "sequences",
        "epochs",
        "batch-size",
        "lr",
        "warmup",
        "schedule",
        "loss",
        "weight-decay",
        "clip-norm",
        "save-every",
    ] {
        table.row(std::iter::once(option.to_owned()).chain(shown_defaults(option)));
    }
    table
        .to_string()
        .lines()
        .fold(EXAMPLES.to_owned(), |text, line| text + "  " + line + "\n")
        .trim_end()
        .to_owned()
}

/// A training run to start.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainRun {
    /// Resolved configuration; `out` may be missing only with [`TrainArgs::print_config`].
    pub config: TrainConfig,
    /// Checkpoint to resume from, or a run folder, which stands for its latest checkpoint.
    pub resume: Option<PathBuf>,
}

/// Trains; as one of several ranks if the environment says so.
pub fn run(args: &TrainArgs, ui: &Ui) -> Result<()> {
    let mut plan = plan(args)?;
    if args.print_config {
        return ui.print(&plan.config.to_toml()?);
    }
    let place = ranks::place()?;
    let of_ranks = take_ranks(&mut plan, place.as_ref());
    let mut member = match &place {
        Some(place) => Some(ranks::meet(place, &plan.config, args.insecure)?),
        None => None,
    };
    // Only rank 0 prints.
    let quiet = Ui::new(true);
    let leads = place.as_ref().is_none_or(|place| place.rank == 0);
    let ui = if leads { ui } else { &quiet };
    of_ranks.iter().for_each(|line| ui.note(line));
    let named = plan.config.out.take();
    let is_new = named.is_none() && leads;
    let out = match named {
        Some(out) => Ok(out),
        None if leads => create_run_folder(&default_run_folder(&plan.config)),
        // Only rank 0 writes.
        None => Ok(default_run_folder(&plan.config)),
    };
    let out = match (out, &mut member) {
        (Err(error), Some(member)) => {
            member.communicator.abandon(&error.to_string());
            return Err(error);
        }
        (out, _) => out?,
    };
    plan.config.out = Some(out.clone());
    let result = train(&plan, member, ui, leads.then_some(args.json), || {
        // A run may only be continued in its own folder; any other must be new.
        let own = plan.resume.as_deref().and_then(run_folder_of);
        if own.is_none() || own != out.canonicalize().ok() { check_run_folder(&out) } else { Ok(()) }
    });
    if is_new && result.is_err() {
        // A training that failed before its start leaves no empty folder; one that is not empty is not removed.
        let _ = std::fs::remove_dir(&out);
    }
    result
}

/// Sets the options that depend on the number of ranks. Returns notes about the changes.
fn take_ranks(plan: &mut TrainRun, place: Option<&Place>) -> Vec<String> {
    let config = &mut plan.config;
    let (before, now) = (config.ranks, place.map_or(1, |place| place.size));
    config.ranks = now;
    if let Some(place) = place
        && config.threads.is_none()
    {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        // Slurm can assign cores to each rank.
        let own = std::env::var("SLURM_CPUS_PER_TASK").ok().and_then(|count| count.parse::<usize>().ok());
        config.threads = Some(own.map_or(cores / place.local_size, |own| own.min(cores)).max(1));
    }
    let (batch, step) = (config.batch_size * config.accumulate, config.sequences_per_step());
    let mut lines = Vec::new();
    if plan.resume.is_some() && before != now {
        let old = batch * before;
        lines.push(format!(
            "the run had {} and continues with {now}: a step takes {} instead of {old}, and epochs and schedule are \
             counted in such steps; set --batch-size to keep the old size, if it divides",
            counted(before as u64, "rank"),
            counted(step, "sequence")
        ));
    } else if now > 1 {
        lines.push(format!("{now} ranks, each with {batch} of a step's {step} sequences"));
    }
    lines
}

/// `1 rank`, `2 ranks`.
fn counted(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// Runs the training and prints its summary. `json` is the format of the summary; `None` on ranks that print none.
fn train(
    plan: &TrainRun,
    member: Option<Member>,
    ui: &Ui,
    json: Option<bool>,
    check_folder: impl FnOnce() -> Result<()>,
) -> Result<()> {
    device::use_threads(plan.config.threads)?;
    let interrupt = Interrupt::install()?;
    let mut member = member;
    if let (true, Err(error)) = (json.is_some(), check_folder()) {
        if let Some(member) = &mut member {
            member.communicator.abandon(&error.to_string());
        }
        return Err(error);
    }
    let mut screen = Screen { ui, stage: None, progress: ui.progress(plan.config.total_steps()) };
    let result = train::run_with_ranks(member, &plan.config, plan.resume.as_deref(), &interrupt, &mut screen);
    screen.progress.finish();
    let summary = result?;
    match json {
        None => return Ok(()),
        Some(true) => return ui.json(&summary),
        Some(false) => {}
    }
    ui.note(&summary_lines(&plan.config, &summary));
    ui.table(&comparison_table(&summary.evaluation.next))?;
    ui.note(&format!("checkpoint {}", summary.checkpoint.display()));
    if let Some(preview) = &summary.preview {
        ui.note(&format!("preview    {}", preview.display()));
    }
    let report = summary.out.join(REPORT_FILE);
    if plan.config.report && report.is_file() {
        ui.note(&format!("report     {}", report.display()));
    }
    Ok(())
}

/// Summary of the training, and an explanation of the table below it.
fn summary_lines(config: &TrainConfig, summary: &Summary) -> String {
    let preset = &config.preset;
    let made = matches!(config.data_spec(), Ok(spec) if !matches!(spec.source, DataSource::Clips { .. }));
    let of_digits = if made { " of other digits" } else { "" };
    let Summary { steps, samples_per_second, data_wait, evaluation, .. } = summary;
    let time = clock(summary.seconds);
    format!(
        "{preset}: {steps} steps in {time}, {samples_per_second:.1} samples/s, {data_wait:.1} s waiting for data\n\
         {} test sequences{of_digits}; MSE and MAE are sums over the pixels of a frame",
        evaluation.sequences
    )
}

/// Shows a training on the terminal.
struct Screen<'a> {
    ui: &'a Ui,
    /// Bar of the compilation of kernels, or of an evaluation, while it runs.
    stage: Option<Progress>,
    progress: Progress,
}

impl Screen<'_> {
    /// A bar on a terminal; in a log, a line every ten seconds.
    fn stage(&mut self, done: u64, total: u64, what: &str) {
        let bar = self.stage.get_or_insert_with(|| self.ui.progress(total).without_first_line());
        if done == total {
            self.stage = None;
        } else {
            bar.set(done, &format!("{done} of {total} {what}"));
        }
    }
}

impl Observer for Screen<'_> {
    fn compiling(&mut self, done: usize, total: usize) {
        self.stage(done as u64, total as u64, "kernels compiled");
    }

    fn decoding(&mut self, done: usize, total: usize) {
        self.stage(done as u64, total as u64, "clips decoded");
    }

    fn evaluating(&mut self, done: u64, total: u64) {
        self.stage(done, total, "test sequences evaluated");
    }

    fn status(&mut self, status: &Status) {
        self.progress.training(status);
    }

    fn note(&mut self, line: &str) {
        self.ui.note(line);
    }

    fn warn(&mut self, line: &str) {
        self.ui.warn(line);
    }
}

/// The run that the arguments describe, checked as far as possible without the data. Layers, from the highest: the command
/// line, `--config`, the saved configuration of a resumed run, the preset's defaults.
pub fn plan(args: &TrainArgs) -> Result<TrainRun> {
    let file = args.config.as_ref().map(ConfigFile::read).transpose()?;
    let Some(path) = &args.resume else {
        let config = resolve_over(&args.options, &file.iter().collect::<Vec<_>>())?;
        return Ok(TrainRun { config, resume: None });
    };
    let out = args.options.out.as_ref().or_else(|| file.as_ref()?.options.out.as_ref());
    let Some(path) = path.as_ref().or(out) else {
        return Err(Error::Usage(
            "--resume needs a PATH, or --out with the run folder to continue".to_owned(),
        ));
    };
    files::must_exist(path)?;
    let mut own = match find_config(path) {
        Some(own) => ConfigFile::read(own)?,
        None => {
            return Err(Error::file(
                path,
                format!("is not a run folder or a checkpoint in one: {CONFIG_FILE} of the run is missing"),
            ));
        }
    };
    // The folder may have been moved since its name was saved.
    own.options.out = None;
    // The run has its weights.
    own.options.init = None;
    if file.as_ref().is_some_and(|file| file.options.init.is_some()) {
        return Err(Error::Usage(
            "--resume continues a run with its own weights: remove `init` from the file of --config"
                .to_owned(),
        ));
    }
    let mut config = resolve_over(&args.options, &[&own].into_iter().chain(&file).collect::<Vec<_>>())?;
    if config.out.is_none() {
        config.out = own.path.parent().map(Path::to_owned);
    }
    Ok(TrainRun { config, resume: Some(path.clone()) })
}

/// The run folder that `path` is or lies in.
fn run_folder_of(path: &Path) -> Option<PathBuf> {
    find_config(path)?.parent()?.canonicalize().ok()
}
