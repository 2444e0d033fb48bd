//! Memory and events that processes of one machine share, each with its end in `Drop`.
//!
//! The one who has them keeps them until all others have let go: see [`SharedMemory::free`].

use super::{
    device::Cuda,
    driver::{Address, Event, EventHandle, MemoryHandle, Stream},
};
use crate::{Error, Result};

/// Shared memory is allocated in multiples of this: a driver's page, so that nothing else of the process lies within reach.
const PAGE: u64 = 2 << 20;

/// Device memory that other processes may open. It is of no pool: others write it whatever this process does.
#[derive(Debug)]
pub struct SharedMemory {
    cuda: Cuda,
    address: Address,
    bytes: u64,
}

impl SharedMemory {
    /// The first byte.
    pub fn address(&self) -> Address {
        self.address
    }

    /// Its bytes: what was asked for, rounded up.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// By which others open it.
    pub fn handle(&self) -> Result<MemoryHandle> {
        self.cuda.driver().export_memory(self.address)
    }

    /// Gives it back to the device, once all others have closed it and said so. Dropped instead, it is kept until the process
    /// ends, since others may still write there.
    pub fn free(self) -> Result<()> {
        self.cuda.driver().free(self.address)
    }
}

/// Another process's memory.
#[derive(Debug)]
pub struct PeerMemory {
    cuda: Cuda,
    address: Address,
}

impl PeerMemory {
    /// The first byte, as this device addresses it.
    pub fn address(&self) -> Address {
        self.address
    }
}

impl Drop for PeerMemory {
    fn drop(&mut self) {
        let _ = self.cuda.driver().close_memory(self.address);
    }
}

/// An event of this process that others may wait for, or one of theirs.
#[derive(Debug)]
pub struct SharedEvent {
    cuda: Cuda,
    event: Event,
}

impl SharedEvent {
    /// By which others open it; an event of this process only.
    pub fn handle(&self) -> Result<EventHandle> {
        self.cuda.driver().export_event(self.event)
    }

    /// Puts it at the end of a stream.
    pub fn record(&self, stream: Stream) -> Result<()> {
        self.cuda.driver().record(self.event, stream)
    }

    /// What comes later in the stream waits for it. Another process's must be known to have been recorded.
    pub fn wait(&self, stream: Stream) -> Result<()> {
        self.cuda.driver().wait(stream, self.event)
    }
}

impl Drop for SharedEvent {
    fn drop(&mut self) {
        let _ = self.cuda.driver().destroy_event(self.event);
    }
}

impl Cuda {
    /// At least `bytes` that other processes may open.
    pub fn share(&self, bytes: u64) -> Result<SharedMemory> {
        let bytes = bytes
            .checked_next_multiple_of(PAGE)
            .ok_or_else(|| Error::misuse("share", format!("{bytes} bytes of memory")))?;
        let address = self.driver().allocate(bytes)?;
        Ok(SharedMemory { cuda: self.clone(), address, bytes })
    }

    /// Another process's memory of `bytes`.
    pub fn open_peer(&self, handle: &MemoryHandle, bytes: u64) -> Result<PeerMemory> {
        let address = self.driver().open_memory(handle, bytes)?;
        Ok(PeerMemory { cuda: self.clone(), address })
    }

    /// An event that other processes may open.
    pub fn share_event(&self) -> Result<SharedEvent> {
        Ok(SharedEvent { cuda: self.clone(), event: self.driver().create_shared_event()? })
    }

    /// Another process's event.
    pub fn open_peer_event(&self, handle: &EventHandle) -> Result<SharedEvent> {
        Ok(SharedEvent { cuda: self.clone(), event: self.driver().open_event(handle)? })
    }
}
