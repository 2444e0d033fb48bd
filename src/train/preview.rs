//! The pictures of a training's predictions: test sequences, their truth, the prediction and its error.

use std::path::Path;

use crate::{
    OutputFile, Result,
    config::{ANIMATION_FILE, STRIP_FILE},
    data::{Dataset, Split},
    eval::roll_out,
    media::{Clip, Row, Style, comparison, encode_png, strip, write_gif},
    model::{
        Predict,
        frames::{FrameShape, to_tensor, to_values},
    },
};

/// Number of sequences in the pictures.
const ROWS: u64 = 4;
/// Most input frames in the pictures: with more, pictures exceed the limits of viewers, and then of their formats.
const SHOWN: usize = 64;

/// A note on input frames that a preview omits, if any.
pub(super) fn note(frames_in: usize) -> Option<String> {
    (frames_in > SHOWN).then(|| format!("the preview shows the last {SHOWN} of {frames_in} input frames"))
}

/// Writes the animation and the strip to the folder `run`; returns the strip's bytes.
pub(super) fn write(model: &dyn Predict, dataset: &Dataset, frames_in: usize, run: &Path) -> Result<Vec<u8>> {
    let (side, channels) = (dataset.side(), dataset.channels());
    let frames_out = model.preset().frames_out;
    let shape = FrameShape { batch: 1, steps: dataset.frames(), side, channels };
    let mut rows = Vec::new();
    for index in 0..ROWS.min(dataset.len(Split::Test).unwrap_or(ROWS)) {
        let mut bytes = vec![0; dataset.sequence_bytes()];
        dataset.sequence(Split::Test, 0, index, &mut bytes)?;
        let frames = to_tensor(&bytes, shape, 0..frames_in)?;
        let prediction = to_values(&roll_out(model, &frames, frames_out)?, channels)?;
        let all = Clip::from_u8([side, side, channels], &bytes)?;
        rows.push(Row {
            input: all.slice(frames_in.saturating_sub(SHOWN)..frames_in)?,
            truth: Some(all.slice(frames_in..frames_in + frames_out)?),
            prediction: Clip::new([side, side, channels], prediction)?,
        });
    }
    write_gif(&run.join(ANIMATION_FILE), &comparison(&rows, Style::default())?)?;
    let bytes = encode_png(&strip(&rows, Style::default())?)?;
    OutputFile::write(&run.join(STRIP_FILE), &bytes)?;
    Ok(bytes)
}
