//! Allocations: of a device, of the host, and of other processes; which one an address belongs to.

use std::{collections::BTreeMap, sync::Arc};

use ssmv_emulator::{Memory, Region};

use crate::{
    code::{Code, Failure, Outcome, fail},
    handle::Handle,
    host, log,
    settings::MOST_DEVICES,
    shared::{Arena, BLOCK, HostMemory, PeerBlocks},
    state::State,
    work::Side,
};

/// Device memory starts here, a range of 2^40 a device.
const DEVICES: u64 = 0x1000_0000_0000;

/// Modules' variables, a range of 2^40 a device.
const VARIABLES: u64 = 0x2000_0000_0000;

/// Memory of other processes.
const PEERS: u64 = 0x3000_0000_0000;

/// Addresses of a device.
const RANGE: u64 = 1 << 40;

/// Allocations up to this share blocks, as a driver's do.
const SMALL: u64 = 1 << 20;

/// Allocations start at multiples of this (CUDA promises 256).
const ALIGN: u64 = 512;

/// A device.
#[derive(Debug)]
pub struct Device {
    /// Its memory as kernels see it: its own allocations, pinned memory, peers.
    pub memory: Arc<Memory>,
    /// Its primary context, while it is retained.
    pub primary: Option<Handle>,
    /// The flags of its primary context.
    pub primary_flags: u32,
    /// Bytes in use.
    pub used: u64,
    arena: Arc<Arena>,
    base: u64,
    /// Blocks that small allocations share: their offset, and what is in them.
    shared: BTreeMap<u64, SharedBlock>,
    /// The one that the next small allocation is put into.
    filling: Option<u64>,
    /// Where the next opened memory of another process goes.
    next_peer: u64,
}

#[derive(Debug)]
struct SharedBlock {
    end: u64,
    live: usize,
}

/// What an allocation is made of.
#[derive(Debug)]
pub enum Kind {
    /// Whole blocks from an offset of the device's memory on.
    Large { offset: u64 },
    /// Part of a block that it shares.
    Small { offset: u64 },
    /// Pinned or managed host memory.
    Host { memory: Arc<HostMemory>, managed: bool, flags: u32 },
    /// Memory of another process, and how often it was opened.
    Opened { blocks: PeerBlocks, handle: [u8; 64], times: usize },
}

/// An allocation.
#[derive(Debug)]
pub struct Allocation {
    /// The context that it belongs to.
    pub context: Handle,
    /// The ordinal of the device.
    pub device: usize,
    /// Bytes that were asked for.
    pub bytes: u64,
    /// What it is made of.
    pub kind: Kind,
    /// A number that no other allocation has.
    pub number: u64,
    /// Whether a stream is to free it.
    pub freed_in_stream: bool,
}

impl Device {
    /// An empty device.
    pub fn new(ordinal: usize, memory: u64) -> Outcome<Self> {
        debug_assert!(ordinal < MOST_DEVICES);
        let span = (4 * memory).clamp(64 * BLOCK, RANGE / 2);
        let start = ordinal as u64 * RANGE;
        Ok(Self {
            memory: Arc::new(Memory::starting_at(VARIABLES + start, memory)),
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
    fn cost(bytes: u64) -> u64 {
        if bytes <= SMALL { bytes.next_multiple_of(ALIGN) } else { bytes.next_multiple_of(BLOCK) }
    }

    /// The offset for a small allocation, in a block that has room for it.
    fn place_small(&mut self, bytes: u64) -> Option<u64> {
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

    fn give_back_small(&mut self, offset: u64) {
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

impl State {
    /// Allocates memory of a context's device.
    ///
    /// # Errors
    /// `CUDA_ERROR_OUT_OF_MEMORY` with what is free, `CUDA_ERROR_INVALID_VALUE` for 0 bytes.
    pub fn allocate(&mut self, context: Handle, bytes: u64, limit: u64) -> Outcome<u64> {
        let ordinal = self.contexts.get(context)?.device;
        if bytes == 0 {
            return fail!(INVALID_VALUE, "an allocation of 0 bytes");
        }
        let device = &mut self.devices[ordinal];
        let cost = if bytes < RANGE { Device::cost(bytes) } else { RANGE };
        if cost > limit.saturating_sub(device.used) {
            let used = device.used;
            return fail!(OUT_OF_MEMORY, "{bytes} bytes were asked for, and {used} of {limit} are in use");
        }
        let small = bytes <= SMALL;
        let offset = if small { device.place_small(bytes) } else { device.arena.take(bytes) };
        let Some(offset) = offset else {
            return fail!(OUT_OF_MEMORY, "no room for {bytes} bytes in one piece");
        };
        device.used += cost;
        let (address, window) = (device.base + offset, device.arena.window(offset, bytes));
        let kind = if small { Kind::Small { offset } } else { Kind::Large { offset } };
        self.insert(
            address,
            Allocation { context, device: ordinal, bytes, kind, number: 0, freed_in_stream: false },
            &window,
        )?;
        Ok(address)
    }

    /// Allocates pinned (or managed) host memory, which all devices reach at its own address.
    pub fn allocate_host(&mut self, context: Handle, bytes: u64, managed: bool, flags: u32) -> Outcome<u64> {
        let memory = usize::try_from(bytes).ok().filter(|&bytes| bytes > 0).and_then(HostMemory::allocate);
        let Some(memory) = memory else {
            return fail!(OUT_OF_MEMORY, "the host has no {bytes} bytes of pinned memory");
        };
        self.insert_host(context, memory, managed, flags)
    }

    /// Makes host memory known to the devices.
    pub fn insert_host(
        &mut self,
        context: Handle,
        memory: HostMemory,
        managed: bool,
        flags: u32,
    ) -> Outcome<u64> {
        let device = self.contexts.get(context)?.device;
        let memory = Arc::new(memory);
        let (address, bytes) = (memory.address() as u64, memory.length() as u64);
        let region: Arc<dyn Region> = memory.clone();
        let kind = Kind::Host { memory, managed, flags };
        self.insert(
            address,
            Allocation { context, device, bytes, kind, number: 0, freed_in_stream: false },
            &region,
        )?;
        Ok(address)
    }

    /// Opens memory of another process; returns the address of its first block.
    pub fn open_peer(
        &mut self,
        context: Handle,
        blocks: PeerBlocks,
        bytes: u64,
        handle: [u8; 64],
    ) -> Outcome<u64> {
        let ordinal = self.contexts.get(context)?.device;
        let device = &mut self.devices[ordinal];
        let address = device.next_peer;
        device.next_peer += bytes + BLOCK;
        let window = blocks.window();
        let kind = Kind::Opened { blocks, handle, times: 1 };
        self.insert(
            address,
            Allocation { context, device: ordinal, bytes, kind, number: 0, freed_in_stream: false },
            &window,
        )?;
        Ok(address)
    }

    fn insert(&mut self, address: u64, allocation: Allocation, region: &Arc<dyn Region>) -> Outcome {
        let failed = |error| Failure::new(Code::UNKNOWN, format!("{error}"));
        for device in self.reaching(&allocation) {
            self.devices[device].memory.map_region(address, allocation.bytes, region).map_err(failed)?;
        }
        static NUMBER: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.allocations.insert(address, Allocation { number, ..allocation });
        Ok(())
    }

    /// The devices whose kernels may touch an allocation: all for host memory, else its own and those with peer access.
    fn reaching(&self, allocation: &Allocation) -> Vec<usize> {
        let peers = |device: usize| {
            self.contexts
                .iter()
                .any(|(_, context)| context.device == device && context.peers.contains(&allocation.device))
        };
        let host = matches!(allocation.kind, Kind::Host { .. });
        (0..self.devices.len())
            .filter(|&device| host || device == allocation.device || peers(device))
            .collect()
    }

    /// Lets a context reach another device's memory.
    pub fn enable_peer(&mut self, context: Handle, peer: usize) -> Outcome {
        let device = self.contexts.get(context)?.device;
        let fresh =
            !self.contexts.iter().any(|(_, other)| other.device == device && other.peers.contains(&peer));
        self.contexts.get_mut(context)?.peers.push(peer);
        let theirs = self.allocations.iter().filter(|(_, allocation)| allocation.device == peer && fresh);
        for (&address, allocation) in theirs {
            let window = match &allocation.kind {
                Kind::Large { offset } | Kind::Small { offset } => {
                    self.devices[peer].arena.window(*offset, allocation.bytes)
                }
                Kind::Opened { blocks, .. } => blocks.window(),
                Kind::Host { .. } => continue,
            };
            let mapped = self.devices[device].memory.map_region(address, allocation.bytes, &window);
            mapped.map_err(|error| Failure::new(Code::UNKNOWN, error.to_string()))?;
        }
        Ok(())
    }

    /// Takes that back.
    pub fn disable_peer(&mut self, context: Handle, peer: usize) -> Outcome {
        let own = self.contexts.get_mut(context)?;
        let device = own.device;
        let Some(at) = own.peers.iter().position(|&known| known == peer) else {
            return fail!(PEER_ACCESS_NOT_ENABLED, "access to device {peer} was not enabled");
        };
        own.peers.remove(at);
        if self.contexts.iter().any(|(_, other)| other.device == device && other.peers.contains(&peer)) {
            return Ok(());
        }
        for (&address, allocation) in &self.allocations {
            if allocation.device == peer && !matches!(allocation.kind, Kind::Host { .. }) {
                let unmapped = self.devices[device].memory.unmap(address);
                unmapped.map_err(|error| Failure::new(Code::UNKNOWN, error.to_string()))?;
            }
        }
        Ok(())
    }

    /// The allocation that holds an address: its first byte's address and itself.
    pub fn locate(&self, address: u64) -> Option<(u64, &Allocation)> {
        let (&base, allocation) = self.allocations.range(..=address).next_back()?;
        (address - base < allocation.bytes).then_some((base, allocation))
    }

    /// The allocation that starts at an address, of a kind that a call may end.
    ///
    /// # Errors
    /// `CUDA_ERROR_INVALID_VALUE` says what the address is instead.
    pub fn starting_at(
        &self,
        call: &str,
        address: u64,
        ends: impl Fn(&Kind) -> bool,
    ) -> Outcome<&Allocation> {
        match self.allocations.get(&address) {
            Some(allocation) if ends(&allocation.kind) => Ok(allocation),
            Some(Allocation { kind, .. }) => {
                let (what, how) = match kind {
                    Kind::Large { .. } | Kind::Small { .. } => ("device memory", "cuMemFree"),
                    Kind::Host { memory, .. } if memory.is_registered() => {
                        ("registered memory", "cuMemHostUnregister")
                    }
                    Kind::Host { managed: true, .. } => ("managed memory", "cuMemFree"),
                    Kind::Host { .. } => ("pinned memory", "cuMemFreeHost"),
                    Kind::Opened { .. } => ("memory of another process", "cuIpcCloseMemHandle"),
                };
                fail!(INVALID_VALUE, "{call} of {address:#x}, which is {what}: {how} ends it")
            }
            None => {
                let place = match self.locate(address) {
                    Some((base, allocation)) => {
                        format!(
                            "it is inside the {}-byte allocation that starts at {base:#x}",
                            allocation.bytes
                        )
                    }
                    None => "no allocation starts there; was it freed before?".to_owned(),
                };
                fail!(INVALID_VALUE, "{call} of {address:#x}: {place}")
            }
        }
    }

    /// Ends an allocation of any kind.
    pub fn release(&mut self, address: u64) -> Outcome {
        let Some(allocation) = self.allocations.remove(&address) else { return Ok(()) };
        for device in self.reaching(&allocation) {
            let unmapped = self.devices[device].memory.unmap(address);
            unmapped.map_err(|error| Failure::new(Code::UNKNOWN, error.to_string()))?;
        }
        let device = &mut self.devices[allocation.device];
        match allocation.kind {
            Kind::Large { offset } => {
                report_openings(&device.arena, address, offset, allocation.bytes);
                device.used -= Device::cost(allocation.bytes);
                device.arena.give_back(offset);
            }
            Kind::Small { offset } => {
                report_openings(&device.arena, address, offset / BLOCK * BLOCK, allocation.bytes);
                device.used -= Device::cost(allocation.bytes);
                device.give_back_small(offset);
            }
            Kind::Host { .. } | Kind::Opened { .. } => {}
        }
        Ok(())
    }

    /// The block of a device's memory that an allocation lies in, as other processes open it: file, offset, bytes.
    pub fn exported(&self, address: u64) -> Outcome<(crate::shared::FileName, u64, u64)> {
        let Some((_, allocation)) = self.locate(address) else {
            return fail!(INVALID_VALUE, "cuIpcGetMemHandle of {address:#x}: no allocation is there");
        };
        let name = self.devices[allocation.device].arena.name();
        match allocation.kind {
            Kind::Large { offset } => Ok((name, offset, allocation.bytes.next_multiple_of(BLOCK))),
            Kind::Small { offset } => Ok((name, offset / BLOCK * BLOCK, BLOCK)),
            _ => fail!(
                INVALID_VALUE,
                "cuIpcGetMemHandle of {address:#x}: only memory of cuMemAlloc can be opened elsewhere"
            ),
        }
    }

    /// One side of a copy that must be device memory (pinned memory counts): all of `bytes` in one allocation.
    pub fn device_side(&self, call: &str, context: Handle, address: u64, bytes: u64) -> Outcome<Side> {
        let own = self.contexts.get(context)?.device;
        if let Some((base, allocation)) = self.locate(address) {
            self.inside(call, address, bytes, base, allocation)?;
            let device = if matches!(allocation.kind, Kind::Host { .. }) { own } else { allocation.device };
            return Ok(Side::Device(self.devices[device].memory.clone(), address));
        }
        // Variables of modules are the emulator's own allocations.
        let memory = &self.devices[own].memory;
        match memory.unwritten(address, bytes.max(1)) {
            Ok(_) => Ok(Side::Device(memory.clone(), address)),
            Err(error) => fail!(INVALID_VALUE, "{call}: {error}"),
        }
    }

    /// One side of a copy that must be host memory; `source` if it is read from.
    pub fn host_side(&self, call: &str, address: usize, bytes: u64, source: bool) -> Outcome<Side> {
        if let Some((base, allocation)) = self.locate(address as u64) {
            if !matches!(allocation.kind, Kind::Host { .. }) {
                return fail!(
                    INVALID_VALUE,
                    "{call}: {address:#x} is device memory, and host memory is expected"
                );
            }
            self.inside(call, address as u64, bytes, base, allocation)?;
        }
        if address == 0 && bytes > 0 {
            return fail!(INVALID_VALUE, "{call}: the host pointer is null");
        }
        if !source {
            return Ok(Side::Host(address, None));
        }
        match host::digest(address, bytes as usize) {
            Some(digest) => Ok(Side::Host(address, Some(digest))),
            None => fail!(INVALID_VALUE, "{call}: the program has no {bytes} readable bytes at {address:#x}"),
        }
    }

    /// A side of a copy whose kind the address decides (unified addressing).
    pub fn any_side(
        &self,
        call: &str,
        context: Handle,
        address: u64,
        bytes: u64,
        source: bool,
    ) -> Outcome<Side> {
        let device = address >= DEVICES && address < PEERS + MOST_DEVICES as u64 * RANGE;
        let known =
            self.locate(address).is_some_and(|(_, allocation)| !matches!(allocation.kind, Kind::Host { .. }));
        match known || device {
            true => self.device_side(call, context, address, bytes),
            false => self.host_side(call, address as usize, bytes, source),
        }
    }

    fn inside(&self, call: &str, address: u64, bytes: u64, base: u64, allocation: &Allocation) -> Outcome {
        let left = allocation.bytes - (address - base);
        if bytes <= left {
            return Ok(());
        }
        let size = allocation.bytes;
        fail!(
            INVALID_VALUE,
            "{call}: {bytes} bytes at {address:#x}, and {left} are left of the {size}-byte allocation at {base:#x}"
        )
    }
}

fn report_openings(arena: &Arena, address: u64, block: u64, bytes: u64) {
    let openings = arena.openings(block);
    if openings > 0 {
        log::say(&format!(
            "cuMemFree of {address:#x} ({bytes} bytes) while another process has it open ({openings} times): \
             cuIpcCloseMemHandle must come first there"
        ));
    }
}
