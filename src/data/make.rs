//! Writes sequences to a file.

use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use rayon::prelude::*;

use super::npy::{Dtype, Header};
use super::{Dataset, Split};
use crate::OutputFile;
use crate::{Error, Result};

/// Size of the buffer in bytes: 64 MiB.
const CHUNK_BYTES: usize = 64 << 20;

/// Options of [`make`] for its output file.
#[derive(Debug, Clone, Copy, Default)]
pub struct MakeOptions {
    /// Overwrite an existing file.
    pub overwrite: bool,
}

/// Writes the first `count` sequences of `split` (of its epoch 0) to the .npy file `out`: uint8 [T, N, H, W], as the
/// standard test set. Memory stays within 64 MiB and one sequence. `check` is called between the parts of the file, of 64 MiB
/// at most; its error ends the write and leaves no file.
///
/// # Errors
/// [`Error::File`] when `out` exists, cannot be written, or the disk is full; [`Error::Usage`] when there are not
/// `count` sequences of one colour.
pub fn make(
    dataset: &Dataset,
    split: Split,
    count: u64,
    out: &Path,
    options: MakeOptions,
    check: &mut dyn FnMut() -> Result<()>,
) -> Result<()> {
    if dataset.channels() != 1 {
        return Err(Error::Usage("only sequences of one colour can be written in the layout tnhw".into()));
    }
    if count == 0 || dataset.len(split).is_some_and(|len| len < count) {
        return Err(Error::Usage(format!(
            "cannot write {count} sequences; the data has {}",
            dataset.len(split).map_or("at least 1".into(), |len| len.to_string())
        )));
    }
    let (frames, side) = (dataset.frames(), dataset.side());
    let frame_bytes = side * side;
    let too_many = || Error::Usage(format!("{count} sequences are too many for one file"));
    let sequences = usize::try_from(count).map_err(|_| too_many())?;
    let header = Header::bytes(Dtype::U8, &[frames, sequences, side, side]);
    let total = sequences
        .checked_mul(dataset.sequence_bytes())
        .and_then(|bytes| bytes.checked_add(header.len()))
        .filter(|&bytes| i64::try_from(bytes).is_ok())
        .ok_or_else(too_many)?;

    let mut output = OutputFile::create(out, options.overwrite)?;
    let sized = output.file().set_len(total as u64).and_then(|()| output.file().write_all(&header));
    sized.map_err(|e| output.error(e))?;
    let chunk = (CHUNK_BYTES / dataset.sequence_bytes()).clamp(1, sequences);
    let mut made = vec![0; chunk * dataset.sequence_bytes()];
    let mut ordered = Vec::with_capacity(chunk * frame_bytes);
    for first in (0..sequences).step_by(chunk) {
        let made = &mut made[..chunk.min(sequences - first) * dataset.sequence_bytes()];
        check()?;
        made.par_chunks_exact_mut(dataset.sequence_bytes())
            .enumerate()
            .try_for_each(|(i, sequence)| dataset.sequence(split, 0, (first + i) as u64, sequence))?;
        for t in 0..frames {
            ordered.clear();
            for sequence in made.chunks_exact(dataset.sequence_bytes()) {
                ordered.extend_from_slice(&sequence[t * frame_bytes..(t + 1) * frame_bytes]);
            }
            let at = header.len() + (t * sequences + first) * frame_bytes;
            let written = output
                .file()
                .seek(SeekFrom::Start(at as u64))
                .and_then(|_| output.file().write_all(&ordered));
            written.map_err(|e| output.error(e))?;
        }
    }
    check()?;
    output.commit()
}

#[cfg(test)]
mod tests {
    use super::super::{DataSource, DataSpec};
    use super::*;
    use crate::clips::{ClipOptions, Layout};

    #[test]
    fn what_is_made_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        let spec = DataSpec { canvas: 36, frames: 4, ..DataSpec::default() };
        let data = Dataset::open(&spec).unwrap();
        let make = |data: &Dataset, count, path: &Path, options| {
            super::make(data, Split::Test, count, path, options, &mut || Ok(()))
        };
        make(&data, 7, &path, MakeOptions::default()).unwrap();
        let options = ClipOptions { layout: Layout::Tnhw, ..ClipOptions::default() };
        let source = DataSource::Clips { path: path.clone(), options };
        let file = Dataset::open_for_test(&DataSpec { source, ..spec }, 4, true, &mut |_, _| ()).unwrap();
        assert_eq!(file.len(Split::Test), Some(7));
        let (mut a, mut b) = (vec![0; data.sequence_bytes()], vec![1; data.sequence_bytes()]);
        for index in 0..7 {
            data.sequence(Split::Test, 0, index, &mut a).unwrap();
            file.sequence(Split::Test, 0, index, &mut b).unwrap();
            assert_eq!(a, b);
        }
        let other = folder.path().join("b.npy");
        assert!(make(&data, 7, &path, MakeOptions::default()).is_err());
        make(&data, 2, &path, MakeOptions { overwrite: true }).unwrap();
        assert!(make(&file, 8, &other, MakeOptions::default()).is_err());
        assert!(make(&data, u64::MAX, &other, MakeOptions::default()).is_err());
        let mut interrupted = || Err(Error::Interrupted(15));
        let options = MakeOptions::default();
        assert!(super::make(&data, Split::Test, 7, &other, options, &mut interrupted).is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
