//! Checkpoints: folders that survive a kill at any moment, a full disk and a flipped bit.
//!
//! ```text
//! RUN/checkpoints/step-00000800/
//!   model.safetensors      parameters and buffers, PyTorch's names and layouts (F32; I64 scalars)
//!   optimizer.safetensors  any named F32 tensors ("m.NAME", "v.NAME", "ema.NAME")
//!   state.json             what else training needs to go on (one serde value)
//!   manifest.json          format, preset, step, program version; size and SHA-256 of each file above
//! ```
//!
//! [`write()`] stages a checkpoint in a hidden folder, syncs it and renames it into place, so that a folder named
//! `step-…` is always whole. [`Checkpoint::open`] verifies sizes and digests before anything is used and treats
//! every file as hostile: an error that names the file, never a panic, no allocation that the file's own size
//! does not justify.

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

/// The weights' file in a checkpoint folder.
pub const MODEL_FILE: &str = "model.safetensors";
/// The optimizer's file in a checkpoint folder.
pub const OPTIMIZER_FILE: &str = "optimizer.safetensors";
/// The training state's file in a checkpoint folder.
pub const STATE_FILE: &str = "state.json";
/// The file with the other files' digests.
pub const MANIFEST_FILE: &str = "manifest.json";
/// The folder in a run folder that holds its checkpoints.
pub const CHECKPOINTS_FOLDER: &str = "checkpoints";

#[cfg(target_endian = "big")]
compile_error!("checkpoints are little-endian in the file and are written from memory as they are");

/// Puts the checkpoints in `parent` of steps after `step` under names that nothing opens by itself; gives the new names.
/// For a training that goes on from `step`: what came after it is another course.
///
/// # Errors
/// [`Error::File`] when the folder cannot be read or changed.
pub fn set_aside_after(parent: &Path, step: u64) -> Result<Vec<PathBuf>> {
    folder::set_aside_after(parent, step).map_err(|e| Error::file(parent, format!("cannot be changed: {e}")))
}
