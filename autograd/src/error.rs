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
    /// Operands of different dtypes.
    #[error("{op}: operands are {left} and {right}; convert one of them")]
    Dtype {
        /// The operator.
        op: &'static str,
        /// dtype of the first operand.
        left: &'static str,
        /// dtype of the operand that differs.
        right: &'static str,
    },
    /// A gradient that cannot be given.
    #[error("backward: {0}")]
    Backward(String),
}

/// `Result` with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
