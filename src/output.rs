//! Atomic writes: a reader sees the whole file or nothing.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// A file that is written under a temporary name in the same folder; [`OutputFile::commit`] gives it its final name. If it is
/// dropped before that, the temporary file is removed.
#[derive(Debug)]
pub struct OutputFile {
    file: File,
    temporary: PathBuf,
    path: PathBuf,
    overwrite: bool,
    done: bool,
}

impl OutputFile {
    /// Creates the temporary file for `path`. An existing `path` is an error unless `overwrite`.
    ///
    /// # Errors
    /// [`Error::File`] when `path` exists or its folder cannot be written to.
    pub fn create(path: &Path, overwrite: bool) -> Result<Self> {
        refuse_existing(path, overwrite)?;
        let name = path.file_name().ok_or_else(|| Error::file(path, "is not a file name"))?;
        let mut temporary_name = std::ffi::OsString::from(".");
        temporary_name.push(name);
        temporary_name.push(format!(".{}.partial", std::process::id()));
        let temporary = path.with_file_name(temporary_name);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&temporary)
            .map_err(|e| Error::file(path, format!("cannot be written: {e}")))?;
        Ok(Self { file, temporary, path: path.to_owned(), overwrite, done: false })
    }

    /// Writes `bytes` to `path` atomically; an existing file is replaced.
    ///
    /// # Errors
    /// [`Error::File`] when it cannot be written.
    pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
        let mut output = Self::create(path, true)?;
        output.file.write_all(bytes).map_err(|e| output.error(e))?;
        output.commit()
    }

    /// The temporary file, open for writing.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// An [`Error::File`] with the final path: it cannot be written because of `e`.
    pub fn error(&self, e: impl std::fmt::Display) -> Error {
        Error::file(&self.path, format!("cannot be written: {e}"))
    }

    /// Syncs the contents to the disk and gives the file its final name.
    ///
    /// # Errors
    /// [`Error::File`] when the disk is full or another process made `path` meanwhile.
    pub fn commit(mut self) -> Result<()> {
        self.file.sync_all().map_err(|e| self.error(e))?;
        refuse_existing(&self.path, self.overwrite)?;
        fs::rename(&self.temporary, &self.path).map_err(|e| self.error(e))?;
        self.done = true;
        Ok(())
    }
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        if !self.done {
            // If the removal fails too, nothing more can be done.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// An error when `path` exists and may not be overwritten, or is a folder or a device (which a rename would replace).
fn refuse_existing(path: &Path, overwrite: bool) -> Result<()> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Err(Error::file(path, "is a folder; give a file name")),
        Ok(found) if !found.is_file() => Err(Error::file(path, "is a device; give a file name")),
        Ok(_) if !overwrite => Err(Error::file(path, "exists already; remove it or choose another name")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn nothing_is_left_behind_without_a_commit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.bin");
        let mut output = OutputFile::create(&path, false).unwrap();
        output.file().write_all(b"half").unwrap();
        drop(output);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn an_existing_file_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.bin");
        fs::write(&path, b"old").unwrap();
        let message = OutputFile::create(&path, false).unwrap_err().to_string();
        assert!(message.contains("a.bin") && message.contains("exists"), "{message}");
        assert!(OutputFile::create(folder.path(), true).is_err());
        assert!(OutputFile::create(Path::new("/dev/null"), true).is_err());
        let mut output = OutputFile::create(&path, true).unwrap();
        output.file().write_all(b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        output.commit().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }
}
