//! The device's memories: global with bounds, and each block's shared memory, with what the checks remember of every byte.
//!
//! A warp's access is one call: addresses of all lanes in, words out, so that contiguous accesses cost little.
//!
//! | file | what it holds |
//! | --- | --- |
//! | `global.rs`, `allocation.rs` | the host's side: allocations, copies, what was written |
//! | `region.rs` | where an allocation's bytes are: its own, or the caller's |
//! | `view.rs` | a warp's loads, stores and atomics of global memory |
//! | `shared.rs`, `bytes.rs` | a block's shared memory |
//! | `runs.rs`, `scatter.rs` | an access cut where its addresses jump, or taken whole |
//! | `races/`, `clocks.rs` | who touched which byte of it last, and what happened before what |
//! | `copies.rs` | asynchronous copies that have not landed |
//! | `faults.rs` | what is said when something is wrong |
//! | `heap.rs` | what kernels take by `malloc` |
//! | `local.rs` | the local memory of a block's threads |
//! | `traffic.rs` | sectors, passes and bank conflicts |

mod access;
mod allocation;
mod bytes;
mod clocks;
mod copies;
mod faults;
mod global;
mod heap;
mod local;
mod races;
mod region;
mod runs;
mod scatter;
mod shared;
pub(crate) mod traffic;
mod view;

#[cfg(test)]
mod tests;

pub(crate) use access::{Access, LANES, Site, Words};
pub(crate) use clocks::BARRIERS;
pub use global::Memory;
pub(crate) use heap::{HEAP_BYTES, Heap};
pub(crate) use local::Local;
pub use region::Region;
pub(crate) use shared::Shared;
pub(crate) use view::{View, fence};
