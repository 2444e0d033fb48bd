//! Sequences from any source: generated, or windows of clips.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Split;
use super::digits::Digits;
use super::idx;
use super::moving_mnist::{MovingMnist, Rule};
use super::windows::Windows;
use crate::clips::{Cache, ClipOptions, Clips};
use crate::{Error, Result};

/// Source of the sequences.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DataSource {
    /// Generated from the embedded digits.
    #[default]
    Digits,
    /// Generated from the MNIST files of a folder, or from one file of its images.
    Mnist(PathBuf),
    /// Windows of clips.
    Clips {
        /// An array, an animation, a video, or a folder of clips.
        path: PathBuf,
        /// How they are read.
        options: ClipOptions,
    },
}

impl DataSource {
    /// The source that a user names: `digits`, a folder with MNIST files (or one of them, or the folder in which torchvision
    /// keeps them), or clips, which are read with `options`.
    ///
    /// # Errors
    /// [`Error::File`] when it is none of these.
    pub fn from_name(name: &str, options: ClipOptions) -> Result<Self> {
        let path = PathBuf::from(name);
        if name == "digits" {
            return Ok(Self::Digits);
        }
        if !path.exists() {
            return Err(Error::file(
                path,
                "does not exist; give digits, a folder with MNIST files, or clips: an array, a GIF, a video or a folder of \
                 them (--data)",
            ));
        }
        let folders =
            ["", "raw", "MNIST/raw"].map(|part| if part.is_empty() { path.clone() } else { path.join(part) });
        if let Some(folder) = folders.into_iter().find(|folder| Digits::are_in(folder)) {
            return Ok(Self::Mnist(folder));
        }
        if path.is_file() && idx::is_images(&path) {
            return Ok(Self::Mnist(path));
        }
        Ok(Self::Clips { path, options })
    }
}

/// Specification of a [`Dataset`]. Clips ignore the rule, digits and digit size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct DataSpec {
    /// Source of the sequences.
    pub source: DataSource,
    /// Motion of generated digits.
    pub rule: Rule,
    /// Number of digits in a generated sequence.
    pub digits: usize,
    /// Rows and columns of a frame; clips are scaled to it.
    pub canvas: usize,
    /// Rows and columns of a generated digit.
    pub digit_size: usize,
    /// Frames of a sequence: input and predicted frames.
    pub frames: usize,
    /// Frames from the start of a clip's window to the next one's. Absent: 1 in training, and the length of the window in
    /// tests, whose windows then have no frame in common.
    pub stride: Option<usize>,
    /// Seed of generated sequences, and of the order of the windows.
    pub seed: u64,
    /// Sequences in an epoch; all windows if there are fewer.
    pub sequences: u64,
    /// File that keeps decoded clips; absent: for this process only.
    #[serde(skip)]
    pub cache: Option<PathBuf>,
}

impl Default for DataSpec {
    fn default() -> Self {
        Self {
            source: DataSource::Digits,
            rule: Rule::Standard,
            digits: 2,
            canvas: 64,
            digit_size: 28,
            frames: 12,
            stride: None,
            seed: 0,
            sequences: 10_000,
            cache: None,
        }
    }
}

/// An open source of sequences of `frames()` frames of `side()`×`side()` pixels. Threads may share it.
#[derive(Debug)]
pub struct Dataset {
    kind: Kind,
    frames: usize,
    side: usize,
    sequences: u64,
    notes: Vec<String>,
    warnings: Vec<String>,
}

#[derive(Debug)]
enum Kind {
    Made(MovingMnist),
    Clips { clips: Box<Clips>, train: Windows, test: Windows },
}

impl Dataset {
    /// Opens the dataset that `spec` describes. The last tenth of the clips, at least one, are the test split; of one clip,
    /// its last tenth.
    ///
    /// # Errors
    /// [`Error::File`] for files that cannot be read or are too short, [`Error::Usage`] for invalid sizes.
    pub fn open(spec: &DataSpec) -> Result<Self> {
        Self::open_split(spec, spec.frames, false, &mut |_, _| ())
    }

    /// As [`Dataset::open`]; `tick` is called with the number of decoded clips and of all that will be decoded.
    ///
    /// # Errors
    /// As [`Dataset::open`].
    pub fn open_with(spec: &DataSpec, tick: &mut dyn FnMut(usize, usize)) -> Result<Self> {
        Self::open_split(spec, spec.frames, false, tick)
    }

    /// As [`Dataset::open`], for an evaluation: of clips that are shorter than `spec.frames`, as many frames as the shortest of
    /// those with `least` has. With `whole`, all clips are the test split.
    ///
    /// # Errors
    /// As [`Dataset::open`].
    pub fn open_for_test(
        spec: &DataSpec,
        least: usize,
        whole: bool,
        tick: &mut dyn FnMut(usize, usize),
    ) -> Result<Self> {
        Self::open_split(spec, least, whole, tick)
    }

    fn open_split(
        spec: &DataSpec,
        least: usize,
        whole: bool,
        tick: &mut dyn FnMut(usize, usize),
    ) -> Result<Self> {
        if spec.frames == 0 || spec.sequences == 0 || spec.stride == Some(0) {
            return Err(Error::Usage(
                "a sequence needs at least 1 frame, an epoch 1 sequence, and a stride 1 frame".into(),
            ));
        }
        let digits = match &spec.source {
            DataSource::Digits => Digits::embedded()?,
            DataSource::Mnist(path) if path.is_dir() => Digits::from_dir(path)?,
            DataSource::Mnist(path) => Digits::from_file(path)?,
            DataSource::Clips { path, options } => {
                return Self::of_clips(spec, (path, options), least, whole, tick);
            }
        };
        let notes = digits.note().map(str::to_owned).into_iter().collect();
        let digits = Arc::new(digits.resized(spec.digit_size)?);
        let maker = MovingMnist::new(digits, spec.rule, spec.digits, spec.canvas, spec.frames, spec.seed)?;
        let (frames, side, sequences) = (spec.frames, spec.canvas, spec.sequences);
        Ok(Self { kind: Kind::Made(maker), frames, side, sequences, notes, warnings: Vec::new() })
    }

    fn of_clips(
        spec: &DataSpec,
        (path, options): (&Path, &ClipOptions),
        least: usize,
        whole: bool,
        tick: &mut dyn FnMut(usize, usize),
    ) -> Result<Self> {
        let cache = spec.cache.as_deref().map_or(Cache::Unnamed, Cache::File);
        let clips = Clips::open(path, options, Some(spec.canvas), 0..usize::MAX, cache, tick)?;
        let lengths: Vec<usize> = (0..clips.len()).map(|clip| clips.frames(clip)).collect();
        let usable: Vec<usize> = (0..clips.len()).filter(|&clip| lengths[clip] >= least).collect();
        let Some(shortest) = usable.iter().map(|&clip| lengths[clip]).min() else {
            let longest = lengths.iter().max().copied().unwrap_or(0);
            return Err(Error::file(
                path,
                format!(
                    "has at most {longest} frames in a sequence, but {least} are needed (inputs and predictions): \
                     {}",
                    clips.summary()
                ),
            ));
        };
        let frames = spec.frames.min(shortest).max(least);
        let mut notes = vec![format!("--data {}: {}", path.display(), clips.summary())];
        let short = clips.len() - usable.len();
        if short > 0 {
            notes.push(format!(
                "{short} of {} sequences have fewer than {least} frames and are left out",
                clips.len()
            ));
        }
        let all = |clips: &[usize]| clips.iter().map(|&clip| (clip, 0..lengths[clip])).collect::<Vec<_>>();
        let (train, test) = match &usable[..] {
            usable if whole => (Vec::new(), all(usable)),
            &[only] => {
                // By time: the windows of the two parts have no frame in common.
                let length = lengths[only];
                let cut = length - length.div_ceil(10).max(frames);
                let train = if cut >= frames { vec![(only, 0..cut)] } else { Vec::new() };
                let from = if train.is_empty() { 0 } else { cut };
                if !train.is_empty() {
                    notes.push(format!(
                        "one sequence: its frames 0 to {} are for training, {cut} to {} for testing",
                        cut - 1,
                        length - 1
                    ));
                }
                (train, vec![(only, from..length)])
            }
            usable => {
                let (train, test) = usable.split_at(usable.len() - usable.len().div_ceil(10));
                notes.push(format!(
                    "the last {} sequences are for testing, the others for training",
                    test.len()
                ));
                (all(train), all(test))
            }
        };
        let train = Windows::new(train, frames, spec.stride.unwrap_or(1));
        let test = Windows::new(test, frames, spec.stride.unwrap_or(frames));
        let (side, sequences) = (spec.canvas, spec.sequences);
        let warnings = clips.warnings().to_vec();
        let clips = Box::new(clips);
        Ok(Self { kind: Kind::Clips { clips, train, test }, frames, side, sequences, notes, warnings })
    }

    /// Number of sequences of a split; `None` if they are generated and any index is valid.
    pub fn len(&self, split: Split) -> Option<u64> {
        match (&self.kind, split) {
            (Kind::Made(_), _) => None,
            (Kind::Clips { train, .. }, Split::Train) => Some(train.len()),
            (Kind::Clips { test, .. }, Split::Test) => Some(test.len()),
        }
    }

    /// Sequences in an epoch of a split: the number of the specification, or all if there are fewer.
    pub fn epoch_len(&self, split: Split) -> u64 {
        self.len(split).map_or(self.sequences, |len| len.min(self.sequences))
    }

    /// Frames of a sequence.
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// Rows and columns of a frame.
    pub fn side(&self) -> usize {
        self.side
    }

    /// Colours of a pixel: 1 or 3.
    pub fn channels(&self) -> usize {
        match &self.kind {
            Kind::Made(_) => 1,
            Kind::Clips { clips, .. } => clips.channels(),
        }
    }

    /// Options that reproduce the reading of the clips, with what was found for `auto`; `None` if sequences are generated.
    pub fn clip_options(&self) -> Option<&ClipOptions> {
        match &self.kind {
            Kind::Made(_) => None,
            Kind::Clips { clips, .. } => Some(clips.options()),
        }
    }

    /// Bytes of a sequence: frames · side · side · channels.
    pub fn sequence_bytes(&self) -> usize {
        self.frames * self.side * self.side * self.channels()
    }

    /// Notes about the data for the user: how it was understood.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Warnings about the data for the user.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Writes sequence `index` of `split` to `out`, [T, S, S, C], 0 is black. Windows of clips are the same in every
    /// epoch; generated training sequences are not.
    ///
    /// # Errors
    /// [`Error::Failure`] when `out` is not [`Dataset::sequence_bytes`] long, [`Error::File`] when there is no such
    /// sequence.
    pub fn sequence(&self, split: Split, epoch: u64, index: u64, out: &mut [u8]) -> Result<()> {
        let (clips, windows) = match &self.kind {
            Kind::Made(maker) => return maker.sequence(split, epoch, index, out),
            Kind::Clips { clips, train, test } => (clips, if split == Split::Train { train } else { test }),
        };
        if out.len() != self.sequence_bytes() {
            let (given, needed) = (out.len(), self.sequence_bytes());
            return Err(Error::Failure(format!("{given} bytes given for a sequence of {needed}")));
        }
        match windows.at(index) {
            Some((clip, first)) => clips.read(clip, first..first + self.frames, out),
            None => Err(Error::file(
                clips.path(),
                format!("has {} sequences in that split, so number {index} does not exist", windows.len()),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::npy::write_u8;
    use super::*;
    use crate::clips::Layout;

    /// Clips [N, T, 2, 2] whose frames have the value of their number.
    fn npy(folder: &Path, [n, t]: [usize; 2]) -> DataSpec {
        let path = folder.join("a.npy");
        let values: Vec<u8> = (0..n * t * 4).map(|i| (i / 4) as u8).collect();
        write_u8(&path, &[n, t, 2, 2], &values).unwrap();
        let options = ClipOptions { layout: Layout::Nthw, ..ClipOptions::default() };
        DataSpec { source: DataSource::Clips { path, options }, frames: 2, canvas: 2, ..DataSpec::default() }
    }

    fn whole(spec: &DataSpec, least: usize) -> Result<Dataset> {
        Dataset::open_for_test(spec, least, true, &mut |_, _| ())
    }

    /// The first pixels of a sequence's frames.
    fn sequence(data: &Dataset, split: Split, index: u64) -> Vec<u8> {
        let mut out = vec![0; data.sequence_bytes()];
        data.sequence(split, 5, index, &mut out).unwrap();
        out.into_iter().step_by(4).collect()
    }

    #[test]
    fn the_last_tenth_of_the_clips_is_for_testing() {
        let folder = tempfile::tempdir().unwrap();
        let spec = npy(folder.path(), [21, 5]);
        let data = Dataset::open(&spec).unwrap();
        // 18 clips have 4 windows each for training, and 3 have 2 each without a common frame for testing.
        assert_eq!((data.len(Split::Train), data.len(Split::Test)), (Some(72), Some(6)));
        assert_eq!((data.side(), data.channels(), data.frames(), data.sequence_bytes()), (2, 1, 2, 8));
        assert_eq!(sequence(&data, Split::Train, 7), [8, 9]);
        assert_eq!(sequence(&data, Split::Test, 1), [92, 93]);
        let mut out = [0; 8];
        assert!(data.sequence(Split::Test, 0, 6, &mut out).is_err());
        assert!(data.sequence(Split::Train, 0, u64::MAX, &mut out).is_err());
        assert!(data.sequence(Split::Train, 0, 0, &mut out[1..]).is_err());
        let sparse = Dataset::open(&DataSpec { stride: Some(3), ..spec.clone() }).unwrap();
        assert_eq!((sparse.len(Split::Train), sparse.len(Split::Test)), (Some(36), Some(6)));
        assert_eq!(sequence(&sparse, Split::Train, 1), [3, 4]);
        let all = whole(&spec, 2).unwrap();
        assert_eq!((all.len(Split::Train), all.len(Split::Test)), (Some(0), Some(42)));
        assert!(all.notes()[0].contains("21 sequences of 5 frames (nthw"), "{:?}", all.notes());
        // An evaluation takes as many frames as there are.
        let long = DataSpec { frames: 9, ..spec };
        assert_eq!(whole(&long, 3).unwrap().frames(), 5);
        assert!(whole(&long, 6).unwrap_err().to_string().contains("at most 5 frames"));
    }

    #[test]
    fn one_clip_is_split_by_time() {
        let folder = tempfile::tempdir().unwrap();
        let data = Dataset::open(&npy(folder.path(), [1, 30])).unwrap();
        assert_eq!((data.len(Split::Train), data.len(Split::Test)), (Some(26), Some(1)));
        assert_eq!(sequence(&data, Split::Train, 25), [25, 26]);
        assert_eq!(sequence(&data, Split::Test, 0), [27, 28]);
        assert!(data.notes()[1].contains("frames 0 to 26 are for training, 27 to 29 for testing"));
        let short = Dataset::open(&npy(folder.path(), [1, 3])).unwrap();
        assert_eq!((short.len(Split::Train), short.len(Split::Test)), (Some(0), Some(1)));
    }

    #[test]
    fn sources_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let spec = npy(folder.path(), [2, 2]);
        let options = ClipOptions { layout: Layout::Nthw, ..ClipOptions::default() };
        let of = |name: &Path| DataSource::from_name(name.to_str().unwrap(), options);
        assert_eq!(of(Path::new("digits")).unwrap(), DataSource::Digits);
        assert_eq!(of(&folder.path().join("a.npy")).unwrap(), spec.source);
        assert_eq!(of(folder.path()).unwrap(), DataSource::Clips { path: folder.path().into(), options });
        assert!(of(&folder.path().join("b.npy")).unwrap_err().to_string().contains("--data"));
        let raw = folder.path().join("MNIST/raw");
        std::fs::create_dir_all(&raw).unwrap();
        let images = raw.join("train-images-idx3-ubyte");
        std::fs::write(&images, [0, 0, 8, 3, 0, 0, 0, 1]).unwrap();
        assert_eq!(of(folder.path()).unwrap(), DataSource::Mnist(raw.clone()));
        assert_eq!(of(&raw).unwrap(), DataSource::Mnist(raw));
        assert_eq!(of(&images).unwrap(), DataSource::Mnist(images));
    }

    #[test]
    fn made_sequences() {
        let spec = DataSpec { canvas: 32, digit_size: 14, frames: 3, ..DataSpec::default() };
        let data = Dataset::open(&spec).unwrap();
        assert_eq!((data.len(Split::Test), data.epoch_len(Split::Train)), (None, 10_000));
        assert_eq!((data.side(), data.channels(), data.sequence_bytes()), (32, 1, 3 * 32 * 32));
        let mut out = vec![0; data.sequence_bytes()];
        data.sequence(Split::Train, 0, 0, &mut out).unwrap();
        assert!(out.iter().any(|&p| p > 200));
        for bad in [
            DataSpec { frames: 0, ..spec.clone() },
            DataSpec { sequences: 0, ..spec.clone() },
            DataSpec { stride: Some(0), ..spec.clone() },
            DataSpec { digit_size: 33, ..spec.clone() },
            DataSpec { digit_size: 0, ..spec },
        ] {
            assert!(matches!(Dataset::open(&bad), Err(Error::Usage(_))), "{bad:?}");
        }
    }

    #[test]
    fn threads_may_share_it() {
        fn shared<T: Send + Sync>() {}
        shared::<Dataset>();
    }
}
