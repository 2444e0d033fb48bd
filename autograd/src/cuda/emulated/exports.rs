//! Memory and events that emulated devices of one process share by handles, as processes on one machine do.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use ssmv_emulator::Memory;

use super::{EmulatedDriver, fault};
use crate::{
    Error, Result,
    cuda::{
        driver::{Address, EventHandle, HANDLE_BYTES, MemoryHandle},
        table::lock,
    },
};

/// Prefix of a handle. Its number and its process id follow: the same number in another process is another handle.
const MAGIC: &[u8; 8] = b"emulator";

/// An event: its latest record, and whether other devices may open it.
#[derive(Debug, Default)]
pub struct Moment {
    pub(super) at: Mutex<Option<Instant>>,
    pub(super) shared: bool,
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
    /// A new number. Also removes entries of devices and events that were dropped.
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

impl EmulatedDriver {
    pub(super) fn export_block(&self, address: Address, bytes: u64) -> MemoryHandle {
        let memory = Arc::downgrade(&self.memory);
        let exported = Exported { memory, address: address.0, bytes, openings: AtomicUsize::new(0) };
        MemoryHandle(encode(exports(|all| {
            let number = all.number();
            all.memory.insert(number, Arc::new(exported));
            number
        })))
    }

    pub(super) fn open_block(&self, handle: &MemoryHandle, bytes: u64) -> Result<Address> {
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
        }
        exported.openings.fetch_add(1, Ordering::Relaxed);
        opened.entry(address).or_default().push(exported);
        Ok(Address(address))
    }

    /// Closes one opening; true for the last one.
    pub(super) fn close_block(&self, address: Address) -> Result<bool> {
        let mut opened = lock(&self.opened);
        let last = opened.get_mut(&address.0).and_then(Vec::pop);
        let last =
            last.ok_or_else(|| Error::misuse(format!("close {address}"), "nothing is opened there"))?;
        last.openings.fetch_sub(1, Ordering::Relaxed);
        if opened.get(&address.0).is_some_and(|rest| !rest.is_empty()) {
            return Ok(false);
        }
        opened.remove(&address.0);
        if !last.is(&self.memory, address.0) {
            self.memory.unmap(address.0).map_err(fault)?;
        }
        Ok(true)
    }

    /// An error while another device has an allocation open.
    pub(super) fn refuse_opened(&self, address: Address) -> Result<()> {
        let open =
            |one: &Arc<Exported>| one.is(&self.memory, address.0) && one.openings.load(Ordering::Relaxed) > 0;
        match exports(|all| all.memory.values().any(open)) {
            false => Ok(()),
            true => {
                let message = "another process has it open; it must close it first";
                Err(Error::misuse(format!("free {address}"), message))
            }
        }
    }
}

pub(super) fn export_moment(event: &Arc<Moment>) -> Result<EventHandle> {
    if !event.shared {
        return Err(Error::misuse("export an event", "it was not created to be shared"));
    }
    Ok(EventHandle(encode(exports(|all| {
        let number = all.number();
        all.events.insert(number, Arc::downgrade(event));
        number
    }))))
}

pub(super) fn open_moment(handle: &EventHandle) -> Result<Arc<Moment>> {
    let event = decode(&handle.0).and_then(|number| exports(|all| all.events.get(&number).cloned()));
    event.and_then(|event| event.upgrade()).ok_or_else(|| {
        Error::misuse("open an event of another process", "the handle is of no event of this process")
    })
}

impl Drop for EmulatedDriver {
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
