//! The device's memories: global, shared and local, with the records of the checks for every byte.
//!
//! A warp's access is one call with the addresses of all lanes, so that contiguous accesses are fast.
//!
//! | file | content |
//! | --- | --- |
//! | `access.rs` | the lanes, addresses and words of an access |
//! | `global.rs`, `allocation.rs` | allocations, copies by the host, written bytes |
//! | `region.rs` | the bytes of an allocation: its own, or a caller's |
//! | `view.rs` | a warp's loads, stores and atomics of global memory |
//! | `shared.rs`, `bytes.rs` | a block's shared memory |
//! | `runs.rs`, `scatter.rs` | an access as runs of contiguous lanes, or as scattered lanes |
//! | `races/`, `clocks.rs` | the last accesses of each byte, and their order |
//! | `copies.rs` | pending asynchronous copies |
//! | `faults.rs` | faults and their messages |
//! | `heap.rs` | the heap of `malloc` |
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

pub(crate) use access::{Access, LANES, Site, Words, lanes};
pub(crate) use clocks::BARRIERS;
pub use global::Memory;
pub(crate) use heap::{HEAP_BYTES, Heap};
pub(crate) use local::Local;
pub use region::Region;
pub(crate) use shared::Shared;
pub(crate) use view::{View, fence};
