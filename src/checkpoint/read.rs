//! Opening a checkpoint.

use super::manifest::{Manifest, read_limited};
use super::{CHECKPOINTS_FOLDER, MANIFEST_FILE, MODEL_FILE, OPTIMIZER_FILE, STATE_FILE, folder};
use crate::{Error, Result};
use serde::de::DeserializeOwned;
use ssmv_autograd::tensor_file::{INDEX_FILE, TensorFile};
use std::path::{Path, PathBuf};

/// Maximum size of a training state in bytes: it has only counters and generator states.
const MAX_STATE: u64 = 16 << 20;

/// Prefixes that PyTorch's wrappers (`DataParallel`, `torch.compile`) and trainers put before all names of a bare file.
const WRAPPERS: &[&str] = &["module.", "_orig_mod.", "model."];

/// A checkpoint whose files have the sizes and digests of its manifest, or a bare file of weights.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    model: TensorFile,
    training: Option<Training>,
    warnings: Vec<String>,
}

/// The parts of a checkpoint folder that a bare file of weights lacks.
#[derive(Debug)]
struct Training {
    manifest: Manifest,
    optimizer: TensorFile,
    state: Vec<u8>,
}

impl Training {
    /// Checks that a state with a step has the manifest's.
    fn check_step(&self, folder: &Path) -> Result<()> {
        let state: Option<serde_json::Value> = serde_json::from_slice(&self.state).ok();
        let (step, wanted) = (state.as_ref().and_then(|state| state.get("step")), self.manifest.step);
        match step {
            Some(step) if step.as_u64() != Some(wanted) => Err(Error::file(
                folder.join(STATE_FILE),
                format_args!(
                    "is of step {step}, but the manifest of step {wanted}: the files do not belong together"
                ),
            )),
            _ => Ok(()),
        }
    }
}

impl Checkpoint {
    /// Opens a checkpoint folder, the latest good checkpoint of a `checkpoints` folder or of a run folder, a bare
    /// safetensors file such as PyTorch writes, or a sharded one by its index or the index's folder.
    ///
    /// Among several checkpoints, a damaged one is skipped with a line in [`Checkpoint::warnings`]. The weights' file
    /// of a checkpoint folder is verified too when it is given by its own path.
    ///
    /// # Errors
    /// Nothing at `path`, a missing file, a size, SHA-256 or step that differs from the manifest, a malformed file. The message
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
        if path.join(INDEX_FILE).exists() {
            return Self::open_file(&path.join(INDEX_FILE));
        }
        let inner = path.join(CHECKPOINTS_FOLDER);
        Self::open_latest(if inner.is_dir() { &inner } else { path })
    }

    fn open_file(path: &Path) -> Result<Self> {
        let folder = path.parent().unwrap_or(Path::new(""));
        if path.file_name().is_some_and(|name| name == MODEL_FILE) && Manifest::is_in(folder) {
            return Self::open_folder(folder);
        }
        let model = TensorFile::open(path)?.without_prefixes(WRAPPERS);
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
        training.check_step(path)?;
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
                Err(e) => warnings.push(format!("damaged checkpoint skipped: {e}")),
            }
        }
        Err(Error::file(
            parent,
            match warnings.as_slice() {
                [] => "has no checkpoint".to_string(),
                [one] => format!("has no undamaged checkpoint ({one})"),
                [first, ..] => format!("has no undamaged checkpoint among {} ({first})", warnings.len()),
            },
        ))
    }

    /// The checkpoint's folder, or the bare file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Warnings for the user: one line for each damaged checkpoint that was skipped.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Name of the preset, if the files have it.
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

    /// File of the weights.
    pub fn model(&self) -> &TensorFile {
        &self.model
    }

    /// File of the optimizer's tensors.
    ///
    /// # Errors
    /// A bare file of weights has none.
    pub fn optimizer(&self) -> Result<&TensorFile> {
        Ok(&self.training()?.optimizer)
    }

    /// State of the training, as `T`.
    ///
    /// # Errors
    /// A bare file of weights has none; a state does not have the form of `T`.
    pub fn state<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.training()?.state).map_err(|e| {
            Error::file(self.path.join(STATE_FILE), format_args!("is not a state of this program: {e}"))
        })
    }

    fn training(&self) -> Result<&Training> {
        self.training.as_ref().ok_or_else(|| {
            Error::file(
                &self.path,
                "has only weights; training resumes from a checkpoint folder, which has the optimizer's state",
            )
        })
    }
}
