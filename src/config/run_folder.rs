//! The folder of a run.

use std::path::{Path, PathBuf};

use super::TrainConfig;
use crate::checkpoint::CHECKPOINTS_FOLDER;
use crate::text::{calendar, now};
use crate::{Error, Result};

/// Name of the file with the resolved configuration in a run folder.
pub const CONFIG_FILE: &str = "config.toml";

/// Name of the animation of predictions in a run folder.
pub const ANIMATION_FILE: &str = "preview.gif";

/// Name of the same pictures as a strip.
pub const STRIP_FILE: &str = "preview.png";

/// Name of the file in a run folder that the process locks which writes to the folder. It stays after the run.
pub const LOCK_FILE: &str = ".lock";

/// Name of the file in a run folder that keeps the decoded frames of clips.
pub const CLIPS_FILE: &str = "clips.cache";

/// `runs/PRESET-YYYYMMDD-HHMMSS` (UTC) for a run that starts now.
pub fn default_run_folder(config: &TrainConfig) -> PathBuf {
    Path::new("runs").join(format!("{}-{}", config.preset, stamp(now())))
}

/// Creates `folder`, or `folder-2`, `folder-3`, … if it exists. Of several processes, each gets its own.
///
/// # Errors
/// [`Error::File`] when it cannot be created.
pub fn create_run_folder(folder: &Path) -> Result<PathBuf> {
    let unwritable = |e: std::io::Error| Error::file(folder, format!("cannot be created: {e}"));
    folder.parent().map_or(Ok(()), std::fs::create_dir_all).map_err(unwritable)?;
    let mut number = 1_u64;
    loop {
        let mut name = folder.as_os_str().to_owned();
        if number > 1 {
            name.push(format!("-{number}"));
        }
        match std::fs::create_dir(&name) {
            Ok(()) => return Ok(name.into()),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => number += 1,
            Err(e) => return Err(unwritable(e)),
        }
    }
}

/// True if a folder has nothing of a run: at most the lock file and decoded clips.
///
/// # Errors
/// The folder does not exist or cannot be read.
pub fn is_unused(folder: &Path) -> std::io::Result<bool> {
    let not_of_a_run =
        |entry: std::fs::DirEntry| [LOCK_FILE, CLIPS_FILE].iter().any(|name| entry.file_name() == *name);
    Ok(std::fs::read_dir(folder)?.all(|entry| entry.is_ok_and(not_of_a_run)))
}

/// Checks that a run folder is empty or does not exist, so that nothing is overwritten.
///
/// # Errors
/// [`Error::File`], which says what to do instead.
pub fn check_run_folder(folder: &Path) -> Result<()> {
    match is_unused(folder) {
        Ok(true) => Ok(()),
        Ok(false) => {
            Err(Error::file(folder, "is not empty: give another --out, or --resume to continue its run"))
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(_) if folder.is_file() => Err(Error::file(folder, "is a file; --out takes a folder")),
        Err(e) => Err(Error::file(folder, format!("cannot be read: {e}"))),
    }
}

/// The configuration file of the run that `path` belongs to: `path` is a run folder, its folder of checkpoints, or one of the
/// checkpoints. `None` for a checkpoint outside a run folder.
pub fn find_config(path: &Path) -> Option<PathBuf> {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let is_checkpoints = |folder: &&Path| folder.file_name().is_some_and(|name| name == CHECKPOINTS_FOLDER);
    let checkpoints = path.ancestors().take(2).find(is_checkpoints);
    let run = checkpoints.and_then(Path::parent).unwrap_or(&path);
    Some(run.join(CONFIG_FILE)).filter(|file| file.is_file())
}

/// Seconds since 1970 as `YYYYMMDD-HHMMSS`.
fn stamp(seconds: u64) -> String {
    let [year, month, day, hour, minute, second] = calendar(seconds);
    format!("{year}{month:02}{day:02}-{hour:02}{minute:02}{second:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_has_the_date_and_the_time() {
        assert_eq!(stamp(1_709_251_199), "20240229-235959");
    }

    #[test]
    fn each_of_several_processes_gets_its_own_folder() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("runs/tiny");
        let start = std::sync::Barrier::new(8);
        let create = || {
            start.wait();
            create_run_folder(&folder).unwrap()
        };
        let mut made: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(create)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        made.sort();
        made.dedup();
        assert_eq!(made.len(), 8);
        assert_eq!(made[0], folder);
        assert_eq!(made[7], parent.path().join("runs/tiny-8"));
    }

    #[test]
    fn only_an_empty_or_absent_folder_will_do() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("run");
        check_run_folder(&folder).unwrap();
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join(LOCK_FILE), "").unwrap();
        check_run_folder(&folder).unwrap();
        std::fs::create_dir_all(folder.join("checkpoints/last")).unwrap();
        assert!(check_run_folder(&folder).unwrap_err().to_string().contains("--resume"));
        check_run_folder(&folder.join("checkpoints/last")).unwrap();

        assert_eq!(find_config(&folder), None);
        let file = folder.join(CONFIG_FILE);
        std::fs::write(&file, "").unwrap();
        assert!(check_run_folder(&file).unwrap_err().to_string().ends_with("--out takes a folder"));
        for path in [folder.clone(), folder.join("checkpoints"), folder.join("checkpoints/last")] {
            assert_eq!(find_config(&path), Some(file.clone()));
        }
    }
}
