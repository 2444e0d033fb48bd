//! Tensors, a tape and operators, on the CPU and on NVIDIA GPUs: the engine under `ssmv-raw`, usable by itself.
//!
//! ```
//! use ssmv_autograd::{Gradients, Result, Tensor};
//!
//! fn main() -> Result<()> {
//!     // y = Σ x·exp(−x), whose slope is (1 − x)·exp(−x).
//!     let x = Tensor::new([3], &[0.0f64, 1.0, 2.0])?.leaf();
//!     let y = (&x * (-&x)?.exp()?)?.sum(&[0])?;
//!     let mut gradients = Gradients::of_leaves();
//!     y.backward(&mut gradients)?;
//!     let slope = gradients.of(&x).expect("y depends on x").to_f64()?;
//!     assert_eq!(slope[..2], [1.0, 0.0]);
//!     Ok(())
//! }
//! ```
//!
//! - A [`Tensor`] is a cheap handle to contiguous memory. Operators are methods on it, each an [`Op`] in a folder of its own
//!   under [`ops`]; `+`, `-`, `*` and `/` work between tensors and with numbers.
//! - [`Tensor::backward`] adds gradients up in [`Gradients`]: those of leaves, and those of parameters, which live side by
//!   side in an [`Arena`].
//! - [`init`] sets parameters, [`optim`] updates them, [`tensor_file`] saves and loads them.
//! - `cuda` opens a GPU, or the emulator that replaces one in tests. It is a feature, on by default; without it the
//!   kernels, the emulator and the driver bindings are not built.
//!
//! The numbered programs in `examples/` go from the first tensor to an operator with a GPU kernel of one's own.

mod arena;
mod buffer;
mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;
mod dtype;
mod error;
mod finite;
mod host;
pub mod init;
pub mod ops;
pub mod optim;
mod products;
pub mod profile;
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
pub use products::{Products, bf16_available, with_products};
pub use shape::Shape;
pub use simd::rates::{ProcessorRates, processor_rates};
pub(crate) use simd::wide;
pub use tape::{Backward, Forward, LeafId, OnWhole, Op, apply, grad_enabled, no_grad};
pub use tensor::{Device, Storage, Tensor};
