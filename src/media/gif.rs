//! GIF animations.

use std::collections::HashMap;
use std::io::{BufWriter, Write};
use std::path::Path;

use ::gif::{Encoder, Frame, Repeat};

use super::Image;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clips::{Cache, ClipOptions, Clips};

    fn animation(frames: Vec<Image>) -> Animation {
        Animation { delays_cs: vec![7; frames.len()], frames }
    }

    /// Rows, columns, and the pixels of all frames.
    fn read(path: &Path) -> (usize, usize, Vec<u8>) {
        let clips =
            Clips::open(path, &ClipOptions::default(), None, 0..1, Cache::Memory, &mut |_, _| ()).unwrap();
        let mut frame = crate::clips::Frame::default();
        let mut pixels = Vec::new();
        for t in 0..clips.frames(0) {
            clips.frame(0, t, &mut frame).unwrap();
            pixels.extend(&frame.pixels);
        }
        (frame.height, frame.width, pixels)
    }

    #[test]
    fn greys_come_back_exactly() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.gif");
        let greys: Vec<Vec<u8>> =
            (0..3u8).map(|t| (0..=255).map(|i: u8| i.wrapping_add(t)).collect()).collect();
        write_gif(&path, &animation(greys.iter().map(|g| Image::grey(32, 8, g)).collect())).unwrap();
        assert_eq!(read(&path), (8, 32, greys.concat().iter().flat_map(|&grey| [grey; 3]).collect()));
        write_gif(&path, &animation(vec![Image::grey(1, 1, &[9])])).unwrap();
        assert_eq!(read(&path), (1, 1, vec![9; 3]));
    }

    #[test]
    fn many_colours_are_reduced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.gif");
        let mut image = Image::new(64, 64, [0; 3]);
        image.pixels.iter_mut().enumerate().for_each(|(i, p)| *p = [i as u8, (i >> 4) as u8, (i / 2) as u8]);
        write_gif(&path, &animation(vec![image])).unwrap();
        assert_eq!(read(&path).2.len(), 3 * 4096);
    }

    #[test]
    fn refuses_what_cannot_be() {
        let path = Path::new("x.gif");
        assert!(write_gif(path, &animation(vec![])).is_err());
        assert!(
            write_gif(path, &animation(vec![Image::new(2, 1, [0; 3]), Image::new(1, 2, [0; 3])])).is_err()
        );
        assert!(write_gif(path, &animation(vec![Image::new(65_536, 1, [0; 3])])).is_err());
    }
}
