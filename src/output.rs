//! Atomic writes: a reader sees the whole file or nothing.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Most names that are tried for a temporary file.
const ATTEMPTS: u32 = 1000;

/// A file that is written under a temporary name in the same folder, `.NAME.PID.partial` or `.NAME.PID-2.partial`, …;
/// [`OutputFile::commit`] gives it its final name. If it is dropped before that, the temporary file is removed. If the process
/// is killed, the next writer of the same name removes it: the writer holds a lock on the temporary file, which the system
/// frees with the process.
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
        let mut hidden = OsString::from(".");
        hidden.push(name);
        hidden.push(".");
        remove_left_over(path, &hidden);
        let process = std::process::id();
        for attempt in 1..ATTEMPTS {
            let mut name = hidden.clone();
            name.push(match attempt {
                1 => format!("{process}{PARTIAL}"),
                _ => format!("{process}-{attempt}{PARTIAL}"),
            });
            let temporary = path.with_file_name(name);
            // A new file: a link that has this name is not followed.
            match OpenOptions::new().read(true).write(true).create_new(true).open(&temporary) {
                // Another writer may have locked and removed it before this one had its lock.
                Ok(file) if !is_locked_elsewhere(&file) && is_at(&file, &temporary) => {
                    return Ok(Self { file, temporary, path: path.to_owned(), overwrite, done: false });
                }
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
                Err(e) => return Err(Error::file(path, format!("cannot be written: {e}"))),
            }
        }
        Err(Error::file(path, "cannot be written: its folder has too many .partial files; remove them"))
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

/// A new file in the folder for temporary files, open for reading and writing, without a name: the system frees it when it is
/// closed.
///
/// # Errors
/// [`Error::File`] when that folder cannot be written to.
pub(crate) fn unnamed_file() -> Result<File> {
    let folder = std::env::temp_dir();
    let process = std::process::id();
    for attempt in 0..ATTEMPTS {
        let path = folder.join(format!(".ssmv-raw-{process}-{attempt}"));
        match OpenOptions::new().read(true).write(true).create_new(true).open(&path) {
            Ok(file) => {
                fs::remove_file(&path).map_err(|e| Error::file(&path, format!("cannot be removed: {e}")))?;
                return Ok(file);
            }
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            Err(e) => return Err(Error::file(folder, format!("cannot be written to: {e}; set TMPDIR"))),
        }
    }
    Err(Error::file(folder, "has too many temporary files of this program; remove them"))
}

/// End of the name of a temporary file.
const PARTIAL: &str = ".partial";

/// Removes the temporary files of `path` whose writers were killed. `hidden` is how their names start.
fn remove_left_over(path: &Path, hidden: &OsString) {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let (name, path) = (entry.file_name(), entry.path());
        let middle = name.as_bytes().strip_prefix(hidden.as_bytes());
        let middle = middle.and_then(|rest| rest.strip_suffix(PARTIAL.as_bytes())).unwrap_or_default();
        let is_ours = !middle.is_empty() && middle.iter().all(|byte| byte.is_ascii_digit() || *byte == b'-');
        // Only a file: opening a pipe would block.
        if !is_ours || !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        if let Ok(file) = File::open(&path)
            && file.try_lock().is_ok()
            && is_at(&file, &path)
        {
            // If it cannot be removed, the write goes on under another name.
            let _ = fs::remove_file(&path);
        }
    }
}

/// Locks the file; true if another process holds its lock. A file system without locks locks nothing.
fn is_locked_elsewhere(file: &File) -> bool {
    matches!(file.try_lock(), Err(TryLockError::WouldBlock))
}

/// True if the file still has this name.
fn is_at(file: &File, path: &Path) -> bool {
    let identity = |data: fs::Metadata| (data.dev(), data.ino());
    let (open, named) = (file.metadata().map(identity), path.symlink_metadata().map(identity));
    open.is_ok_and(|open| named.is_ok_and(|named| open == named))
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
    fn links_and_files_of_writers_at_work_are_left_alone_and_left_overs_removed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("victim"), b"precious").unwrap();
        let own = format!(".a.bin.{}.partial", std::process::id());
        std::os::unix::fs::symlink(at("victim"), at(&own)).unwrap();
        let others = [".a.bin.notes.partial", ".b.bin.7.partial", "a.bin.7.partial", ".a.bin..partial"];
        for name in [".a.bin.7.partial", ".a.bin.1-3.partial"].iter().chain(&others) {
            fs::write(at(name), b"half").unwrap();
        }
        let mut first = OutputFile::create(&at("a.bin"), false).unwrap();
        first.file().write_all(b"first").unwrap();
        OutputFile::write(&at("a.bin"), b"second").unwrap();
        assert_eq!(fs::read(at("a.bin")).unwrap(), b"second");
        assert!(first.temporary.exists());
        drop(first);
        assert_eq!(fs::read(at("victim")).unwrap(), b"precious");
        let entries = fs::read_dir(folder.path()).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        let mut wanted: Vec<_> = ["a.bin", "victim", &own].into_iter().chain(others).collect();
        names.sort();
        wanted.sort();
        assert_eq!(names, wanted);
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
