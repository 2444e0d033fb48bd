//! Video sequences in an .npy file of any size.

use std::fs::{File, Metadata};
use std::io::{ErrorKind, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::header::{Dtype, Header, MAX_HEADER};
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

/// uint8 sequences in a file: opening reads the header only.
///
/// Frames are read on request, by system calls: with a memory map, the process would end by SIGBUS if another program
/// shortened the file.
#[derive(Debug)]
pub struct NpySequences {
    file: File,
    /// Length in bytes and time of the last change when the file was opened.
    version: (u64, Option<SystemTime>),
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
        let mut start = Vec::new();
        (&file).take(MAX_HEADER as u64).read_to_end(&mut start).map_err(unreadable)?;
        let header = Header::parse(&start, path)?;
        if header.dtype != Dtype::U8 {
            return Err(Error::file(path, "has float32 elements; sequences must be uint8 ('|u1'), 0 to 255"));
        }
        header.check_length(metadata.len(), path)?;
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
            file,
            version: version(&metadata),
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
    /// [`Error::File`] when there is no such sequence or frame, or the file cannot be read or has been changed since it was
    /// opened, [`Error::Failure`] when `out` is of another length.
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
        let mut planes = vec![0; if self.layout == Layout::Ntchw && self.channels > 1 { size } else { 0 }];
        for (t, out) in frames.zip(out.chunks_exact_mut(size)) {
            let number =
                if self.layout == Layout::Tnhw { t * self.count + index } else { index * self.frames + t };
            let start = (self.start + number * size) as u64;
            if planes.is_empty() {
                self.file.read_exact_at(out, start).map_err(|e| self.unreadable(&e))?;
            } else {
                self.file.read_exact_at(&mut planes, start).map_err(|e| self.unreadable(&e))?;
                for (channel, plane) in planes.chunks_exact(self.height * self.width).enumerate() {
                    for (pixel, &value) in out.chunks_exact_mut(self.channels).zip(plane) {
                        pixel[channel] = value;
                    }
                }
            }
        }
        // After the frames were read: a change before that is seen.
        match self.file.metadata() {
            Ok(metadata) if version(&metadata) == self.version => Ok(()),
            Ok(_) => Err(self.changed()),
            Err(e) => Err(self.unreadable(&e)),
        }
    }

    fn unreadable(&self, error: &std::io::Error) -> Error {
        match error.kind() {
            ErrorKind::UnexpectedEof => self.changed(),
            _ => Error::file(&self.path, format!("cannot be read: {error}")),
        }
    }

    fn changed(&self) -> Error {
        Error::file(&self.path, "was changed while it was in use; start again once it is complete")
    }
}

/// The change that another program has made to the file since it was opened.
fn version(metadata: &Metadata) -> (u64, Option<SystemTime>) {
    (metadata.len(), metadata.modified().ok())
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
    fn a_file_that_was_changed_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        let open = || {
            write_u8(&path, &[2, 3, 4, 4], &[7; 96]).unwrap();
            let file = NpySequences::open(&path, Layout::Nthw).unwrap();
            file.sequence(1, 0..3, &mut [0; 48]).unwrap();
            file
        };
        for change in ["shorten", "write again"] {
            let sequences = open();
            let file = File::options().write(true).open(&path).unwrap();
            match change {
                "shorten" => file.set_len(140).unwrap(),
                _ => {
                    let later = SystemTime::now() + std::time::Duration::from_secs(1);
                    file.write_all_at(&[9], 150).unwrap();
                    // Independent of the resolution of the file system's clock.
                    file.set_modified(later).unwrap();
                }
            }
            let error = sequences.sequence(1, 0..3, &mut [0; 48]).unwrap_err().to_string();
            assert!(error.contains("a.npy") && error.contains("was changed"), "{change}: {error}");
        }
        // A new file of the same name is another file: the open one is read on.
        let sequences = open();
        write_u8(&path, &[2, 3, 4, 4], &[8; 96]).unwrap();
        let mut out = [0; 48];
        sequences.sequence(1, 0..3, &mut out).unwrap();
        assert_eq!(out, [7; 48]);
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
