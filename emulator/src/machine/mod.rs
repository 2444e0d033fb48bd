//! The machine: decoded programs, warps that run them, blocks, launches.
//!
//! | file | what it holds |
//! | --- | --- |
//! | `decode/` | text's parts → instructions with resolved operands |
//! | `program.rs` | those instructions |
//! | `flow.rs` | where the lanes of a branch meet again |
//! | `lanes.rs`, `math.rs` | functions of columns: 32 lanes at once |
//! | `warp.rs`, `step.rs`, `branch.rs` | a warp's registers and stack; execution |
//! | `access.rs`, `atomic.rs`, `tile.rs`, `multiply.rs`, `wmma.rs`, `exchange.rs`, `call.rs`, `heap.rs` | what instructions of a family do |
//! | `block.rs`, `barrier.rs` | warps of a block and what they wait at |
//! | `module.rs`, `launch.rs` | the public face |

mod access;
mod atomic;
mod barrier;
mod block;
mod branch;
mod call;
mod decode;
mod exchange;
mod flow;
mod heap;
mod lanes;
mod launch;
mod math;
mod module;
mod multiply;
mod program;
mod step;
mod tile;
mod warp;
mod wmma;

pub use launch::launch;
pub use module::{KernelInfo, LoadedModule, Module, Parameter};
