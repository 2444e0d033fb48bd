//! `eval`: errors of a checkpoint's predictions and of the baselines.

use std::path::{Path, PathBuf};

use clap::Args;

use serde::Serialize;

use super::clip_args::ClipArgs;
use super::files::{self, Output};
use super::{Table, Ui};
use crate::config::{Device, Rule, TrainConfig, limits};
use crate::data::{DataSpec, Dataset, Split};
use crate::eval::{self, Comparison, EvalSpec, Evaluation, Loaded, Score};
use crate::model::Preset;
use crate::train::divergence::{DivergenceMonitor, Figures};
use crate::{Error, Result, device};

/// Command-line arguments of `eval`. Defaults are those of the checkpoint's training.
#[derive(Args, Clone, Debug)]
#[command(allow_negative_numbers = true)]
pub struct EvalArgs {
    /// Checkpoint, or a run folder, which stands for its latest checkpoint
    #[arg(long, value_name = "DIR")]
    pub checkpoint: PathBuf,
    /// `digits` (built in), MNIST's IDX files or their folder, or clips, as for `train` [default: as trained]
    #[arg(long, value_name = "digits|PATH", help_heading = "Data")]
    pub data: Option<String>,
    /// How clips are read
    #[command(flatten)]
    pub clips: ClipArgs,
    /// Frames from the start of a window of a clip to the next one's [default: the window's length]
    #[arg(long, value_name = "FRAMES", value_parser = limits::whole::<u32>("stride"), help_heading = "Clips")]
    pub stride: Option<u32>,
    /// Motion of the digits [default: as trained]
    #[arg(long, help_heading = "Data")]
    pub rule: Option<Rule>,
    /// Digits in a sequence [default: as trained]
    #[arg(long, value_name = "N", value_parser = limits::whole::<u32>("digits"), help_heading = "Data")]
    pub digits: Option<u32>,
    /// Side of a frame in pixels [default: as trained]
    #[arg(long, value_name = "PIXELS", value_parser = limits::whole::<u32>("canvas"), help_heading = "Data")]
    pub canvas: Option<u32>,
    /// Side of a digit in pixels [default: as trained]
    #[arg(
        long,
        value_name = "PIXELS",
        value_parser = limits::whole::<u32>("digit-size"),
        help_heading = "Data"
    )]
    pub digit_size: Option<u32>,
    /// Input frames of the model [default: as trained]
    #[arg(long, value_name = "N", value_parser = limits::whole::<u32>("frames-in"), help_heading = "Data")]
    pub frames_in: Option<u32>,
    /// Number of test sequences; all of them if clips have fewer
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1000,
        value_parser = limits::whole::<u32>("sequences"),
        help_heading = "Data"
    )]
    pub sequences: u32,
    /// Seed of the sequences
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0,
        value_parser = limits::whole::<u64>("seed"),
        help_heading = "Data"
    )]
    pub seed: u64,
    /// Frames to predict when predictions are fed back as input, besides the frames of one pass
    #[arg(long, value_name = "FRAMES", default_value_t = 10, value_parser = limits::whole::<u32>("roll-out"))]
    pub roll_out: u32,
    /// Data range of SSIM: 1, or 2 as in older tables
    #[arg(long, value_name = "1|2", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=2))]
    pub ssim_range: u8,
    /// Sequences in a batch
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = limits::whole::<u32>("batch-size"))]
    pub batch_size: u32,
    /// CPU threads [default: one per core]
    #[arg(long, value_name = "N", value_parser = limits::whole::<u32>("threads"))]
    pub threads: Option<u32>,
    /// Device to compute on
    #[arg(long, default_value_t)]
    pub device: Device,
    /// Print the results as JSON instead of a table
    #[arg(long)]
    pub json: bool,
    /// Also write the results to FILE as JSON
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Overwrite an existing result at --out
    #[arg(long, requires = "out")]
    pub force: bool,
}

/// Examples for the help.
pub const EXAMPLES: &str = "\
Examples:
  ssmv-raw eval --checkpoint runs/tiny
  ssmv-raw eval --checkpoint runs/tiny --data mnist_test_seq.npy --sequences 10000 --json
  ssmv-raw eval --checkpoint runs/tiny --rule ssm-video --digits 3 --roll-out 20 --out result.json";

/// The results as JSON.
#[derive(Serialize)]
struct Report<'a> {
    checkpoint: &'a Path,
    preset: &'a str,
    step: Option<u64>,
    data: &'a DataSpec,
    #[serde(flatten)]
    evaluation: &'a Evaluation,
}

/// Evaluates a checkpoint and prints the results.
pub fn run(args: &EvalArgs, ui: &Ui) -> Result<()> {
    // First of all: without the device, all other work would be in vain.
    let cuda = device::open(args.device)?;
    files::must_exist(&args.checkpoint)?;
    if let Some(out) = &args.out {
        let data: Vec<&Path> = args.data.iter().map(Path::new).collect();
        files::must_not_be_read("--out", out, &data, Some(&args.checkpoint))?;
        // A pipe or a device (/dev/stdout) is written to, not replaced.
        if !files::is_stream(out) {
            files::must_be_free(out, Output::Report, args.force)?;
        }
        files::must_be_writable(out)?;
    }
    device::use_threads(args.threads.map(|n| n as usize))?;
    let (model, loaded) = eval::load(&args.checkpoint)?;
    loaded.warnings.iter().for_each(|line| ui.warn(line));
    let preset = &model.preset.clone();
    let config = config(args, preset, &loaded)?;
    let data = DataSpec { sequences: u64::from(args.sequences), seed: args.seed, ..config.data_spec()? };
    let dataset = open(args, &config, &data, &loaded)?;
    dataset.notes().iter().for_each(|note| ui.note(note));
    dataset.warnings().iter().for_each(|line| ui.warn(line));
    if let Some(trained) = loaded.config.as_ref().filter(|trained| trained.data_name() != config.data) {
        let (before, now) = (&trained.data, &config.data);
        ui.note(&format!(
            "the model was trained on --data {before}; --data {now} may contain the same sequences"
        ));
    }

    let spec = EvalSpec {
        sequences: u64::from(args.sequences),
        frames_in: config.frames_in,
        roll_out: args.roll_out as usize,
        batch_size: args.batch_size as usize,
        ssim_range: f64::from(args.ssim_range),
    };
    let has = dataset.len(Split::Test).unwrap_or(u64::MAX);
    let mut progress = ui.progress(spec.sequences.min(has));
    let model = device::place(model, cuda.as_ref())?;
    let evaluation = eval::evaluate(&*model, &dataset, &spec, &mut |done| {
        progress.set(done, &format!("{done} sequences"));
        Ok(())
    })?;
    drop(progress);

    evaluation.notes.iter().for_each(|note| ui.note(note));
    let figures = Figures {
        predicted_mean: Some(evaluation.brightness.predicted_mean),
        target_mean: Some(evaluation.brightness.target_mean),
        l1: Some(evaluation.brightness.l1),
        black_l1: Some(evaluation.brightness.black_l1),
        ..Figures::default()
    };
    let step = loaded.step.unwrap_or_default();
    DivergenceMonitor::new().observe(step, &figures).iter().for_each(|line| ui.warn(line));
    let report = Report {
        checkpoint: &loaded.path,
        preset: preset.name,
        step: loaded.step,
        data: &data,
        evaluation: &evaluation,
    };
    if let Some(out) = &args.out {
        ui.write_json(out, &report)?;
    }
    if args.json { ui.json(&report) } else { ui.print(&text(&report)) }
}

/// The configuration of the checkpoint's training (or of its preset), overridden by the arguments.
fn config(args: &EvalArgs, preset: &Preset, loaded: &Loaded) -> Result<TrainConfig> {
    let mut config = match &loaded.config {
        Some(config) => config.clone(),
        None => TrainConfig::of(preset)?,
    };
    if let Some(canvas) = args.canvas.filter(|&canvas| canvas as usize != preset.size) {
        return Err(Error::Usage(format!(
            "--canvas is {canvas}, but the checkpoint's model `{}` takes only frames of {} pixels",
            preset.name, preset.size
        )));
    }
    match &args.data {
        Some(data) => config.data.clone_from(data),
        None => config.data = config.data_name(),
    }
    if args.data.is_none() && config.data != "digits" && !Path::new(&config.data).exists() {
        return Err(Error::file(
            &loaded.path,
            format!(
                "was trained on --data {}, which does not exist here; name the data by --data",
                config.data
            ),
        ));
    }
    let options = match config.data.as_str() {
        "digits" => config.clip_options(),
        data => {
            let path = Path::new(data);
            if !path.exists() {
                config.data_spec()?;
            }
            args.clips.options(path, loaded.config.as_ref())?
        }
    };
    (config.layout, config.range) = (options.layout, options.range);
    (config.resize, config.fps) = (options.resize, options.fps);
    config.stride = args.stride.map(|stride| stride as usize);
    let set = |to: &mut usize, from: Option<u32>| *to = from.map_or(*to, |n| n as usize);
    set(&mut config.digits, args.digits);
    set(&mut config.digit_size, args.digit_size);
    set(&mut config.frames_in, args.frames_in);
    config.rule = args.rule.unwrap_or(config.rule);
    Ok(config)
}

/// The test sequences: all clips, or their test split if the model was trained on that file.
fn open(args: &EvalArgs, config: &TrainConfig, data: &DataSpec, loaded: &Loaded) -> Result<Dataset> {
    let file = |name: &str| Path::new(name).canonicalize().ok();
    let trained_on = loaded.config.as_ref().and_then(|config| file(&config.data_name()));
    let whole_file = trained_on.is_none_or(|trained| file(&config.data) != Some(trained));
    let frames = [config.frames_in, config.frames_out];
    eval::open_data(data, frames, args.roll_out as usize, whole_file, &mut |_, _| ())
}

/// The results as text.
fn text(report: &Report) -> String {
    let Report { evaluation, preset, .. } = report;
    let step = report.step.map(|step| format!(", step {step}")).unwrap_or_default();
    let mut text = format!(
        "{preset}{step}: {} test sequences, {} input frames; MSE and MAE are sums over the pixels of a frame\n",
        evaluation.sequences, evaluation.frames_in
    );
    text += &format!(
        "\nThe next {} frames\n{}",
        evaluation.next.model.frames.len(),
        comparison_table(&evaluation.next)
    );
    if let Some(rolled) = &evaluation.roll_out {
        let frames = rolled.model.frames.len();
        text += &format!(
            "\nRoll-out over {frames} frames: predictions are fed back as input\n{}",
            comparison_table(rolled)
        );
    }
    text
}

/// One row for each predicted frame: the metrics of the model and of both baselines side by side.
pub(super) fn comparison_table(comparison: &Comparison) -> Table {
    type Metric = (&'static str, fn(&Score) -> String);
    let metrics: [Metric; 4] = [
        ("MSE ↓", |s| format!("{:.2}", s.mse)),
        ("MAE ↓", |s| format!("{:.2}", s.mae)),
        ("PSNR ↑", |s| format!("{:.2}", s.psnr)),
        ("SSIM ↑", |s| format!("{:.4}", s.ssim)),
    ];
    let Comparison { model, black, copy } = comparison;
    let mut table = Table::default();
    table.row([""].into_iter().chain(metrics.iter().flat_map(|(name, _)| [*name, "", ""])));
    table.row(["frame"].into_iter().chain(metrics.iter().flat_map(|_| ["model", "black", "copy"]))).line();
    let row = |name: String, scores: [&Score; 3]| {
        let cells = metrics.iter().flat_map(|(_, show)| scores.map(show));
        [name].into_iter().chain(cells).collect::<Vec<_>>()
    };
    for (t, ((m, b), c)) in model.frames.iter().zip(&black.frames).zip(&copy.frames).enumerate() {
        table.row(row(format!("+{}", t + 1), [m, b, c]));
    }
    table.line().row(row("mean".to_owned(), [&model.mean, &black.mean, &copy.mean]));
    table
}
