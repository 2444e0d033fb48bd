//! Input that reaches the device while it computes.

use bytemuck::Pod;

use super::{
    buffer::{DeviceBuffer, PinnedBuffer},
    device::{Cuda, Event},
};
use crate::Result;

/// A place for one batch, on the host and on the device. With two of them, one is filled and sent while the device works
/// on the other: fill, [`send`](Self::send), [`receive`](Self::receive), compute, [`done`](Self::done).
#[derive(Debug)]
pub struct UploadBuffer<T: Pod> {
    cuda: Cuda,
    host: PinnedBuffer<T>,
    device: DeviceBuffer<T>,
    sent: Event,
    used: Event,
}

impl<T: Pod> UploadBuffer<T> {
    /// A place for `len` elements.
    pub fn new(cuda: &Cuda, len: usize) -> Result<Self> {
        let (host, device) = (cuda.pinned(len)?, cuda.uninit(len)?);
        let feed = Self { cuda: cuda.clone(), host, device, sent: cuda.event()?, used: cuda.event()? };
        // The memory may have been someone else's, whose work is queued before this.
        feed.used.record()?;
        Ok(feed)
    }

    /// Lets `fill` write the next batch, once the last one has left the host, and sends it beside whatever the device
    /// computes, once that is [`done`](Self::done) with the last one.
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

    /// The batch on the device: what is computed from now on finds it whole. After a [`send`](Self::send) only.
    ///
    /// # Errors
    /// [`Error::Misuse`](crate::Error::Misuse) when nothing was sent.
    pub fn receive(&self) -> Result<&DeviceBuffer<T>> {
        let shared = self.cuda.shared();
        shared.driver.wait(shared.compute, self.sent.event)?;
        Ok(&self.device)
    }

    /// Says that all work with the batch is queued.
    pub fn done(&self) -> Result<()> {
        self.used.record()
    }
}

impl<T: Pod> Drop for UploadBuffer<T> {
    fn drop(&mut self) {
        // The device's part goes back to the pool in the order of the compute stream, so a copy still under way must come first.
        let _ = self.receive().map(drop);
    }
}
