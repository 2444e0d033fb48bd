//! Names in the `checkpoints` folder: finished checkpoints, and the hidden folders of a write.
//!
//! | name | meaning |
//! | --- | --- |
//! | `step-00000800` | a finished checkpoint |
//! | `.step-00000800.tmp-PID` | one being written; worthless after its process |
//! | `.step-00000800.old-PID` | a finished one, moved away while a new one of the same step replaces it |
//! | `.step-00000800.del-PID` | one being deleted |
//! | `abandoned-step-00000800` | one that was given up by resuming from an earlier step |

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Purpose of a hidden folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hidden {
    Temporary,
    Old,
    Deleted,
}

impl Hidden {
    const ALL: [(Self, &'static str); 3] =
        [(Self::Temporary, "tmp"), (Self::Old, "old"), (Self::Deleted, "del")];

    /// Name of this process's hidden folder for `step`.
    pub fn path(self, parent: &Path, step: u64) -> PathBuf {
        let tag = Self::ALL.iter().find(|(hidden, _)| *hidden == self).map_or("tmp", |(_, tag)| tag);
        parent.join(format!(".{}.{tag}-{}", step_name(step), std::process::id()))
    }
}

/// Name of the finished checkpoint of a step: `step-00000800`.
pub(super) fn step_name(step: u64) -> String {
    format!("step-{step:08}")
}

/// The inverse of [`step_name`]; `None` for any other name.
fn parse_step(name: &str) -> Option<u64> {
    let step = name.strip_prefix("step-")?.parse().ok()?;
    (step_name(step) == name).then_some(step)
}

/// Step and purpose of a hidden folder's name.
fn parse_hidden(name: &str) -> Option<(u64, Hidden)> {
    let (step, rest) = name.strip_prefix('.')?.split_once('.')?;
    let (tag, process) = rest.split_once('-')?;
    let hidden = Hidden::ALL.iter().find(|(_, t)| *t == tag)?.0;
    process.parse::<u32>().ok()?;
    Some((parse_step(step)?, hidden))
}

/// The entries of `parent` whose names `parse` accepts, unordered.
fn entries<T>(parent: &Path, parse: impl Fn(&str) -> Option<T>) -> io::Result<Vec<(T, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(parent)? {
        let entry = entry?;
        if let Some(parsed) = entry.file_name().to_str().and_then(&parse) {
            found.push((parsed, entry.path()));
        }
    }
    Ok(found)
}

/// Finished checkpoints by step, the latest first.
pub(super) fn finished(parent: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = entries(parent, parse_step)?;
    found.sort_by_key(|(step, _)| std::cmp::Reverse(*step));
    Ok(found)
}

/// Renames the finished checkpoints of steps after `step` to `abandoned-step-…`, which are never opened automatically.
pub(super) fn set_aside_after(parent: &Path, step: u64) -> io::Result<Vec<PathBuf>> {
    let later = match finished(parent) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
        found => found?,
    };
    let mut moved = Vec::new();
    for (later, path) in later.into_iter().filter(|(later, _)| *later > step) {
        let name = format!("abandoned-{}", step_name(later));
        let mut names = std::iter::once(name.clone()).chain((2..).map(|n| format!("{name}-{n}")));
        let free = names.find_map(|name| Some(parent.join(name)).filter(|path| !path.exists()));
        let to = free.unwrap_or_else(|| parent.join(name));
        fs::rename(path, &to)?;
        moved.push(to);
    }
    Ok(moved)
}

/// All checkpoints that can be opened, the latest first; within a step, a finished one before one that was moved away.
pub(super) fn candidates(parent: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = entries(parent, |name| match parse_hidden(name) {
        Some((step, Hidden::Old)) => Some((step, false)),
        _ => parse_step(name).map(|step| (step, true)),
    })?;
    found.sort_by_key(|(key, _)| std::cmp::Reverse(*key));
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// Cleans up after killed processes: a checkpoint that was moved away and not replaced is moved back, every other hidden
/// folder is deleted. Only one process writes to `parent` (a training locks its run folder), so all of them are left over.
pub(super) fn recover(parent: &Path) -> io::Result<()> {
    for ((step, hidden), path) in entries(parent, parse_hidden)? {
        // Only folders are checkpoints; a file or a link of such a name is not ours.
        if !fs::symlink_metadata(&path).is_ok_and(|data| data.is_dir()) {
            continue;
        }
        let home = parent.join(step_name(step));
        if hidden == Hidden::Old && !home.try_exists()? {
            fs::rename(&path, &home)?;
        } else {
            fs::remove_dir_all(&path)?;
        }
    }
    Ok(())
}

/// Syncs the names in `folder` to the disk, if the system supports it.
pub(super) fn sync(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { fs::File::open(folder)?.sync_all() } else { Ok(()) }
}
