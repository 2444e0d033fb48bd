//! Result codes as errors that say what to do.

use std::{fmt::Display, time::Duration};

use super::api::Code;
use crate::Error;

/// For libraries that do not do.
pub(super) const OTHER_LIBRARY: &str =
    "install NCCL 2.14 or later (the package libnccl2), or name the library in SSMV_NCCL";
const LOST: &str = "another rank has ended, hangs or cannot be reached: look at what the others say, and set NCCL_DEBUG=WARN";

pub(super) fn error(
    operation: impl Into<String>,
    code: impl Into<String>,
    meaning: impl Into<String>,
    advice: &'static str,
) -> Error {
    Error::Nccl { operation: operation.into(), code: code.into(), meaning: meaning.into(), advice }
}

/// `tried` has each name with the system's words.
pub(super) fn not_found(tried: &str) -> Error {
    error("open NCCL", "not found", tried, OTHER_LIBRARY)
}

pub(super) fn no_function(library: &str, function: &str) -> Error {
    let meaning = format!("{library} has no function {function}: it is too old, or no NCCL");
    error("open NCCL", "wrong library", meaning, OTHER_LIBRARY)
}

/// A call that failed, or work that did; `words` are NCCL's own.
pub(super) fn failed(operation: &dyn Display, code: Code, words: String) -> Error {
    error(operation.to_string(), name(code), words, advice(code))
}

pub(super) fn timed_out(operation: &dyn Display, limit: Duration) -> Error {
    error(operation.to_string(), "timed out", format!("not done after {limit:?}"), LOST)
}

/// For calls that come too late; `why` says what ended the communicator.
pub(super) fn ended(operation: &dyn Display, why: &str) -> Error {
    error(operation.to_string(), "communicator ended", why, "resume from the last checkpoint")
}

fn name(code: Code) -> String {
    let name = match code {
        1 => "ncclUnhandledCudaError",
        2 => "ncclSystemError",
        3 => "ncclInternalError",
        4 => "ncclInvalidArgument",
        5 => "ncclInvalidUsage",
        6 => "ncclRemoteError",
        7 => "ncclInProgress",
        8 => "ncclTimeout",
        _ => return format!("NCCL's error {code}"),
    };
    name.to_owned()
}

fn advice(code: Code) -> &'static str {
    match code {
        1 => "a call of the CUDA driver failed: see nvidia-smi, and set NCCL_DEBUG=WARN",
        2 => {
            "the network or shared memory failed: see NCCL_SOCKET_IFNAME and /dev/shm, and set NCCL_DEBUG=WARN"
        }
        5 => "two ranks share a GPU, or ranks do not call the same operations: set NCCL_DEBUG=WARN",
        6 | 8 => LOST,
        _ => "set NCCL_DEBUG=WARN and see what NCCL prints",
    }
}
