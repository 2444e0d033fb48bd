//! Errors of unsupported specifications.

/// The reason why a specification is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{family}: {message}")]
pub struct Error {
    /// Family of the kernel that was specified.
    pub family: &'static str,
    /// The refused numbers, and the limits.
    pub message: String,
}

impl Error {
    /// An error of a kernel family.
    pub fn new(family: &'static str, message: impl Into<String>) -> Self {
        Self { family, message: message.into() }
    }
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
