//! Grey clips, and reading them from .npy, GIF and PNG files.

use std::ops::Range;
use std::path::Path;

use super::{Image, MAX_BYTES, gif, png};
use crate::data::npy::{ArrayFile, Layout, NpySequences};
use crate::{Error, Result};

/// A clip: a sequence of grey frames.
#[derive(Debug, Clone, PartialEq)]
pub struct Clip {
    /// Number of frames T.
    pub frames: usize,
    /// Rows of a frame.
    pub height: usize,
    /// Columns of a frame.
    pub width: usize,
    /// [T, height, width], 0 is black and 1 white; a prediction may exceed both.
    pub values: Vec<f32>,
}

impl Clip {
    /// From values [T, height, width], 1 is white.
    ///
    /// # Errors
    /// [`Error::Failure`] when `values` is not a whole number of frames, at least one.
    pub fn new(height: usize, width: usize, values: Vec<f32>) -> Result<Self> {
        let area = height.checked_mul(width).filter(|&area| area > 0);
        match area.map(|area| (values.len() / area, values.len() % area)) {
            Some((frames, 0)) if frames > 0 => Ok(Self { frames, height, width, values }),
            _ => {
                Err(Error::Failure(format!("{} values do not make frames of {height}×{width}", values.len())))
            }
        }
    }

    /// From bytes [T, height, width, channels], 255 is white; colours are averaged to grey.
    ///
    /// # Errors
    /// As [`Clip::new`].
    pub fn from_u8(height: usize, width: usize, channels: usize, bytes: &[u8]) -> Result<Self> {
        Self::from_unit(height, width, channels, bytes.iter().map(|&b| f32::from(b) / 255.0).collect())
    }

    /// From values [T, height, width, channels], 1 is white; colours are averaged to grey.
    ///
    /// # Errors
    /// As [`Clip::new`].
    pub fn from_unit(height: usize, width: usize, channels: usize, values: Vec<f32>) -> Result<Self> {
        match channels {
            0 => Err(Error::Failure("a clip without colours".into())),
            1 => Self::new(height, width, values),
            _ => {
                let grey = values.chunks_exact(channels).map(|c| c.iter().sum::<f32>() / channels as f32);
                Self::new(height, width, grey.collect())
            }
        }
    }

    /// Frame `t`, [height, width]; empty past the end.
    pub fn frame(&self, t: usize) -> &[f32] {
        self.values.chunks_exact(self.height * self.width).nth(t).unwrap_or_default()
    }

    /// Frame `t` as bytes, clipped to black and white.
    pub fn frame_u8(&self, t: usize) -> Vec<u8> {
        self.frame(t).iter().map(|v| (v.clamp(0.0, 1.0) * 255.0).round() as u8).collect()
    }

    /// All frames as pictures.
    pub fn images(&self) -> Vec<Image> {
        (0..self.frames).map(|t| Image::grey(self.width, self.height, &self.frame_u8(t))).collect()
    }

    /// True if the sizes match the values: both fields are public.
    pub(super) fn is_whole(&self) -> bool {
        let sizes = [self.height, self.width].iter().try_fold(self.frames, |n, &size| n.checked_mul(size));
        !self.values.is_empty() && sizes == Some(self.values.len())
    }

    /// The frames of `range` that exist.
    ///
    /// # Errors
    /// [`Error::Failure`] when there are none.
    pub fn slice(&self, range: std::ops::Range<usize>) -> Result<Self> {
        let area = self.height * self.width;
        let (start, end) = (range.start.min(self.frames), range.end.min(self.frames));
        let values = self.values.get(start * area..end * area).unwrap_or_default();
        Self::new(self.height, self.width, values.to_vec())
    }
}

/// Reads the clips `wanted` from `path`, as far as they exist; of a large file only these:
/// - a folder: its PNG files in natural order are the frames of one clip;
/// - `.gif`: one clip;
/// - `.npy` with a `layout`: uint8 sequences, of any file size;
/// - `.npy` without: uint8 or float32 [T, H, W], [N, T, H, W] or [N, T, H, W, C] with C of 1 or 3.
///
/// # Errors
/// [`Error::File`] when the file is none of these or broken, has not the first of the clips, or they exceed 256 MiB as
/// float32.
pub fn read_clips(path: &Path, layout: Option<Layout>, wanted: Range<usize>) -> Result<Vec<Clip>> {
    let existing = |count: usize| match wanted.start < count {
        true => Ok(wanted.start..wanted.end.min(count)),
        false => Err(Error::file(
            path,
            format!(
                "has {count} sequences, so number {} does not exist (--index counts from 0)",
                wanted.start
            ),
        )),
    };
    // Before memory is taken.
    let check_bytes = |clips: &Range<usize>, sizes: &[usize]| {
        let sizes = sizes.iter().chain([&size_of::<f32>()]);
        match sizes.clone().try_fold(clips.len(), |bytes, &size| bytes.checked_mul(size)) {
            Some(bytes) if bytes <= MAX_BYTES => Ok(()),
            _ => {
                let message =
                    format!("has too large sequences: {} of them exceed 256 MiB as float32", clips.len());
                Err(Error::file(path, message))
            }
        }
    };
    if path.is_dir() {
        let pictures = png::read_png_folder(path)?;
        let (height, width) = pictures.first().map_or((0, 0), |p| (p.height, p.width));
        let mut values = Vec::with_capacity(pictures.len() * height * width);
        for picture in &pictures {
            values.extend(picture.to_grey().into_iter().map(|b| f32::from(b) / 255.0));
        }
        existing(1)?;
        return Ok(vec![Clip::new(height, width, values)?]);
    }
    let extension = path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
    match (extension.as_deref(), layout) {
        (Some("gif"), _) => {
            let (height, width, bytes) = gif::read_gif(path)?;
            existing(1)?;
            Ok(vec![Clip::from_u8(height, width, 1, &bytes)?])
        }
        (Some("npy"), Some(layout)) => {
            let file = NpySequences::open(path, layout)?;
            let wanted = existing(file.len())?;
            check_bytes(&wanted, &[file.frames(), file.frame_bytes()])?;
            let mut bytes = vec![0; file.frames() * file.frame_bytes()];
            wanted
                .map(|i| {
                    file.sequence(i, 0..file.frames(), &mut bytes)?;
                    Clip::from_u8(file.height(), file.width(), file.channels(), &bytes)
                })
                .collect()
        }
        (Some("npy"), None) => {
            let file = ArrayFile::open(path)?;
            let Some([n, t, h, w, c]) = file.as_sequences() else {
                let message = format!(
                    "has shape {:?}; must be [T, H, W], [N, T, H, W] or [N, T, H, W, C]",
                    file.shape()
                );
                return Err(Error::file(path, message));
            };
            let wanted = existing(n)?;
            check_bytes(&wanted, &[t, h, w, c])?;
            let size = t * h * w * c;
            wanted
                .map(|i| {
                    let sequence = file.part(i * size..(i + 1) * size, &[t, h, w, c])?;
                    Clip::from_unit(h, w, c, sequence.into_unit())
                })
                .collect()
        }
        _ => Err(Error::file(path, "is not an .npy file, a .gif file or a folder of .png files")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::npy::{write_f32, write_u8};

    #[test]
    fn reads_arrays_of_every_shape() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        write_f32(&path, &[2, 2, 3], &[0.5; 12]).unwrap();
        let clips = read_clips(&path, None, 0..9).unwrap();
        assert_eq!((clips.len(), clips[0].frames, clips[0].height, clips[0].width), (1, 2, 2, 3));
        let bytes: Vec<u8> = (0..2 * 2 * 3 * 3).collect();
        write_u8(&path, &[2, 1, 2, 3, 3], &bytes).unwrap();
        let clips = read_clips(&path, None, 0..9).unwrap();
        assert_eq!(clips.len(), 2);
        assert_eq!(clips[1].frame_u8(0), [19, 22, 25, 28, 31, 34]);
        assert_eq!(clips, read_clips(&path, Some(Layout::Nthwc), 0..9).unwrap());
        assert_eq!(read_clips(&path, None, 0..1).unwrap().len(), 1);
        write_u8(&path, &[36], &bytes).unwrap();
        assert!(read_clips(&path, None, 0..9).unwrap_err().to_string().contains("has shape [36]"));
        assert!(read_clips(&folder.path().join("a.txt"), None, 0..9).is_err());
    }

    #[test]
    fn of_a_large_file_only_the_wanted_sequences_are_read() {
        use crate::data::npy::{Dtype, Header};
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        // 40 GiB without any block on the disk.
        let sparse = |dtype: Dtype, shape: &[usize]| {
            let header = Header::bytes(dtype, shape);
            std::fs::write(&path, &header).unwrap();
            let length = header.len() + shape.iter().product::<usize>() * dtype.size();
            std::fs::File::options().write(true).open(&path).unwrap().set_len(length as u64).unwrap();
        };
        sparse(Dtype::F32, &[10 << 17, 2, 64, 64]);
        let last = (10 << 17) - 1;
        assert_eq!(read_clips(&path, None, last..last + 1).unwrap()[0].values, [0.0; 2 << 12]);
        let message = read_clips(&path, None, last + 1..last + 2).unwrap_err().to_string();
        assert!(message.contains("1310720 sequences"), "{message}");
        assert!(read_clips(&path, None, 0..1 << 20).unwrap_err().to_string().contains("256 MiB"));
        sparse(Dtype::F32, &[10 << 18, 64, 64]);
        assert!(read_clips(&path, None, 0..1).unwrap_err().to_string().contains("256 MiB"));
        sparse(Dtype::U8, &[1 << 20, 10 << 10, 2, 2]);
        assert!(read_clips(&path, Some(Layout::Tnhw), 3..80).is_err());
        sparse(Dtype::U8, &[4, 10 << 18, 64, 64]);
        assert_eq!(read_clips(&path, Some(Layout::Tnhw), 3..5).unwrap().len(), 2);
    }

    #[test]
    fn a_clip_is_whole_frames() {
        assert!(Clip::new(2, 2, vec![0.0; 7]).is_err());
        assert!(Clip::new(0, 2, vec![]).is_err());
        assert!(Clip::new(usize::MAX, 2, vec![]).is_err());
        let clip = Clip::new(1, 1, vec![-1.0, 0.5, 2.0]).unwrap();
        assert_eq!(clip.slice(1..9).unwrap().values, [0.5, 2.0]);
        assert!(clip.slice(3..9).is_err());
        assert_eq!((clip.frame_u8(0), clip.frame_u8(2)), (vec![0], vec![255]));
        assert!(clip.frame(3).is_empty());
    }
}
