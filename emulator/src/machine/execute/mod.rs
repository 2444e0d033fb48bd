//! Execution of a decoded program: blocks, their warps, and what each family of instructions does.
//!
//! `block.rs` runs the warps of a block in turns and uses `barrier.rs`; `step.rs` runs one warp. `warp.rs` has a warp's
//! registers and its stack of diverged lanes, `context.rs` what a warp shares with its block. The other files extend
//! [`Warp`](warp::Warp) by one family of instructions each.

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
