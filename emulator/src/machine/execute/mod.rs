//! Execution of a decoded program: blocks, their warps, and the effect of each family of instructions.
//!
//! `block.rs` runs the warps of a block in turns and uses `barrier.rs`; `step.rs` runs one warp. `warp.rs` holds a
//! warp's registers and its stack of diverged lanes, `context.rs` the state that a warp shares with its block. Each
//! other file extends [`Warp`](warp::Warp) by one family of instructions.

mod access;
mod allocate;
mod barrier;
mod block;
mod branch;
mod call;
mod context;
mod exchange;
mod matrix;
mod step;
mod warp;

pub(super) use block::{Block, BlockFailure, Launch, Progress};
pub(super) use context::Failure;
