//! The token that the ranks of one user on one machine share without any setting.
//!
//! It is a file, named after the job's port, in XDG_RUNTIME_DIR or in `ssmv-raw-UID` of the temporary directory. The folder must
//! belong to this user and be closed to others. The first rank makes the file, which stays for the next job at that port: every
//! connection has keys of its own. No symbolic link is followed.

use super::security::{Token, TokenError};
use std::path::Path;

/// The token of this user's ranks at `port`, from `folder` or the default folder. Makes it if there is none.
///
/// # Errors
/// The folder or the file is not safe, or the system cannot make them.
#[cfg(unix)]
pub fn token(folder: Option<&Path>, port: u16) -> Result<Token, TokenError> {
    let folder = match folder {
        Some(folder) => Folder::open(folder)?,
        None => Folder::of_user()?,
    };
    let name = format!("ssmv-raw-{port}.token");
    if let Some(token) = folder.read(&name)? {
        return Ok(token);
    }
    folder.create(&name)?;
    folder.read(&name)?.ok_or_else(|| folder.fail(&name, "it was deleted while the ranks start"))
}

/// Not available on this system.
///
/// # Errors
/// Always.
#[cfg(not(unix))]
pub fn token(_: Option<&Path>, port: u16) -> Result<Token, TokenError> {
    let why = "this system cannot keep it from other users".into();
    Err(TokenError::File { path: format!("of port {port}"), why })
}

#[cfg(unix)]
use unix::Folder;

#[cfg(unix)]
mod unix {
    use super::super::security::{Token, TokenError, random_bytes};
    use rustix::fs::{AtFlags, Mode, OFlags, fstat, linkat, mkdir, open, openat, unlinkat};
    use rustix::io::Errno;
    use rustix::process::geteuid;
    use std::fmt::Display;
    use std::fs::File;
    use std::io::Write;
    use std::os::fd::{AsFd, OwnedFd};
    use std::path::{Path, PathBuf};

    /// A folder that belongs to this user and that no other user can open.
    pub struct Folder {
        path: PathBuf,
        descriptor: OwnedFd,
    }

    impl Folder {
        /// XDG_RUNTIME_DIR if it is safe, else a folder in the temporary directory.
        pub fn of_user() -> Result<Self, TokenError> {
            let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
            if let Some(folder) =
                runtime.filter(|path| path.is_absolute()).and_then(|path| Self::open(&path).ok())
            {
                return Ok(folder);
            }
            let path = std::env::temp_dir().join(format!("ssmv-raw-{}", geteuid().as_raw()));
            match mkdir(&path, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => Self::open(&path),
                Err(e) => Err(failure(&path, e)),
            }
        }

        pub fn open(path: &Path) -> Result<Self, TokenError> {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let descriptor = open(path, flags, Mode::empty()).map_err(|e| failure(path, e))?;
            check_owner(&descriptor, Mode::RWXG | Mode::RWXO).map_err(|why| failure(path, why))?;
            Ok(Self { path: path.into(), descriptor })
        }

        /// The token in the file `name`; `None` if it does not exist.
        pub fn read(&self, name: &str) -> Result<Option<Token>, TokenError> {
            // A pipe would block when it is opened.
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let file = match openat(&self.descriptor, name, flags, Mode::empty()) {
                Ok(file) => file,
                Err(Errno::NOENT) => return Ok(None),
                Err(Errno::LOOP) => return Err(self.fail(name, "it is a symbolic link")),
                Err(e) => return Err(self.fail(name, e)),
            };
            check_owner(&file, Mode::empty()).map_err(|why| self.fail(name, why))?;
            Token::from_open(File::from(file)).map(Some).map_err(|why| self.fail(name, why))
        }

        /// Makes the file with a new token, unless another rank has made it. No rank sees a part of it.
        pub fn create(&self, name: &str) -> Result<(), TokenError> {
            let token = Token::random()?;
            let [a, b, ..] = random_bytes()?;
            let unfinished = format!(".{name}.{}.{a:02x}{b:02x}", std::process::id());
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = openat(&self.descriptor, &unfinished, flags, Mode::RUSR | Mode::WUSR);
            let mut file = File::from(file.map_err(|e| self.fail(&unfinished, e))?);
            let written = writeln!(file, "{}", token.to_hex()).map_err(|e| self.fail(&unfinished, e));
            let folder = self.descriptor.as_fd();
            let linked =
                written.and_then(|()| match linkat(folder, &unfinished, folder, name, AtFlags::empty()) {
                    Ok(()) | Err(Errno::EXIST) => Ok(()),
                    Err(e) => Err(self.fail(name, e)),
                });
            // The token has its name by now, or the error is reported.
            let _ = unlinkat(folder, &unfinished, AtFlags::empty());
            linked
        }

        pub fn fail(&self, name: &str, why: impl Display) -> TokenError {
            failure(&self.path.join(name), why)
        }
    }

    fn failure(path: &Path, why: impl Display) -> TokenError {
        TokenError::File { path: path.display().to_string(), why: why.to_string() }
    }

    /// Checks that this user owns an open file or folder, and that it has none of the `denied` permissions.
    fn check_owner(file: impl AsFd, denied: Mode) -> Result<(), String> {
        let status = fstat(file).map_err(|e| e.to_string())?;
        if status.st_uid != geteuid().as_raw() {
            return Err(format!("it belongs to another user, {}", status.st_uid));
        }
        let mode = Mode::from_raw_mode(status.st_mode);
        if mode.intersects(denied) {
            return Err(format!(
                "its mode is {:04o}, but only its owner may open it: chmod 700",
                mode.bits()
            ));
        }
        Ok(())
    }
}
