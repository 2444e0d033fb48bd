//! The composites: what the model builds of the operators. A row each, as in `operators.rs`.

use super::check::Row;

/// Every composite.
pub const TABLE: &[Row] = &[];
