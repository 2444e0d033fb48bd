//! GPU kernels, each a Rust function from a specification (shapes, dtype, tile, target) to PTX text and its launch
//! configuration.
//!
//! [`ptx`] is the macro assembler they are written in. This crate knows no tensor and no driver: what it gives is a
//! [`Kernel`], which a driver loads or the emulator runs.

pub mod batch_norm;
mod catalogue;
pub mod causal_conv1d;
pub mod conv;
mod error;
pub mod gemm;
mod images;
pub mod isa_tests;
mod kernel;
pub mod layer_norm;
pub mod layout;
pub mod loss;
pub mod max_pool;
pub mod optim;
pub mod pointwise;
pub mod ptx;
pub mod reduce;
pub mod reduce_copy;
mod rows;
pub mod selective_scan;
mod size;
pub mod softmax;
pub mod span;
pub mod tile;
pub mod upsample;

/// What `ptxas` makes of every kernel of the catalogue: its version, then a row a kernel and target, with registers a thread and
/// bytes of static shared memory a block, between tabs. `ssmv-raw kernels --ptxas PATH --update` writes it.
pub const RESOURCES: &str = include_str!("../ptx/resources.tsv");

pub use catalogue::catalogue;
pub use error::{Error, Result};
pub use kernel::{Kernel, Parameter, Plan, Target, Work};
