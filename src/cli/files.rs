//! Checks and writes of the files that the command line names.

use std::ffi::OsStr;
use std::path::Path;

use crate::{Error, OutputFile, Result};

/// Refuses a path where nothing is.
pub fn must_exist(path: &Path) -> Result<()> {
    path.metadata().map(drop).map_err(|e| Error::file(path, format!("cannot be read: {e}")))
}

/// Refuses to write over what is there, unless `force`; an empty folder counts as nothing.
pub fn must_be_free(path: &Path, force: bool) -> Result<()> {
    let empty_folder = || std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
    if force || path.symlink_metadata().is_err() || empty_folder() {
        return Ok(());
    }
    Err(Error::file(path, "exists already: give another name, or --force to write over it"))
}

/// Refuses a file's name that cannot be written to, before any work is done for it: no folder to lie in, or a folder.
pub fn must_be_writable(path: &Path) -> Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match parent.metadata() {
        _ if path.is_dir() => Err(Error::file(path, "is a folder; a file's name is wanted")),
        Ok(data) if data.is_dir() => Ok(()),
        Ok(_) => Err(Error::file(path, "cannot be written: its parent is not a folder")),
        Err(e) => Err(Error::file(path, format!("cannot be written: {e}"))),
    }
}

/// Refuses the output of `option` unless its name ends in one of `endings` (without the dot).
pub fn must_end_in(option: &str, path: &Path, endings: &[&str]) -> Result<()> {
    let ending = path.extension().and_then(OsStr::to_str).unwrap_or_default().to_ascii_lowercase();
    if endings.contains(&ending.as_str()) {
        return Ok(());
    }
    let allowed = endings.iter().map(|ending| format!(".{ending}")).collect::<Vec<_>>().join(" or ");
    Err(Error::Usage(format!("{option} {}: the name must end in {allowed}", path.display())))
}

/// Writes a file whole or not at all; a full disk or a kill leaves what was there before.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    // A pipe or a device (/dev/stdout) is written to, not replaced.
    if path.metadata().is_ok_and(|data| !data.is_file() && !data.is_dir()) {
        return std::fs::write(path, bytes).map_err(|e| Error::file(path, format!("cannot be written: {e}")));
    }
    OutputFile::write(path, bytes)
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
    fn names_that_cannot_be_written_to_are_known_early() {
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
    fn only_what_is_there_is_guarded() {
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
