//! Device memory that is reused. A training step requests the same sizes every time, a request to the driver waits for
//! the device, and a captured step must get the same addresses at every replay.
//!
//! Blocks are used in the order of one stream: a freed block can be reused at once, since its next user is queued later
//! in that stream. The pool is deterministic: it takes the suitable block with the lowest address, so the same requests
//! on the same free blocks return the same addresses.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use super::driver::{Address, Driver, MemoryInfo, Stream};
use crate::{Error, Result};

/// The smallest block in bytes: the alignment of device memory.
const GRAIN: u64 = 256;

/// A block of the pool.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub address: Address,
    /// Its size in bytes: the requested size, rounded up.
    class: u64,
    purpose: Purpose,
}

/// The use of a block, for reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Tensors and other memory of a step.
    General,
    /// Scratch memory of a kernel while it runs.
    Workspace,
}

/// Bytes that a pool holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolReport {
    /// In use now, sizes rounded up as the pool does.
    pub in_use: u64,
    /// Allocated from the device: in use, cached, or kept for a graph.
    pub held: u64,
    /// The most bytes in use at once.
    pub peak_in_use: u64,
    /// The most bytes held at once.
    pub peak_held: u64,
    /// Part of `in_use` that is workspaces of kernels.
    pub workspace: u64,
    /// Part of `peak_in_use` that was workspaces of kernels.
    pub peak_workspace: u64,
}

/// Free blocks: by size, then by address.
type Free = BTreeMap<u64, BTreeSet<Address>>;

/// Identifies the memory of one graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Owner(u64);

/// The pool of one device.
#[derive(Debug)]
pub(super) struct Pool {
    driver: Arc<dyn Driver>,
    stream: Stream,
    /// Whether blocks have the exact requested size, so that the driver detects accesses past their end.
    exact: bool,
    /// Whether freed blocks are poisoned.
    poison: bool,
    /// Whether cached blocks were freed to make room: a capture may then lack some that it needs.
    short: bool,
    free: Free,
    report: PoolReport,
    capture: Option<Owner>,
    owners: u64,
    /// Blocks that belong to a graph, in use or not; `kept` holds those that are not in use.
    owned: HashMap<Address, Owner>,
    kept: HashMap<Owner, Free>,
}

/// Sizes in eighths of a power of two: at most 12.5 % is wasted, and few sizes differ.
fn size_class(bytes: u64) -> Option<u64> {
    let step = (bytes.checked_next_power_of_two()? / 16).max(GRAIN);
    bytes.max(1).checked_next_multiple_of(step)
}

fn take_lowest(free: &mut Free, class: u64) -> Option<Address> {
    let blocks = free.get_mut(&class)?;
    let address = blocks.pop_first();
    if blocks.is_empty() {
        free.remove(&class);
    }
    address
}

impl Pool {
    /// A pool whose blocks are used in the order of `stream`.
    pub fn new(driver: Arc<dyn Driver>, stream: Stream) -> Self {
        let exact = driver.checks_bounds();
        Self {
            exact,
            poison: exact || cfg!(debug_assertions),
            driver,
            stream,
            short: false,
            free: Free::new(),
            report: PoolReport::default(),
            capture: None,
            owners: 0,
            owned: HashMap::new(),
            kept: HashMap::new(),
        }
    }

    pub fn report(&self) -> PoolReport {
        self.report
    }

    /// A block of unspecified content.
    pub fn take(&mut self, bytes: u64, purpose: Purpose) -> Result<Block> {
        let class = if self.exact { Some(bytes.max(1)) } else { size_class(bytes) };
        let class = class.ok_or_else(|| Error::misuse("allocate", format!("{bytes} bytes")))?;
        let kept = self.capture.and_then(|owner| take_lowest(self.kept.entry(owner).or_default(), class));
        let address = match kept.or_else(|| take_lowest(&mut self.free, class)) {
            Some(address) => address,
            None => self.grow(class)?,
        };
        if let Some(owner) = self.capture {
            self.owned.entry(address).or_insert(owner);
        }
        let report = &mut self.report;
        report.in_use += class;
        if purpose == Purpose::Workspace {
            report.workspace += class;
        }
        if report.in_use > report.peak_in_use {
            (report.peak_in_use, report.peak_workspace) = (report.in_use, report.workspace);
        }
        Ok(Block { address, class, purpose })
    }

    /// Takes a block back. Work on it that is queued in the pool's stream may still run.
    pub fn give(&mut self, Block { address, class, purpose }: Block) {
        self.report.in_use -= class;
        if purpose == Purpose::Workspace {
            self.report.workspace -= class;
        }
        if self.poison {
            // Poison only finds bugs: ignore a device that cannot do it.
            let _ = self.driver.poison(address, class, self.stream);
        }
        if let Some(owner) = self.capture {
            self.owned.entry(address).or_insert(owner);
        }
        let free = match self.owned.get(&address) {
            Some(owner) => self.kept.entry(*owner).or_default(),
            None => &mut self.free,
        };
        free.entry(class).or_default().insert(address);
    }

    /// From now on blocks that are taken or freed belong to a graph, which keeps them until it is destroyed: every
    /// replay writes them.
    pub fn begin_capture(&mut self) -> Owner {
        self.owners += 1;
        *self.capture.insert(Owner(self.owners))
    }

    pub fn end_capture(&mut self) {
        self.capture = None;
    }

    /// Releases the blocks of a destroyed graph for general use.
    pub fn release(&mut self, owner: Owner) {
        self.owned.retain(|_, other| *other != owner);
        for (class, addresses) in self.kept.remove(&owner).unwrap_or_default() {
            self.free.entry(class).or_default().extend(addresses);
        }
    }

    /// Frees all cached blocks to the device.
    pub fn trim(&mut self) -> Result<()> {
        while let Some((class, addresses)) = self.free.pop_first() {
            for address in addresses {
                self.driver.free(address)?;
                self.report.held -= class;
            }
        }
        Ok(())
    }

    fn grow(&mut self, class: u64) -> Result<Address> {
        if self.capture.is_some() && self.short {
            let MemoryInfo { free, total } = self.driver.memory()?;
            let error = Error::out_of_memory(&self.driver.device().name, class, free, total);
            return Err(self.explain(error));
        }
        let asked = self.driver.allocate(class).or_else(|error| match error {
            // Cached blocks of other sizes may occupy the memory.
            Error::OutOfMemory { .. } if !self.free.is_empty() => {
                self.short = true;
                self.trim()?;
                self.driver.allocate(class)
            }
            other => Err(other),
        });
        let address = asked.map_err(|error| self.explain(error))?;
        self.report.held += class;
        self.report.peak_held = self.report.peak_held.max(self.report.held);
        Ok(address)
    }

    /// Adds the pool's contents to an out-of-memory error.
    fn explain(&self, error: Error) -> Error {
        match error {
            Error::OutOfMemory { device, asked, free, total, advice, .. } => {
                let PoolReport { in_use, held, .. } = self.report;
                let pool = format!(", {held} held by this process of which {in_use} are in use");
                Error::OutOfMemory { device, asked, free, total, pool, advice }
            }
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::{Emulated, EmulatorOptions, Priority};

    fn pool(memory: u64) -> Pool {
        let driver = Arc::new(Emulated::new(&EmulatorOptions { memory, ..Default::default() }));
        let stream = driver.create_stream(Priority::Normal).unwrap();
        Pool::new(driver, stream)
    }

    impl Pool {
        fn block(&mut self, bytes: u64) -> Result<Block> {
            self.take(bytes, Purpose::General)
        }
    }

    /// As on a GPU: sizes rounded up.
    fn rounding(memory: u64) -> Pool {
        Pool { exact: false, ..pool(memory) }
    }

    #[test]
    fn classes_waste_at_most_an_eighth() {
        for bytes in (1..5000).chain([1 << 20, (1 << 20) + 1, (1 << 40) - 1]) {
            let class = size_class(bytes).unwrap();
            assert!(class >= bytes && class.is_multiple_of(GRAIN), "{bytes}: {class}");
            assert!(class - bytes < GRAIN.max(bytes / 8 + 1), "{bytes}: {class}");
        }
        assert_eq!(size_class(u64::MAX), None);
        assert_eq!(size_class(0), Some(GRAIN));
    }

    /// A step: takes and frees blocks alternately, in an order that depends on the sizes alone.
    fn step(pool: &mut Pool) -> Vec<Address> {
        let mut addresses = Vec::new();
        let mut live = Vec::new();
        for i in 0..60u64 {
            let block = pool.block((i * 7919) % 40 * 300 + 1).unwrap();
            addresses.push(block.address);
            live.push(block);
            if i % 3 == 2 {
                pool.give(live.swap_remove((i as usize * 31) % live.len()));
            }
        }
        live.into_iter().for_each(|block| pool.give(block));
        addresses
    }

    #[test]
    fn the_same_requests_get_the_same_addresses() {
        for fresh in [pool as fn(u64) -> Pool, rounding] {
            let (mut one, mut other) = (fresh(1 << 24), fresh(1 << 24));
            let first = step(&mut one);
            assert_eq!(step(&mut other), first, "on two new devices");
            let held = one.report().held;
            let again = step(&mut one);
            assert_eq!(step(&mut one), again, "on the same free blocks");
            assert_eq!(one.report().held, held, "nothing more is asked of the device");
        }
    }

    #[test]
    fn the_report_counts_and_trim_gives_all_back() {
        let mut pool = rounding(1 << 20);
        let (a, b) = (pool.block(1000).unwrap(), pool.take(300, Purpose::Workspace).unwrap());
        assert!(a.address.0.is_multiple_of(GRAIN) && b.address.0.is_multiple_of(GRAIN));
        let expected = PoolReport {
            in_use: 1536,
            held: 1536,
            peak_in_use: 1536,
            peak_held: 1536,
            workspace: 512,
            peak_workspace: 512,
        };
        assert_eq!(pool.report(), expected);
        pool.give(a);
        assert_eq!(pool.report(), PoolReport { in_use: 512, ..expected });
        pool.trim().unwrap();
        assert_eq!(pool.report(), PoolReport { in_use: 512, held: 512, ..expected });
        assert_eq!(pool.driver.memory().unwrap().free, (1 << 20) - 512);
        pool.give(b);
    }

    #[test]
    fn a_full_device_says_what_is_held() {
        let mut pool = pool(10_240);
        let used = pool.block(4096).unwrap();
        let waiting = pool.block(5000).unwrap();
        pool.give(waiting);
        // The cached block is freed to make room.
        let large = pool.block(6144).unwrap();
        let error = pool.block(1).unwrap_err();
        assert_eq!(
            error.to_string(),
            "PTX emulator: out of memory: 1 bytes asked for, 0 of 10240 free, 10240 held by this process of which 10240 \
             are in use; take a smaller batch"
        );
        assert!(matches!(error, Error::OutOfMemory { asked: 1, .. }));
        pool.give(used);
        pool.give(large);
        assert!(pool.block(u64::MAX).is_err());
    }

    #[test]
    fn a_capture_that_lacks_what_made_room_says_that_memory_is_short() {
        let mut pool = pool(10_240);
        let waiting = pool.block(4096).unwrap();
        pool.give(waiting);
        let large = pool.block(8192).unwrap();
        pool.give(large);
        let graph = pool.begin_capture();
        let error = pool.block(4096).unwrap_err();
        assert!(matches!(error, Error::OutOfMemory { asked: 4096, free: 2048, .. }), "{error}");
        pool.end_capture();
        pool.release(graph);
    }

    #[test]
    fn what_a_graph_uses_stays_its_own() {
        let mut pool = pool(1 << 20);
        let before = pool.block(100).unwrap();
        let warm = [pool.block(200).unwrap(), pool.block(200).unwrap()];
        warm.into_iter().for_each(|block| pool.give(block));

        let graph = pool.begin_capture();
        let temporary = pool.block(200).unwrap();
        let temporary_address = temporary.address;
        pool.give(temporary);
        let output = pool.block(200).unwrap();
        assert_eq!(output.address, temporary_address, "within the capture, memory is used again");
        let other = pool.block(200).unwrap();
        let other_address = other.address;
        pool.give(other);
        let before_address = before.address;
        pool.give(before);
        pool.end_capture();

        let (output_address, later) = (output.address, pool.block(100).unwrap());
        assert_ne!(later.address, before_address, "the graph reads it");
        pool.give(output);
        let fresh = pool.block(200).unwrap();
        assert!(fresh.address != output_address && fresh.address != other_address, "the graph writes them");
        pool.release(graph);
        assert_eq!(pool.block(200).unwrap().address, output_address.min(other_address));
    }
}
