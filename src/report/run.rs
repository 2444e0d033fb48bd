//! A run as a report reads it: configuration, starts, log and pictures of its folder.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::log::Log;
use crate::checkpoint::CHECKPOINTS_FOLDER;
use crate::config::{CONFIG_FILE, ConfigFile, TrainConfig, TrainOptions, resolve_over};
use crate::record::{METRICS_FILE, Start};
use crate::{Error, Result};

/// Largest picture in bytes that a page includes.
const MAX_PICTURE: u64 = 16 << 20;

/// A value of an option.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// Name of the option, without dashes at its start.
    pub option: String,
    /// Its value as text.
    pub value: String,
    /// Whether it differs from the preset's default.
    pub changed: bool,
}

/// A run folder.
#[derive(Debug)]
pub struct Run {
    /// Name in the report.
    pub name: String,
    folder: PathBuf,
    /// The configuration; `None` if the file is missing or cannot be read.
    pub config: Option<TrainConfig>,
    /// Reason for a missing configuration.
    pub config_error: Option<String>,
    /// Starts of the training, the first one first.
    pub starts: Vec<Start>,
    /// The log.
    pub(super) log: Log,
}

impl Run {
    /// Reads the run that `path` names: its folder, its folder of checkpoints or one of these.
    ///
    /// # Errors
    /// [`Error::File`] when `path` is not a run, or its log cannot be read.
    pub fn open(path: &Path) -> Result<Self> {
        let unreadable = |e: std::io::Error| Error::file(path, format!("cannot be read: {e}"));
        let full = path.canonicalize().map_err(unreadable)?;
        let is_run =
            |folder: &Path| [CONFIG_FILE, METRICS_FILE].iter().any(|name| folder.join(name).is_file());
        let is_checkpoints =
            |folder: &&Path| folder.file_name().is_some_and(|name| name == CHECKPOINTS_FOLDER);
        let above = || full.ancestors().take(2).find(is_checkpoints)?.parent().map(Path::to_owned);
        let folder = Some(path.to_owned()).filter(|folder| is_run(folder));
        let Some(folder) = folder.or_else(|| above().filter(|folder| is_run(folder))) else {
            let message = format!(
                "is not a run folder: it has neither {CONFIG_FILE} nor {METRICS_FILE}; give a folder that `ssmv-raw \
                 train` wrote"
            );
            return Err(Error::file(path, message));
        };
        let name = folder.canonicalize().unwrap_or_else(|_| folder.clone());
        let mut run = Self {
            name: name.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned(),
            log: Log::new(&folder),
            folder,
            config: None,
            config_error: None,
            starts: Vec::new(),
        };
        run.read_on()?;
        Ok(run)
    }

    /// Path of the folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Reads the changes since the last call.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn read_on(&mut self) -> Result<()> {
        let path = self.folder.join(CONFIG_FILE);
        let config =
            ConfigFile::read(&path).and_then(|file| resolve_over(&TrainOptions::default(), &[&file]));
        (self.config, self.config_error) = match config {
            Ok(config) => (Some(config), None),
            // Its name is enough: the page may be given away.
            Err(error) => (None, Some(error.to_string().replace(&*path.to_string_lossy(), CONFIG_FILE))),
        };
        self.starts = Start::read(&self.folder);
        self.log.read_on()
    }

    /// Optimiser steps of the whole training, if they are known.
    pub fn total_steps(&self) -> Option<u64> {
        let started = self.starts.last().map(|start| start.total_steps).filter(|&steps| steps > 0);
        started.or_else(|| Some(self.config.as_ref()?.total_steps()))
    }

    /// Whether all steps are trained.
    pub fn is_finished(&self) -> bool {
        self.total_steps().is_some_and(|total| self.log.step >= total)
    }

    /// Seconds of training so far, if the sequences of a step are known.
    pub fn seconds(&self) -> Option<f64> {
        Some(self.log.seconds_per_sequence * self.config.as_ref()?.sequences_per_step() as f64)
    }

    /// The options, in the order of the help; empty without a configuration.
    pub fn settings(&self) -> Vec<Setting> {
        let Some(config) = &self.config else { return Vec::new() };
        let table = |config: &TrainConfig| Table::try_from(config).unwrap_or_default();
        let own = table(config);
        let default = TrainConfig::preset(&config.preset).map(|config| table(&config)).unwrap_or_default();
        let text = |value: &Value| match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let setting = |option: String| {
            let value = own.get(&option)?;
            let changed = default.get(&option) != Some(value);
            Some(Setting { value: text(value), changed, option })
        };
        TrainOptions::names().filter_map(setting).collect()
    }

    /// The bytes of a picture in the folder; `None` if there is none, or it is larger than 16 MiB.
    pub fn picture(&self, name: &str) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        let path = self.folder.join(name);
        // Opening a pipe would block.
        path.metadata().ok().filter(std::fs::Metadata::is_file)?;
        File::open(path).ok()?.take(MAX_PICTURE + 1).read_to_end(&mut bytes).ok()?;
        (!bytes.is_empty() && bytes.len() as u64 <= MAX_PICTURE).then_some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_folder_that_is_no_run_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let message = Run::open(folder.path()).unwrap_err().to_string();
        assert!(message.contains("is not a run folder") && message.contains("metrics.jsonl"), "{message}");
        let message = Run::open(&folder.path().join("none")).unwrap_err().to_string();
        assert!(message.contains("none: cannot be read"), "{message}");
    }

    #[test]
    fn a_run_is_found_from_its_checkpoints_and_read_without_them() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("first");
        let checkpoint = folder.join("checkpoints/step-00000003");
        fs::create_dir_all(&checkpoint).unwrap();
        fs::write(folder.join(CONFIG_FILE), "preset = 'nano'\nlr = 0.5\nsteps = 9").unwrap();
        for path in [&folder, &folder.join("checkpoints"), &checkpoint] {
            assert_eq!(Run::open(path).unwrap().name, "first");
        }
        let run = Run::open(&folder).unwrap();
        assert_eq!((run.total_steps(), run.is_finished(), run.seconds()), (Some(9), false, Some(0.0)));
        let changed: Vec<_> = run.settings().into_iter().filter(|setting| setting.changed).collect();
        let pairs: Vec<_> = changed.iter().map(|s| (s.option.as_str(), s.value.as_str())).collect();
        assert_eq!(pairs, [("steps", "9"), ("lr", "0.5")]);
        assert!(run.settings().iter().any(|setting| setting.option == "seed" && setting.value == "0"));
        assert_eq!(run.picture("preview.gif"), None);
        fs::write(folder.join("preview.gif"), "GIF89a").unwrap();
        assert_eq!(run.picture("preview.gif").unwrap(), b"GIF89a");
    }

    #[test]
    fn a_configuration_that_cannot_be_read_is_said_without_the_path() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(CONFIG_FILE), "future-option = 1").unwrap();
        let run = Run::open(folder.path()).unwrap();
        let error = run.config_error.clone().unwrap();
        assert!(error.starts_with("config.toml, line 1: unknown key `future-option`"), "{error}");
        assert!(run.settings().is_empty() && run.total_steps().is_none() && run.seconds().is_none());
    }
}
