//! Clips in an array of any size: an .npy file, or the array of an archive. Frames are read on request, by system calls: with
//! a memory map, the process would end by SIGBUS if another program shortened the file.

use std::fs::{File, Metadata};
use std::io::{ErrorKind, Read, Seek};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::layout::{Layout, Sizes};
use super::{ClipOptions, Frame};
use crate::data::npy::{Dtype, Header, MAX_HEADER};
use crate::{Error, Result};

/// Most frames, and most bytes of more than two frames, that are read to find the range of the values.
const SAMPLED_FRAMES: usize = 256;
const SAMPLED_BYTES: usize = 64 << 20;
/// Pairs of neighbouring frames that are compared to find the axis of time.
const COMPARED_PAIRS: usize = 24;
/// Maximum size of a frame in bytes: 256 MiB.
const MAX_FRAME: usize = 256 << 20;
/// How much less alike neighbouring frames must be along the given axis of time than along the other for a warning.
const LESS_ALIKE: f64 = 1.5;

/// An open array of clips.
#[derive(Debug)]
pub(super) struct ArrayClips {
    file: File,
    /// Length in bytes and time of the last change when the file was opened.
    version: (u64, Option<SystemTime>),
    path: PathBuf,
    header: Header,
    sizes: Sizes,
    layout: Layout,
    /// First frame and number of frames of each clip, where they are not all alike.
    listed: Option<Vec<(usize, usize)>>,
    /// The values that become 0 and 255.
    range: (f64, f64),
    /// Smallest and largest value of a sample of the frames.
    values: [f64; 2],
    warnings: Vec<String>,
}

impl ArrayClips {
    /// Opens an .npy file, or one that was taken out of an archive and is called `path` in messages.
    ///
    /// # Errors
    /// [`Error::File`] when it cannot be read, is not an array of clips by the layout, or the range of its values is unknown.
    pub fn open(
        mut file: File,
        path: &Path,
        options: &ClipOptions,
        listed: Option<Vec<(usize, usize)>>,
    ) -> Result<Self> {
        let fail = |message: String| Error::file(path, message);
        let unreadable = |e: std::io::Error| Error::file(path, format!("cannot be read: {e}"));
        let metadata = file.metadata().map_err(unreadable)?;
        let mut start = Vec::new();
        file.rewind().map_err(unreadable)?;
        (&file).take(MAX_HEADER as u64).read_to_end(&mut start).map_err(unreadable)?;
        let header = Header::parse(&start, path)?;
        header.check_length(metadata.len(), path)?;
        let shape = &header.shape;
        let given = Some(options.layout).filter(|layout| *layout != Layout::Auto);
        let layout = given.or_else(|| match &listed {
            Some(_) => Layout::of_shape(shape).filter(|layout| !layout.to_string().contains('n')),
            None => Layout::of_shape(shape),
        });
        let sizes = layout.and_then(|layout| layout.sizes(shape)).ok_or_else(|| match given {
            Some(layout) => fail(format!(
                "has shape {shape:?}, which does not fit --layout {layout} with 1 or 3 colours; give another"
            )),
            None => fail(format!(
                "has shape {shape:?}; clips have the axes [T, H, W] or more, with N clips and C colours (1 or 3); name \
                 them by --layout"
            )),
        })?;
        if sizes.elements().checked_mul(header.dtype.size()).is_none_or(|bytes| bytes > MAX_FRAME) {
            return Err(fail(format!("has frames of more than {} MiB", MAX_FRAME >> 20)));
        }
        let frames = sizes.clips * sizes.frames;
        if let Some((first, count)) = listed
            .iter()
            .flatten()
            .find(|(first, count)| first.checked_add(*count).is_none_or(|end| end > frames))
        {
            return Err(fail(format!("has {frames} frames, and a clip of {count} from frame {first} on")));
        }
        let mut clips = Self {
            file,
            version: version(&metadata),
            path: path.to_owned(),
            header,
            sizes,
            layout: layout.unwrap_or_default(),
            listed,
            range: (0.0, 1.0),
            values: [0.0; 2],
            warnings: Vec::new(),
        };
        clips.find_time(given.is_some())?;
        clips.find_range(options)?;
        Ok(clips)
    }

    /// Number of clips.
    pub fn len(&self) -> usize {
        self.listed.as_ref().map_or(self.sizes.clips, Vec::len)
    }

    /// Frames of a clip.
    pub fn frames(&self, clip: usize) -> usize {
        match &self.listed {
            Some(listed) => listed.get(clip).map_or(0, |(_, count)| *count),
            None => self.sizes.frames,
        }
    }

    /// Rows, columns and colours of a frame.
    pub fn size(&self) -> [usize; 3] {
        [self.sizes.height, self.sizes.width, self.sizes.channels]
    }

    /// The layout, found or given.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The values that become black and white, found or given.
    pub fn range(&self) -> (f64, f64) {
        self.range
    }

    /// Smallest and largest value of a sample of the frames.
    pub fn values(&self) -> [f64; 2] {
        self.values
    }

    /// Type of the elements.
    pub fn dtype(&self) -> Dtype {
        self.header.dtype
    }

    /// Warnings for the user.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Frame `t` of a clip, as [height, width, channels].
    ///
    /// # Errors
    /// [`Error::File`] when it cannot be read, was changed since it was opened, or has a value that is not finite.
    pub fn frame(&self, clip: usize, t: usize, out: &mut Frame) -> Result<()> {
        let number = match &self.listed {
            Some(listed) => listed.get(clip).map_or(t, |(first, _)| first + t),
            None => self.sizes.frame(clip, t),
        };
        let [height, width, channels] = self.size();
        let elements = self.sizes.elements();
        out.height = height;
        out.width = width;
        out.channels = channels;
        out.pixels.resize(elements, 0);
        let bytes_as_they_are = self.header.dtype == Dtype::U8 && self.range == (0.0, 255.0);
        if bytes_as_they_are && !self.sizes.planes {
            return self.read(number, &mut out.pixels);
        }
        let values = self.frame_values(number)?;
        let (black, white) = self.range;
        let byte = |value: f32| {
            ((f64::from(value) - black) / (white - black) * 255.0).round().clamp(0.0, 255.0) as u8
        };
        if let Some(value) = values.iter().find(|value| !value.is_finite()) {
            return Err(Error::file(
                &self.path,
                format!("has {value} in frame {t} of clip {clip}; values must be finite"),
            ));
        }
        if self.sizes.planes {
            for (channel, plane) in values.chunks_exact(height * width).enumerate() {
                for (pixel, &value) in out.pixels.chunks_exact_mut(channels).zip(plane) {
                    pixel[channel] = byte(value);
                }
            }
        } else {
            out.pixels.iter_mut().zip(&values).for_each(|(pixel, &value)| *pixel = byte(value));
        }
        Ok(())
    }

    /// Fails if another program changed the file since it was opened. Call it after frames were read: a change before that is
    /// seen.
    pub fn check_unchanged(&self) -> Result<()> {
        match self.file.metadata() {
            Ok(metadata) if version(&metadata) == self.version => Ok(()),
            Ok(_) => Err(self.changed()),
            Err(e) => Err(self.unreadable(&e)),
        }
    }

    /// The elements of the array's frame `number`, in its own order.
    fn frame_values(&self, number: usize) -> Result<Vec<f32>> {
        let mut bytes = vec![0; self.sizes.elements() * self.header.dtype.size()];
        self.read(number, &mut bytes)?;
        let mut values = Vec::with_capacity(self.sizes.elements());
        self.header.dtype.decode(&bytes, &mut values);
        Ok(values)
    }

    fn read(&self, number: usize, out: &mut [u8]) -> Result<()> {
        let at = self.header.start + number * self.sizes.elements() * self.header.dtype.size();
        self.file.read_exact_at(out, at as u64).map_err(|e| self.unreadable(&e))
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

    /// Of the axes of clips and frames, takes the one along which neighbours are more alike as time; warns if a given
    /// layout says otherwise.
    fn find_time(&mut self, given: bool) -> Result<()> {
        let Some(other) = self.layout.exchanged() else { return Ok(()) };
        let Some(exchanged) = other.sizes(&self.header.shape) else { return Ok(()) };
        let along = self.difference(self.sizes)?;
        let across = self.difference(exchanged)?;
        match (along, across) {
            (Some(along), Some(across)) if given && along > LESS_ALIKE * across => {
                self.warnings.push(format!(
                    "{}: neighbouring frames by layout {} differ by {along:.1}, and by {other} by {across:.1}: is \
                     --layout {other} meant?",
                    self.path.display(),
                    self.layout
                ));
            }
            // Also when only one of them has neighbours: a clip has more than one frame.
            (Some(along), Some(across)) if !given && across < along => {
                (self.sizes, self.layout) = (exchanged, other);
            }
            (None, Some(_)) if !given => (self.sizes, self.layout) = (exchanged, other),
            _ => {}
        }
        Ok(())
    }

    /// Mean absolute difference of neighbouring frames by `sizes`, over some of them; `None` if no frame has a neighbour.
    fn difference(&self, sizes: Sizes) -> Result<Option<f64>> {
        let pairs = (sizes.frames - 1).saturating_mul(sizes.clips);
        if pairs == 0 {
            return Ok(None);
        }
        let count = pairs.min(COMPARED_PAIRS);
        let mut sum = 0.0;
        for i in 0..count {
            let pair = i * pairs / count;
            let (clip, t) = (pair / (sizes.frames - 1), pair % (sizes.frames - 1));
            let [first, second] = [t, t + 1].map(|t| self.frame_values(sizes.frame(clip, t)));
            let (first, second) = (first?, second?);
            let differences = first.iter().zip(&second).map(|(a, b)| f64::from((a - b).abs()));
            sum += differences.sum::<f64>() / first.len() as f64;
        }
        Ok(Some(sum / count as f64))
    }

    /// Finds the smallest and largest value of a sample of frames, and from them the range.
    fn find_range(&mut self, options: &ClipOptions) -> Result<()> {
        let frames = self.sizes.clips * self.sizes.frames;
        let most =
            (SAMPLED_BYTES / (self.sizes.elements() * self.header.dtype.size())).clamp(2, SAMPLED_FRAMES);
        let count = frames.min(most);
        let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
        for i in 0..count {
            for value in self.frame_values(i * frames / count)? {
                if !value.is_finite() {
                    return Err(Error::file(
                        &self.path,
                        format!("has a value {value}; values must be finite"),
                    ));
                }
                (least, most) = (least.min(f64::from(value)), most.max(f64::from(value)));
            }
        }
        self.values = [least, most];
        self.range = options
            .range
            .of(self.header.dtype, self.values)
            .map_err(|message| Error::file(&self.path, message))?;
        let (low, high) = (self.range.0.min(self.range.1), self.range.0.max(self.range.1));
        // A rounding error is not worth a warning.
        let slack = (high - low) / 255.0;
        if least < low - slack || most > high + slack {
            self.warnings.push(format!(
                "{}: has values from {least} to {most}; those outside of {low} to {high} are clamped (--range)",
                self.path.display()
            ));
        }
        Ok(())
    }
}

/// The change that another program has made to the file since it was opened.
fn version(metadata: &Metadata) -> (u64, Option<SystemTime>) {
    (metadata.len(), metadata.modified().ok())
}
