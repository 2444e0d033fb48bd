//! Upload of the next batch while the device computes.

use bytemuck::Pod;

use super::{
    buffer::{DeviceBuffer, PinnedBuffer},
    device::{Cuda, Event},
};
use crate::Result;

/// Memory for one batch, on the host and on the device. With two of them, one is filled and sent while the device
/// computes with the other: fill, [`send`](Self::send), [`receive`](Self::receive), compute, [`done`](Self::done).
#[derive(Debug)]
pub struct UploadBuffer<T: Pod> {
    cuda: Cuda,
    host: PinnedBuffer<T>,
    device: DeviceBuffer<T>,
    sent: Event,
    used: Event,
}

impl<T: Pod> UploadBuffer<T> {
    /// Allocates a buffer of `len` elements.
    pub fn new(cuda: &Cuda, len: usize) -> Result<Self> {
        let (host, device) = (cuda.pinned(len)?, cuda.uninit(len)?);
        let feed = Self { cuda: cuda.clone(), host, device, sent: cuda.event()?, used: cuda.event()? };
        // The memory may have had another user, whose work is queued before this.
        feed.used.record()?;
        Ok(feed)
    }

    /// Waits until the last batch has left the host, lets `fill` write the next one, and queues its upload. The upload
    /// runs beside other work, after the device is [`done`](Self::done) with the last batch.
    pub fn send<R>(&mut self, fill: impl FnOnce(&mut [T]) -> R) -> Result<R> {
        let result = self.host.with(fill)?;
        let shared = self.cuda.shared();
        shared.driver.wait(shared.copy, self.used.event)?;
        shared.driver.upload_pinned(
            self.device.address(),
            self.host.memory,
            self.device.bytes(),
            shared.copy,
        )?;
        shared.driver.record(self.sent.event, shared.copy)?;
        Ok(result)
    }

    /// The batch on the device; later work in the compute stream waits for its upload. Requires a [`send`](Self::send).
    ///
    /// # Errors
    /// [`Error::Misuse`](crate::Error::Misuse) if no batch was sent.
    pub fn receive(&self) -> Result<&DeviceBuffer<T>> {
        let shared = self.cuda.shared();
        shared.driver.wait(shared.compute, self.sent.event)?;
        Ok(&self.device)
    }

    /// Marks the batch as used: all work with it is queued.
    pub fn done(&self) -> Result<()> {
        self.used.record()
    }
}

impl<T: Pod> Drop for UploadBuffer<T> {
    fn drop(&mut self) {
        // The device memory returns to the pool in the order of the compute stream, so wait for a running upload first.
        let _ = self.receive().map(drop);
    }
}
