//! Variables that do not say where a rank stands.

/// What is wrong with the environment.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EnvironmentError {
    /// A variable that must be there.
    #[error("the environment has no {variable}: it must be set, {why}")]
    Missing {
        /// The variable.
        variable: &'static str,
        /// What it is for.
        why: String,
    },
    /// A value that cannot be what it must be.
    #[error("the environment has {variable}={value:?}, which is not a {wanted}")]
    Value {
        /// The variable.
        variable: &'static str,
        /// Its value.
        value: String,
        /// What it must be.
        wanted: &'static str,
    },
    /// Values that cannot be true together.
    #[error("the environment has {values}: {why}")]
    Contradiction {
        /// The variables with their values.
        values: String,
        /// Why not.
        why: String,
    },
}
