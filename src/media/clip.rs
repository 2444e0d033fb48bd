//! Clips in memory: the frames of a sequence or of a prediction.

use super::{Image, MAX_BYTES};
use crate::clips::Clips;
use crate::{Error, Result};

/// A clip: a sequence of grey or coloured frames.
#[derive(Debug, Clone, PartialEq)]
pub struct Clip {
    /// Number of frames T.
    pub frames: usize,
    /// Rows of a frame.
    pub height: usize,
    /// Columns of a frame.
    pub width: usize,
    /// Colours of a pixel: 1 or 3.
    pub channels: usize,
    /// [T, height, width, channels], 0 is black and 1 white; a prediction may exceed both.
    pub values: Vec<f32>,
}

impl Clip {
    /// From values [T, height, width, channels], 1 is white.
    ///
    /// # Errors
    /// [`Error::Failure`] when `values` is not a whole number of frames, at least one, of 1 or 3 colours.
    pub fn new([height, width, channels]: [usize; 3], values: Vec<f32>) -> Result<Self> {
        let size =
            height.checked_mul(width).and_then(|area| area.checked_mul(channels)).filter(|&size| size > 0);
        match size.map(|size| (values.len() / size, values.len() % size)) {
            Some((frames, 0)) if frames > 0 && [1, 3].contains(&channels) => {
                Ok(Self { frames, height, width, channels, values })
            }
            _ => {
                let count = values.len();
                Err(Error::Failure(format!(
                    "{count} values do not make frames of {height}×{width}×{channels}"
                )))
            }
        }
    }

    /// From bytes [T, height, width, channels], 255 is white.
    ///
    /// # Errors
    /// As [`Clip::new`].
    pub fn from_u8(size: [usize; 3], bytes: &[u8]) -> Result<Self> {
        Self::new(size, bytes.iter().map(|&b| f32::from(b) / 255.0).collect())
    }

    /// All frames of one of several clips.
    ///
    /// # Errors
    /// As [`Clips::read`]; [`Error::File`] when it is empty or exceeds 256 MiB as float32.
    pub fn read(clips: &Clips, clip: usize) -> Result<Self> {
        let mut frame = crate::clips::Frame::default();
        let frames = clips.frames(clip);
        clips.frame(clip, 0, &mut frame)?;
        let size = [frame.height, frame.width, clips.channels()];
        let elements = size.iter().try_fold(frames, |product, &size| product.checked_mul(size));
        let Some(elements) = elements.filter(|&elements| elements <= MAX_BYTES / size_of::<f32>()) else {
            let message = format!("sequence {clip} has {frames} frames, which exceed 256 MiB as float32");
            return Err(Error::file(clips.path(), message));
        };
        let mut bytes = vec![0; elements];
        clips.read(clip, 0..frames, &mut bytes)?;
        Self::from_u8(size, &bytes)
    }

    /// Rows, columns and colours of a frame.
    pub fn size(&self) -> [usize; 3] {
        [self.height, self.width, self.channels]
    }

    /// Frame `t`, [height, width, channels]; empty past the end.
    pub fn frame(&self, t: usize) -> &[f32] {
        self.values.chunks_exact(self.height * self.width * self.channels).nth(t).unwrap_or_default()
    }

    /// Frame `t` as bytes, clipped to black and white.
    pub fn frame_u8(&self, t: usize) -> Vec<u8> {
        self.frame(t).iter().map(|v| (v.clamp(0.0, 1.0) * 255.0).round() as u8).collect()
    }

    /// Frame `t` as a picture.
    pub fn image(&self, t: usize) -> Image {
        Image::from_u8(self.width, self.height, self.channels, &self.frame_u8(t))
    }

    /// All frames as pictures.
    pub fn images(&self) -> Vec<Image> {
        (0..self.frames).map(|t| self.image(t)).collect()
    }

    /// True if the sizes match the values: the fields are public.
    pub(super) fn is_whole(&self) -> bool {
        let sizes = self.size().iter().try_fold(self.frames, |n, &size| n.checked_mul(size));
        !self.values.is_empty() && sizes == Some(self.values.len())
    }

    /// The frames of `range` that exist.
    ///
    /// # Errors
    /// [`Error::Failure`] when there are none.
    pub fn slice(&self, range: std::ops::Range<usize>) -> Result<Self> {
        let frame = self.height * self.width * self.channels;
        let (start, end) = (range.start.min(self.frames), range.end.min(self.frames));
        let values = self.values.get(start * frame..end * frame).unwrap_or_default();
        Self::new(self.size(), values.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clip_is_whole_frames() {
        assert!(Clip::new([2, 2, 1], vec![0.0; 7]).is_err());
        assert!(Clip::new([0, 2, 1], vec![]).is_err());
        assert!(Clip::new([2, 2, 2], vec![0.0; 8]).is_err());
        assert!(Clip::new([usize::MAX, 2, 3], vec![]).is_err());
        let clip = Clip::new([1, 1, 1], vec![-1.0, 0.5, 2.0]).unwrap();
        assert_eq!(clip.slice(1..9).unwrap().values, [0.5, 2.0]);
        assert!(clip.slice(3..9).is_err());
        assert_eq!((clip.frame_u8(0), clip.frame_u8(2)), (vec![0], vec![255]));
        assert!(clip.frame(3).is_empty());
        let colours = Clip::from_u8([1, 1, 3], &[0, 255, 0, 255, 0, 0]).unwrap();
        assert_eq!((colours.frames, colours.image(1).pixels), (2, vec![[255, 0, 0]]));
    }
}
