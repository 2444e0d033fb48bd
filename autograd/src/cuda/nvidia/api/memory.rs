//! Device memory and pinned host memory.

use std::{
    ffi::c_void,
    ptr,
    sync::{Arc, Mutex},
};

use cudarc::driver::sys;

use super::{
    CUDA_SUCCESS, Code, Context, Event, Stream, check, cuMemAlloc_v2, cuMemFreeHost, cuMemHostAlloc,
};
use crate::{Result, cuda::table::lock};

object! {
    /// A block of device memory.
    Block(sys::CUdeviceptr), cuMemFree_v2
}

impl Block {
    /// The error code is returned separately, so that the caller can detect a full device.
    pub fn allocate(context: &Arc<Context>, bytes: u64) -> Result<Result<Self, Code>> {
        context.enter()?;
        let mut raw = 0;
        let length = usize::try_from(bytes).unwrap_or(usize::MAX);
        // SAFETY: writes one address to a live variable.
        match unsafe { cuMemAlloc_v2(&mut raw, length) } {
            CUDA_SUCCESS => Ok(Ok(Self { context: context.clone(), raw })),
            code => Ok(Err(code)),
        }
    }

    pub fn address(&self) -> u64 {
        self.raw
    }
}

/// Pinned host memory, and the event of the last copy that uses it.
#[derive(Debug)]
pub struct PinnedBlock {
    copied: Event,
    address: *mut u8,
    pub bytes: usize,
    /// Whether a copy may still be running. The thread that holds the lock may read and write the memory then.
    pending: Mutex<bool>,
}

// SAFETY: the memory is only reached with the lock held, and the driver takes its address from any thread.
unsafe impl Send for PinnedBlock {}
// SAFETY: the same.
unsafe impl Sync for PinnedBlock {}

impl PinnedBlock {
    /// Zeroed memory of at least one byte.
    pub fn allocate(context: &Arc<Context>, bytes: usize) -> Result<Self> {
        let copied = Event::create(context, false)?;
        let mut address: *mut c_void = ptr::null_mut();
        // SAFETY: writes one pointer to a live variable; the context is current, `Event::create` entered it.
        check(unsafe { cuMemHostAlloc(&mut address, bytes, 0) }, || {
            format!("allocate {bytes} bytes of pinned memory")
        })?;
        let address = address.cast::<u8>();
        // SAFETY: the driver returned `bytes` bytes there, and no other reference to them exists.
        unsafe { address.write_bytes(0, bytes) };
        Ok(Self { copied, address, bytes, pending: Mutex::new(false) })
    }

    /// Waits for the copies, then passes the memory to `body`.
    pub fn with(&self, body: &mut dyn FnMut(&mut [u8])) -> Result<()> {
        let mut pending = lock(&self.pending);
        if std::mem::take(&mut *pending) {
            self.copied.synchronize()?;
        }
        // SAFETY: `bytes` initialised bytes that live as long as `self`. The lock keeps out other threads and new copies, and
        // earlier copies are done: each waits for the one before it, and the last one was waited for.
        body(unsafe { std::slice::from_raw_parts_mut(self.address, self.bytes) });
        Ok(())
    }

    /// Queues a copy that uses the memory, after the copies queued before.
    pub(super) fn copy(&self, stream: &Stream, copy: impl FnOnce(*mut u8) -> Result<()>) -> Result<()> {
        let mut pending = lock(&self.pending);
        if *pending {
            stream.wait(&self.copied)?;
        }
        copy(self.address)?;
        *pending = true;
        self.copied.record(stream)
    }
}

impl Drop for PinnedBlock {
    fn drop(&mut self) {
        let context = &self.copied.context;
        if *lock(&self.pending) && self.copied.synchronize().is_err() || context.enter().is_err() {
            // The device may still write there: leak the memory rather than reuse it.
            return;
        }
        // SAFETY: the memory came from `cuMemHostAlloc`, and the copies that used it are done.
        unsafe { cuMemFreeHost(self.address.cast()) };
    }
}
