//! What emulated devices of one process show each other, as processes of one machine do: memory and events, by handles.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use ssmv_emulator::Memory;

use super::{Emulated, fault};
use crate::{
    Error, Result,
    cuda::{
        driver::{Address, EventHandle, EventId, HANDLE_BYTES, MemoryHandle},
        table::lock,
    },
};

/// What a handle begins with; its number and that of its process follow: in another process the same number is another's.
const MAGIC: &[u8; 8] = b"emulator";

/// An event: when it was recorded last, whether times are measured with it, and whether other devices may know of it.
#[derive(Debug, Default)]
pub(super) struct Moment {
    pub at: Mutex<Option<Instant>>,
    pub timed: bool,
    pub shared: bool,
}

/// An allocation that has a handle.
#[derive(Debug)]
pub(super) struct Exported {
    memory: Weak<Memory>,
    address: u64,
    bytes: u64,
    openings: AtomicUsize,
}

impl Exported {
    fn is(&self, memory: &Arc<Memory>, address: u64) -> bool {
        self.address == address && Weak::ptr_eq(&self.memory, &Arc::downgrade(memory))
    }
}

/// The handles of all devices of the process.
#[derive(Debug, Default)]
struct Exports {
    last: u64,
    memory: HashMap<u64, Arc<Exported>>,
    events: HashMap<u64, Weak<Moment>>,
}

static EXPORTS: Mutex<Option<Exports>> = Mutex::new(None);

fn exports<R>(body: impl FnOnce(&mut Exports) -> R) -> R {
    body(lock(&EXPORTS).get_or_insert_default())
}

impl Exports {
    /// A new number. What belonged to devices and events that are gone is forgotten.
    fn number(&mut self) -> u64 {
        self.memory.retain(|_, exported| exported.memory.strong_count() > 0);
        self.events.retain(|_, event| event.strong_count() > 0);
        self.last += 1;
        self.last
    }
}

fn encode(number: u64) -> [u8; HANDLE_BYTES] {
    let mut bytes = [0; HANDLE_BYTES];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..16].copy_from_slice(&number.to_le_bytes());
    bytes[16..20].copy_from_slice(&std::process::id().to_le_bytes());
    bytes
}

fn decode(bytes: &[u8; HANDLE_BYTES]) -> Option<u64> {
    let number = std::array::from_fn(|i| bytes[8 + i]);
    let ours = bytes.starts_with(MAGIC) && bytes[16..20] == std::process::id().to_le_bytes();
    ours.then(|| u64::from_le_bytes(number))
}

impl Emulated {
    pub(super) fn give_memory_handle(&self, address: Address) -> Result<MemoryHandle> {
        let nothing = || Error::misuse("export memory", format!("no allocation starts at {address}"));
        let bytes = self.blocks.with(address.0, |bytes, ()| bytes).ok_or_else(nothing)?;
        if lock(&self.opened).contains_key(&address.0) {
            return Err(Error::misuse("export memory", format!("{address} is another process's to export")));
        }
        let memory = Arc::downgrade(&self.memory);
        let exported = Exported { memory, address: address.0, bytes, openings: AtomicUsize::new(0) };
        Ok(MemoryHandle(encode(exports(|all| {
            let number = all.number();
            all.memory.insert(number, Arc::new(exported));
            number
        }))))
    }

    pub(super) fn open_memory_handle(&self, handle: &MemoryHandle, bytes: u64) -> Result<Address> {
        let refuse = |why: &str| Error::misuse("open memory of another process", why);
        let exported = decode(&handle.0).and_then(|number| exports(|all| all.memory.get(&number).cloned()));
        let exported = exported.ok_or_else(|| refuse("the handle is of no allocation of this process"))?;
        if exported.bytes != bytes {
            return Err(refuse(&format!("it has {} bytes, not {bytes}", exported.bytes)));
        }
        let from = exported.memory.upgrade().ok_or_else(|| refuse("the device that had it is gone"))?;
        let address = exported.address;
        let mut opened = lock(&self.opened);
        if !opened.contains_key(&address) && !Arc::ptr_eq(&from, &self.memory) {
            self.memory.map(&from, address).map_err(fault)?;
            self.blocks.insert(address, bytes, ());
        }
        exported.openings.fetch_add(1, Ordering::Relaxed);
        opened.entry(address).or_default().push(exported);
        Ok(Address(address))
    }

    pub(super) fn close_opened_memory(&self, address: Address) -> Result<()> {
        let mut opened = lock(&self.opened);
        let last = opened.get_mut(&address.0).and_then(Vec::pop);
        let last =
            last.ok_or_else(|| Error::misuse(format!("close {address}"), "nothing is opened there"))?;
        last.openings.fetch_sub(1, Ordering::Relaxed);
        if opened.get(&address.0).is_some_and(Vec::is_empty) {
            opened.remove(&address.0);
            if !last.is(&self.memory, address.0) {
                self.blocks.remove(address.0)?;
                self.memory.unmap(address.0).map_err(fault)?;
            }
        }
        Ok(())
    }

    /// An error where an allocation is another device's, or another device has it open.
    pub(super) fn refuse_shared(&self, address: Address) -> Result<()> {
        let foreign = lock(&self.opened)
            .get(&address.0)
            .is_some_and(|all| all.iter().any(|one| !one.is(&self.memory, address.0)));
        let open =
            |one: &Arc<Exported>| one.is(&self.memory, address.0) && one.openings.load(Ordering::Relaxed) > 0;
        let operation = format!("free {address}");
        match () {
            () if foreign => Err(Error::misuse(operation, "it is another process's; close it")),
            () if exports(|all| all.memory.values().any(open)) => {
                Err(Error::misuse(operation, "another process has it open; it must close it first"))
            }
            () => Ok(()),
        }
    }

    pub(super) fn give_event_handle(&self, event: EventId) -> Result<EventHandle> {
        let event = self.events.get(event.0)?;
        if !event.shared {
            return Err(Error::misuse("export an event", "it was not created to be shared"));
        }
        Ok(EventHandle(encode(exports(|all| {
            let number = all.number();
            all.events.insert(number, Arc::downgrade(&event));
            number
        }))))
    }

    pub(super) fn open_event_handle(&self, handle: &EventHandle) -> Result<EventId> {
        let event = decode(&handle.0).and_then(|number| exports(|all| all.events.get(&number).cloned()));
        let event = event.and_then(|event| event.upgrade()).ok_or_else(|| {
            Error::misuse("open an event of another process", "the handle is of no event of this process")
        })?;
        Ok(EventId(self.events.insert_shared(event)))
    }
}

impl Drop for Emulated {
    fn drop(&mut self) {
        for exported in lock(&self.opened).values().flatten() {
            exported.openings.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_of_another_process_is_refused() {
        let ours = encode(7);
        assert_eq!(decode(&ours), Some(7));
        let mut theirs = ours;
        theirs[16] ^= 1;
        assert_eq!(decode(&theirs), None);
    }
}
