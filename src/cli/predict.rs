//! `predict`: the next frames of a sequence.

use std::path::{Path, PathBuf};

use clap::Args;

use super::Ui;
use super::files::{self, Output};
use crate::config::{Device, Layout, TrainConfig, limits};
use crate::data::npy;
use crate::eval::{self, Metrics, Score};
use crate::media::{self, Clip, Row, Style};
use crate::model::{CHANNELS, Predict, SKIP_FRAMES};
use crate::{Error, Result, device};
use ssmv_autograd::Tensor;

/// Command-line arguments of `predict`.
#[derive(Args, Clone, Debug)]
#[command(allow_negative_numbers = true)]
pub struct PredictArgs {
    /// Checkpoint, or a run folder, which stands for its latest checkpoint
    #[arg(long, value_name = "DIR")]
    pub checkpoint: PathBuf,
    /// Input frames, at least 3: an .npy file, a GIF, or a folder of PNGs in the order of their names
    #[arg(long, value_name = "PATH")]
    pub input: PathBuf,
    /// Output: an .npy file (float32; frame, height, width; not clipped), a .gif or .png (input, truth, prediction and
    /// error side by side), or a folder of PNGs (a name without an extension)
    #[arg(long, value_name = "PATH")]
    pub output: PathBuf,
    /// Frames to predict; more than the model predicts in one pass (train --frames-out) are predicted block by block, each
    /// from the predictions before it [default: those of one pass]
    #[arg(long, value_name = "K", value_parser = limits::whole::<u32>("frames"))]
    pub frames: Option<u32>,
    /// Number of frames that the model reads from the start of the input; the next ones are the truth to compare with
    /// [default: as trained, or all if the input has fewer]
    #[arg(long, value_name = "N", value_parser = limits::whole::<u32>("frames-in"))]
    pub frames_in: Option<u32>,
    /// Order of the axes in an .npy file [default: tnhw for uint8 of four axes, else thw, nthw or nthwc by their number]
    #[arg(long)]
    pub layout: Option<Layout>,
    /// Number of the sequence in an .npy input, counted from 0
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = limits::whole::<u32>("index"))]
    pub index: u32,
    /// CPU threads [default: one per core]
    #[arg(long, value_name = "N", value_parser = limits::whole::<u32>("threads"))]
    pub threads: Option<u32>,
    /// Device to compute on
    #[arg(long, default_value_t)]
    pub device: Device,
    /// Overwrite an existing output of the same kind; of a folder, its files frame-NNN.png, if it has no others
    #[arg(long)]
    pub force: bool,
}

/// Examples for the help.
pub const EXAMPLES: &str = "\
Examples:
  ssmv-raw predict --checkpoint runs/tiny --input mnist_test_seq.npy --index 7 --output next.gif
  ssmv-raw predict --checkpoint runs/tiny --input frames/ --output next/ --frames 10
  ssmv-raw data make --out clips.npy --split test --sequences 8
  ssmv-raw predict --checkpoint runs/tiny --input clips.npy --output next.npy --force";

/// Format of the output, chosen by its name.
#[derive(Clone, Copy)]
enum Form {
    Npy,
    Gif,
    Png,
    Folder,
}

/// Values further than this from [0, 1] are refused: the input most likely has values from 0 to 255.
const OVERSHOOT: f32 = 1.0;

/// Predicts and writes the output.
pub fn run(args: &PredictArgs, ui: &Ui) -> Result<()> {
    // First of all: without the device, all other work would be in vain.
    let cuda = device::open(args.device)?;
    let form = form(&args.output)?;
    files::must_exist(&args.checkpoint)?;
    files::must_exist(&args.input)?;
    files::must_not_be_read("--output", &args.output, &[&args.input], Some(&args.checkpoint))?;
    let output = match form {
        Form::Npy => Output::Frames,
        Form::Gif => Output::Gif,
        Form::Png => Output::Png,
        Form::Folder => Output::PngFolder,
    };
    files::must_be_free(&args.output, output, args.force)?;
    if !matches!(form, Form::Folder) {
        files::must_be_writable(&args.output)?;
    }
    device::use_threads(args.threads.map(|n| n as usize))?;
    let (model, loaded) = eval::load(&args.checkpoint)?;
    loaded.warnings.iter().for_each(|line| ui.warn(line));
    let trained = match &loaded.config {
        Some(config) => config.frames_in,
        None => TrainConfig::of(model.preset())?.frames_in,
    };
    let model = device::place(model, cuda.as_ref())?;
    let row = predict(args, &*model, trained)?;
    if let Some(truth) = &row.truth {
        ui.note(&quality(&row.prediction, truth)?);
    }
    write(&row, form, &args.output, args.force)?;
    ui.note(&format!("wrote {}", args.output.display()));
    Ok(())
}

/// The format for the name of an output.
fn form(output: &Path) -> Result<Form> {
    let ending = output.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
    match ending.as_deref() {
        Some("npy") => Ok(Form::Npy),
        Some("gif") => Ok(Form::Gif),
        Some("png") => Ok(Form::Png),
        None => Ok(Form::Folder),
        Some(_) if output.is_dir() => Ok(Form::Folder),
        Some(_) => Err(Error::Usage(format!(
            "--output {}: the name must end in .npy, .gif or .png, or have no extension (a folder)",
            output.display()
        ))),
    }
}

/// Reads the input, splits it and predicts. `trained` is the number of input frames in training.
fn predict(args: &PredictArgs, model: &dyn Predict, trained: usize) -> Result<Row> {
    let fail = |message: String| Err(Error::file(&args.input, message));
    let index = args.index as usize;
    let clips = media::read_clips(&args.input, files::layout(&args.input, args.layout), index..index + 1)?;
    let Some(clip) = clips.first() else { return fail("has no sequences".to_owned()) };
    let side = model.preset().size;
    if (clip.height, clip.width) != (side, side) {
        return fail(format!(
            "has frames of {}×{} pixels (height×width), but the model `{}` takes only {side}×{side}",
            clip.height,
            clip.width,
            model.preset().name
        ));
    }
    if clip.frames < SKIP_FRAMES {
        return fail(format!("has {} frames, but the model needs at least {SKIP_FRAMES}", clip.frames));
    }
    let frames_in = match args.frames_in {
        Some(wanted) if wanted as usize > clip.frames => {
            return fail(format!("has {} frames, fewer than --frames-in {wanted}", clip.frames));
        }
        Some(wanted) => wanted as usize,
        None => trained.min(clip.frames),
    };
    if let Some(value) = clip.values.iter().find(|v| !(-OVERSHOOT..=1.0 + OVERSHOOT).contains(*v)) {
        return fail(format!("contains {value}; float32 values must be between 0 (black) and 1 (white)"));
    }
    let input = clip.slice(0..frames_in)?;
    let count = args.frames.map_or(model.preset().frames_out, |n| n as usize);
    let truth = clip.slice(frames_in..frames_in + count).ok();
    let prediction = Clip::new(side, side, roll_out(model, &input, count)?)?;
    Ok(Row { input, truth, prediction })
}

/// The predicted frames, [count, S, S].
fn roll_out(model: &dyn Predict, input: &Clip, count: usize) -> Result<Vec<f32>> {
    let shape = [1, input.frames, input.height, input.width, CHANNELS];
    let frames = Tensor::build(shape, |colours: &mut [f32]| {
        for (pixel, value) in colours.chunks_exact_mut(CHANNELS).zip(&input.values) {
            pixel.fill(value.clamp(0.0, 1.0));
        }
    })?;
    let values = crate::model::frames::to_grey(&eval::roll_out(model, &frames, count)?)?;
    match values.iter().find(|v| !v.is_finite()) {
        Some(value) => {
            Err(Error::Failure(format!("the model predicts {value}: its weights are out of range")))
        }
        None => Ok(values),
    }
}

/// The mean metrics over the frames with a truth, as text.
fn quality(prediction: &Clip, truth: &Clip) -> Result<String> {
    let metrics = Metrics::new(truth.width, 1.0)?;
    let frames = prediction.frames.min(truth.frames);
    let mean = Score::mean((0..frames).map(|t| metrics.score(prediction.frame(t), truth.frame(t))));
    let Score { mse, mae, psnr, ssim } = mean;
    Ok(format!(
        "MSE {mse:.2} · MAE {mae:.2} · PSNR {psnr:.2} dB · SSIM {ssim:.4} (mean of {frames} frames with a truth)"
    ))
}

fn write(row: &Row, form: Form, output: &Path, force: bool) -> Result<()> {
    let rows = std::slice::from_ref(row);
    let clip = &row.prediction;
    match form {
        Form::Npy => npy::write_f32(output, &[clip.frames, clip.height, clip.width], &clip.values),
        Form::Gif => media::write_gif(output, &media::comparison(rows, Style::default())?),
        Form::Png => media::write_png(output, &media::strip(rows, Style::default())?),
        Form::Folder => media::write_png_folder(output, &clip.images(), force),
    }
}
