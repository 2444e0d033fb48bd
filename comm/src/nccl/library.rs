//! The library, open, and what ranks know each other by.

use std::{ffi::OsStr, fmt, path::Path, sync::Arc, time::Duration};

use ssmv_autograd::cuda::{Backend, Cuda};

use super::{Error, Result};
use super::{
    NAMES, NcclCommunicator,
    api::{self, Api},
    error,
    handle::{self, Handle},
    named, wait,
};

/// What the ranks of one communicator know each other by: rank 0 makes it and brings it to the others.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct UniqueId([u8; UniqueId::BYTES]);

impl UniqueId {
    /// Bytes of an id.
    pub const BYTES: usize = 128;

    /// Its bytes, to send.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        self.0
    }

    /// An id whose bytes came from another rank.
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for UniqueId {
    /// The bytes let a stranger in, so they are not shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UniqueId")
    }
}

/// The library, open; cloning it copies the handle. It stays open until the process ends.
#[derive(Clone)]
pub struct Nccl(Arc<Api>);

impl fmt::Debug for Nccl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Nccl({})", self.library())
    }
}

impl Nccl {
    /// Opens the library that `SSMV_NCCL` names, or else `libnccl.so.2` or `libnccl.so` where the system finds them.
    ///
    /// # Errors
    /// [`Error::Nccl`] where there is none, or one that is older than 2.14; it says what was tried.
    pub fn open() -> Result<Self> {
        match named() {
            Some(path) => Self::open_any(&[&path]),
            None => Self::open_any(&NAMES.map(OsStr::new)),
        }
    }

    /// Opens one library.
    ///
    /// # Errors
    /// As [`Nccl::open`].
    pub fn open_at(path: &Path) -> Result<Self> {
        Self::open_any(&[path.as_os_str()])
    }

    fn open_any(names: &[&OsStr]) -> Result<Self> {
        let mut tried = Vec::new();
        for name in names {
            match api::open(name) {
                Ok(library) => return Ok(Self(Arc::new(Api::of(library, name)?))),
                Err(why) => tried.push(why),
            }
        }
        Err(error::not_found(&tried.join("; ")))
    }

    /// The name that it was opened by.
    pub fn library(&self) -> &str {
        &self.0.library
    }

    /// Its version.
    ///
    /// # Errors
    /// [`Error::Nccl`] where it does not say.
    pub fn version(&self) -> Result<(u32, u32, u32)> {
        handle::version(&self.0)
    }

    /// A new id, made on rank 0 for one communicator; NCCL listens for the other ranks from now on.
    ///
    /// # Errors
    /// [`Error::Nccl`], for example without a network interface.
    pub fn unique_id(&self) -> Result<UniqueId> {
        handle::unique_id(&self.0).map(UniqueId)
    }

    /// Connects this rank with the `size - 1` others, which call this at the same time. `timeout` is the most that this and
    /// any later call waits for them, unless it is told otherwise.
    ///
    /// # Errors
    /// [`Error::Nccl`] with NCCL's own words, when the time is over, or for a device that the library cannot work on.
    pub fn connect(
        &self,
        cuda: &Cuda,
        rank: usize,
        size: usize,
        id: &UniqueId,
        timeout: Duration,
    ) -> Result<NcclCommunicator> {
        let what = || format!("connect rank {rank} of {size}");
        if rank >= size || i32::try_from(size).is_err() {
            return Err(Error::misuse(what(), "ranks count from 0 and are fewer than 2^31"));
        }
        let standin = self.0.lend_memory.is_some();
        let unfit = match cuda.driver().backend() {
            Backend::Real if standin => "a test library, which cannot reach a GPU's memory",
            Backend::Emulated if !standin => "NCCL, which needs a real GPU, and the device is the emulator",
            Backend::Counting => "of no use on a device on which nothing runs",
            Backend::Real | Backend::Emulated => {
                return NcclCommunicator::connect(&self.0, cuda, (rank, size), id.0, timeout);
            }
        };
        Err(error::error(
            what(),
            "wrong library",
            format!("{} is {unfit}", self.library()),
            error::OTHER_LIBRARY,
        ))
    }

    /// Makes a communicator of one rank and takes it down again: whether NCCL gets as far as that on this machine.
    ///
    /// # Errors
    /// [`Error::Nccl`] with NCCL's own words, for example without a GPU.
    pub fn try_alone(&self, timeout: Duration) -> Result<()> {
        let handle = Handle::connect(&self.0, (0, 1), handle::unique_id(&self.0)?)?;
        let what = &"connect rank 0 of 1";
        match wait::until(timeout, || handle.is_done(what))? {
            true => handle.destroy(what),
            false => Err(error::timed_out(what, timeout)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_not_shown() {
        assert_eq!(format!("{:?}", UniqueId::from_bytes([7; 128])), "UniqueId");
    }
}
