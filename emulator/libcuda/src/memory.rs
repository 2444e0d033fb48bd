//! Allocations: of a device, of the host, and of other processes; which one an address belongs to.

use std::sync::Arc;

use ssmv_emulator::Region;

use crate::{
    code::{Code, Failure, Outcome, fail},
    device::{DEVICES, Device, PEERS, RANGE, SMALL},
    handle::Handle,
    host, log,
    settings::MOST_DEVICES,
    shared::{Arena, BLOCK, HostMemory, PeerBlocks},
    state::{Allocation, Kind, State},
    work::Side,
};

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
            return fail!(OUT_OF_MEMORY, "no {bytes} contiguous bytes are free");
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
            self.devices[device]
                .memory
                .map_region(address, allocation.bytes as usize, region)
                .map_err(failed)?;
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
            let mapped = self.devices[device].memory.map_region(address, allocation.bytes as usize, &window);
            mapped.map_err(|error| Failure::new(Code::UNKNOWN, error.to_string()))?;
        }
        Ok(())
    }

    /// Undoes [`enable_peer`](Self::enable_peer).
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
    /// `CUDA_ERROR_INVALID_VALUE` names the kind of memory at the address.
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
        match memory.unwritten(address, bytes.max(1) as usize) {
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
        log::write(&format!(
            "cuMemFree of {address:#x} ({bytes} bytes) while another process has it open ({openings} times): \
             cuIpcCloseMemHandle must come first there"
        ));
    }
}
