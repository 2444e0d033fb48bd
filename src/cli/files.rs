//! Files that the command line names: checks, reads and writes.

use std::ffi::OsStr;
use std::path::Path;

use crate::data::{Layout, NpySequences};
use crate::media::{Clip, read_clips};
use crate::{Error, OutputFile, Result};

/// Checks that a path exists.
pub fn must_exist(path: &Path) -> Result<()> {
    path.metadata().map(drop).map_err(|e| Error::file(path, format!("cannot be read: {e}")))
}

/// Checks that a path does not exist or is an empty folder, unless `force`.
pub fn must_be_free(path: &Path, force: bool) -> Result<()> {
    let empty_folder = || std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
    if force || path.symlink_metadata().is_err() || empty_folder() {
        return Ok(());
    }
    Err(Error::file(path, "exists already: give another name, or --force to overwrite it"))
}

/// Checks, before any work is done, that a file can be written: its parent folder exists, and it is not a folder itself.
pub fn must_be_writable(path: &Path) -> Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match parent.metadata() {
        _ if path.is_dir() => Err(Error::file(path, "is a folder; give a file name")),
        Ok(data) if data.is_dir() => Ok(()),
        Ok(_) => Err(Error::file(path, "cannot be written: its parent is not a folder")),
        Err(e) => Err(Error::file(path, format!("cannot be written: {e}"))),
    }
}

/// Checks that the name of `option`'s output has one of the extensions `endings` (without the dot).
pub fn must_end_in(option: &str, path: &Path, endings: &[&str]) -> Result<()> {
    let ending = path.extension().and_then(OsStr::to_str).unwrap_or_default().to_ascii_lowercase();
    if endings.contains(&ending.as_str()) {
        return Ok(());
    }
    let allowed = endings.iter().map(|ending| format!(".{ending}")).collect::<Vec<_>>().join(" or ");
    Err(Error::Usage(format!("{option} {}: the name must end in {allowed}", path.display())))
}

/// Writes a file atomically: after a full disk or a kill the old file is still there.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    // A pipe or a device (/dev/stdout) is written to, not replaced.
    if path.metadata().is_ok_and(|data| !data.is_file() && !data.is_dir()) {
        return std::fs::write(path, bytes).map_err(|e| Error::file(path, format!("cannot be written: {e}")));
    }
    OutputFile::write(path, bytes)
}

/// The layout of an .npy file of sequences: the given one; else, for uint8 with four axes, that of the standard test set,
/// which `data make` also writes; else `None`: the number of axes decides.
pub fn layout(path: &Path, given: Option<Layout>) -> Option<Layout> {
    let standard = || NpySequences::open(path, Layout::Tnhw).is_ok().then_some(Layout::Tnhw);
    given.or_else(standard)
}

/// Sequence `index` of an .npy file, or the frames of a GIF or a folder of PNGs.
///
/// # Errors
/// [`Error::File`] when the file is none of these, broken, or has no such sequence.
pub fn clip(path: &Path, layout: Option<Layout>, index: usize) -> Result<Clip> {
    let none = |count: usize| {
        Error::file(
            path,
            format!("has {count} sequences, so --index {index} does not exist (it counts from 0)"),
        )
    };
    let is_npy = path.is_file() && path.extension().is_some_and(|e| e.eq_ignore_ascii_case("npy"));
    if let Some(layout) = layout.filter(|_| is_npy) {
        // Read only this one: the file may be larger than memory.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_nothing_else_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("result.json");
        write_whole(&path, b"first").unwrap();
        write_whole(&path, b"second").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"second");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(write_whole(folder.path(), b"").is_err());
        assert!(write_whole(&folder.path().join("none/result.json"), b"").is_err());
    }

    #[test]
    fn names_that_cannot_be_written_to_are_refused_early() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("result.json");
        must_be_writable(&path).unwrap();
        must_be_writable(Path::new("result.json")).unwrap();
        std::fs::write(&path, "").unwrap();
        for bad in [folder.path().to_owned(), folder.path().join("none/x.json"), path.join("x.json")] {
            assert!(must_be_writable(&bad).is_err(), "{}", bad.display());
        }
    }

    #[test]
    fn only_existing_files_are_guarded() {
        let folder = tempfile::tempdir().unwrap();
        must_be_free(folder.path(), false).unwrap();
        must_be_free(&folder.path().join("new.gif"), false).unwrap();
        std::fs::write(folder.path().join("old.gif"), "").unwrap();
        for path in [folder.path().join("old.gif"), folder.path().to_owned()] {
            assert!(must_be_free(&path, false).unwrap_err().to_string().contains("--force"));
            must_be_free(&path, true).unwrap();
        }
    }

    #[test]
    fn endings_are_checked_whatever_their_case() {
        must_end_in("--out", Path::new("a/b.NPY"), &["npy"]).unwrap();
        let error = must_end_in("--out", Path::new("a/npy"), &["gif", "png"]).unwrap_err();
        assert_eq!(error.to_string(), "--out a/npy: the name must end in .gif or .png");
        assert_eq!(error.exit_code(), 2);
    }
}
