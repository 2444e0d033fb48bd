//! NCCL's failures: result codes as errors that say what to do.

use std::{fmt::Display, time::Duration};

use super::api::Code;

/// What failed in NCCL, or in the device under it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// NCCL that is not there, a call of it that failed, or other ranks that did not answer in time.
    #[error("{operation}: {code} ({meaning}); {advice}")]
    Nccl {
        /// What was asked for: the operations with their sizes and ranks.
        operation: String,
        /// NCCL's name for the error, such as `ncclRemoteError`, or what happened.
        code: String,
        /// NCCL's own text for it.
        meaning: String,
        /// What to do.
        advice: &'static str,
    },
    /// A call of the device's driver that failed, or memory and ranks that do not fit.
    #[error(transparent)]
    Device(#[from] ssmv_autograd::Error),
}

impl Error {
    /// An [`Error::Device`] for arguments that do not fit.
    pub(super) fn misuse(operation: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Device(ssmv_autograd::Error::misuse(operation, message))
    }
}

impl From<Error> for ssmv_autograd::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Device(error) => error,
            nccl @ Error::Nccl { .. } => Self::Elsewhere(nccl.to_string()),
        }
    }
}

/// `Result` with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Advice for a missing or unsuitable library.
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

/// No library: `tried` has each name with the system's reason.
pub(super) fn not_found(tried: &str) -> Error {
    error("open NCCL", "not found", tried, OTHER_LIBRARY)
}

pub(super) fn no_function(library: &str, function: &str) -> Error {
    let meaning = format!("{library} has no function {function}: it is too old, or no NCCL");
    error("open NCCL", "wrong library", meaning, OTHER_LIBRARY)
}

/// A call or queued work that failed; `text` is NCCL's own.
pub(super) fn failed(operation: &dyn Display, code: Code, text: String) -> Error {
    error(operation.to_string(), name(code), text, advice(code))
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
