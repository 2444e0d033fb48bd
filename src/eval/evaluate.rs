//! Metrics of a model and of two baselines over the test split.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use ssmv_autograd::trim;

use super::metrics::null_is_nan;
use super::{Metrics, Score, roll_out};
use crate::data::{DataSpec, Dataset, Split};
use crate::model::frames::{FrameShape, to_tensor, to_values};
use crate::model::{Predict, SKIP_FRAMES};
use crate::{Error, Result};

/// Maximum number of predicted frames in an evaluation: their scores need about 1 GB.
const MAX_FRAMES: u64 = 10_000_000;

/// Specification of an evaluation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EvalSpec {
    /// Number of test sequences; all of them if the data has fewer.
    pub sequences: u64,
    /// Number of input frames.
    pub frames_in: usize,
    /// Frames to predict by feeding predictions back as input; 0: only the frames of one pass.
    pub roll_out: usize,
    /// Sequences in a batch; another number changes the rounding of the last digits.
    pub batch_size: usize,
    /// Data range of SSIM: 1, or 2 as in older tables.
    pub ssim_range: f64,
}

/// Metrics of each predicted frame, and their mean.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Horizons {
    /// Mean over all sequences for each predicted frame, the next one first.
    pub frames: Vec<Score>,
    /// The mean over the frames.
    pub mean: Score,
}

/// Metrics of a model and of the two baselines that it must beat.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Metrics of the model.
    pub model: Horizons,
    /// Baseline: black frames.
    pub black: Horizons,
    /// Baseline: copies of the last input frame.
    pub copy: Horizons,
}

/// Signs of a model that has collapsed to black: means over the pixels of the next frames, not clipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Brightness {
    /// Mean of the prediction.
    #[serde(deserialize_with = "null_is_nan")]
    pub predicted_mean: f64,
    /// Mean of the truth.
    pub target_mean: f64,
    /// Mean absolute error of the prediction.
    #[serde(deserialize_with = "null_is_nan")]
    pub l1: f64,
    /// Mean absolute error of black frames.
    pub black_l1: f64,
}

/// The result of [`evaluate`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Number of test sequences.
    pub sequences: u64,
    /// Number of input frames.
    pub frames_in: usize,
    /// Data range of SSIM.
    pub ssim_range: f64,
    /// Metrics of the frames that one pass predicts.
    pub next: Comparison,
    /// Metrics of the roll-out, if there was one; its first frames are those of `next`.
    pub roll_out: Option<Comparison>,
    /// Signs of a collapse to black.
    pub brightness: Brightness,
    /// Notes for the user, for example that the roll-out is shorter than requested.
    pub notes: Vec<String>,
}

/// Opens data for the evaluation of a model that predicts `frames_out` frames, with the frames of inputs and roll-out, or with all frames of a file whose sequences are
/// shorter. `spec.frames` is ignored.
///
/// All clips of a file or folder are the test split when `whole_file`, else the last tenth. `tick` is called with the number
/// of clips that are decoded and of all.
///
/// # Errors
/// As [`Dataset::open`]; sequences must have `frames_in` + `frames_out` frames at least.
pub fn open_data(
    spec: &DataSpec,
    [frames_in, frames_out]: [usize; 2],
    roll_out: usize,
    whole_file: bool,
    tick: &mut dyn FnMut(usize, usize),
) -> Result<Dataset> {
    let least = frames_in + frames_out;
    let spec = DataSpec { frames: least.max(frames_in + roll_out), ..spec.clone() };
    Dataset::open_for_test(&spec, least, whole_file, tick)
}

/// Ranks that evaluate together: each predicts its share of the batches, and all get all scores.
pub trait Share {
    /// Number of this rank.
    fn rank(&self) -> usize;

    /// Number of all ranks.
    fn size(&self) -> usize;

    /// Replaces `values` by the sum of all ranks' values.
    ///
    /// # Errors
    /// A rank fails.
    fn sum(&self, values: &mut [f64]) -> Result<()>;
}

/// Predicts test sequences and measures the predictions and the baselines, frame by frame. Metrics of
/// colours are means over the colours. `tick` is called after each batch with the number of sequences done; its error ends the evaluation.
///
/// The bits of the result do not depend on the number of threads: scores are summed in the order of the sequences.
///
/// # Errors
/// [`Error::Usage`] for numbers that do not fit the data or the model, [`Error::File`] for data that cannot be read.
pub fn evaluate(
    model: &dyn Predict,
    dataset: &Dataset,
    spec: &EvalSpec,
    tick: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<Evaluation> {
    evaluate_among(None, model, dataset, spec, tick)
}

/// As [`evaluate`], shared with other ranks: all have the same model, data and `spec`, and get the same bits. `tick` is
/// called equally often on every rank.
///
/// # Errors
/// As [`evaluate`], and those of the ranks.
pub fn evaluate_among(
    ranks: Option<&dyn Share>,
    model: &dyn Predict,
    dataset: &Dataset,
    spec: &EvalSpec,
    tick: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<Evaluation> {
    let (rank, size) = ranks.map_or((0, 1), |ranks| (ranks.rank() as u64, ranks.size() as u64));
    let horizon = horizon(model, dataset, spec)?;
    let sequences = dataset.len(Split::Test).map_or(spec.sequences, |has| has.min(spec.sequences));
    let metrics = Metrics::new(dataset.side(), spec.ssim_range)?;
    // Buffers of a training have other sizes and would not be reused.
    trim();
    let frames = sequences.saturating_mul(horizon as u64);
    if frames > MAX_FRAMES {
        return Err(Error::Usage(format!(
            "{sequences} sequences of {horizon} frames exceed the maximum of {MAX_FRAMES} frames; evaluate fewer"
        )));
    }
    let mut scores = vec![FrameScores::default(); frames as usize];
    let step = spec.batch_size as u64;
    for (i, first) in (0..sequences).step_by(spec.batch_size).enumerate() {
        let turn = i as u64 % size;
        let batch = (sequences - first).min(step) as usize;
        if turn == rank {
            let frames = read(dataset, first, batch)?;
            let measured = measure(model, &frames, spec.frames_in, horizon, &metrics)?;
            scores[first as usize * horizon..][..measured.len()].copy_from_slice(&measured);
        }
        let done = first + batch as u64;
        if turn + 1 == size || done == sequences {
            tick(done)?;
        }
    }
    trim();
    if let Some(ranks) = ranks {
        // The scores of other ranks' batches are zero here.
        ranks.sum(bytemuck::cast_slice_mut(&mut scores))?;
    }

    let columns = |column: fn(&FrameScores) -> Score, frames: usize| {
        let of_frame = |t| Score::mean(scores.iter().skip(t).step_by(horizon).map(column));
        let frames: Vec<Score> = (0..frames).map(of_frame).collect();
        Horizons { mean: Score::mean(frames.iter().copied()), frames }
    };
    let comparison = |frames| Comparison {
        model: columns(|s| s.model, frames),
        black: columns(|s| s.black, frames),
        copy: columns(|s| s.copy, frames),
    };
    let frames_out = model.preset().frames_out;
    let next = comparison(frames_out);
    let pixels = (dataset.side() * dataset.side()) as f64;
    let next_frames = || scores.chunks_exact(horizon).flat_map(|s| &s[..frames_out]);
    let mean = |value: fn(&FrameScores) -> f64| {
        next_frames().map(value).sum::<f64>() / (sequences as f64 * frames_out as f64)
    };
    let brightness = Brightness {
        predicted_mean: mean(|s| s.predicted_mean),
        target_mean: mean(|s| s.target_mean),
        l1: next.model.mean.mae / pixels,
        black_l1: next.black.mean.mae / pixels,
    };
    let mut notes = Vec::new();
    if spec.roll_out > horizon {
        notes.push(format!(
            "the roll-out has {horizon} frames instead of {}: the data has {} frames in a sequence, and {} are inputs",
            spec.roll_out,
            dataset.frames(),
            spec.frames_in
        ));
    }
    if sequences < spec.sequences {
        notes.push(format!("{sequences} sequences instead of {}: the data has no more", spec.sequences));
    }
    Ok(Evaluation {
        sequences,
        frames_in: spec.frames_in,
        ssim_range: spec.ssim_range,
        next,
        roll_out: (spec.roll_out > 0).then(|| comparison(horizon)),
        brightness,
        notes,
    })
}

/// Checks that everything fits; returns the number of frames to predict.
fn horizon(model: &dyn Predict, dataset: &Dataset, spec: &EvalSpec) -> Result<usize> {
    let (preset, side) = (model.preset(), dataset.side());
    if side != preset.size {
        return Err(Error::Usage(format!(
            "the data has frames of {side}×{side} pixels, but the model `{}` takes only {}×{}",
            preset.name, preset.size, preset.size
        )));
    }
    if spec.frames_in < SKIP_FRAMES {
        let message =
            format!("{} input frames are too few; the model needs at least {SKIP_FRAMES}", spec.frames_in);
        return Err(Error::Usage(message));
    }
    if spec.batch_size == 0 || spec.sequences == 0 {
        return Err(Error::Usage("an evaluation needs at least 1 sequence, and 1 in a batch".into()));
    }
    match dataset.frames().checked_sub(spec.frames_in) {
        Some(truth) if truth >= preset.frames_out => Ok(spec.roll_out.max(preset.frames_out).min(truth)),
        _ => Err(Error::Usage(format!(
            "the data has {} frames in a sequence; {} inputs and {} to compare with are needed",
            dataset.frames(),
            spec.frames_in,
            preset.frames_out
        ))),
    }
}

/// Buffers for the frames of a batch as bytes.
struct Frames {
    bytes: Vec<u8>,
    shape: FrameShape,
}

fn read(dataset: &Dataset, first: u64, batch: usize) -> Result<Frames> {
    let size = dataset.sequence_bytes();
    let total = size.checked_mul(batch).filter(|&bytes| bytes <= 1 << 30).ok_or_else(|| {
        Error::Usage(format!(
            "a batch of {batch} sequences is more than 1 GiB; make it smaller (--batch-size)"
        ))
    })?;
    let mut bytes = vec![0; total];
    bytes
        .par_chunks_exact_mut(size)
        .enumerate()
        .try_for_each(|(i, out)| dataset.sequence(Split::Test, 0, first + i as u64, out))?;
    let (steps, side, channels) = (dataset.frames(), dataset.side(), dataset.channels());
    Ok(Frames { bytes, shape: FrameShape { batch, steps, side, channels } })
}

/// Scores of one predicted frame.
#[derive(Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct FrameScores {
    model: Score,
    black: Score,
    copy: Score,
    predicted_mean: f64,
    target_mean: f64,
}

/// The scores of each sequence's frames, sequence by sequence.
fn measure(
    model: &dyn Predict,
    frames: &Frames,
    frames_in: usize,
    horizon: usize,
    metrics: &Metrics,
) -> Result<Vec<FrameScores>> {
    let part = |range| to_tensor(&frames.bytes, frames.shape, range);
    let channels = frames.shape.channels;
    let truth = to_values(&part(frames_in..frames_in + horizon)?, channels)?;
    let last = to_values(&part(frames_in - 1..frames_in)?, channels)?;
    let prediction = to_values(&roll_out(model, &part(0..frames_in)?, horizon)?, channels)?;
    let size = frames.shape.side * frames.shape.side * channels;
    let black = vec![0.0; size];
    let mean = |frame: &[f32]| frame.iter().map(|&v| f64::from(v)).sum::<f64>() / size as f64;
    let score = |i: usize| {
        let at = |frames: &'_ [f32], i: usize| frames[i * size..(i + 1) * size].to_vec();
        let (truth, prediction) = (at(&truth, i), at(&prediction, i));
        FrameScores {
            model: metrics.score_colours(&prediction, &truth, channels),
            black: metrics.score_colours(&black, &truth, channels),
            copy: metrics.score_colours(&at(&last, i / horizon), &truth, channels),
            predicted_mean: mean(&prediction),
            target_mean: mean(&truth),
        }
    };
    Ok((0..frames.shape.batch * horizon).into_par_iter().map(score).collect())
}

#[cfg(test)]
mod tests {
    use ssmv_autograd::DType;

    use super::*;
    use crate::clips::{ClipOptions, Layout};
    use crate::data::{DataSource, npy};
    use crate::model::Predictor;
    use crate::model::Preset;

    fn nano() -> Predictor {
        Predictor::new(Preset::find("nano").unwrap(), 1, DType::F32).unwrap()
    }

    fn made() -> DataSpec {
        DataSpec { canvas: 32, digit_size: 14, ..DataSpec::default() }
    }

    fn open(spec: &DataSpec, frames_in: usize, roll_out: usize, whole: bool) -> Result<Dataset> {
        open_data(spec, [frames_in, 2], roll_out, whole, &mut |_, _| ())
    }

    const SPEC: EvalSpec =
        EvalSpec { sequences: 5, frames_in: 4, roll_out: 5, batch_size: 2, ssim_range: 1.0 };

    #[test]
    fn threads_change_no_bit_and_batches_only_the_last_digits() {
        let (model, data) = (nano(), open(&made(), 4, 5, false).unwrap());
        let run = |threads, batch_size| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut done = Vec::new();
            let mut tick = |n| {
                done.push(n);
                Ok(())
            };
            let spec = EvalSpec { batch_size, ..SPEC };
            (pool.install(|| evaluate(&model, &data, &spec, &mut tick)).unwrap(), done)
        };
        let (one, done) = run(1, 2);
        assert_eq!(done, [2, 4, 5]);
        assert_eq!(run(3, 2).0, one);
        let other = run(2, 5).0.next.model.mean;
        approx::assert_relative_eq!(other.mse, one.next.model.mean.mse, max_relative = 1e-6);
        let json = serde_json::to_string(&one).unwrap();
        assert_eq!(serde_json::from_str::<Evaluation>(&json).unwrap(), one);
        let rolled = one.roll_out.as_ref().unwrap();
        assert_eq!((rolled.model.frames.len(), one.next.model.frames.len(), one.notes.len()), (5, 2, 0));
        assert_eq!(rolled.model.frames[..2], one.next.model.frames[..]);
        let mut stop = |_| Err(Error::Interrupted(2));
        assert!(matches!(evaluate(&model, &data, &SPEC, &mut stop), Err(Error::Interrupted(2))));
    }

    /// Computed again from the bytes of the sequences.
    #[test]
    fn baselines_are_what_their_names_say() {
        let data = open(&made(), 4, 0, false).unwrap();
        let result = evaluate(&nano(), &data, &EvalSpec { roll_out: 0, ..SPEC }, &mut |_| Ok(())).unwrap();
        assert_eq!((data.frames(), result.roll_out.is_none()), (6, true));
        let mut bytes = vec![0; data.sequence_bytes()];
        let (mut black, mut copy, mut sum) = (0.0, 0.0, 0.0);
        for index in 0..5 {
            data.sequence(Split::Test, 0, index, &mut bytes).unwrap();
            let pixel = |t: usize, i: usize| f64::from(bytes[t * 1024 + i]) / 255.0;
            for i in 0..1024 {
                black += pixel(5, i).powi(2) / 5.0;
                copy += (pixel(5, i) - pixel(3, i)).abs() / 5.0;
                sum += (pixel(4, i) + pixel(5, i)) / 10.0 / 1024.0;
            }
        }
        let near = |a: f64, b: f64| approx::assert_relative_eq!(a, b, max_relative = 1e-5);
        near(result.next.black.frames[1].mse, black);
        near(result.next.copy.frames[1].mae, copy);
        near(result.brightness.target_mean, sum);
        near(result.brightness.black_l1, sum);
        near(result.brightness.l1, result.next.model.mean.mae / 1024.0);
    }

    #[test]
    fn a_file_with_few_frames_gives_a_shorter_roll_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        npy::write_u8(&path, &[7, 3, 32, 32], &[100; 7 * 3 * 1024]).unwrap();
        let options = ClipOptions { layout: Layout::Tnhw, ..ClipOptions::default() };
        let source = DataSource::Clips { path, options };
        let spec = DataSpec { source, ..made() };
        let data = open(&spec, 4, 10, true).unwrap();
        let result = evaluate(&nano(), &data, &SPEC, &mut |_| Ok(())).unwrap();
        assert_eq!((result.sequences, result.roll_out.unwrap().model.frames.len()), (3, 3));
        assert!(result.notes[0].contains("3 frames instead of 5"), "{:?}", result.notes);
        assert!(result.notes[1].contains("3 sequences instead of 5"));
        assert!(open(&spec, 6, 10, true).is_err());
        for bad in [
            EvalSpec { frames_in: 6, ..SPEC },
            EvalSpec { frames_in: 2, ..SPEC },
            EvalSpec { batch_size: 0, ..SPEC },
            EvalSpec { sequences: 0, ..SPEC },
        ] {
            assert!(
                matches!(evaluate(&nano(), &data, &bad, &mut |_| Ok(())), Err(Error::Usage(_))),
                "{bad:?}"
            );
        }
        let large = open(&DataSpec::default(), 4, 0, false).unwrap();
        let error = evaluate(&nano(), &large, &SPEC, &mut |_| Ok(())).unwrap_err().to_string();
        assert!(error.contains("64×64") && error.contains("32×32"), "{error}");
    }
}
