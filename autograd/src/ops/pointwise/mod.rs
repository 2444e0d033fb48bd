//! Operators that work element by element.
//!
//! | file | content |
//! | --- | --- |
//! | `unary.rs` | functions of one number, one struct each |
//! | `binary.rs` | `a + b`, `a − b`, `a·b`, `a/b` |
//! | `broadcast.rs` | NumPy's broadcasting of two shapes, and its gradient |
//! | `arithmetic.rs` | Rust's operators `+`, `-`, `*`, `/` |
//! | `bias.rs` | a row added to every row |
//! | `cuda.rs` | launches on a device |

mod arithmetic;
mod bias;
mod binary;
mod broadcast;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;
mod unary;

pub use bias::Bias;
pub use binary::{Add, Div, Mul, Sub};
#[cfg(feature = "cuda")]
pub use cuda::Function;
pub use unary::*;
