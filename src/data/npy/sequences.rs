//! Video sequences in an .npy file of any size.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use super::header::{Dtype, Header};
use crate::config::choices;
use crate::{Error, Result};

choices! {
    /// Order of the dimensions in a file of sequences: N sequences, T frames, H rows, W columns, C colours.
    Layout {
        /// [T, N, H, W], as in the standard test set `mnist_test_seq.npy`.
        Tnhw = "tnhw",
        /// [N, T, H, W].
        Nthw = "nthw",
        /// [N, T, H, W, C].
        Nthwc = "nthwc",
        /// [N, T, C, H, W].
        Ntchw = "ntchw",
    }
}

/// uint8 sequences in a memory-mapped file: opening reads the header only.
#[derive(Debug)]
pub struct NpySequences {
    map: Mmap,
    path: PathBuf,
    layout: Layout,
    start: usize,
    count: usize,
    frames: usize,
    height: usize,
    width: usize,
    channels: usize,
}

impl NpySequences {
    /// Opens a file of uint8 sequences whose dimensions are in the order `layout`.
    ///
    /// # Errors
    /// [`Error::File`] when the file cannot be read, is not such an array, has another number of dimensions or colours
    /// than 1 or 3, or its length differs from its header.
    pub fn open(path: &Path, layout: Layout) -> Result<Self> {
        let unreadable = |e: std::io::Error| Error::file(path, format!("cannot be read: {e}"));
        let file = File::open(path).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        if !metadata.is_file() || metadata.len() == 0 {
            return Err(Error::file(path, "is empty or not a file; give an .npy file"));
        }
        // SAFETY: the map is only read, as bytes, for which every value is valid. Another process that shortens the
        // file meanwhile would end this one by a signal; this cannot be prevented here.
        let map = unsafe { Mmap::map(&file) }.map_err(unreadable)?;
        let header = Header::parse(&map, path)?;
        if header.dtype != Dtype::U8 {
            return Err(Error::file(path, "has float32 elements; sequences must be uint8 ('|u1'), 0 to 255"));
        }
        header.check_length(map.len() as u64, path)?;
        let (count, frames, height, width, channels) = match (layout, &header.shape[..]) {
            (Layout::Tnhw, &[t, n, h, w]) | (Layout::Nthw, &[n, t, h, w]) => (n, t, h, w, 1),
            (Layout::Nthwc, &[n, t, h, w, c]) | (Layout::Ntchw, &[n, t, c, h, w]) => (n, t, h, w, c),
            (_, shape) => {
                return Err(Error::file(
                    path,
                    format!("has shape {shape:?}, which does not fit layout {layout}; give another --layout"),
                ));
            }
        };
        if channels != 1 && channels != 3 {
            return Err(Error::file(
                path,
                format!(
                    "has {channels} colours by layout {layout}; must be 1 or 3, or give another --layout"
                ),
            ));
        }
        Ok(Self {
            map,
            path: path.to_owned(),
            layout,
            start: header.start,
            count,
            frames,
            height,
            width,
            channels,
        })
    }

    /// Number of sequences, at least 1.
    #[allow(clippy::len_without_is_empty, reason = "a file without sequences is refused")]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Frames of a sequence.
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// Rows of a frame.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Columns of a frame.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Colours of a pixel: 1 or 3.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of a frame: height · width · channels.
    pub fn frame_bytes(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// Writes the frames `frames` of sequence `index` to `out`, [T, H, W, C].
    ///
    /// # Errors
    /// [`Error::File`] when there is no such sequence or frame, [`Error::Failure`] when `out` is of another length.
    pub fn sequence(&self, index: usize, frames: Range<usize>, out: &mut [u8]) -> Result<()> {
        if index >= self.count || frames.end > self.frames || frames.start > frames.end {
            return Err(Error::file(
                &self.path,
                format!(
                    "has {} sequences of {} frames, so frames {frames:?} of sequence {index} do not exist",
                    self.count, self.frames
                ),
            ));
        }
        let size = self.frame_bytes();
        if out.len() != frames.len() * size {
            return Err(Error::Failure(format!(
                "{} frames of {size} bytes do not fit a buffer of {}",
                frames.len(),
                out.len()
            )));
        }
        for (t, out) in frames.zip(out.chunks_exact_mut(size)) {
            let number =
                if self.layout == Layout::Tnhw { t * self.count + index } else { index * self.frames + t };
            let start = self.start + number * size;
            let frame = &self.map[start..start + size];
            if self.layout == Layout::Ntchw && self.channels > 1 {
                for (channel, plane) in frame.chunks_exact(self.height * self.width).enumerate() {
                    for (pixel, &value) in out.chunks_exact_mut(self.channels).zip(plane) {
                        pixel[channel] = value;
                    }
                }
            } else {
                out.copy_from_slice(frame);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{write_f32, write_u8};
    use super::*;

    #[test]
    fn all_layouts_give_the_same_frames() {
        let folder = tempfile::tempdir().unwrap();
        let (n, t, h, w) = (2, 3, 2, 2);
        let value =
            |i: usize, t: usize, y: usize, x: usize, c: usize| (((i * 3 + t) * 2 + y) * 2 + x) * 3 + c;
        for layout in [Layout::Tnhw, Layout::Nthw, Layout::Nthwc, Layout::Ntchw] {
            let path = folder.path().join(format!("{layout}.npy"));
            let colours = if matches!(layout, Layout::Nthwc | Layout::Ntchw) { 3 } else { 1 };
            let shape = match layout {
                Layout::Tnhw => vec![t, n, h, w],
                Layout::Nthw => vec![n, t, h, w],
                Layout::Nthwc => vec![n, t, h, w, 3],
                Layout::Ntchw => vec![n, t, 3, h, w],
            };
            let elements: usize = shape.iter().product();
            let mut values = Vec::new();
            for flat in 0..elements {
                let mut rest = flat;
                let mut at: Vec<usize> = shape.iter().rev().map(|&s| (rest % s, rest /= s).0).collect();
                at.reverse();
                let v = match layout {
                    Layout::Tnhw => value(at[1], at[0], at[2], at[3], 0),
                    Layout::Nthw => value(at[0], at[1], at[2], at[3], 0),
                    Layout::Nthwc => value(at[0], at[1], at[2], at[3], at[4]),
                    Layout::Ntchw => value(at[0], at[1], at[3], at[4], at[2]),
                };
                values.push(v as u8);
            }
            write_u8(&path, &shape, &values).unwrap();
            let file = NpySequences::open(&path, layout).unwrap();
            assert_eq!((file.len(), file.frames(), file.height(), file.width()), (n, t, h, w));
            assert_eq!(file.channels(), colours);
            let mut out = vec![0; 2 * h * w * colours];
            file.sequence(1, 1..3, &mut out).unwrap();
            let mut wanted = Vec::new();
            for frame in 1..3 {
                for y in 0..h {
                    for x in 0..w {
                        wanted.extend((0..colours).map(|c| value(1, frame, y, x, c) as u8));
                    }
                }
            }
            assert_eq!(out, wanted, "{layout}");
            assert!(file.sequence(2, 0..1, &mut out).is_err());
            assert!(file.sequence(0, 2..4, &mut out).is_err());
            assert!(file.sequence(0, 0..1, &mut out).is_err());
            assert_eq!(layout.to_string().parse::<Layout>().unwrap(), layout);
        }
        assert!("hwtn".parse::<Layout>().is_err());
    }

    #[test]
    fn refuses_files_that_do_not_fit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        let error = |layout| NpySequences::open(&path, layout).unwrap_err().to_string();
        assert!(error(Layout::Tnhw).contains("cannot be read"));
        std::fs::write(&path, b"").unwrap();
        assert!(error(Layout::Tnhw).contains("empty"));
        write_u8(&path, &[2, 2, 2, 2], &[0; 16]).unwrap();
        assert!(error(Layout::Nthwc).contains("--layout"));
        write_u8(&path, &[1, 2, 2, 2, 2], &[0; 16]).unwrap();
        assert!(error(Layout::Nthwc).contains("2 colours"));
        write_f32(&path, &[1, 2, 2, 2], &[0.0; 8]).unwrap();
        assert!(error(Layout::Nthw).contains("uint8"));
        let mut bytes = Header::bytes(Dtype::U8, &[1 << 40, 1 << 20, 1 << 10, 4]);
        bytes.extend([0; 64]);
        std::fs::write(&path, &bytes).unwrap();
        assert!(error(Layout::Nthw).contains("does not match its shape"));
    }
}
