//! Tensors, a tape and operators with CPU kernels, and the driver seam of the GPU: the engine under `ssmv-raw`.
//!
//! A [`Tensor`] is a cheap handle to contiguous memory; operators are methods on it, each an [`Op`] in a folder of its
//! own under `ops`; [`Tensor::backward`] adds gradients up in [`Gradients`]. Parameters live in an [`Arena`]. [`cuda`] opens
//! a GPU, or the emulator that stands in for one.

mod arena;
mod buffer;
mod cpu;
pub mod cuda;
mod dtype;
mod error;
mod finite;
mod host;
pub mod init;
pub mod ops;
pub mod optim;
mod shape;
mod simd;
mod tape;
mod tensor;
pub mod tensor_file;

pub use arena::{Arena, ArenaLayout, Gradients};
pub use buffer::{peak_bytes, trim};
pub use dtype::{DType, Element};
pub use error::{Error, Result};
pub use finite::check_finite;
pub use host::{HostMemory, host_memory, processor, vector_bits};
pub use shape::Shape;
pub(crate) use simd::wide;
pub use tape::{Backward, Forward, LeafId, OnWhole, Op, apply, grad_enabled, no_grad};
pub use tensor::{Device, Storage, Tensor};
