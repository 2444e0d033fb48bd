//! A run folder while a process writes to it: locked, and checked to be still in its place.

use super::events::host_name;
use crate::config::LOCK_FILE;
use crate::{Error, Result};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The message about a run folder that is no longer at its path.
pub(crate) const MOVED: &str = "the run folder was moved or removed during the training";

/// Longest text in bytes that is read from a lock file.
const MAX_HOLDER: u64 = 200;

/// A run folder that only this process writes to. The lock (`flock` on a file in the folder) ends with this value, and with
/// the process if it is killed; process numbers are only in the message to the user, since containers have their own.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    /// Device and inode of the folder.
    identity: (u64, u64),
    _lock: File,
    warning: Option<String>,
}

impl RunFolder {
    /// Locks the run folder `path`, which is created if it does not exist.
    ///
    /// # Errors
    /// [`Error::File`] when another process has locked it, or it cannot be written to.
    pub fn lock(path: &Path) -> Result<Self> {
        let name = path.join(LOCK_FILE);
        let unwritable = |e: std::io::Error| Error::file(&name, format!("cannot be written: {e}"));
        fs::create_dir_all(path)
            .map_err(|e| Error::file(path, format!("cannot make the run folder: {e}")))?;
        if name.symlink_metadata().is_ok_and(|data| !data.is_file()) {
            return Err(Error::file(name, "is not a file; remove it"));
        }
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            // Between the check above and here another process may have put a link there.
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32)
            .open(&name)
            .map_err(unwritable)?;
        let warning = match lock.try_lock() {
            Ok(()) => None,
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = lock.take(MAX_HOLDER).read_to_string(&mut holder);
                let holder = if holder.trim().is_empty() { "another process" } else { holder.trim() };
                let message = format!("is in use by {holder}: wait until it ends, or give another --out");
                return Err(Error::file(path, message));
            }
            Err(TryLockError::Error(e)) => Some(format!(
                "{}: cannot be locked ({e}): start no second training in this folder",
                path.display()
            )),
        };
        let holder = format!("process {} on {}\n", std::process::id(), host_name());
        lock.set_len(0).and_then(|()| lock.write_all(holder.as_bytes())).map_err(unwritable)?;
        let identity = fs::metadata(path).map(|data| (data.dev(), data.ino())).map_err(unwritable)?;
        Ok(Self { path: path.to_owned(), identity, _lock: lock, warning })
    }

    /// Path of the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Warning for the user, if the file system has no locks.
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    /// Checks that the folder is still at its path, so that no write creates a new folder there.
    ///
    /// # Errors
    /// [`Error::File`] when it was moved or removed.
    pub fn check(&self) -> Result<()> {
        match fs::metadata(&self.path).map(|data| (data.dev(), data.ino())) {
            Ok(found) if found == self.identity => Ok(()),
            _ => Err(Error::file(&self.path, MOVED)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_writer_and_stays_in_its_place() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("run");
        let folder = RunFolder::lock(&path).unwrap();
        let message = RunFolder::lock(&path).unwrap_err().to_string();
        let holder = format!("is in use by process {} on {}", std::process::id(), host_name());
        assert!(message.contains(&holder), "{message}");
        folder.check().unwrap();
        drop(folder);
        let folder = RunFolder::lock(&path).unwrap();
        fs::rename(&path, parent.path().join("moved")).unwrap();
        assert!(folder.check().unwrap_err().to_string().contains("was moved"));
        fs::create_dir(&path).unwrap();
        assert!(folder.check().is_err());
    }

    #[test]
    fn a_link_in_the_place_of_the_lock_is_not_followed() {
        let parent = tempfile::tempdir().unwrap();
        let victim = parent.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        std::os::unix::fs::symlink(&victim, parent.path().join(LOCK_FILE)).unwrap();
        assert!(RunFolder::lock(parent.path()).is_err());
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
    }
}
