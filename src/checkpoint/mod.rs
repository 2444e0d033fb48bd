//! Checkpoints: folders that survive a kill at any moment, a full disk and a flipped bit.
//!
//! ```text
//! RUN/checkpoints/step-00000800/
//!   model.safetensors      parameters and buffers, PyTorch's names and layouts (F32; I64 scalars)
//!   optimizer.safetensors  any named F32 tensors ("m.NAME", "v.NAME", "ema.NAME")
//!   state.json             other training state, to resume (one serde value)
//!   manifest.json          format, preset, step, program version; size and SHA-256 of each file above
//! ```
//!
//! [`write()`] stages a checkpoint in a hidden folder, syncs it and renames it into place, so that a folder named
//! `step-…` is always complete. [`Checkpoint::open`] verifies sizes and digests before it uses anything, and treats every
//! file as untrusted: a wrong file is an error that names it, never a panic or an allocation larger than the file.

mod folder;
mod manifest;
mod read;
#[cfg(test)]
mod tests;
mod write;

pub use read::Checkpoint;

use crate::{Error, Result};
use std::path::{Path, PathBuf};
pub use write::{Contents, Data, Entry, write};

/// File name of the weights in a checkpoint folder.
pub const MODEL_FILE: &str = "model.safetensors";
/// File name of the optimizer's tensors in a checkpoint folder.
pub const OPTIMIZER_FILE: &str = "optimizer.safetensors";
/// File name of the training state in a checkpoint folder.
pub const STATE_FILE: &str = "state.json";
/// File name of the manifest, which has the other files' digests.
pub const MANIFEST_FILE: &str = "manifest.json";
/// Name of the folder of checkpoints in a run folder.
pub const CHECKPOINTS_FOLDER: &str = "checkpoints";

#[cfg(target_endian = "big")]
compile_error!("checkpoints are little-endian in the file and are written from memory as they are");

/// Renames the checkpoints in `parent` of steps after `step`, so that they are never opened automatically; returns the new
/// names. For a training that resumes from `step` and replaces the later steps.
///
/// # Errors
/// [`Error::File`] when the folder cannot be read or changed.
pub fn set_aside_after(parent: &Path, step: u64) -> Result<Vec<PathBuf>> {
    folder::set_aside_after(parent, step).map_err(|e| Error::file(parent, format!("cannot be changed: {e}")))
}
