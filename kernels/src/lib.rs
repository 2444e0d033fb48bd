//! GPU kernels, each a Rust function from a specification (shapes, dtype, tile, target) to PTX text and its launch
//! configuration.
//!
//! [`ptx`] is the macro assembler of these kernels. This crate has neither tensors nor a driver: it returns a
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

/// `ptxas` results for every kernel of the catalogue: the version, then one row per kernel and target, with registers
/// per thread and bytes of static shared memory per block, separated by tabs. `ssmv-raw kernels --ptxas PATH --update`
/// writes it.
pub const RESOURCES: &str = include_str!("../ptx/resources.tsv");

pub use catalogue::catalogue;
pub use error::{Error, Result};
pub use kernel::{Kernel, Parameter, Plan, Target, Work};
