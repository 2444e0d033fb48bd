//! Clips from files to frames of 8 bits: one path for training, evaluation and prediction.
//!
//! A path names an array (.npy, .npz), an animation, a video, or a folder of clips. Arrays are read frame by frame where they
//! lie; everything else is decoded once, to frames of the model's side, into a file or into memory.

mod array;
mod find;
mod layout;
mod npz;
mod pictures;
mod range;
mod resize;
mod store;
mod video;

use std::fmt::Write as _;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use layout::Layout;
pub use range::ValueRange;
pub use resize::Resize;

use crate::{Error, Result};
use array::ArrayClips;
use find::{ClipFile, Found, find};
use resize::Scaler;
use store::{Store, Writer};

/// Maximum size in bytes of decoded frames in memory: 256 MiB.
const MAX_MEMORY: usize = 256 << 20;
/// Most pictures of a clip that is decoded beside others.
const MANY_PICTURES: usize = 4096;

/// How a user says that clips are to be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ClipOptions {
    /// Order of an array's axes.
    pub layout: Layout,
    /// Values of an array that become black and white.
    pub range: ValueRange,
    /// How frames of another size become the model's.
    pub resize: Resize,
    /// Frames a second that are taken from animations and videos; all if absent.
    pub fps: Option<f64>,
}

/// A frame of 8 bits a colour.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Colours of a pixel: 1 or 3.
    pub channels: usize,
    /// [height, width, channels], 0 is black.
    pub pixels: Vec<u8>,
}

/// Where decoded frames are kept. Arrays are not decoded.
#[derive(Clone, Copy, Debug)]
pub enum Cache<'a> {
    /// In this file, which is used again for the same clips and options.
    File(&'a Path),
    /// In a file without a name, for this process.
    Unnamed,
    /// In memory, up to 256 MiB.
    Memory,
}

/// Open clips, at least one. Threads may share them.
#[derive(Debug)]
pub struct Clips {
    path: PathBuf,
    kind: Kind,
    /// Number of all clips of the path, of which `chosen` are these.
    total: usize,
    chosen: Range<usize>,
    side: Option<usize>,
    options: ClipOptions,
    warnings: Vec<String>,
}

#[derive(Debug)]
enum Kind {
    Array(Box<ArrayClips>),
    Store(Store),
    Memory(Vec<Vec<Frame>>),
}

impl Clips {
    /// Opens the clips `chosen` of a path, as far as they exist. `side`: rows and columns of the frames that
    /// [`Clips::frame`] gives; without it they keep their own size, and only [`Cache::Memory`] can keep them. `tick` is called
    /// with the number of clips that are decoded and of all that will be.
    ///
    /// # Errors
    /// [`Error::File`], which names the file and what to do, for clips that cannot be read or decoded, or of which the first
    /// chosen one does not exist.
    pub fn open(
        path: &Path,
        options: &ClipOptions,
        side: Option<usize>,
        chosen: Range<usize>,
        cache: Cache,
        tick: &mut dyn FnMut(usize, usize),
    ) -> Result<Self> {
        path.metadata().map_err(|e| Error::file(path, format!("cannot be read: {e}")))?;
        let existing = |total: usize| match chosen.start < total {
            true => Ok(chosen.start..chosen.end.min(total)),
            false => Err(Error::file(
                path,
                format!(
                    "has {total} sequences, so number {} does not exist (--index counts from 0)",
                    chosen.start
                ),
            )),
        };
        let unreadable = |e: std::io::Error| Error::file(path, format!("cannot be read: {e}"));
        let array = match find(path)? {
            Found::Npy => ArrayClips::open(File::open(path).map_err(unreadable)?, path, options, None)?,
            Found::Npz => {
                let unpacked = npz::unpack(path)?;
                ArrayClips::open(unpacked.file, path, options, unpacked.listed)?
            }
            Found::Files(files) => {
                let total = files.len();
                let chosen = existing(total)?;
                let kind = decode_all(path, &files[chosen.clone()], options, side, cache, tick)?;
                let path = path.to_owned();
                return Ok(Self { path, kind, total, chosen, side, options: *options, warnings: Vec::new() });
            }
        };
        let (total, warnings) = (array.len(), array.warnings().to_vec());
        let (black, white) = array.range();
        let options =
            ClipOptions { layout: array.layout(), range: ValueRange::Between(black, white), ..*options };
        let kind = Kind::Array(Box::new(array));
        Ok(Self { path: path.to_owned(), kind, total, chosen: existing(total)?, side, options, warnings })
    }

    /// Number of clips.
    #[allow(clippy::len_without_is_empty, reason = "there is at least one")]
    pub fn len(&self) -> usize {
        self.chosen.len()
    }

    /// Number of all clips of the path.
    pub fn total(&self) -> usize {
        self.total
    }

    /// Path of the clips.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Frames of a clip; 0 past the last one.
    pub fn frames(&self, clip: usize) -> usize {
        match &self.kind {
            Kind::Array(array) if clip < self.len() => array.frames(self.chosen.start + clip),
            Kind::Array(_) => 0,
            Kind::Store(store) => store.list.frames.get(clip).copied().unwrap_or(0),
            Kind::Memory(clips) => clips.get(clip).map_or(0, Vec::len),
        }
    }

    /// Colours of a pixel: 3 if any clip has colours, else 1.
    pub fn channels(&self) -> usize {
        match &self.kind {
            Kind::Array(array) => array.size()[2],
            Kind::Store(store) if store.list.grey => 1,
            Kind::Store(_) => 3,
            Kind::Memory(clips) => clips.iter().flatten().map(|frame| frame.channels).max().unwrap_or(1),
        }
    }

    /// The options that reproduce the reading: what was found stands for `auto`.
    pub fn options(&self) -> &ClipOptions {
        &self.options
    }

    /// Warnings for the user.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Frame `t` of a clip, of the side that was asked for.
    ///
    /// # Errors
    /// [`Error::File`] when there is none, it cannot be read, or the file was changed since it was opened.
    pub fn frame(&self, clip: usize, t: usize, out: &mut Frame) -> Result<()> {
        if t >= self.frames(clip) {
            return Err(Error::file(&self.path, format!("has no frame {t} in sequence {clip}")));
        }
        match &self.kind {
            Kind::Array(array) => {
                array.frame(self.chosen.start + clip, t, out)?;
                array.check_unchanged()?;
                match self.side {
                    Some(side) => Scaler::default().scale(out, side, self.options.resize),
                    None => Ok(()),
                }
            }
            Kind::Store(store) => store.frame(clip, t, out),
            Kind::Memory(clips) => {
                out.clone_from(&clips[clip][t]);
                Ok(())
            }
        }
    }

    /// The frames `range` of a clip, [T, side, side, channels].
    ///
    /// # Errors
    /// As [`Clips::frame`]; [`Error::Failure`] when `out` has another size.
    pub fn read(&self, clip: usize, range: Range<usize>, out: &mut [u8]) -> Result<()> {
        let mut frame = Frame::default();
        let size = out.len() / range.len().max(1);
        for (t, out) in range.zip(out.chunks_exact_mut(size.max(1))) {
            self.frame(clip, t, &mut frame)?;
            match (frame.channels, frame.pixels.len() == size) {
                (_, true) => out.copy_from_slice(&frame.pixels),
                // A grey frame among coloured ones.
                (1, false) if size == 3 * frame.pixels.len() => {
                    out.as_chunks_mut::<3>()
                        .0
                        .iter_mut()
                        .zip(&frame.pixels)
                        .for_each(|(to, &grey)| *to = [grey; 3]);
                }
                _ => {
                    let found = frame.pixels.len();
                    return Err(Error::Failure(format!("frames of {found} bytes do not fit {size}")));
                }
            }
        }
        Ok(())
    }

    /// The clips in one line: `40 sequences of 12 frames (nthw), 32×32, grey, values 0–200`.
    pub fn summary(&self) -> String {
        let frames = (0..self.len()).map(|clip| self.frames(clip));
        let (least, most) = frames.fold((usize::MAX, 0), |(least, most), n| (least.min(n), most.max(n)));
        let count = self.len();
        let of_all = if count < self.total { format!(" of {}", self.total) } else { String::new() };
        let plural = if self.total == 1 { "" } else { "s" };
        let mut text = format!("{count}{of_all} sequence{plural} of {least}");
        if most > least {
            let _ = write!(text, " to {most}");
        }
        text += " frames";
        let (sizes, values): (Vec<[usize; 2]>, String) = match &self.kind {
            Kind::Array(array) => {
                let [height, width, _] = array.size();
                let [least, most] = array.values();
                let (black, white) = array.range();
                let _ = write!(text, " ({}, {})", array.layout(), array.dtype().name());
                let short = |value: f64| (value * 1000.0).round() / 1000.0;
                let values = format!("values {}–{} of {black}–{white}", short(least), short(most));
                (vec![[height, width]], values)
            }
            Kind::Store(store) => {
                let [least, most] = store.list.values;
                (store.list.sizes.clone(), format!("values {least}–{most}"))
            }
            Kind::Memory(clips) => {
                let values = clips.iter().flatten().flat_map(|frame| &frame.pixels);
                let (least, most) = values.fold((255, 0), |(least, most), &v| (v.min(least), v.max(most)));
                let sizes = clips.iter().filter_map(|clip| clip.first()).map(|f| [f.height, f.width]);
                (sizes.collect(), format!("values {least}–{most}"))
            }
        };
        let [height, width] = sizes.first().copied().unwrap_or_default();
        let various = sizes.iter().any(|size| *size != [height, width]);
        let _ = write!(text, ", {width}×{height}");
        if various {
            text += " and other sizes";
        }
        if let Some(side) = self.side.filter(|&side| various || [height, width] != [side; 2]) {
            let _ = write!(text, " to {side}×{side} (--resize {})", self.options.resize);
        }
        let colour = if self.channels() == 1 { "grey" } else { "colour" };
        let _ = write!(text, ", {colour}, {values}");
        text
    }
}

/// All files that the clips of a path consist of, in a fixed order.
///
/// # Errors
/// As [`Clips::open`], as far as it does not read them.
pub fn files(path: &Path) -> Result<Vec<PathBuf>> {
    Ok(match find(path)? {
        Found::Npy | Found::Npz => vec![path.to_owned()],
        Found::Files(clips) => clips.iter().flat_map(|clip| clip.paths().to_vec()).collect(),
    })
}

/// Whether the .npy file `path` has the axes of `layout`, with neighbouring frames that are as alike along its time as along
/// any other axis; true for everything else, which has no layout.
///
/// # Errors
/// [`Error::File`] for an .npy file that is not an array of clips.
pub fn layout_fits(path: &Path, layout: Layout) -> Result<bool> {
    if path.is_dir() || find(path)? != Found::Npy {
        return Ok(true);
    }
    let open = |layout| {
        let file = File::open(path).map_err(|e| Error::file(path, format!("cannot be read: {e}")))?;
        // The range does not matter here.
        let options =
            ClipOptions { layout, range: ValueRange::Between(0.0, 255.0), ..ClipOptions::default() };
        ArrayClips::open(file, path, &options, None)
    };
    Ok(open(Layout::Auto)?.layout() == layout)
}

/// Decodes clips in files to frames of `side`, or of their own size.
fn decode_all(
    path: &Path,
    files: &[ClipFile],
    options: &ClipOptions,
    side: Option<usize>,
    cache: Cache,
    tick: &mut dyn FnMut(usize, usize),
) -> Result<Kind> {
    let named = match cache {
        Cache::File(path) => Some(path),
        Cache::Unnamed | Cache::Memory => None,
    };
    let (Some(side), Cache::File(_) | Cache::Unnamed) = (side, cache) else {
        let (mut clips, mut bytes) = (Vec::new(), 0);
        for (i, file) in files.iter().enumerate() {
            let mut clip = Vec::new();
            decode(file, options, side, &mut |_, frame| {
                bytes += frame.pixels.len();
                if bytes > MAX_MEMORY {
                    return Err(Error::file(
                        path,
                        format!("has more than {} MiB of frames", MAX_MEMORY >> 20),
                    ));
                }
                clip.push(frame);
                Ok(())
            })?;
            clips.push(clip);
            tick(i + 1, files.len());
        }
        return Ok(Kind::Memory(clips));
    };
    let fingerprint = fingerprint(files, options, side)?;
    if let Some(store) = named.and_then(|named| Store::open(named, &fingerprint)) {
        return Ok(Kind::Store(store));
    }
    let mut writer = Writer::create(named, side, fingerprint)?;
    let few = |file: &ClipFile| matches!(file, ClipFile::Pictures(paths) if paths.len() <= MANY_PICTURES);
    let mut done = 0;
    while done < files.len() {
        // Clips of few pictures are decoded side by side, all others picture by picture: they may be long.
        let together =
            files[done..].iter().take(2 * rayon::current_num_threads()).take_while(|file| few(file)).count();
        if together == 0 {
            let mut begun = false;
            decode(&files[done], options, Some(side), &mut |size, frame| {
                if !begun {
                    writer.begin(size);
                    begun = true;
                }
                writer.push(&frame)
            })?;
            done += 1;
        } else {
            type Decoded = Vec<([usize; 2], Frame)>;
            let clips: Vec<Result<Decoded>> = files[done..done + together]
                .par_iter()
                .map(|file| {
                    let mut frames = Vec::new();
                    decode(file, options, Some(side), &mut |size, frame| {
                        frames.push((size, frame));
                        Ok(())
                    })?;
                    Ok(frames)
                })
                .collect();
            for clip in clips {
                let clip = clip?;
                writer.begin(clip.first().map_or([0; 2], |(size, _)| *size));
                clip.iter().try_for_each(|(_, frame)| writer.push(frame))?;
            }
            done += together;
        }
        tick(done, files.len());
    }
    Ok(Kind::Store(writer.finish()?))
}

/// Calls `each` with the frames of a clip, scaled to `side`, and their size before.
fn decode(
    file: &ClipFile,
    options: &ClipOptions,
    side: Option<usize>,
    each: &mut dyn FnMut([usize; 2], Frame) -> Result<()>,
) -> Result<()> {
    let mut scaler = Scaler::default();
    let mut first: Option<[usize; 2]> = None;
    let path = file.paths().first().cloned().unwrap_or_default();
    let mut scaled = |path: &Path, mut frame: Frame| {
        let size = [frame.height, frame.width];
        let expected = *first.get_or_insert(size);
        if size != expected {
            let ([height, width], [wanted_height, wanted_width]) = (size, expected);
            return Err(Error::file(
                path,
                format!(
                    "has {width}×{height} pixels, the first of its clip {wanted_width}×{wanted_height}; all must have one \
                     size"
                ),
            ));
        }
        if let Some(side) = side {
            scaler.scale(&mut frame, side, options.resize)?;
        }
        each(size, frame)
    };
    match file {
        ClipFile::Pictures(paths) => paths.iter().try_for_each(|path| scaled(path, pictures::still(path)?)),
        ClipFile::Gif(_) => pictures::gif(&path, options.fps, &mut |frame| scaled(&path, frame)),
        ClipFile::Apng(_) => pictures::apng(&path, options.fps, &mut |frame| scaled(&path, frame)),
        ClipFile::Video(_) => video::decode(&path, options.fps, &mut |frame| scaled(&path, frame)),
    }
}

/// Digest of the files' names, sizes and times of change, and of the options.
fn fingerprint(files: &[ClipFile], options: &ClipOptions, side: usize) -> Result<String> {
    let mut digest = Sha256::new();
    for file in files {
        digest.update(b"clip\0");
        for path in file.paths() {
            let data = path.metadata().map_err(|e| Error::file(path, format!("cannot be read: {e}")))?;
            let path = path.canonicalize().unwrap_or_else(|_| path.clone());
            let changed =
                data.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
            digest.update(format!("{}\0{}\0{changed:?}\0", path.display(), data.len()));
        }
    }
    digest.update(format!("{} {:?} {side}", options.resize, options.fps));
    Ok(digest.finalize().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    }))
}
