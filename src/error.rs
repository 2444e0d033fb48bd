//! The one error type of the program: a single line that names the file or option and what to do.

use std::path::PathBuf;

/// What went wrong, in one line. [`Error::Usage`] ends the program with code 2, every other variant with 1, but
/// [`Error::Interrupted`] with 128 + the signal's number and [`Error::Rank`] with the rank's code.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file that cannot be read, written or understood.
    #[error("{}: {message}", path.display())]
    File {
        /// The file or folder at fault.
        path: PathBuf,
        /// What is wrong with it and what to do.
        message: String,
    },
    /// A wrong option, value or configuration key.
    #[error("{0}")]
    Usage(String),
    /// Anything else that stops the work.
    #[error("{0}")]
    Failure(String),
    /// A signal asked the program to end; the state was saved.
    #[error("interrupted by signal {0}")]
    Interrupted(i32),
    /// A rank of a launched job that failed.
    #[error("{message}")]
    Rank {
        /// Which rank, and how it ended.
        message: String,
        /// The exit code that it passes on.
        code: u8,
    },
    /// A tensor operation that was given what it cannot take.
    #[error(transparent)]
    Tensor(ssmv_autograd::Error),
    /// A collective of all ranks that failed.
    #[error(transparent)]
    Ranks(#[from] ssmv_comm::Error),
}

/// `Result` with [`Error`].
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

    /// The exit code that the program ends with.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Interrupted(signal) => (128 + signal).clamp(1, 255) as u8,
            Self::Rank { code, .. } => *code,
            _ => 1,
        }
    }
}
