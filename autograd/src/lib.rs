//! Tensors, a tape and operators with CPU kernels: the engine under `ssmv-raw`.

mod error;
pub use error::{Error, Result};
