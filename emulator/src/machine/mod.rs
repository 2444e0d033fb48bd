//! From parsed text to a launch: decoding, the decoded program, and its execution.
//!
//! Modules import only from modules below them in this list:
//!
//! | layer | content | uses |
//! | --- | --- | --- |
//! | `launch.rs` | checks a launch, runs its blocks in parallel or in order | `module.rs`, `execute/` |
//! | `module.rs` | a module and its kernels; loading into a device's memory | `decode/` |
//! | `execute/` | blocks, warps, and the effect of each instruction | `program/`, [`memory`](crate::memory) |
//! | `decode/` | parsed text → `program/` | `program/`, [`syntax`](crate::syntax) |
//! | `program/` | decoded instructions and their operands | `lanes.rs`, `math.rs` |
//! | `lanes.rs`, `math.rs` | functions of columns: one value for each of a warp's 32 lanes | [`numerics`](crate::numerics) |
//!
//! `decode/` and `execute/` do not import each other: they share only the program.

mod decode;
mod execute;
mod lanes;
mod launch;
mod math;
mod module;
mod program;

pub use launch::launch;
pub use module::{KernelInfo, LoadedModule, Module, Parameter};
