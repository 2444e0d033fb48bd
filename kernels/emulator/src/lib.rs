//! Runs PTX text on the CPU, and looks for bugs as it runs: accesses out of bounds, reads of what nothing wrote, races
//! in shared memory, barriers that not all threads reach.
//!
//! [`Module::parse`] reads the text, [`Memory`] is the device's global memory, [`launch`] runs a kernel over a grid.

mod error;
mod machine;
mod memory;
#[allow(dead_code)]
mod numerics;
mod options;
mod report;
mod syntax;

pub use error::{Error, Fault, FaultKind, Result};
pub use machine::{KernelInfo, LoadedModule, Module, Parameter, launch};
pub use memory::Memory;
pub use options::{Checks, Geometry, Options, TensorCore};
pub use report::Report;
