//! Restart of ranks: from the last checkpoint of their run, or in an empty run folder.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::Reporter;
use crate::checkpoint::CHECKPOINTS_FOLDER;
use crate::config::{check_run_folder, is_unused};
use crate::record::MOVED;
use crate::{Error, Result};

const RESUME: &str = "--resume";

/// The run folder of a job with restarts.
#[derive(Debug)]
pub struct Folder<'a> {
    out: &'a Path,
    /// True if it was empty before the first start: then all its content belongs to the job.
    was_empty: bool,
    /// The folder itself, open, so that no other one gets its number; on the machine with rank 0.
    opened: Option<File>,
    /// True if it did not exist before: then it goes if nothing is written to it.
    made: bool,
}

impl<'a> Folder<'a> {
    /// Inspects the folder before the first start. `begins`: this machine has rank 0, which creates the run.
    ///
    /// # Errors
    /// The folder has content of another job: a restart would continue another run.
    pub fn of(first: &[OsString], out: &'a Path, begins: bool) -> Result<Self> {
        let was_empty = is_empty(out)?;
        if begins && !was_empty && !resumes(first, out) {
            check_run_folder(out)?;
        }
        let made = begins && !out.exists();
        let opened = begins.then(|| open(out)).transpose()?;
        Ok(Self { out, was_empty, opened, made })
    }

    /// The arguments of the next start. If the folder has a finished checkpoint, they resume from it. Otherwise the folder of
    /// a new run is renamed if `may_move`, since it must be empty.
    ///
    /// # Errors
    /// The folder cannot be read or renamed, or another program has moved or removed it: its run must not begin again unseen.
    pub fn arguments(
        &mut self,
        first: &[OsString],
        may_move: bool,
        reporter: &dyn Reporter,
    ) -> Result<Vec<OsString>> {
        if self.opened.as_ref().is_some_and(|opened| !is_at(opened, self.out)) {
            return Err(Error::file(self.out, MOVED));
        }
        if has_checkpoint(self.out) {
            let mut arguments = without_resume(first);
            arguments.extend([RESUME.into(), self.out.into()]);
            return Ok(arguments);
        }
        if may_move && self.was_empty && !is_empty(self.out)? {
            let aside = set_aside(self.out)?;
            self.opened = Some(open(self.out)?);
            reporter.note(&format!("no checkpoint yet: {} is now {}", self.out.display(), aside.display()));
        }
        Ok(first.to_vec())
    }
}

impl Drop for Folder<'_> {
    fn drop(&mut self) {
        if self.made && self.opened.as_ref().is_some_and(|opened| is_at(opened, self.out)) {
            // Fails unless it is empty.
            let _ = fs::remove_dir(self.out);
        }
    }
}

/// Opens the folder, which is created if it does not exist.
fn open(folder: &Path) -> Result<File> {
    fs::create_dir_all(folder)
        .and_then(|()| File::open(folder))
        .map_err(|e| Error::file(folder, format!("cannot make the run folder: {e}")))
}

/// True if the open folder is at this path.
fn is_at(opened: &File, path: &Path) -> bool {
    let identity = |data: fs::Metadata| (data.dev(), data.ino());
    let [opened, found] = [opened.metadata(), fs::metadata(path)].map(|data| data.ok().map(identity));
    opened.is_some() && opened == found
}

/// True if the first start resumes the run in `out`.
fn resumes(first: &[OsString], out: &Path) -> bool {
    let named = value_of(first, RESUME).filter(|value| !value.as_encoded_bytes().starts_with(b"-"));
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    has(first, RESUME) && named.is_none_or(|path| real(Path::new(path)).starts_with(real(out)))
}

/// The value of the option `name` among arguments, as `--name value` or `--name=value`. The last
/// one counts.
pub fn value_of<'a>(arguments: &'a [OsString], name: &str) -> Option<&'a OsStr> {
    let pairs = arguments.iter().zip(arguments.iter().skip(1).map(Some).chain([None]));
    let values = pairs.filter_map(|(argument, next)| {
        if argument == name {
            return next.map(OsString::as_os_str);
        }
        inline(argument, name)
    });
    values.last()
}

/// True if the option `name` is among the arguments, with or without a value.
pub fn has(arguments: &[OsString], name: &str) -> bool {
    arguments.iter().any(|argument| argument == name || inline(argument, name).is_some())
}

/// The value of `--name=value`.
fn inline<'a>(argument: &'a OsStr, name: &str) -> Option<&'a OsStr> {
    use std::os::unix::ffi::OsStrExt;
    let value = argument.as_bytes().strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
    Some(OsStr::from_bytes(value))
}

/// The arguments without `--resume`, `--resume PATH` and `--resume=PATH`.
fn without_resume(arguments: &[OsString]) -> Vec<OsString> {
    let mut kept = Vec::new();
    let mut rest = arguments.iter().peekable();
    while let Some(argument) = rest.next() {
        if argument == RESUME {
            // The value is optional: an argument that starts with `-` is not a value.
            rest.next_if(|next| !next.as_encoded_bytes().starts_with(b"-"));
        } else if inline(argument, RESUME).is_none() {
            kept.push(argument.clone());
        }
    }
    kept
}

/// True if a run folder has a finished checkpoint.
fn has_checkpoint(run: &Path) -> bool {
    let is_step = |name: &OsStr| {
        let step = name.to_str().and_then(|name| name.strip_prefix("step-"));
        step.is_some_and(|step| !step.is_empty() && step.bytes().all(|digit| digit.is_ascii_digit()))
    };
    let entries = fs::read_dir(run.join(CHECKPOINTS_FOLDER));
    entries.is_ok_and(|entries| entries.flatten().any(|entry| is_step(&entry.file_name())))
}

fn is_empty(folder: &Path) -> Result<bool> {
    match is_unused(folder) {
        Ok(unused) => Ok(unused),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(true),
        Err(e) => Err(Error::file(folder, format!("cannot be read: {e}"))),
    }
}

/// Renames `DIR` to the first of `DIR.failed-1`, `DIR.failed-2`, … that does not exist.
fn set_aside(folder: &Path) -> Result<PathBuf> {
    // Without a slash at its end.
    let plain: PathBuf = folder.components().collect();
    let mut number = 1_u64;
    let aside = loop {
        let mut name = plain.clone().into_os_string();
        name.push(format!(".failed-{number}"));
        if fs::symlink_metadata(&name).is_err() {
            break PathBuf::from(name);
        }
        number += 1;
    };
    let renamed = fs::rename(&plain, &aside);
    renamed.map_err(|e| Error::file(folder, format!("cannot be moved to {}: {e}", aside.display())))?;
    Ok(aside)
}
