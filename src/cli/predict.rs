//! `predict`: the next frames of sequences.

use std::path::{Path, PathBuf};

use clap::Args;

use super::Ui;
use super::clip_args::ClipArgs;
use super::files::{self, Output};
use crate::clips::{Cache, Clips};
use crate::config::{Device, TrainConfig, limits};
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
    /// Clips with at least 3 frames: an .npy or .npz array, a GIF, an animated PNG, a video (through ffmpeg), or a folder of
    /// them, of folders of frames, or of frames in the order of their names
    #[arg(long, value_name = "PATH")]
    pub input: PathBuf,
    /// Output: an .npy file (float32; sequence if there are several, frame, height, width, colour if there are colours; not
    /// clipped), a .gif or .png (input, truth, prediction and error side by side), or a folder of PNGs (a name without an
    /// extension; of several sequences, a folder each)
    #[arg(long, value_name = "PATH")]
    pub output: PathBuf,
    /// Frames to predict; more than the model predicts in one pass (train --frames-out) are predicted block by block, each
    /// from the predictions before it [default: those of one pass]
    #[arg(long, value_name = "K", value_parser = limits::whole::<u32>("frames"))]
    pub frames: Option<u32>,
    /// Number of frames that the model reads from the start of a sequence; the next ones, if there are any, are the truth to
    /// compare with [default: as trained, or all if the sequence has fewer]
    #[arg(long, value_name = "N", value_parser = limits::whole::<u32>("frames-in"))]
    pub frames_in: Option<u32>,
    /// Predict only this sequence, counted from 0 [default: all; in a .gif or .png, the first 4]
    #[arg(long, value_name = "N", value_parser = limits::whole::<u32>("index"))]
    pub index: Option<u32>,
    /// How clips are read
    #[command(flatten)]
    pub clips: ClipArgs,
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
  ssmv-raw predict --checkpoint runs/tiny --input clips.npy --output next.npy";

/// Format of the output, chosen by its name.
#[derive(Clone, Copy)]
enum Form {
    Npy,
    Gif,
    Png,
    Folder,
}

/// Sequences that are predicted together.
const BATCH: usize = 16;
/// Sequences in a picture, unless one is picked.
const DRAWN: usize = 4;
/// Maximum size in bytes of all predictions: 1 GiB.
const MAX_BYTES: usize = 1 << 30;

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
    let chosen = match (args.index, form) {
        (Some(index), _) => index as usize..index as usize + 1,
        (None, Form::Gif | Form::Png) => 0..DRAWN,
        (None, Form::Npy | Form::Folder) => 0..usize::MAX,
    };
    let options = args.clips.options(&args.input, loaded.config.as_ref())?;
    let side = model.preset().size;
    let mut progress = None;
    let mut decoded = |done: usize, total: usize| {
        let progress = progress.get_or_insert_with(|| ui.progress(total as u64));
        progress.set(done as u64, &format!("{done} clips decoded"));
    };
    let clips = Clips::open(&args.input, &options, Some(side), chosen, Cache::Unnamed, &mut decoded)?;
    drop(progress);
    ui.note(&format!("--input {}: {}", args.input.display(), clips.summary()));
    clips.warnings().iter().for_each(|line| ui.warn(line));
    if args.index.is_none() && clips.len() < clips.total() {
        ui.note(&format!("the first {} of {} sequences are drawn (--index)", clips.len(), clips.total()));
    }
    let count = args.frames.map_or(model.preset().frames_out, |n| n as usize);
    let mut progress = ui.progress(clips.len() as u64);
    let (mut rows, mut bytes) = (Vec::new(), 0_usize);
    for first in (0..clips.len()).step_by(BATCH) {
        let batch = first..clips.len().min(first + BATCH);
        let given = batch
            .clone()
            .map(|clip| given(args, trained, count, &clips, clip))
            .collect::<Result<Vec<_>>>()?;
        // Sequences of as many frames are predicted together.
        for alike in given.chunk_by(|a, b| a.input.frames == b.input.frames) {
            let predictions = roll_out(&*model, alike, count)?;
            for (Given { input, truth }, prediction) in alike.iter().cloned().zip(predictions) {
                bytes += size_of_val(&prediction.values[..]);
                rows.push(Row { input, truth, prediction });
            }
        }
        if bytes > MAX_BYTES {
            let message = "has too many sequences: their predictions exceed 1 GiB; use --index";
            return Err(Error::file(&args.input, message));
        }
        progress.set(batch.end as u64, &format!("{} sequences", batch.end));
    }
    drop(progress);
    ui.note(&plan(&rows));
    if let Some(line) = quality(&rows)? {
        ui.note(&line);
    }
    write(&rows, form, &args.output, args.force)?;
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

/// A sequence before its prediction: what the model reads, and the next frames that were given.
#[derive(Clone)]
struct Given {
    input: Clip,
    truth: Option<Clip>,
}

/// Splits a sequence into inputs and the truth of `count` frames. `trained` is the number of input frames in training.
fn given(args: &PredictArgs, trained: usize, count: usize, clips: &Clips, clip: usize) -> Result<Given> {
    let number = clip + args.index.map_or(0, |index| index as usize);
    let fail = |message: String| Err(Error::file(&args.input, format!("sequence {number} {message}")));
    let frames = clips.frames(clip);
    if frames < SKIP_FRAMES {
        return fail(format!("has {frames} frames, but the model needs at least {SKIP_FRAMES}"));
    }
    let frames_in = match args.frames_in {
        Some(wanted) if wanted as usize > frames => {
            return fail(format!("has {frames} frames, fewer than --frames-in {wanted}"));
        }
        Some(wanted) => wanted as usize,
        None => trained.min(frames),
    };
    let clip = Clip::read(clips, clip)?;
    Ok(Given { input: clip.slice(0..frames_in)?, truth: clip.slice(frames_in..frames_in + count).ok() })
}

/// The next `count` frames of sequences with as many input frames, all of one size.
fn roll_out(model: &dyn Predict, given: &[Given], count: usize) -> Result<Vec<Clip>> {
    let Some(Given { input: first, .. }) = given.first() else { return Ok(Vec::new()) };
    let shape = [given.len(), first.frames, first.height, first.width, CHANNELS];
    let frames = Tensor::build(shape, |colours: &mut [f32]| {
        let pixels = given.iter().flat_map(|given| given.input.values.chunks_exact(first.channels));
        for (colours, pixel) in colours.chunks_exact_mut(CHANNELS).zip(pixels) {
            match *pixel {
                [grey] => colours.fill(grey),
                _ => colours.copy_from_slice(pixel),
            }
        }
    })?;
    let values = crate::model::frames::to_values(&eval::roll_out(model, &frames, count)?, first.channels)?;
    if let Some(value) = values.iter().find(|v| !v.is_finite()) {
        return Err(Error::Failure(format!("the model predicts {value}: its weights are out of range")));
    }
    values
        .chunks_exact(values.len() / given.len())
        .map(|clip| Clip::new(first.size(), clip.to_vec()))
        .collect()
}

/// What was read and predicted, in one line.
fn plan(rows: &[Row]) -> String {
    let Some(row) = rows.first() else { return String::new() };
    let (read, predicted) = (row.input.frames, row.prediction.frames);
    let span = format!("reads {read} frames and predicts the next {predicted}");
    let with_truth = rows.iter().filter(|row| row.truth.is_some()).count();
    match (with_truth, rows.len()) {
        (0, _) => format!("{span}: they follow the last given frame, without a truth to compare with"),
        (some, all) if some == all => format!("{span}, compared with the frames that were given after them"),
        (some, all) => format!("{span}; {some} of {all} sequences have frames to compare with"),
    }
}

/// The mean metrics over the frames with a truth, as text.
fn quality(rows: &[Row]) -> Result<Option<String>> {
    let (mut scores, mut frames) = (Vec::new(), 0);
    for row in rows {
        let Some(truth) = &row.truth else { continue };
        let metrics = Metrics::new(truth.width, 1.0)?;
        let count = row.prediction.frames.min(truth.frames);
        let score = |t| metrics.score_colours(row.prediction.frame(t), truth.frame(t), truth.channels);
        scores.extend((0..count).map(score));
        frames += count;
    }
    if frames == 0 {
        return Ok(None);
    }
    let Score { mse, mae, psnr, ssim } = Score::mean(scores);
    Ok(Some(format!(
        "MSE {mse:.2} · MAE {mae:.2} · PSNR {psnr:.2} dB · SSIM {ssim:.4} (mean of {frames} frames with a truth)"
    )))
}

fn write(rows: &[Row], form: Form, output: &Path, force: bool) -> Result<()> {
    match form {
        Form::Npy => {
            let Some(Row { prediction: clip, .. }) = rows.first() else { return Ok(()) };
            let mut shape = vec![clip.frames, clip.height, clip.width];
            shape.extend((clip.channels > 1).then_some(clip.channels));
            if let [only] = rows {
                return npy::write_f32(output, &shape, &only.prediction.values);
            }
            shape.insert(0, rows.len());
            let values: Vec<f32> = rows.iter().flat_map(|row| &row.prediction.values).copied().collect();
            npy::write_f32(output, &shape, &values)
        }
        Form::Gif => media::write_gif(output, &media::comparison(rows, Style::default())?),
        Form::Png => media::write_png(output, &media::strip(rows, Style::default())?),
        Form::Folder => match rows {
            [only] => media::write_png_folder(output, &only.prediction.images(), force),
            _ => {
                let unwritable = |e: std::io::Error| Error::file(output, format!("cannot be written: {e}"));
                std::fs::create_dir_all(output).map_err(unwritable)?;
                rows.iter().enumerate().try_for_each(|(i, row)| {
                    let folder = output.join(format!("sequence-{i:04}"));
                    media::write_png_folder(&folder, &row.prediction.images(), force)
                })
            }
        },
    }
}
