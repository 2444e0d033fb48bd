//! GIF animations.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::num::NonZeroU64;
use std::path::Path;

use ::gif::{ColorOutput, DecodeOptions, DisposalMethod, Encoder, Frame, MemoryLimit, Repeat};

use super::{Image, MAX_BYTES, MAX_FRAMES, MAX_SIDE};
use crate::OutputFile;
use crate::{Error, Result};

/// Pictures of one size and how long each is seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Animation {
    /// At least one picture, all of the size of the first.
    pub frames: Vec<Image>,
    /// Duration of each picture in hundredths of a second; one for each of `frames`.
    pub delays_cs: Vec<u16>,
}

/// Writes an animation that repeats without end. Up to 256 colours are kept exactly; more are reduced frame by frame
/// (NeuQuant).
///
/// # Errors
/// [`Error::File`] when `path` cannot be written, [`Error::Failure`] when the pictures differ in size, there is none,
/// or they are larger than 65,535 pixels.
pub fn write_gif(path: &Path, animation: &Animation) -> Result<()> {
    let first =
        animation.frames.first().ok_or_else(|| Error::Failure("an animation without pictures".into()))?;
    if animation.delays_cs.len() != animation.frames.len()
        || animation.frames.iter().any(|f| (f.width, f.height) != (first.width, first.height))
    {
        return Err(Error::Failure("the pictures of an animation differ in size".into()));
    }
    let (Ok(width @ 1..), Ok(height @ 1..)) = (u16::try_from(first.width), u16::try_from(first.height))
    else {
        return Err(Error::Failure(format!(
            "a GIF cannot be {}×{} pixels; draw fewer sequences or a smaller scale",
            first.width, first.height
        )));
    };
    let mut output = OutputFile::create(path, true)?;
    let mut buffer = BufWriter::new(output.file());
    let written = encode(&mut buffer, animation, width, height).map_err(|e| e.to_string());
    let written = written.and_then(|()| buffer.flush().map_err(|e| e.to_string()));
    drop(buffer);
    written.map_err(|e| output.error(e))?;
    output.commit()
}

fn encode(
    out: impl Write,
    animation: &Animation,
    width: u16,
    height: u16,
) -> std::result::Result<(), ::gif::EncodingError> {
    let palette = Palette::of(&animation.frames);
    let colours: &[u8] = palette.as_ref().map_or(&[], |palette| &palette.colours);
    let mut encoder = Encoder::new(out, width, height, colours)?;
    encoder.set_repeat(Repeat::Infinite)?;
    for (image, &delay) in animation.frames.iter().zip(&animation.delays_cs) {
        let mut frame = match &palette {
            Some(palette) => {
                Frame { width, height, buffer: palette.indices(image).into(), ..Frame::default() }
            }
            None => Frame::from_rgb_speed(width, height, image.pixels.as_flattened(), 10),
        };
        frame.delay = delay;
        encoder.write_frame(&frame)?;
    }
    Ok(())
}

/// All colours of an animation, where they are at most 256.
struct Palette {
    /// Red, green, blue of each.
    colours: Vec<u8>,
    numbers: HashMap<[u8; 3], u8>,
}

impl Palette {
    fn of(images: &[Image]) -> Option<Self> {
        let mut palette = Self { colours: Vec::new(), numbers: HashMap::new() };
        for &pixel in images.iter().flat_map(|image| &image.pixels) {
            if !palette.numbers.contains_key(&pixel) {
                let number = u8::try_from(palette.numbers.len()).ok()?;
                palette.numbers.insert(pixel, number);
                palette.colours.extend(pixel);
            }
        }
        Some(palette)
    }

    fn indices(&self, image: &Image) -> Vec<u8> {
        image.pixels.iter().map(|pixel| self.numbers.get(pixel).copied().unwrap_or(0)).collect()
    }
}

/// Reads an animation as greys: (height, width, [T, height, width]), 255 is white. Every frame is drawn over the
/// remaining part of the frames before it; pixels that are transparent in all frames are black.
///
/// # Errors
/// [`Error::File`] when it is not a GIF, is broken, is larger than 4096×4096, or has more than 10,000 frames or 256 MiB
/// of them.
pub fn read_gif(path: &Path) -> Result<(usize, usize, Vec<u8>)> {
    let file = File::open(path).map_err(|e| Error::file(path, format!("cannot be read: {e}")))?;
    gif_from(BufReader::new(file), path)
}

/// [`read_gif`] from any source; messages use `name`.
pub(super) fn gif_from(source: impl Read, name: &Path) -> Result<(usize, usize, Vec<u8>)> {
    let broken = |e: ::gif::DecodingError| Error::file(name, format!("is not a GIF that can be read: {e}"));
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::RGBA);
    let most = 4 * u64::from(MAX_SIDE) * u64::from(MAX_SIDE);
    options.set_memory_limit(NonZeroU64::new(most).map_or(MemoryLimit::Unlimited, MemoryLimit::Bytes));
    let mut decoder = options.read_info(source).map_err(broken)?;
    let (width, height) = (usize::from(decoder.width()), usize::from(decoder.height()));
    if width == 0 || height == 0 || width.max(height) > MAX_SIDE as usize {
        return Err(Error::file(name, format!("is {width}×{height} pixels; 1 to {MAX_SIDE} can be")));
    }
    let mut canvas = vec![0u8; width * height];
    let mut greys = Vec::new();
    let mut frames = 0;
    while let Some(frame) = decoder.read_next_frame().map_err(broken)? {
        frames += 1;
        if frames > MAX_FRAMES || greys.len() + canvas.len() > MAX_BYTES {
            return Err(Error::file(
                name,
                format!("has more than {MAX_FRAMES} frames or {} MiB of them", MAX_BYTES >> 20),
            ));
        }
        let before = (frame.dispose == DisposalMethod::Previous).then(|| canvas.clone());
        lay(frame, &mut canvas, width, false);
        greys.extend_from_slice(&canvas);
        match (before, frame.dispose) {
            (Some(before), _) => canvas = before,
            (None, DisposalMethod::Background) => lay(frame, &mut canvas, width, true),
            _ => {}
        }
    }
    if greys.is_empty() {
        return Err(Error::file(name, "is a GIF without frames"));
    }
    Ok((height, width, greys))
}

/// Lays the visible pixels of `frame` over the canvas, or clears the place that it takes.
fn lay(frame: &Frame<'_>, canvas: &mut [u8], width: usize, clear: bool) {
    let (left, top) = (usize::from(frame.left), usize::from(frame.top));
    let lines = canvas.chunks_exact_mut(width).skip(top);
    // A frame without columns has no lines to lay.
    for (line, pixels) in lines.zip(frame.buffer.chunks_exact(4 * usize::from(frame.width).max(1))) {
        for (to, from) in line.iter_mut().skip(left).zip(pixels.as_chunks::<4>().0) {
            match *from {
                _ if clear => *to = 0,
                [_, _, _, 0] => {}
                [red, green, blue, _] => *to = grey([red, green, blue]),
            }
        }
    }
}

/// The luma of a colour (ITU-R BT.601, as most programs turn colour to grey); a grey stays as it is.
pub(super) fn grey([red, green, blue]: [u8; 3]) -> u8 {
    ((u32::from(red) * 299 + u32::from(green) * 587 + u32::from(blue) * 114 + 500) / 1000) as u8
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn animation(frames: Vec<Image>) -> Animation {
        Animation { delays_cs: vec![7; frames.len()], frames }
    }

    #[test]
    fn greys_come_back_exactly() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.gif");
        let greys: Vec<Vec<u8>> =
            (0..3u8).map(|t| (0..=255).map(|i: u8| i.wrapping_add(t)).collect()).collect();
        write_gif(&path, &animation(greys.iter().map(|g| Image::grey(32, 8, g)).collect())).unwrap();
        assert_eq!(read_gif(&path).unwrap(), (8, 32, greys.concat()));
        write_gif(&path, &animation(vec![Image::grey(1, 1, &[9])])).unwrap();
        assert_eq!(read_gif(&path).unwrap(), (1, 1, vec![9]));
    }

    #[test]
    fn many_colours_are_reduced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.gif");
        let mut image = Image::new(64, 64, [0; 3]);
        image.pixels.iter_mut().enumerate().for_each(|(i, p)| *p = [i as u8, (i >> 4) as u8, (i / 2) as u8]);
        write_gif(&path, &animation(vec![image])).unwrap();
        assert_eq!(read_gif(&path).unwrap().2.len(), 4096);
    }

    #[test]
    fn frames_are_laid_over_each_other() {
        let frame = |left, width, values: &[u8], transparent, dispose| Frame {
            left,
            width,
            height: 1,
            buffer: values.to_vec().into(),
            transparent,
            dispose,
            ..Frame::default()
        };
        let mut bytes = Vec::new();
        let mut encoder = Encoder::new(&mut bytes, 3, 1, &[0, 0, 0, 100, 100, 100, 255, 255, 255]).unwrap();
        for frame in [
            frame(0, 3, &[1, 1, 1], None, DisposalMethod::Keep),
            frame(1, 2, &[2, 0], Some(0), DisposalMethod::Previous),
            frame(0, 1, &[2], None, DisposalMethod::Background),
            frame(2, 1, &[2], None, DisposalMethod::Keep),
        ] {
            encoder.write_frame(&frame).unwrap();
        }
        drop(encoder);
        let (_, _, greys) = gif_from(&bytes[..], Path::new("x")).unwrap();
        assert_eq!(greys, [100, 100, 100, 100, 255, 100, 255, 100, 100, 0, 100, 255]);
    }

    #[test]
    fn refuses_what_cannot_be() {
        let path = Path::new("x.gif");
        assert!(write_gif(path, &animation(vec![])).is_err());
        assert!(
            write_gif(path, &animation(vec![Image::new(2, 1, [0; 3]), Image::new(1, 2, [0; 3])])).is_err()
        );
        assert!(write_gif(path, &animation(vec![Image::new(65_536, 1, [0; 3])])).is_err());
        let mut huge = Vec::new();
        let mut encoder = Encoder::new(&mut huge, 5000, 5000, &[0, 0, 0]).unwrap();
        encoder
            .write_frame(&Frame { width: 1, height: 1, buffer: vec![0].into(), ..Frame::default() })
            .unwrap();
        drop(encoder);
        let message = gif_from(&huge[..], path).unwrap_err().to_string();
        assert!(message.contains("5000×5000"), "{message}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn no_bytes_make_it_panic(at in 0usize..400, with: u8, end in 0usize..900) {
            let greys: Vec<u8> = (0..=255).collect();
            let mut bytes = Vec::new();
            encode(&mut bytes, &animation(vec![Image::grey(16, 16, &greys)]), 16, 16).unwrap();
            // The header and the start of the picture, past the colour table, are where a change matters most.
            let at = if at < 30 { at } else { (at - 30) + 768 };
            if let Some(byte) = bytes.get_mut(at) {
                *byte = with;
            }
            bytes.truncate(bytes.len().saturating_sub(end / 2));
            let _ = gif_from(&bytes[..], Path::new("x"));
        }
    }
}
