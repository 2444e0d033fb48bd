//! A device's global memory: allocations, and the host's access to them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::allocation::Allocation;
use super::region::Region;
use crate::error::{Error, Result};
use crate::space::SHARED_WINDOW;

/// The first address: high as on a GPU, below the windows of generic addresses.
const FIRST: u64 = 0x7f00_0000_0000;

/// Log₂ of a device's number of addresses.
const DEVICE_BITS: u32 = 44;

/// Alignment of an allocation in bytes.
const ALIGN: u64 = 256;

/// Least number of unmapped bytes after an allocation; large allocations have as many as their size.
const GAP: u64 = 4096;

/// Number of freed ranges that are kept for error messages.
const REMEMBERED: usize = 4096;

/// One device's global memory: allocations, their bytes, and which bytes were ever written.
///
/// Addresses are multiples of 256 and are never reused; at least 4 KiB behind every allocation are unmapped, so that an
/// overrun by a single byte is detected. The same sequence of calls gives the same addresses. All methods may be called from
/// any thread. Lengths are in bytes. A range that is not inside *one* live allocation is [`Error::Usage`].
///
/// ```
/// # use ssmv_emulator::Memory;
/// let memory = Memory::new(1 << 20);
/// let address = memory.alloc(8)?;
/// memory.write(address, &[1, 2, 3])?;
/// let mut back = [0; 3];
/// memory.read(address, &mut back)?;
/// assert_eq!(back, [1, 2, 3]);
/// assert!(memory.write(address + 6, &[0; 3]).is_err());
/// # Ok::<(), ssmv_emulator::Error>(())
/// ```
#[derive(Debug)]
pub struct Memory {
    limit: u64,
    table: Mutex<Table>,
}

/// The origin of a mapped allocation.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Mapped {
    OtherMemory,
    Region,
}

#[derive(Debug)]
struct Table {
    live: BTreeMap<u64, Arc<Allocation>>,
    /// The live allocations that are mapped, with their origin.
    mapped: BTreeMap<u64, Mapped>,
    /// Base and size of freed allocations, the newest last.
    freed: VecDeque<(u64, u64)>,
    next: u64,
    used: u64,
    /// The live allocations by address, as views use them; `None` after a change.
    sorted: Option<Arc<[Arc<Allocation>]>>,
}

impl Memory {
    /// An empty memory that holds at most `limit_bytes`, each allocation counted in whole 256 bytes.
    pub fn new(limit_bytes: usize) -> Self {
        Self::of_device(0, limit_bytes)
    }

    /// The memory of one of several devices. Their addresses differ, so a mapped allocation has the same address on all
    /// devices.
    pub fn of_device(device: u8, limit_bytes: usize) -> Self {
        Self::starting_at(FIRST + (u64::from(device) << DEVICE_BITS), limit_bytes)
    }

    /// An empty memory whose first allocation gets the address `first`, rounded up to a multiple of 256; for callers that
    /// also map regions at addresses of their own.
    pub fn starting_at(first: u64, limit_bytes: usize) -> Self {
        let table = Table {
            live: BTreeMap::new(),
            mapped: BTreeMap::new(),
            freed: VecDeque::new(),
            next: first.next_multiple_of(ALIGN),
            used: 0,
            sorted: None,
        };
        Self { limit: limit_bytes as u64, table: Mutex::new(table) }
    }

    /// Size of all live allocations in bytes, each rounded up to 256.
    pub fn used(&self) -> usize {
        self.lock().used as usize
    }

    /// The most bytes of all live allocations together.
    pub fn limit(&self) -> usize {
        self.limit as usize
    }

    /// Allocates `bytes` bytes that count as never written (and are zero); returns their address.
    ///
    /// # Errors
    /// [`Error::Usage`] for 0 bytes, for more than the remaining limit, and if the host's allocation fails.
    pub fn alloc(&self, bytes: usize) -> Result<u64> {
        let bytes = bytes as u64;
        let mut table = self.lock();
        let full = |used| {
            Error::Usage(format!(
                "out of memory for {bytes} bytes: {used} of {} bytes are in use; free memory or raise the limit",
                self.limit
            ))
        };
        if bytes == 0 {
            return Err(Error::Usage("an allocation of 0 bytes; ask for at least 1".into()));
        }
        if bytes > self.limit - table.used {
            return Err(full(table.used));
        }
        let rounded = bytes.checked_next_multiple_of(ALIGN).filter(|&r| r <= self.limit - table.used);
        let rounded = rounded.ok_or_else(|| full(table.used))?;
        let base = table.next;
        let next = base.checked_add(rounded).and_then(|end| end.checked_add(rounded.max(GAP)));
        let next = next.filter(|&next| next < SHARED_WINDOW).ok_or_else(|| {
            Error::Usage(format!("no addresses left for {bytes} bytes: start with a new memory"))
        })?;
        let allocation = Allocation::new(base, bytes).ok_or_else(|| {
            Error::Usage(format!("this machine has no {bytes} bytes left for an allocation"))
        })?;
        table.live.insert(base, Arc::new(allocation));
        table.next = next;
        table.used += rounded;
        table.sorted = None;
        Ok(base)
    }

    /// Frees the allocation that starts at `address`. From now on every access to it is a fault, also in running launches.
    pub fn free(&self, address: u64) -> Result<()> {
        let mut table = self.lock();
        if table.mapped.contains_key(&address) {
            return Err(Error::Usage(format!(
                "free of {address:#x}: it belongs to another memory and is only mapped"
            )));
        }
        let Some(allocation) = table.live.remove(&address) else {
            let reason = match table.freed.iter().any(|&(base, _)| base == address) {
                true => "it was freed before".to_owned(),
                false => format!("no allocation starts there; {}", table.whereabouts(address, 1)),
            };
            return Err(Error::Usage(format!("free of {address:#x}: {reason}")));
        };
        allocation.freed.store(true, Relaxed);
        table.used -= allocation.bytes.next_multiple_of(ALIGN);
        table.sorted = None;
        table.remember_freed(address, allocation.bytes);
        Ok(())
    }

    /// Maps the first `bytes` bytes of a region as an allocation at `address`, a multiple of 16. It does not count towards the
    /// limit. [`unmap`](Self::unmap) removes it.
    ///
    /// # Errors
    /// [`Error::Usage`] if the range overlaps an allocation, the region is too short, or the address is misaligned.
    pub fn map_region(&self, address: u64, bytes: usize, region: &Arc<dyn Region>) -> Result<()> {
        let bytes = bytes as u64;
        let refuse = |why: &str| Err(Error::Usage(format!("map of {bytes} bytes at {address:#x}: {why}")));
        if bytes == 0 || !address.is_multiple_of(16) || address.checked_add(bytes).is_none() {
            return refuse("at least a byte, at a multiple of 16, is possible");
        }
        let Some(allocation) = Allocation::over(address, bytes, region) else {
            return refuse("the region is too short");
        };
        let mut table = self.lock();
        if table.overlaps(address, bytes) {
            return refuse("this memory has an allocation there");
        }
        table.freed.retain(|&(base, size)| base + size <= address || address + bytes <= base);
        table.live.insert(address, Arc::new(allocation));
        table.mapped.insert(address, Mapped::Region);
        table.sorted = None;
        Ok(())
    }

    /// Makes the allocation of another memory that starts at `address` one of this memory's too, at the same address.
    ///
    /// # Errors
    /// [`Error::Usage`] if no allocation of the other memory starts there, or one of this memory overlaps it.
    pub fn map(&self, from: &Self, address: u64) -> Result<()> {
        let allocation = from.lock().live.get(&address).cloned();
        let allocation = allocation.ok_or_else(|| {
            Error::Usage(format!("map of {address:#x}: no allocation of the other memory starts there"))
        })?;
        let mut table = self.lock();
        if table.overlaps(address, allocation.bytes) {
            return Err(Error::Usage(format!(
                "map of {address:#x}: this memory has an allocation there; give the devices different numbers"
            )));
        }
        table.live.insert(address, allocation);
        table.mapped.insert(address, Mapped::OtherMemory);
        table.sorted = None;
        Ok(())
    }

    /// Undoes a [`map`](Self::map) or [`map_region`](Self::map_region); the other memory or the region keeps the bytes. From
    /// now on every access to an unmapped region is a fault, also in running launches.
    pub fn unmap(&self, address: u64) -> Result<()> {
        let mut table = self.lock();
        let Some(mapped) = table.mapped.remove(&address) else {
            return Err(Error::Usage(format!("unmap of {address:#x}: nothing is mapped there")));
        };
        if let Some(allocation) = table.live.remove(&address)
            && mapped == Mapped::Region
        {
            allocation.freed.store(true, Relaxed);
            table.remember_freed(address, allocation.bytes);
        }
        table.sorted = None;
        Ok(())
    }

    /// The offset in the range of the first byte that was never written; `None` if all were.
    pub fn unwritten(&self, address: u64, bytes: usize) -> Result<Option<usize>> {
        let Some((allocation, offset)) = self.range("read", address, bytes)? else { return Ok(None) };
        Ok(allocation.unwritten(offset, bytes).map(|at| at - offset))
    }

    /// Copies `data` to `address`, and marks the bytes as written.
    pub fn write(&self, address: u64, data: &[u8]) -> Result<()> {
        let Some((allocation, offset)) = self.range("write", address, data.len())? else {
            return Ok(());
        };
        allocation.write(offset, data);
        allocation.mark(offset, data.len());
        Ok(())
    }

    /// Copies bytes from `address` into `out`. Bytes that were never written are not an error here.
    pub fn read(&self, address: u64, out: &mut [u8]) -> Result<()> {
        let Some((allocation, offset)) = self.range("read", address, out.len())? else {
            return Ok(());
        };
        allocation.read(offset, out);
        Ok(())
    }

    /// Copies `bytes` bytes from `source` to `destination`; bytes that were never written are unwritten there too.
    /// Ranges that overlap in part are an error; a range may be copied to itself.
    pub fn copy(&self, destination: u64, source: u64, bytes: usize) -> Result<()> {
        let to = self.range("copy", destination, bytes)?;
        let from = self.range("copy", source, bytes)?;
        let (Some((to, to_offset)), Some((from, from_offset))) = (to, from) else { return Ok(()) };
        if destination == source {
            return Ok(());
        }
        if destination.abs_diff(source) < bytes as u64 {
            return Err(Error::Usage(format!(
                "copy of {bytes} bytes from {source:#x} to {destination:#x}: the ranges overlap"
            )));
        }
        to.copy(to_offset, &from, from_offset, bytes);
        Ok(())
    }

    /// Sets `bytes` bytes at `address` to `byte`, and marks them as written.
    pub fn fill(&self, address: u64, byte: u8, bytes: usize) -> Result<()> {
        let Some((allocation, offset)) = self.range("fill", address, bytes)? else { return Ok(()) };
        let block = [byte; 4096];
        for done in (0..bytes).step_by(block.len()) {
            allocation.write(offset + done, &block[..block.len().min(bytes - done)]);
        }
        allocation.mark(offset, bytes);
        Ok(())
    }

    /// Marks `bytes` bytes at `address` as never written; for pools that reuse memory.
    pub fn mark_unwritten(&self, address: u64, bytes: usize) -> Result<()> {
        let Some((allocation, offset)) = self.range("mark_unwritten", address, bytes)? else { return Ok(()) };
        allocation.mark_unwritten(offset, bytes);
        Ok(())
    }

    /// The live allocations by address.
    pub(super) fn allocations(&self) -> Arc<[Arc<Allocation>]> {
        let mut table = self.lock();
        let Table { live, sorted, .. } = &mut *table;
        sorted.get_or_insert_with(|| live.values().cloned().collect()).clone()
    }

    /// Describes an address whose `bytes` bytes are not inside one live allocation.
    #[cold]
    pub(super) fn whereabouts(&self, address: u64, bytes: u64) -> String {
        self.lock().whereabouts(address, bytes)
    }

    /// The live allocation that holds a whole range, and the range's offset in it; `None` for 0 bytes.
    fn range(&self, what: &str, address: u64, bytes: usize) -> Result<Option<(Arc<Allocation>, usize)>> {
        let bytes = bytes as u64;
        if bytes == 0 {
            return Ok(None);
        }
        let table = self.lock();
        if let Some((_, allocation)) = table.live.range(..=address).next_back()
            && let Some(offset) = allocation.offset(address, bytes)
            && !allocation.freed.load(Relaxed)
        {
            return Ok(Some((allocation.clone(), offset)));
        }
        let message = table.whereabouts(address, bytes);
        Err(Error::Usage(format!("{what} of {bytes} bytes at {address:#x}: {message}")))
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn overlaps(&self, address: u64, bytes: u64) -> bool {
        let end = address.saturating_add(bytes);
        self.live.range(..end).next_back().is_some_and(|(_, other)| other.base + other.bytes > address)
    }

    fn remember_freed(&mut self, address: u64, bytes: u64) {
        if self.freed.len() == REMEMBERED {
            self.freed.pop_front();
        }
        self.freed.push_back((address, bytes));
    }

    fn whereabouts(&self, address: u64, bytes: u64) -> String {
        if let Some(&(base, size)) =
            self.freed.iter().rev().find(|(base, size)| address.wrapping_sub(*base) < *size)
        {
            return format!("inside a {size}-byte allocation at {base:#x} that was freed");
        }
        let below = self.live.range(..=address).next_back().map(|(_, a)| (a.base, a.bytes));
        let above = self.live.range(address..).next().map(|(_, a)| (a.base, a.bytes));
        let past = below.map_or(u64::MAX, |(base, size)| (address - base).saturating_sub(size));
        let before = above.map_or(u64::MAX, |(base, _)| base - address);
        match (below, above) {
            (Some((base, size)), _) if address - base < size => {
                let inside = size - (address - base);
                format!("only {inside} of {bytes} bytes are inside the {size}-byte allocation at {base:#x}")
            }
            (Some((base, size)), _) if past <= before && past < size.max(GAP) => {
                format!("{past} bytes past the end of a {size}-byte allocation at {base:#x}")
            }
            (_, Some((base, size))) if before < size.max(GAP) => {
                format!("{before} bytes before a {size}-byte allocation at {base:#x}")
            }
            _ => "no allocation there".to_owned(),
        }
    }
}
