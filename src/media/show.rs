//! Pictures of whole sequences.

use std::path::Path;

use super::compare::{BACKGROUND, GUTTER, LABEL, MARGIN, check_size};
use super::{Animation, Clip, Image, Style, write_gif, write_png};
use crate::clips::{Cache, ClipOptions, Clips};
use crate::{Error, Result};

/// Maximum number of frames in a strip.
const STRIP_FRAMES: usize = 40;

/// Draws the first `count` sequences of `input` (see [`Clips`]) to `output`: an animation of tiles when its name ends in `.gif`, a strip when it ends in `.png`.
///
/// # Errors
/// [`Error::File`] when `input` cannot be read or `output` not written, [`Error::Usage`] for another ending, no
/// sequence, or a picture that would be too large.
pub fn show(input: &Path, options: &ClipOptions, count: usize, output: &Path, style: Style) -> Result<()> {
    let ending = output.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
    let animated = match ending.as_deref() {
        Some("gif") => true,
        Some("png") => false,
        _ => {
            return Err(Error::Usage(format!("{}: the name must end in .gif or .png", output.display())));
        }
    };
    if count == 0 {
        return Err(Error::Usage("0 sequences cannot be drawn".into()));
    }
    let open = Clips::open(input, options, None, 0..count, Cache::Memory, &mut |_, _| ())?;
    let clips = (0..open.len()).map(|clip| Clip::read(&open, clip)).collect::<Result<Vec<_>>>()?;
    if animated {
        write_gif(output, &tile_animation(&clips, style)?)
    } else {
        write_png(output, &tile_strip(&clips, style)?)
    }
}

/// All clips at once, as tiles; a clip that has ended keeps its last frame.
///
/// # Errors
/// [`Error::Failure`] without a clip or when they differ in size, [`Error::Usage`] when the pictures would be too
/// large.
pub fn tile_animation(clips: &[Clip], style: Style) -> Result<Animation> {
    let (width, height, frames) = common_size(clips)?;
    let columns = (1..).find(|c| c * c >= clips.len()).unwrap_or(1);
    let rows = clips.len().div_ceil(columns);
    let scale = style.scale(width.max(height), if clips.len() > 1 { 128 } else { 256 });
    let (tile_width, tile_height) = (width * scale, height * scale);
    let bottom = MARGIN + rows * (tile_height + GUTTER);
    let (across, down) = (2 * MARGIN + columns * (tile_width + GUTTER) - GUTTER, bottom + 14 + GUTTER);
    check_size(frames, across, down)?;
    let mut animation = Animation { frames: Vec::new(), delays_cs: vec![style.input_cs; frames] };
    for t in 0..frames {
        let mut whole = Image::new(across, down, BACKGROUND);
        for (i, clip) in clips.iter().enumerate() {
            let tile = clip.image(t.min(clip.frames - 1)).upscale(scale);
            let (x, y) = (i % columns * (tile_width + GUTTER), i / columns * (tile_height + GUTTER));
            whole.paste(&tile, MARGIN + x, MARGIN + y);
        }
        whole.text(&format!("{}/{frames}", t + 1), MARGIN, bottom, 2, LABEL);
        animation.frames.push(whole);
    }
    Ok(animation)
}

/// One line for each clip, one column for each frame; at most the first 40 frames.
///
/// # Errors
/// As [`tile_animation`].
pub fn tile_strip(clips: &[Clip], style: Style) -> Result<Image> {
    let (width, height, frames) = common_size(clips)?;
    let frames = frames.min(STRIP_FRAMES);
    let scale = style.scale(width.max(height), 128);
    let (tile_width, tile_height) = (width * scale, height * scale);
    let top = MARGIN + 14 + GUTTER;
    let (across, down) = (2 * MARGIN + frames * (tile_width + 2), top + clips.len() * (tile_height + GUTTER));
    check_size(1, across, down)?;
    let mut whole = Image::new(across, down, BACKGROUND);
    for t in 0..frames {
        whole.text(&(t + 1).to_string(), MARGIN + t * (tile_width + 2), MARGIN, 2, LABEL);
    }
    for (i, clip) in clips.iter().enumerate() {
        for t in 0..frames.min(clip.frames) {
            let tile = clip.image(t).upscale(scale);
            whole.paste(&tile, MARGIN + t * (tile_width + 2), top + i * (tile_height + GUTTER));
        }
    }
    Ok(whole)
}

/// (width, height, maximum number of frames) of clips of one size.
fn common_size(clips: &[Clip]) -> Result<(usize, usize, usize)> {
    let first = clips.first().ok_or_else(|| Error::Failure("0 sequences were given to draw".into()))?;
    if clips.iter().any(|clip| !clip.is_whole() || (clip.width, clip.height) != (first.width, first.height)) {
        return Err(Error::Failure("sequences of different sizes cannot be drawn together".into()));
    }
    Ok((first.width, first.height, clips.iter().map(|clip| clip.frames).max().unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clips::Layout;
    use crate::data::npy::write_u8;
    use crate::media::read_png;

    #[test]
    fn draws_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        write_u8(&at("a.npy"), &[4, 5, 8, 8], &[128; 4 * 5 * 64]).unwrap();
        let tnhw = ClipOptions { layout: Layout::Tnhw, ..ClipOptions::default() };
        let auto = ClipOptions::default();
        show(&at("a.npy"), &tnhw, 3, &at("a.gif"), Style::default()).unwrap();
        let drawn = Clips::open(&at("a.gif"), &auto, None, 0..1, Cache::Memory, &mut |_, _| ()).unwrap();
        let drawn = Clip::read(&drawn, 0).unwrap();
        assert_eq!(drawn.frames, 4);
        assert!(drawn.frame_u8(0).contains(&128));
        let width = drawn.width;
        show(&at("a.gif"), &auto, 1, &at("a.png"), Style { scale: 1, ..Style::default() }).unwrap();
        assert!(read_png(&at("a.png")).unwrap().width > 4 * width);
        assert!(matches!(show(&at("a.npy"), &auto, 1, &at("a.jpg"), Style::default()), Err(Error::Usage(_))));
        assert!(matches!(show(&at("a.npy"), &auto, 0, &at("a.gif"), Style::default()), Err(Error::Usage(_))));
        assert!(show(&at("b.npy"), &auto, 1, &at("a.gif"), Style::default()).is_err());
        let huge = Style { scale: usize::MAX, ..Style::default() };
        assert!(show(&at("a.npy"), &auto, 1, &at("a.png"), huge).is_err());
    }
}
