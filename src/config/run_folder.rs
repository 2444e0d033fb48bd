//! The folder of a run.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::TrainConfig;
use crate::checkpoint::CHECKPOINTS_FOLDER;
use crate::{Error, Result};

/// Name of the file with the resolved configuration in a run folder.
pub const CONFIG_FILE: &str = "config.toml";

/// `runs/PRESET-YYYYMMDD-HHMMSS` (UTC) for a run that starts now; with `-2`, `-3` … if it exists.
pub fn default_run_folder(config: &TrainConfig) -> PathBuf {
    let seconds =
        SystemTime::now().duration_since(UNIX_EPOCH).map(|passed| passed.as_secs()).unwrap_or_default();
    let name = format!("{}-{}", config.preset, stamp(seconds));
    let numbered = (2..).map(|n| format!("{name}-{n}"));
    let mut folders = std::iter::once(name.clone()).chain(numbered).map(|name| Path::new("runs").join(name));
    folders.find(|folder| !folder.exists()).unwrap_or_else(|| Path::new("runs").join(name))
}

/// Checks that a run folder is empty or does not exist, so that nothing is overwritten.
///
/// # Errors
/// [`Error::File`], which says what to do instead.
pub fn check_run_folder(folder: &Path) -> Result<()> {
    match std::fs::read_dir(folder).map(|mut entries| entries.next().is_none()) {
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

/// Seconds since 1970 as `YYYYMMDD-HHMMSS`, by the proleptic Gregorian calendar.
fn stamp(seconds: u64) -> String {
    let (mut days, second) = (seconds / 86_400, seconds % 86_400);
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let mut month = 1;
    for length in [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year}{month:02}{:02}-{hour:02}{minute:02}{second:02}", days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_agree_with_the_calendar() {
        for (seconds, expected) in [
            (0, "19700101-000000"),
            (951_782_400, "20000229-000000"),
            (1_709_251_199, "20240229-235959"),
            (1_735_689_600, "20250101-000000"),
            (1_798_761_599, "20261231-235959"),
        ] {
            assert_eq!(stamp(seconds), expected);
        }
    }

    #[test]
    fn only_an_empty_or_absent_folder_will_do() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("run");
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
