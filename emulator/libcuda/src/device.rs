//! A device's memory: which of its addresses are taken.

use std::{collections::BTreeMap, sync::Arc};

use ssmv_emulator::Memory;

use crate::{
    code::Outcome,
    handle::Handle,
    settings::MOST_DEVICES,
    shared::{Arena, BLOCK},
};

/// Device memory starts here, a range of 2^40 a device.
pub const DEVICES: u64 = 0x1000_0000_0000;

/// Modules' variables, a range of 2^40 a device.
const VARIABLES: u64 = 0x2000_0000_0000;

/// Memory of other processes.
pub const PEERS: u64 = 0x3000_0000_0000;

/// Addresses of a device.
pub const RANGE: u64 = 1 << 40;

/// Allocations up to this share blocks, as a driver's do.
pub const SMALL: u64 = 1 << 20;

/// Allocations start at multiples of this (CUDA promises 256).
const ALIGN: u64 = 512;

#[derive(Debug)]
pub struct Device {
    /// Its memory as kernels see it: its own allocations, pinned memory, peers.
    pub memory: Arc<Memory>,
    /// Its primary context, while it is retained.
    pub primary: Option<Handle>,
    /// The flags of its primary context.
    pub primary_flags: u32,
    /// Bytes of live allocations.
    pub used: u64,
    pub arena: Arc<Arena>,
    pub base: u64,
    /// Blocks that small allocations share: their offset, and what is in them.
    shared: BTreeMap<u64, SharedBlock>,
    /// The one that the next small allocation is put into.
    filling: Option<u64>,
    /// Where the next opened memory of another process goes.
    pub next_peer: u64,
}

#[derive(Debug)]
struct SharedBlock {
    end: u64,
    live: usize,
}

impl Device {
    /// A device of `memory` bytes without allocations.
    pub fn new(ordinal: usize, memory: u64) -> Outcome<Self> {
        debug_assert!(ordinal < MOST_DEVICES);
        let span = (4 * memory).clamp(64 * BLOCK, RANGE / 2);
        let start = ordinal as u64 * RANGE;
        Ok(Self {
            memory: Arc::new(Memory::starting_at(VARIABLES + start, memory as usize)),
            primary: None,
            primary_flags: 0,
            used: 0,
            arena: Arc::new(Arena::new(span / BLOCK * BLOCK)?),
            base: DEVICES + start,
            shared: BTreeMap::new(),
            filling: None,
            next_peer: PEERS + start,
        })
    }

    /// Bytes that an allocation takes of the device.
    pub fn cost(bytes: u64) -> u64 {
        if bytes <= SMALL { bytes.next_multiple_of(ALIGN) } else { bytes.next_multiple_of(BLOCK) }
    }

    /// The offset for a small allocation, in a block with enough free bytes.
    pub fn place_small(&mut self, bytes: u64) -> Option<u64> {
        // A gap between neighbours, so that running over the end is noticed.
        let needed = bytes.next_multiple_of(ALIGN) + ALIGN;
        let fits = |block: &SharedBlock| block.end + needed <= BLOCK;
        let block = match self.filling.filter(|at| self.shared.get(at).is_some_and(fits)) {
            Some(block) => block,
            None => {
                let block = self.arena.take(BLOCK)?;
                self.shared.insert(block, SharedBlock { end: 0, live: 0 });
                self.filling = Some(block);
                block
            }
        };
        let shared = self.shared.get_mut(&block)?;
        let at = block + shared.end;
        shared.end += needed;
        shared.live += 1;
        Some(at)
    }

    pub fn give_back_small(&mut self, offset: u64) {
        let block = offset / BLOCK * BLOCK;
        let Some(shared) = self.shared.get_mut(&block) else { return };
        shared.live -= 1;
        if shared.live == 0 {
            self.shared.remove(&block);
            self.filling = self.filling.filter(|&filling| filling != block);
            self.arena.give_back(block);
        }
    }
}
