//! Input, truth, prediction and error side by side, as an animation or a strip.

use super::{Animation, Clip, Image};
use crate::{Error, Result};

/// One sequence to compare.
#[derive(Debug, Clone)]
pub struct Row {
    /// Input frames of the model.
    pub input: Clip,
    /// True next frames, at least one; `None` if unknown.
    pub truth: Option<Clip>,
    /// Predicted frames, which follow the input.
    pub prediction: Clip,
}

/// Options of a drawing.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    /// Side of a drawn pixel in pixels of the picture; 0: chosen by the size of the frames.
    pub scale: usize,
    /// Duration of an input frame in hundredths of a second.
    pub input_cs: u16,
    /// Duration of a predicted frame in hundredths of a second.
    pub predicted_cs: u16,
}

impl Default for Style {
    fn default() -> Self {
        Self { scale: 0, input_cs: 12, predicted_cs: 45 }
    }
}

impl Style {
    /// The scale, or one that makes a frame of `side` pixels about `wanted` large; never so large that sizes overflow.
    pub(super) fn scale(&self, side: usize, wanted: usize) -> usize {
        if self.scale > 0 { self.scale.min(1 << 16) } else { (wanted / side.max(1)).clamp(1, 16) }
    }
}

/// Number of greys in a picture with errors: with 110 reds and blues they fit exactly into a GIF's palette of 256.
const GREYS: f32 = 127.0;
const REDS: f32 = 55.0;

pub(super) const BACKGROUND: [u8; 3] = [24; 3];
pub(super) const LABEL: [u8; 3] = [200; 3];
/// Colour of an empty panel.
const EMPTY: [u8; 3] = [12; 3];
pub(super) const GUTTER: usize = 6;
pub(super) const MARGIN: usize = 8;
/// Maximum size in bytes of the pictures that are drawn at once: 1 GiB.
const MAX_BYTES: usize = 1 << 30;

/// Checks that the pictures fit in memory.
pub(super) fn check_size(pictures: usize, width: usize, height: usize) -> Result<()> {
    let bytes = [width, height, 3].iter().try_fold(pictures, |product, &size| product.checked_mul(size));
    match bytes {
        Some(bytes) if bytes <= MAX_BYTES && width.max(height) <= usize::from(u16::MAX) => Ok(()),
        _ => Err(Error::Usage(format!(
            "{pictures} pictures of {width}×{height} pixels need too much memory; show fewer sequences or frames"
        ))),
    }
}

/// A grey of `value` (0 black, 1 white) at `light` of its brightness.
fn grey(value: f32, light: f32) -> [u8; 3] {
    let level = (value.clamp(0.0, 1.0) * light * GREYS).round();
    [(level * 255.0 / GREYS).round() as u8; 3]
}

/// Red where the prediction is too bright, blue where it is too dark, black where it is right.
fn error_colour(error: f32) -> [u8; 3] {
    let level = (error.abs().min(1.0) * REDS).round() / REDS;
    let shade = |part: f32| (level * part).round() as u8;
    if error > 0.0 {
        [shade(255.0), shade(64.0), shade(40.0)]
    } else {
        [shade(40.0), shade(110.0), shade(255.0)]
    }
}

fn picture(width: usize, height: usize, pixels: impl Iterator<Item = [u8; 3]>) -> Image {
    let mut image = Image::new(width, height, [0; 3]);
    image.pixels.iter_mut().zip(pixels).for_each(|(to, from)| *to = from);
    image
}

impl Row {
    fn size(&self) -> [usize; 3] {
        self.input.size()
    }

    fn draw(clip: &Clip, t: usize, light: f32) -> Image {
        let frame = clip.frame(t);
        match clip.channels {
            1 => picture(clip.width, clip.height, frame.iter().map(|&v| grey(v, light))),
            _ => {
                let shade = |v: f32| (v.clamp(0.0, 1.0) * light * 255.0).round() as u8;
                picture(clip.width, clip.height, frame.as_chunks::<3>().0.iter().map(|p| p.map(shade)))
            }
        }
    }

    /// The signed error of predicted frame `t` (of colours, of their mean), if the truth has that frame.
    fn draw_error<'a>(&'a self, t: usize) -> Option<Image> {
        let truth = self.truth.as_ref().filter(|truth| t < truth.frames && t < self.prediction.frames)?;
        let pixels = |clip: &'a Clip| clip.frame(t).chunks_exact(clip.channels);
        let mean = |pixel: &[f32]| pixel.iter().sum::<f32>() / pixel.len() as f32;
        let errors =
            pixels(&self.prediction).zip(pixels(truth)).map(|(p, t)| error_colour(mean(p) - mean(t)));
        Some(picture(truth.width, truth.height, errors))
    }
}

/// Checks that all clips have one size; returns (width, height, input frames, predicted frames).
fn common_size(rows: &[Row]) -> Result<(usize, usize, usize, usize)> {
    let Some(first) = rows.first() else {
        return Err(Error::Failure("0 sequences were given to compare".into()));
    };
    let clips =
        rows.iter().flat_map(|row| [Some(&row.input), row.truth.as_ref(), Some(&row.prediction)]).flatten();
    if clips.into_iter().any(|clip| !clip.is_whole() || clip.size() != first.size()) {
        return Err(Error::Failure("clips of different sizes cannot be compared".into()));
    }
    let most = |length: fn(&Row) -> usize| rows.iter().map(length).max().unwrap_or(0);
    Ok((
        first.input.width,
        first.input.height,
        most(|row| row.input.frames),
        most(|row| row.prediction.frames),
    ))
}

/// Labels of the panels, with truth and error if any row has a truth.
fn labels(rows: &[Row]) -> &'static [&'static str] {
    if rows.iter().any(|row| row.truth.is_some()) {
        &["input", "truth", "prediction", "error"]
    } else {
        &["input", "prediction"]
    }
}

/// An animation of the rows below each other: the inputs play first, then hold their last frame, dimmed, while truth,
/// prediction and signed error (red: too bright, blue: too dark, black: right) play frame by frame.
///
/// # Errors
/// [`Error::Failure`] without a row or when the clips differ in size, [`Error::Usage`] when the pictures would be
/// too large.
pub fn comparison(rows: &[Row], style: Style) -> Result<Animation> {
    let (width, height, inputs, predicted) = common_size(rows)?;
    let scale = style.scale(width, 192);
    let labels = labels(rows);
    let text_scale = if Image::text_width("prediction", 2) <= width * scale { 2 } else { 1 };
    let line = 7 * text_scale + MARGIN;
    let top = MARGIN + line;
    let across = labels.len() * (width * scale + GUTTER) - GUTTER + 2 * MARGIN;
    let down = top + rows.len() * (height * scale + GUTTER) + line;
    check_size(inputs + predicted, across, down)?;

    let mut background = Image::new(across, down, BACKGROUND);
    for (i, label) in labels.iter().enumerate() {
        background.text(label, MARGIN + i * (width * scale + GUTTER), MARGIN, text_scale, LABEL);
    }
    let mut animation = Animation { frames: Vec::new(), delays_cs: Vec::new() };
    for step in 0..inputs + predicted {
        let mut frame = background.clone();
        for (r, row) in rows.iter().enumerate() {
            for (p, label) in labels.iter().enumerate() {
                let panel = panel(row, label, step, inputs).map(|panel| panel.upscale(scale));
                let panel = panel.unwrap_or_else(|| Image::new(width * scale, height * scale, EMPTY));
                let (x, y) = (MARGIN + p * (width * scale + GUTTER), top + r * (height * scale + GUTTER));
                frame.paste(&panel, x, y);
            }
        }
        frame.text(&time(step, inputs), MARGIN, down - line + GUTTER / 2, text_scale, LABEL);
        animation.frames.push(frame);
        animation.delays_cs.push(if step < inputs { style.input_cs } else { style.predicted_cs });
    }
    Ok(animation)
}

/// Frame of a panel at a step; `None`: not yet, or unknown.
fn panel(row: &Row, label: &str, step: usize, inputs: usize) -> Option<Image> {
    if label == "input" {
        // Inputs of different lengths end together.
        let t = (step + row.input.frames).checked_sub(inputs)?;
        let over = t >= row.input.frames;
        return Some(Row::draw(&row.input, t.min(row.input.frames - 1), if over { 0.4 } else { 1.0 }));
    }
    let t = step.checked_sub(inputs)?;
    match label {
        "truth" => row.truth.as_ref().filter(|truth| t < truth.frames).map(|truth| Row::draw(truth, t, 1.0)),
        "prediction" => (t < row.prediction.frames).then(|| Row::draw(&row.prediction, t, 1.0)),
        _ => row.draw_error(t),
    }
}

/// The time of a step: the last input is t=0, the first predicted frame t=+1.
fn time(step: usize, inputs: usize) -> String {
    if step < inputs {
        format!("t={}", step as i64 + 1 - inputs as i64)
    } else {
        format!("t=+{}", step + 1 - inputs)
    }
}

/// A still picture of the rows below each other: a column a frame, the inputs and then the truth on one line, the
/// prediction and the signed error under the truth. Without a truth the prediction follows the inputs.
///
/// # Errors
/// As [`comparison`].
pub fn strip(rows: &[Row], style: Style) -> Result<Image> {
    let (width, height, inputs, predicted) = common_size(rows)?;
    let scale = style.scale(width, 128);
    let (cell, tall) = (width * scale + 2, height * scale + 2);
    let columns = inputs + predicted;
    let lines: usize = rows.iter().map(|row| if row.truth.is_some() { 3 } else { 1 }).sum();
    let text_scale = if Image::text_width("prediction", 2) <= 2 * cell { 2 } else { 1 };
    let line = 7 * text_scale + MARGIN;
    let split = MARGIN + inputs * cell + GUTTER;
    let across = split + predicted * cell + MARGIN;
    let down = MARGIN + line + lines * tall + rows.len() * GUTTER;
    check_size(1, across, down)?;

    let mut whole = Image::new(across, down, BACKGROUND);
    let left = |column: usize| {
        if column < inputs { MARGIN + column * cell } else { split + (column - inputs) * cell }
    };
    let known = rows.iter().all(|row| row.truth.is_some());
    for column in 0..columns {
        let mut label = time(column, inputs);
        let titled = format!("{label} truth");
        if known && column == inputs && Image::text_width(&titled, text_scale) < cell {
            label = titled;
        }
        whole.text(&label, left(column), MARGIN, text_scale, LABEL);
    }
    let mut y = MARGIN + line;
    for row in rows {
        let first = inputs - row.input.frames;
        for t in 0..row.input.frames {
            whole.paste(&Row::draw(&row.input, t, 1.0).upscale(scale), left(first + t), y);
        }
        if let Some(truth) = &row.truth {
            for t in 0..truth.frames.min(predicted) {
                whole.paste(&Row::draw(truth, t, 1.0).upscale(scale), left(inputs + t), y);
            }
            for (text, y) in [("prediction", y + tall), ("error", y + 2 * tall)] {
                let x = split.saturating_sub(Image::text_width(text, text_scale) + MARGIN + GUTTER);
                whole.text(text, x, y + (tall - 7 * text_scale) / 2, text_scale, LABEL);
            }
            y += tall;
        }
        for t in 0..row.prediction.frames {
            whole.paste(&Row::draw(&row.prediction, t, 1.0).upscale(scale), left(inputs + t), y);
            if let Some(error) = row.draw_error(t) {
                whole.paste(&error.upscale(scale), left(inputs + t), y + tall);
            }
        }
        y += if row.truth.is_some() { 2 * tall } else { tall } + GUTTER;
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn row(side: usize, inputs: usize, predicted: usize, truth: bool) -> Row {
        let clip = |frames: usize, shift: f32| {
            let values = (0..frames * side * side).map(|i| (i % 997) as f32 / 700.0 - shift).collect();
            Clip::new([side, side, 1], values).unwrap()
        };
        Row {
            input: clip(inputs, 0.0),
            truth: truth.then(|| clip(predicted, 0.0)),
            prediction: clip(predicted, 0.7),
        }
    }

    #[test]
    fn an_animation_has_a_picture_a_frame_and_an_exact_palette() {
        let both = [row(20, 3, 2, true), row(20, 2, 2, false)];
        let animation = comparison(&both, Style { scale: 2, ..Style::default() }).unwrap();
        assert_eq!(animation.delays_cs, [12, 12, 12, 45, 45]);
        let mut colours: HashSet<[u8; 3]> = HashSet::new();
        animation.frames.iter().for_each(|frame| colours.extend(&frame.pixels));
        (0..=1000).for_each(|i| {
            let e = i as f32 / 500.0 - 1.0;
            colours.extend([error_colour(e), grey(e, 1.0), grey(e, 0.4)]);
        });
        assert!(colours.len() <= 256, "{}", colours.len());
        let alone = comparison(&[row(20, 3, 2, false)], Style { scale: 2, ..Style::default() }).unwrap();
        assert!(alone.frames[0].width < animation.frames[0].width);
    }

    #[test]
    fn error_signs() {
        assert_eq!(error_colour(0.0), [0; 3]);
        let ([bright_red, _, bright_blue], [dark_red, _, dark_blue]) =
            (error_colour(0.8), error_colour(-0.8));
        assert!(bright_red > bright_blue && dark_blue > dark_red);
        assert_eq!(error_colour(7.0), error_colour(1.0));
    }

    #[test]
    fn strips_and_nonsense() {
        for truth in [true, false] {
            let image = strip(&[row(16, 4, 3, truth), row(16, 2, 1, truth)], Style::default()).unwrap();
            assert_eq!(image.pixels.len(), image.width * image.height);
        }
        assert!(comparison(&[], Style::default()).is_err() && strip(&[], Style::default()).is_err());
        assert!(comparison(&[row(16, 1, 1, true), row(17, 1, 1, true)], Style::default()).is_err());
        let huge = Style { scale: usize::MAX, ..Style::default() };
        assert!(
            comparison(&[row(2, 1, 1, true)], huge).is_err() && strip(&[row(2, 1, 1, true)], huge).is_err()
        );
    }
}
