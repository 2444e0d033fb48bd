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

pub(crate) use clocks::BARRIERS;
pub use global::Memory;
pub(crate) use heap::{HEAP_BYTES, Heap};
pub(crate) use local::Local;
pub use region::Region;
pub(crate) use shared::Shared;
pub(crate) use view::{View, fence};

/// Lanes of a warp.
pub(crate) const LANES: usize = 32;

/// Where the block's shared memory lies among generic addresses.
pub(crate) const SHARED_WINDOW: u64 = 0x0100_0000_0000_0000;

/// Where the thread's local memory lies among generic addresses.
pub(crate) const LOCAL_WINDOW: u64 = 0x0200_0000_0000_0000;

/// Addresses of a window, far more than either memory has.
const WINDOW_BYTES: u64 = 1 << 32;

/// The memory that a generic address belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Space {
    /// Global memory, constants and parameters among it; also addresses outside all memory, which global memory refuses.
    Global,
    /// The block's shared memory.
    Shared,
    /// The thread's local memory.
    Local,
}

/// The space that a generic address belongs to, and the address within it.
pub(crate) fn generic(address: u64) -> (Space, u64) {
    if address.wrapping_sub(SHARED_WINDOW) < WINDOW_BYTES {
        (Space::Shared, address - SHARED_WINDOW)
    } else if address.wrapping_sub(LOCAL_WINDOW) < WINDOW_BYTES {
        (Space::Local, address - LOCAL_WINDOW)
    } else {
        (Space::Global, address)
    }
}

/// One load or store of a warp: which lanes, where, how many bytes each.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Access<'a> {
    /// Active lanes, bit `i` for lane `i`.
    pub mask: u32,
    /// Each lane's byte address; those of inactive lanes are not looked at.
    pub addresses: &'a [u64; LANES],
    /// Bytes a lane, all elements of a vector together: 1, 2, 4, 8 or 16. The address must be a multiple of it.
    pub bytes: u32,
}

impl Access<'_> {
    /// The first lane's address where all lanes are active and each follows the one before it without a gap.
    #[inline]
    fn contiguous(&self) -> Option<u64> {
        let first = self.addresses[0];
        let step = u64::from(self.bytes);
        let mut odd = u64::from(!self.mask);
        for (lane, &address) in self.addresses.iter().enumerate() {
            odd |= address ^ first.wrapping_add(lane as u64 * step);
        }
        (odd == 0).then_some(first)
    }

    /// Whether all lanes are active and have one address.
    #[inline]
    fn uniform(&self) -> bool {
        let first = self.addresses[0];
        self.addresses.iter().fold(u64::from(!self.mask), |odd, &address| odd | address ^ first) == 0
    }
}

/// Who accesses shared memory, and with what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Site {
    /// The warp's index in its block; lane `i` is thread `32 * warp + i`.
    pub warp: u32,
    /// The instruction's line in the PTX text.
    pub line: u32,
    /// A strong access (`.volatile`, `.relaxed`, `.acquire`, `.release`): strong and atomic accesses do not race with
    /// each other.
    pub strong: bool,
}

/// What a warp's lanes load or store, word by word: `words[w][lane]`. Accesses of fewer than 4 bytes use the low bits of
/// word 0 (loads clear the rest); 8 bytes are words 0 (low) and 1 (high).
pub(crate) type Words = [[u32; LANES]; 4];

/// The lanes of a mask, lowest first.
#[inline]
fn lanes(mut mask: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lane = mask.trailing_zeros();
        mask &= mask.wrapping_sub(1);
        (lane < 32).then_some(lane as usize)
    })
}

/// The lowest `bytes` bytes of 8 set.
#[inline]
fn low_bytes(bytes: u32) -> u64 {
    u64::MAX >> (64 - 8 * bytes.clamp(1, 8))
}

/// A lane's value of at most 8 bytes out of its words.
#[inline]
fn lane_value(words: &Words, lane: usize, bytes: u32) -> u64 {
    let low = u64::from(words[0][lane]);
    if bytes >= 8 { low | u64::from(words[1][lane]) << 32 } else { low & low_bytes(bytes) }
}

/// Puts a value of 8 bytes or fewer into a lane's words.
#[inline]
fn set_lane_value(words: &mut Words, lane: usize, bytes: u32, value: u64) {
    words[0][lane] = value as u32;
    if bytes >= 8 {
        words[1][lane] = (value >> 32) as u32;
    }
}

/// The parts of a range of bytes in groups of 64, as (group, mask of the bytes within it).
#[inline]
fn groups(offset: usize, bytes: usize) -> impl Iterator<Item = (usize, u64)> {
    let end = offset + bytes;
    let mut at = offset;
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let (group, from) = (at / 64, at % 64);
        let count = (64 - from).min(end - at);
        at += count;
        Some((group, (u64::MAX >> (64 - count)) << from))
    })
}
