//! Memory and events that processes of one machine share.
//!
//! The owner keeps them until all other processes have closed them, and closing waits for the device. Only the
//! processes can coordinate this, so `Drop` releases nothing: a dropped object stays until the process ends.

use super::{
    device::Cuda,
    driver::{Address, EventHandle, EventId, MemoryHandle, Stream},
};
use crate::{Error, Result};

/// Shared memory is allocated in multiples of this many bytes, a driver's page, so that peers cannot reach other memory
/// of the process.
const PAGE: u64 = 2 << 20;

/// Device memory that other processes may open. It belongs to no pool: other processes write it at any time.
#[derive(Debug)]
pub struct SharedMemory {
    cuda: Cuda,
    address: Address,
    bytes: u64,
}

impl SharedMemory {
    /// The address of the first byte, for kernels of this process.
    pub fn address(&self) -> Address {
        self.address
    }

    /// Its size in bytes: the requested size, rounded up.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The handle by which other processes open it.
    pub fn handle(&self) -> Result<MemoryHandle> {
        self.cuda.driver().export_memory(self.address)
    }

    /// Frees the memory. All other processes must have closed it and confirmed that.
    pub fn free(self) -> Result<()> {
        self.cuda.driver().free(self.address)
    }
}

/// Another process's memory, mapped into this process.
#[derive(Debug)]
pub struct PeerMemory {
    cuda: Cuda,
    address: Address,
}

impl PeerMemory {
    /// The address of the first byte, for kernels of this process.
    pub fn address(&self) -> Address {
        self.address
    }

    /// Closes it, once all work that was queued is done.
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
    /// The handle by which other processes open it; for an event of this process only.
    pub fn handle(&self) -> Result<EventHandle> {
        self.cuda.driver().export_event(self.event)
    }

    /// Records the event at the end of a stream.
    pub fn record(&self, stream: Stream) -> Result<()> {
        self.cuda.driver().record(self.event, stream)
    }

    /// Makes later work in the stream wait for the event. Another process's event must be known to have been recorded.
    pub fn wait(&self, stream: Stream) -> Result<()> {
        self.cuda.driver().wait(stream, self.event)
    }

    /// Destroys the event; one of this process only after all other processes have destroyed theirs and confirmed that.
    pub fn destroy(self) -> Result<()> {
        self.cuda.driver().destroy_event(self.event)
    }
}

impl Cuda {
    /// Allocates at least `bytes` that other processes may open.
    pub fn share(&self, bytes: u64) -> Result<SharedMemory> {
        let bytes = bytes
            .checked_next_multiple_of(PAGE)
            .ok_or_else(|| Error::misuse("share", format!("{bytes} bytes of memory")))?;
        let address = self.driver().allocate(bytes)?;
        Ok(SharedMemory { cuda: self.clone(), address, bytes })
    }

    /// Opens another process's memory of `bytes`.
    pub fn open_peer(&self, handle: &MemoryHandle, bytes: u64) -> Result<PeerMemory> {
        let address = self.driver().open_memory(handle, bytes)?;
        Ok(PeerMemory { cuda: self.clone(), address })
    }

    /// Creates an event that other processes may open.
    pub fn share_event(&self) -> Result<SharedEvent> {
        Ok(SharedEvent { cuda: self.clone(), event: self.driver().create_shared_event()? })
    }

    /// Opens another process's event, to wait for it.
    pub fn open_peer_event(&self, handle: &EventHandle) -> Result<SharedEvent> {
        Ok(SharedEvent { cuda: self.clone(), event: self.driver().open_event(handle)? })
    }
}
