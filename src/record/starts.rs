//! `starts.jsonl` in a run folder: when and on which machine each process of the training started.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Name of the file in a run folder.
pub const STARTS_FILE: &str = "starts.jsonl";
/// Bytes that are read from the end of the file: more than a thousand starts.
const MAX_BYTES: u64 = 1 << 20;

/// The start of a training, or of its continuation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Start {
    /// Seconds since 1970 (UTC).
    pub time: u64,
    /// Optimiser steps taken before.
    pub step: u64,
    /// Optimiser steps of the whole training.
    pub total_steps: u64,
    /// Version of the program.
    pub version: String,
    /// Name of the machine.
    pub host: String,
    /// `cpu`, or the product name of the GPU.
    pub device: String,
    /// Number format of activations and matrix products.
    pub precision: String,
    /// Product name of the processor, if the system reports it.
    pub processor: Option<String>,
    /// CPU threads of a rank.
    pub threads: usize,
    /// Memory of the machine in bytes, if the system reports it.
    pub memory_bytes: Option<u64>,
    /// Number of ranks.
    pub ranks: usize,
}

impl Start {
    /// Appends a line to the file of the folder `run`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn append(&self, run: &Path) -> Result<()> {
        let path = run.join(STARTS_FILE);
        let unwritable = |e: &dyn std::fmt::Display| Error::file(&path, format!("cannot be written: {e}"));
        // It starts with a line break, so that a line which a kill cut short damages no other.
        let mut line = b"\n".to_vec();
        serde_json::to_writer(&mut line, self).map_err(|e| unwritable(&e))?;
        let file = OpenOptions::new().create(true).append(true).open(&path);
        file.and_then(|mut file| file.write_all(&line)).map_err(|e| unwritable(&e))
    }

    /// The starts of the folder `run`, the first one first; lines that are damaged are left out. None if the file is missing.
    pub fn read(run: &Path) -> Vec<Self> {
        let read = |mut file: File| {
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(MAX_BYTES)))?;
            let mut bytes = Vec::new();
            file.take(MAX_BYTES).read_to_end(&mut bytes)?;
            std::io::Result::Ok(bytes)
        };
        let bytes = File::open(run.join(STARTS_FILE)).and_then(read).unwrap_or_default();
        bytes.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_are_appended_and_damaged_lines_left_out() {
        let run = tempfile::tempdir().unwrap();
        assert_eq!(Start::read(run.path()), []);
        let first = Start { step: 0, device: "cpu".into(), ..Start::default() };
        let second = Start { step: 7, memory_bytes: Some(9), ..Start::default() };
        first.append(run.path()).unwrap();
        let path = run.path().join(STARTS_FILE);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text + "\n{\"step\":").unwrap();
        second.append(run.path()).unwrap();
        assert_eq!(Start::read(run.path()), [first, second]);
        // Fields of another version.
        std::fs::write(&path, "{\"step\":3,\"new\":1}").unwrap();
        assert_eq!(Start::read(run.path()), [Start { step: 3, ..Start::default() }]);
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(first_error(run.path()).contains(STARTS_FILE));
    }

    fn first_error(run: &Path) -> String {
        Start::default().append(run).unwrap_err().to_string()
    }
}
