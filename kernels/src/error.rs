//! Specifications that no kernel can be written for.

/// What is wrong with a specification.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{family}: {message}")]
pub struct Error {
    /// Family of the kernel that was specified.
    pub family: &'static str,
    /// The numbers, and what would do.
    pub message: String,
}

impl Error {
    /// An error of `family`.
    pub fn new(family: &'static str, message: impl Into<String>) -> Self {
        Self { family, message: message.into() }
    }
}

/// `Result` with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
