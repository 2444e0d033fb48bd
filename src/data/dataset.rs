//! Sequences from any source: generated, or from a file.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Split;
use super::digits::Digits;
use super::moving_mnist::{MovingMnist, Rule};
use super::npy::{Layout, NpySequences};
use crate::{Error, Result};

/// Source of the sequences.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DataSource {
    /// Generated from the embedded digits.
    #[default]
    Digits,
    /// Generated from the MNIST files of a folder.
    Dir(PathBuf),
    /// Read from an .npy file of uint8 sequences.
    Npy {
        /// Path of the file.
        path: PathBuf,
        /// Order of its dimensions.
        layout: Layout,
    },
}

impl DataSource {
    /// The source that a user names: `digits`, a folder with MNIST files, or an .npy file with its layout.
    ///
    /// # Errors
    /// [`Error::File`] when it is none of these.
    pub fn from_name(name: &str, layout: Layout) -> Result<Self> {
        let path = PathBuf::from(name);
        if name == "digits" {
            Ok(Self::Digits)
        } else if path.is_dir() {
            Ok(Self::Dir(path))
        } else if path.is_file() {
            Ok(Self::Npy { path, layout })
        } else {
            Err(Error::file(
                path,
                "does not exist; give digits, a folder with MNIST files, or an .npy file (--data)",
            ))
        }
    }
}

/// Specification of a [`Dataset`]. An .npy file ignores the rule, digits, canvas and digit size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct DataSpec {
    /// Source of the sequences.
    pub source: DataSource,
    /// Motion of generated digits.
    pub rule: Rule,
    /// Number of digits in a generated sequence.
    pub digits: usize,
    /// Rows and columns of a generated frame.
    pub canvas: usize,
    /// Rows and columns of a generated digit.
    pub digit_size: usize,
    /// Frames of a sequence: input and predicted frames.
    pub frames: usize,
    /// Seed of generated sequences, and of the order of a file's sequences.
    pub seed: u64,
    /// Sequences in an epoch; all of a file's if it has fewer.
    pub sequences: u64,
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
            seed: 0,
            sequences: 10_000,
        }
    }
}

/// An open source of sequences of `frames()` frames of `side()`×`side()` pixels. Threads may share it.
#[derive(Debug)]
pub struct Dataset {
    kind: Kind,
    frames: usize,
    sequences: u64,
    note: Option<String>,
}

#[derive(Debug)]
enum Kind {
    Made {
        maker: MovingMnist,
        canvas: usize,
    },
    /// The sequences from `train` on are the test split.
    File {
        file: NpySequences,
        train: usize,
    },
}

impl Dataset {
    /// Opens the dataset that `spec` describes. The last tenth of a file's sequences, at least one, are its test split.
    ///
    /// # Errors
    /// [`Error::File`] for files that cannot be read or are too short, [`Error::Usage`] for invalid sizes.
    pub fn open(spec: &DataSpec) -> Result<Self> {
        Self::open_split(spec, |count| count - count.div_ceil(10))
    }

    /// As [`Dataset::open`], but all of a file's sequences are its test split, and it has no training split.
    ///
    /// # Errors
    /// As [`Dataset::open`].
    pub fn open_for_test(spec: &DataSpec) -> Result<Self> {
        Self::open_split(spec, |_| 0)
    }

    fn open_split(spec: &DataSpec, train_of: impl FnOnce(usize) -> usize) -> Result<Self> {
        if spec.frames == 0 || spec.sequences == 0 {
            return Err(Error::Usage("a sequence needs at least 1 frame and an epoch 1 sequence".into()));
        }
        let digits = match &spec.source {
            DataSource::Digits => Digits::embedded()?,
            DataSource::Dir(folder) => Digits::from_dir(folder)?,
            DataSource::Npy { path, layout } => {
                let file = NpySequences::open(path, *layout)?;
                if file.height() != file.width() {
                    return Err(Error::file(
                        path,
                        format!(
                            "has frames of {}×{} by layout {layout}; frames must be square; or give another --layout",
                            file.height(),
                            file.width()
                        ),
                    ));
                }
                if file.frames() < spec.frames {
                    return Err(Error::file(
                        path,
                        format!(
                            "has {} frames in a sequence by layout {layout}, but {} are needed (inputs and predictions)",
                            file.frames(),
                            spec.frames
                        ),
                    ));
                }
                let train = train_of(file.len());
                let kind = Kind::File { file, train };
                return Ok(Self { kind, frames: spec.frames, sequences: spec.sequences, note: None });
            }
        };
        let note = digits.note().map(str::to_owned);
        let digits = Arc::new(digits.resized(spec.digit_size)?);
        let maker = MovingMnist::new(digits, spec.rule, spec.digits, spec.canvas, spec.frames, spec.seed)?;
        Ok(Self {
            kind: Kind::Made { maker, canvas: spec.canvas },
            frames: spec.frames,
            sequences: spec.sequences,
            note,
        })
    }

    /// Number of sequences of a split; `None` if they are generated and any index is valid.
    pub fn len(&self, split: Split) -> Option<u64> {
        match (&self.kind, split) {
            (Kind::Made { .. }, _) => None,
            (Kind::File { train, .. }, Split::Train) => Some(*train as u64),
            (Kind::File { file, train }, Split::Test) => Some((file.len() - train) as u64),
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

    /// Frames in each sequence of a file; `None` if sequences are generated, with any number of frames.
    pub fn total_frames_available(&self) -> Option<usize> {
        match &self.kind {
            Kind::Made { .. } => None,
            Kind::File { file, .. } => Some(file.frames()),
        }
    }

    /// Rows and columns of a frame.
    pub fn side(&self) -> usize {
        match &self.kind {
            Kind::Made { canvas, .. } => *canvas,
            Kind::File { file, .. } => file.width(),
        }
    }

    /// Colours of a pixel: 1 or 3.
    pub fn channels(&self) -> usize {
        match &self.kind {
            Kind::Made { .. } => 1,
            Kind::File { file, .. } => file.channels(),
        }
    }

    /// Bytes of a sequence: frames · side · side · channels.
    pub fn sequence_bytes(&self) -> usize {
        self.frames * self.side() * self.side() * self.channels()
    }

    /// A note about the data for the user.
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    /// Writes sequence `index` of `split` to `out`, [T, S, S, C], 0 is black. Sequences of a file are the same in every
    /// epoch; generated training sequences are not.
    ///
    /// # Errors
    /// [`Error::Failure`] when `out` is not [`Dataset::sequence_bytes`] long, [`Error::File`] when there is no such
    /// sequence.
    pub fn sequence(&self, split: Split, epoch: u64, index: u64, out: &mut [u8]) -> Result<()> {
        match &self.kind {
            Kind::Made { maker, .. } => maker.sequence(split, epoch, index, out),
            Kind::File { file, train } => {
                let range = match split {
                    Split::Train => 0..*train,
                    Split::Test => *train..file.len(),
                };
                let at = usize::try_from(index).ok().and_then(|index| range.start.checked_add(index));
                match at.filter(|at| range.contains(at)) {
                    Some(at) => file.sequence(at, 0..self.frames, out),
                    None => Err(Error::file(
                        file.path(),
                        format!(
                            "has {} sequences in that split, so number {index} does not exist",
                            range.len()
                        ),
                    )),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::npy::write_u8;
    use super::*;

    fn npy(folder: &std::path::Path, shape: [usize; 4]) -> DataSpec {
        let path = folder.join("a.npy");
        let values: Vec<u8> = (0..shape.iter().product::<usize>()).map(|i| (i / 4) as u8).collect();
        write_u8(&path, &shape, &values).unwrap();
        DataSpec { source: DataSource::Npy { path, layout: Layout::Nthw }, frames: 2, ..DataSpec::default() }
    }

    #[test]
    fn a_file_keeps_its_last_tenth_for_testing() {
        let folder = tempfile::tempdir().unwrap();
        let spec = npy(folder.path(), [21, 3, 2, 2]);
        let data = Dataset::open(&spec).unwrap();
        assert_eq!((data.len(Split::Train), data.len(Split::Test)), (Some(18), Some(3)));
        assert_eq!((data.side(), data.channels(), data.frames(), data.sequence_bytes()), (2, 1, 2, 8));
        assert_eq!(data.total_frames_available(), Some(3));
        let mut out = [0; 8];
        data.sequence(Split::Test, 5, 1, &mut out).unwrap();
        assert_eq!(out, [57, 57, 57, 57, 58, 58, 58, 58]);
        assert!(data.sequence(Split::Test, 0, 3, &mut out).is_err());
        assert!(data.sequence(Split::Train, 0, u64::MAX, &mut out).is_err());
        let all = Dataset::open_for_test(&spec).unwrap();
        assert_eq!((all.len(Split::Train), all.len(Split::Test)), (Some(0), Some(21)));
        assert_eq!(all.epoch_len(Split::Test), 21);
        let one = Dataset::open(&npy(folder.path(), [1, 3, 2, 2])).unwrap();
        assert_eq!((one.len(Split::Train), one.len(Split::Test)), (Some(0), Some(1)));
    }

    #[test]
    fn sources_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let spec = npy(folder.path(), [2, 2, 2, 2]);
        let of = |name: &std::path::Path| DataSource::from_name(name.to_str().unwrap(), Layout::Nthw);
        assert_eq!(of(std::path::Path::new("digits")).unwrap(), DataSource::Digits);
        assert_eq!(of(folder.path()).unwrap(), DataSource::Dir(folder.path().into()));
        assert_eq!(of(&folder.path().join("a.npy")).unwrap(), spec.source);
        assert!(of(&folder.path().join("b.npy")).unwrap_err().to_string().contains("--data"));
    }

    #[test]
    fn a_file_must_fit() {
        let folder = tempfile::tempdir().unwrap();
        let long = DataSpec { frames: 4, ..npy(folder.path(), [2, 3, 2, 2]) };
        assert!(Dataset::open(&long).unwrap_err().to_string().contains("3 frames"));
        let oblong = npy(folder.path(), [2, 3, 2, 4]);
        assert!(Dataset::open(&oblong).unwrap_err().to_string().contains("square"));
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
