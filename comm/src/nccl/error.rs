//! NCCL's result codes as errors with advice.

use std::{fmt::Display, time::Duration};

use cudarc::nccl::sys::ncclResult_t;

use super::library::Code;

/// A failure of NCCL or of the device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// NCCL is missing, a call of it failed, or other ranks did not answer before the timeout.
    #[error("{operation}: {code} ({meaning}); {advice}")]
    Nccl {
        /// The operations, with their sizes and ranks.
        operation: String,
        /// NCCL's name for the error, such as `ncclRemoteError`, or this crate's, such as `timed out`.
        code: String,
        /// Text of NCCL's message.
        meaning: String,
        /// Advice to the user.
        advice: &'static str,
    },
    /// A call of the device's driver failed, or memory or ranks do not fit.
    #[error(transparent)]
    Device(#[from] ssmv_autograd::Error),
}

impl Error {
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

/// `Result` with NCCL's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

pub(super) const OTHER_LIBRARY: &str =
    "install NCCL 2.14 or later (the package libnccl2), or name the library in SSMV_NCCL";
const LOST: &str = "another rank has ended, hangs or cannot be reached: see the errors of the other ranks, and set NCCL_DEBUG=WARN";

pub(super) fn error(
    operation: impl Into<String>,
    code: impl Into<String>,
    meaning: impl Into<String>,
    advice: &'static str,
) -> Error {
    Error::Nccl { operation: operation.into(), code: code.into(), meaning: meaning.into(), advice }
}

/// `tried` has each file name with the system's reason.
pub(super) fn not_found(tried: &str) -> Error {
    error("open NCCL", "not found", tried, OTHER_LIBRARY)
}

pub(super) fn no_function(library: &str, function: &str) -> Error {
    let meaning = format!("{library} has no function {function}: it is too old or is not NCCL");
    error("open NCCL", "wrong library", meaning, OTHER_LIBRARY)
}

/// A call or queued work failed; `text` is NCCL's message.
pub(super) fn failed(operation: &dyn Display, code: Code, text: String) -> Error {
    error(operation.to_string(), name(code), text, advice(code))
}

pub(super) fn timed_out(operation: &dyn Display, timeout: Duration) -> Error {
    error(operation.to_string(), "timed out", format!("not done after {timeout:?}"), LOST)
}

/// For calls after the end of the communicator, whose reason is `why`.
pub(super) fn ended(operation: &dyn Display, why: &str) -> Error {
    error(operation.to_string(), "communicator ended", why, "resume from the last checkpoint")
}

fn name(code: Code) -> String {
    let codes = [
        ncclResult_t::ncclUnhandledCudaError,
        ncclResult_t::ncclSystemError,
        ncclResult_t::ncclInternalError,
        ncclResult_t::ncclInvalidArgument,
        ncclResult_t::ncclInvalidUsage,
        ncclResult_t::ncclRemoteError,
        ncclResult_t::ncclInProgress,
        ncclResult_t::ncclTimeout,
    ];
    let known = codes.into_iter().find(|&known| known as Code == code);
    known.map_or_else(|| format!("NCCL's error {code}"), |known| format!("{known:?}"))
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
