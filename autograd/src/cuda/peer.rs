//! Memory and events that processes of one machine share.
//!
//! The owner keeps them until all others have closed them, and closing waits for the device. Both can be said by the
//! processes alone, so none of it is in `Drop`: what is dropped stays until the process ends.

use super::{
    device::Cuda,
    driver::{Address, EventHandle, EventId, MemoryHandle, Stream},
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

    /// Gives it back to the device, once all others have closed it and said so.
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

    /// Lets go of it, once all work that was queued is done.
    pub fn close(self) -> Result<()> {
        self.cuda.driver().close_memory(self.address)
    }
}

/// An event of this process that others may wait for, or one of theirs.
#[derive(Debug)]
pub struct SharedEvent {
    cuda: Cuda,
    event: EventId,
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

    /// Takes it back; one of this process only after all others have taken back theirs and said so.
    pub fn destroy(self) -> Result<()> {
        self.cuda.driver().destroy_event(self.event)
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
