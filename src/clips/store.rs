//! Decoded frames of the model's side in a file: pictures, animations and videos are decoded once.
//!
//! The file is `MAGIC`, the position of the list, the frames of all clips [side, side, 3], and the list as JSON.

use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Frame;
use crate::output::unnamed_file;
use crate::{Error, OutputFile, Result};

const MAGIC: &[u8; 8] = b"ssmvclp1";
/// Bytes before the frames.
const START: u64 = 16;
/// Maximum size of the list in bytes.
const MAX_LIST: u64 = 256 << 20;
/// Colours in the file, of which grey clips use one.
const COLOURS: usize = 3;

/// The clips of a store.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct List {
    /// Digest of the source files' names, sizes and times, and of the options.
    pub fingerprint: String,
    /// Rows and columns of a frame.
    pub side: usize,
    /// Whether all frames are grey.
    pub grey: bool,
    /// Frames of each clip.
    pub frames: Vec<usize>,
    /// Rows and columns of each clip before they were scaled.
    pub sizes: Vec<[usize; 2]>,
    /// Smallest and largest value.
    pub values: [u8; 2],
}

/// An open store.
#[derive(Debug)]
pub(super) struct Store {
    file: File,
    pub list: List,
    /// First frame of each clip.
    first: Vec<u64>,
}

impl Store {
    /// Opens `path` if it is a whole store of that fingerprint.
    pub fn open(path: &Path, fingerprint: &str) -> Option<Self> {
        let mut file = File::open(path).ok()?;
        let mut start = [0; START as usize];
        file.read_exact(&mut start).ok()?;
        let (magic, at) = start.split_first_chunk::<8>()?;
        let at = u64::from_le_bytes(at.try_into().ok()?);
        let length = file.metadata().ok()?.len();
        if magic != MAGIC || at > length || length - at > MAX_LIST {
            return None;
        }
        let mut text = Vec::new();
        file.seek(SeekFrom::Start(at)).ok()?;
        (&file).take(MAX_LIST).read_to_end(&mut text).ok()?;
        let list: List = serde_json::from_slice(&text).ok()?;
        let frame = list.side.checked_mul(list.side)?.checked_mul(COLOURS)? as u64;
        let frames = list.frames.iter().try_fold(0u64, |sum, &frames| sum.checked_add(frames as u64))?;
        let whole = frames.checked_mul(frame).and_then(|bytes| bytes.checked_add(START)) == Some(at);
        (whole && list.fingerprint == fingerprint).then(|| Self::of(file, list))
    }

    fn of(file: File, list: List) -> Self {
        let before = |sum: &mut u64, frames: &usize| {
            let first = *sum;
            *sum += *frames as u64;
            Some(first)
        };
        let first = list.frames.iter().scan(0, before).collect();
        Self { file, list, first }
    }

    /// Frame `t` of a clip as [side, side, channels].
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn frame(&self, clip: usize, t: usize, out: &mut Frame) -> Result<()> {
        let side = self.list.side;
        let size = side * side * COLOURS;
        let number = self.first.get(clip).copied().unwrap_or_default() + t as u64;
        let mut pixels = vec![0; size];
        self.file
            .read_exact_at(&mut pixels, START + number * size as u64)
            .map_err(|e| Error::Failure(format!("the decoded clips cannot be read: {e}")))?;
        if self.list.grey {
            pixels = pixels.into_iter().step_by(COLOURS).collect();
        }
        *out =
            Frame { height: side, width: side, channels: if self.list.grey { 1 } else { COLOURS }, pixels };
        Ok(())
    }
}

/// A store that is being written.
pub(super) struct Writer {
    target: Target,
    list: List,
}

/// Where a store is written to.
enum Target {
    Named(OutputFile),
    Unnamed(File),
}

impl Writer {
    /// A new store: at `path`, which a whole store replaces, or in a file without a name.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn create(path: Option<&Path>, side: usize, fingerprint: String) -> Result<Self> {
        let target = match path {
            Some(path) => {
                let folder = path.parent().map_or(Ok(()), std::fs::create_dir_all);
                folder.map_err(|e| Error::file(path, format!("cannot be written: {e}")))?;
                Target::Named(OutputFile::create(path, true)?)
            }
            None => Target::Unnamed(unnamed_file()?),
        };
        let list = List { fingerprint, side, grey: true, values: [255, 0], ..List::default() };
        let mut writer = Self { target, list };
        writer.write(&[0; START as usize])?;
        Ok(writer)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.target {
            Target::Named(output) => output.file().write_all(bytes).map_err(|e| output.error(e)),
            Target::Unnamed(file) => file.write_all(bytes).map_err(|e| unwritable(&e)),
        }
    }

    /// Begins a clip, whose frames had this size before.
    pub fn begin(&mut self, size: [usize; 2]) {
        self.list.frames.push(0);
        self.list.sizes.push(size);
    }

    /// Appends a frame of the store's side to the last clip.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn push(&mut self, frame: &Frame) -> Result<()> {
        let pixels: Vec<u8> = match frame.channels {
            1 => frame.pixels.iter().flat_map(|&grey| [grey; COLOURS]).collect(),
            _ => frame.pixels.clone(),
        };
        let list = &mut self.list;
        list.grey &= pixels.as_chunks::<COLOURS>().0.iter().all(|[r, g, b]| r == g && g == b);
        let [least, most] = &mut list.values;
        *least = pixels.iter().fold(*least, |least, &value| least.min(value));
        *most = pixels.iter().fold(*most, |most, &value| most.max(value));
        if let Some(frames) = list.frames.last_mut() {
            *frames += 1;
        }
        self.write(&pixels)
    }

    /// Ends the store, and opens it.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn finish(self) -> Result<Store> {
        let list =
            serde_json::to_vec(&self.list).map_err(|e| Error::Failure(format!("the list of clips: {e}")))?;
        let end = |file: &mut File| -> std::io::Result<()> {
            let at = file.stream_position()?;
            let mut out = BufWriter::new(&mut *file);
            out.write_all(&list)?;
            out.seek(SeekFrom::Start(0))?;
            out.write_all(MAGIC)?;
            out.write_all(&at.to_le_bytes())?;
            out.flush()
        };
        match self.target {
            Target::Named(mut output) => {
                end(output.file()).map_err(|e| output.error(e))?;
                let file = output.file().try_clone().map_err(|e| output.error(e))?;
                output.commit()?;
                Ok(Store::of(file, self.list))
            }
            Target::Unnamed(mut file) => {
                end(&mut file).map_err(|e| unwritable(&e))?;
                Ok(Store::of(file, self.list))
            }
        }
    }
}

fn unwritable(e: &std::io::Error) -> Error {
    Error::Failure(format!(
        "the decoded clips cannot be written to the folder for temporary files ({}): {e}",
        std::env::temp_dir().display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(pixels: &[u8], channels: usize) -> Frame {
        Frame { height: 1, width: 1, channels, pixels: pixels.to_vec() }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clips.cache");
        let write = |colour: [u8; 3]| {
            let mut writer = Writer::create(Some(&path), 1, "abc".into()).unwrap();
            writer.begin([4, 5]);
            writer.push(&frame(&[7], 1)).unwrap();
            writer.push(&frame(&[8], 1)).unwrap();
            writer.begin([6, 7]);
            writer.push(&frame(&colour, 3)).unwrap();
            writer.finish().unwrap()
        };
        let mut out = Frame::default();
        let store = write([1, 2, 3]);
        store.frame(0, 1, &mut out).unwrap();
        assert_eq!(out, frame(&[8, 8, 8], 3));
        let again = Store::open(&path, "abc").unwrap();
        assert_eq!(again.list, store.list);
        assert_eq!((again.list.values, &again.list.frames[..]), ([1, 8], &[2, 1][..]));
        again.frame(1, 0, &mut out).unwrap();
        assert_eq!(out, frame(&[1, 2, 3], 3));
        assert!(again.frame(1, 1, &mut out).is_err() || out != frame(&[1, 2, 3], 3));
        assert!(Store::open(&path, "other").is_none());
        let grey = write([9, 9, 9]);
        grey.frame(1, 0, &mut out).unwrap();
        assert_eq!(out, frame(&[9], 1));
        let length = std::fs::metadata(&path).unwrap().len();
        for cut in [0, 8, 16, 20, length - 1] {
            File::options().write(true).open(&path).unwrap().set_len(cut).unwrap();
            assert!(Store::open(&path, "abc").is_none(), "{cut}");
            drop(write([9, 9, 9]));
        }
    }
}
