//! Moving pictures that the command line names.

use std::path::Path;

use crate::data::{Layout, NpySequences};
use crate::media::{Clip, read_clips};
use crate::{Error, Result};

/// The layout of an .npy file of sequences: the given one; else that of the standard test set, which `data make` writes
/// too, where the file is of uint8 and has four axes; else `None`, which leaves it to the number of axes.
pub fn layout(path: &Path, given: Option<Layout>) -> Option<Layout> {
    let standard = || NpySequences::open(path, Layout::Tnhw).is_ok().then_some(Layout::Tnhw);
    given.or_else(standard)
}

/// Sequence `index` of an .npy file, or all of a GIF or a folder of PNGs.
///
/// # Errors
/// [`Error::File`] when the file is none of these, broken, or has no such sequence.
pub fn clip(path: &Path, layout: Option<Layout>, index: usize) -> Result<Clip> {
    let none = |count: usize| {
        Error::file(path, format!("has {count} sequences, no number {index} (--index counts from 0)"))
    };
    let is_npy = path.is_file() && path.extension().is_some_and(|e| e.eq_ignore_ascii_case("npy"));
    if let Some(layout) = layout.filter(|_| is_npy) {
        // One of them alone: the file may be larger than the memory.
        let file = NpySequences::open(path, layout)?;
        if index >= file.len() {
            return Err(none(file.len()));
        }
        let mut bytes = vec![0; file.frames() * file.frame_bytes()];
        file.sequence(index, 0..file.frames(), &mut bytes)?;
        return Clip::from_u8(file.height(), file.width(), file.channels(), &bytes);
    }
    let mut clips = read_clips(path, layout, index.saturating_add(1))?;
    if index >= clips.len() {
        return Err(none(clips.len()));
    }
    Ok(clips.swap_remove(index))
}
