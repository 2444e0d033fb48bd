//! NCCL, NVIDIA's library for work across GPUs: opened at run time, its dozen functions called by hand.
//!
//! | file | what it is |
//! | --- | --- |
//! | `library.rs` | [`Nccl`], the library, and [`UniqueId`] |
//! | `api.rs` | the functions, with their types as nccl.h has them |
//! | `handle.rs` | a communicator of the library's, and the calls on it |
//! | `error.rs` | result codes as errors that say what to do |
//! | `operation.rs` | operations over device memory |
//! | `communicator.rs` | [`NcclCommunicator`]: one rank, its failures and its end |
//! | `group.rs` | [`NcclGroup`]: operations over ranges of device memory |
//! | `lent.rs` | the emulator's memory, for the library that stands in for NCCL in tests |
//! | `wait.rs` | waiting with a limit |
//!
//! All communicators are NCCL's non-blocking ones (NCCL 2.14 and later): no call of the library waits for another rank, so
//! the caller can wait with a limit, and end a communicator whose other ranks have died or hang.
//!
//! Real NCCL needs a real GPU. On the emulator only a library will do that also exports `ssmv_standin_memory`, which is no
//! function of NCCL's: `comm/standin-nccl` has it, and through it the test library reads and writes the emulator's memory.

mod api;
mod communicator;
mod error;
mod group;
mod handle;
mod lent;
mod library;
mod operation;
mod wait;

use std::ffi::OsString;

pub use communicator::NcclCommunicator;
pub use error::{Error, Result};
pub use group::NcclGroup;
pub use library::{Nccl, UniqueId};

/// Names that the library goes by.
const NAMES: [&str; 2] = ["libnccl.so.2", "libnccl.so"];
/// The variable that names a library instead.
const VARIABLE: &str = "SSMV_NCCL";

fn named() -> Option<OsString> {
    std::env::var_os(VARIABLE).filter(|path| !path.is_empty())
}

/// NCCL as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NcclFound {
    /// The name it was found under, or the variable that names it.
    pub library: &'static str,
    /// Its version; `None` where it does not say.
    pub version: Option<(u32, u32, u32)>,
}

/// Looks for NCCL; `None` where there is none.
pub fn find() -> Option<NcclFound> {
    match named() {
        Some(path) => find_in(&[(VARIABLE, path)]),
        None => find_in(&NAMES.map(|name| (name, name.into()))),
    }
}

/// The first of the libraries that opens, each with the name that it is told by.
fn find_in(candidates: &[(&'static str, OsString)]) -> Option<NcclFound> {
    let found = |(library, path): &(&'static str, OsString)| {
        Some(NcclFound { library, version: api::version_of(path).ok()? })
    };
    candidates.iter().find_map(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_library_that_opens_is_found() {
        let [nowhere, other] = [("nowhere", "/nowhere/libnccl.so.2"), ("other", "libc.so.6")]
            .map(|(name, path)| (name, OsString::from(path)));
        assert_eq!(find_in(std::slice::from_ref(&nowhere)), None);
        // A library that is not NCCL does not say its version.
        assert_eq!(find_in(&[nowhere, other]), Some(NcclFound { library: "other", version: None }));
    }
}
