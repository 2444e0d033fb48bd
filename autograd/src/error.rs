//! Errors are values: they name the operator, the shapes and the argument.

/// What an operator was given that it cannot take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Shapes or attributes that do not fit.
    #[error("{op}: {message}")]
    Shape {
        /// The operator.
        op: &'static str,
        /// The shapes, the argument and what was expected.
        message: String,
    },
    /// Operands of different dtypes, or a buffer read as another dtype.
    #[error("{op}: {found} given where {expected} is expected")]
    Dtype {
        /// The operator.
        op: &'static str,
        /// The dtype that was given.
        found: &'static str,
        /// The dtype that fits.
        expected: &'static str,
    },
    /// A gradient that cannot be given.
    #[error("backward: {0}")]
    Backward(String),
    /// Parameters that are written while a graph still reads them.
    #[error("{0}")]
    Busy(String),
}

impl Error {
    /// An [`Error::Shape`].
    pub fn shape(op: &'static str, message: impl Into<String>) -> Self {
        Self::Shape { op, message: message.into() }
    }
}

/// `Result` with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
