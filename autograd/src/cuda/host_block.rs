//! Host memory for drivers without a GPU, where pinned memory is ordinary memory.

use std::sync::Mutex;

use super::table::lock;
use crate::{Error, Result};

/// Zeroed host memory, aligned for every element type.
#[derive(Debug)]
pub struct HostBlock {
    words: Mutex<Vec<u64>>,
    bytes: usize,
}

impl HostBlock {
    /// A block of `bytes`.
    pub(super) fn new(bytes: usize) -> Result<Self> {
        let mut words = Vec::new();
        words.try_reserve_exact(bytes.div_ceil(8)).map_err(|_| {
            Error::misuse("allocate pinned memory", format!("the host has not {bytes} bytes for it"))
        })?;
        words.resize(bytes.div_ceil(8), 0);
        Ok(Self { words: Mutex::new(words), bytes })
    }

    /// Runs `body` on all of its bytes.
    pub(super) fn with<R>(&self, body: impl FnOnce(&mut [u8]) -> R) -> R {
        body(&mut bytemuck::cast_slice_mut(&mut lock(&self.words))[..self.bytes])
    }
}
