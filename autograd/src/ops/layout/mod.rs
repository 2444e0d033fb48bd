//! Operators that move elements and compute nothing.

mod concat;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;
mod permute;
mod reshape;
mod slice;

pub use concat::Concat;
pub use permute::{Permute, permute};
pub use reshape::Reshape;
pub use slice::Slice;
