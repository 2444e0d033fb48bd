//! Opening a checkpoint.

use super::manifest::{Manifest, read_limited};
use super::{CHECKPOINTS_FOLDER, MANIFEST_FILE, MODEL_FILE, OPTIMIZER_FILE, STATE_FILE, folder};
use crate::{Error, Result};
use serde::de::DeserializeOwned;
use ssmv_autograd::tensor_file::TensorFile;
use std::path::{Path, PathBuf};

/// A training state is counters and generator states: kilobytes.
const MAX_STATE: u64 = 16 << 20;

/// A checkpoint whose files have the sizes and digests of its manifest, or a bare file of weights.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    model: TensorFile,
    training: Option<Training>,
    warnings: Vec<String>,
}

/// What a checkpoint folder has and a bare file of weights has not.
#[derive(Debug)]
struct Training {
    manifest: Manifest,
    optimizer: TensorFile,
    state: Vec<u8>,
}

impl Checkpoint {
    /// Opens a checkpoint folder, the latest good checkpoint of a `checkpoints` folder or of a run folder, or a
    /// bare safetensors file such as PyTorch writes.
    ///
    /// Of several checkpoints a damaged one is passed over with a line in [`Checkpoint::warnings`]. The weights' file
    /// of a checkpoint folder is verified too when it is given by its own path.
    ///
    /// # Errors
    /// Nothing there, a missing file, another size or SHA-256 than the manifest has, a malformed file. The message
    /// names the file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let metadata =
            std::fs::metadata(path).map_err(|e| Error::file(path, format_args!("cannot read: {e}")))?;
        if !metadata.is_dir() {
            return Self::open_file(path);
        }
        if path.join(MANIFEST_FILE).exists() {
            return Self::open_folder(path);
        }
        if path.join(MODEL_FILE).exists() {
            let hint = format!("has no {MANIFEST_FILE}; to use the weights alone, name {MODEL_FILE} itself");
            return Err(Error::file(path, hint));
        }
        let inner = path.join(CHECKPOINTS_FOLDER);
        Self::open_latest(if inner.is_dir() { &inner } else { path })
    }

    fn open_file(path: &Path) -> Result<Self> {
        let folder = path.parent().unwrap_or(Path::new(""));
        if path.file_name().is_some_and(|name| name == MODEL_FILE) && Manifest::is_in(folder) {
            return Self::open_folder(folder);
        }
        let model = TensorFile::open(path)?;
        Ok(Self { path: path.into(), model, training: None, warnings: Vec::new() })
    }

    fn open_folder(path: &Path) -> Result<Self> {
        let manifest = Manifest::read(path)?;
        manifest.verify(path)?;
        let training = Training {
            manifest,
            optimizer: TensorFile::open(path.join(OPTIMIZER_FILE))?,
            state: read_limited(&path.join(STATE_FILE), MAX_STATE)?,
        };
        let model = TensorFile::open(path.join(MODEL_FILE))?;
        Ok(Self { path: path.into(), model, training: Some(training), warnings: Vec::new() })
    }

    fn open_latest(parent: &Path) -> Result<Self> {
        let candidates =
            folder::candidates(parent).map_err(|e| Error::file(parent, format_args!("cannot read: {e}")))?;
        let mut warnings = Vec::new();
        for candidate in candidates {
            match Self::open_folder(&candidate) {
                Ok(checkpoint) => return Ok(Self { warnings, ..checkpoint }),
                Err(e) => warnings.push(format!("checkpoint passed over: {e}")),
            }
        }
        Err(Error::file(
            parent,
            match warnings.as_slice() {
                [] => "holds no checkpoint".to_string(),
                [one] => format!("holds no good checkpoint ({one})"),
                [first, ..] => format!("holds no good checkpoint among {} ({first})", warnings.len()),
            },
        ))
    }

    /// The checkpoint's folder, or the bare file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the user should hear of: a line for each damaged checkpoint that was passed over.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The preset's name, if the files say it.
    pub fn preset(&self) -> Option<&str> {
        match &self.training {
            Some(training) => Some(&training.manifest.preset),
            None => self.model.metadata("preset"),
        }
    }

    /// The step after which it was written; `None` for a bare file.
    pub fn step(&self) -> Option<u64> {
        self.training.as_ref().map(|training| training.manifest.step)
    }

    /// Name and version of the program that wrote it; `None` for a bare file.
    pub fn program(&self) -> Option<&str> {
        self.training.as_ref().map(|training| training.manifest.program.as_str())
    }

    /// The weights.
    pub fn model(&self) -> &TensorFile {
        &self.model
    }

    /// The optimizer's tensors.
    ///
    /// # Errors
    /// A bare file of weights, which has none.
    pub fn optimizer(&self) -> Result<&TensorFile> {
        Ok(&self.training()?.optimizer)
    }

    /// The training state.
    ///
    /// # Errors
    /// A bare file of weights, or a state of another form than `T`.
    pub fn state<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.training()?.state).map_err(|e| {
            Error::file(self.path.join(STATE_FILE), format_args!("is no state of this program: {e}"))
        })
    }

    fn training(&self) -> Result<&Training> {
        self.training.as_ref().ok_or_else(|| {
            Error::file(
                &self.path,
                "holds weights only; training goes on from a checkpoint folder with its optimizer",
            )
        })
    }
}
