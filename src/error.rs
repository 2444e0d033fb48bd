//! The one error type of the program: a single line that names the file or option and what to do.

use std::path::PathBuf;

/// An error, whose message is one line. The program's exit code is 2 for [`Error::Usage`], 128 + the signal's number for
/// [`Error::Interrupted`], the rank's code for [`Error::Rank`], and 1 for every other variant.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file that cannot be read or written, or has wrong content.
    #[error("{}: {message}", path.display())]
    File {
        /// Path of the file or folder.
        path: PathBuf,
        /// The problem, and how to solve it.
        message: String,
    },
    /// A wrong option, value or configuration key.
    #[error("{0}")]
    Usage(String),
    /// Any other failure of a command.
    #[error("{0}")]
    Failure(String),
    /// A signal asked the program to end; the state was saved.
    #[error("interrupted by signal {0}")]
    Interrupted(i32),
    /// A rank of a launched job that failed.
    #[error("{message}")]
    Rank {
        /// The rank, and how it ended.
        message: String,
        /// Exit code of the rank.
        code: u8,
    },
    /// A tensor operation with wrong arguments, or a failure of its device.
    #[error(transparent)]
    Tensor(ssmv_autograd::Error),
    /// A failed collective of all ranks.
    #[error(transparent)]
    Ranks(#[from] ssmv_comm::Error),
}

/// `Result` with [`Error`] as its default error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl From<ssmv_autograd::Error> for Error {
    fn from(error: ssmv_autograd::Error) -> Self {
        match error {
            ssmv_autograd::Error::File { path, message } => Self::File { path, message },
            other => Self::Tensor(other),
        }
    }
}

impl Error {
    /// An [`Error::File`] that names `path`.
    pub fn file(path: impl Into<PathBuf>, message: impl std::fmt::Display) -> Self {
        Self::File { path: path.into(), message: message.to_string() }
    }

    /// Exit code of the program.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Interrupted(signal) => (128 + signal).clamp(1, 255) as u8,
            Self::Rank { code, .. } => *code,
            _ => 1,
        }
    }
}
