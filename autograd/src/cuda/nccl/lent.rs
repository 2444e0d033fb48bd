//! The emulator's memory, for the library that stands in for NCCL in tests: addresses on the emulator are numbers that
//! only its driver can follow.

use std::{
    ffi::{c_int, c_void},
    slice,
    sync::Mutex,
};

use super::super::{
    device::Cuda,
    driver::{Address, Stream},
    table::lock,
};
use crate::{Error, Result};

/// A device whose memory is lent, and what the driver had to say where the memory was used wrongly.
pub(super) struct Lent {
    cuda: Cuda,
    failure: Mutex<Option<Error>>,
}

impl Lent {
    pub fn new(cuda: &Cuda) -> Self {
        Self { cuda: cuda.clone(), failure: Mutex::default() }
    }

    /// The driver's error, where there was one; it says more than the library can.
    pub fn failure(&self) -> Option<Error> {
        lock(&self.failure).take()
    }

    fn done(&self, result: Result<()>) -> c_int {
        match result {
            Ok(()) => 0,
            Err(error) => {
                lock(&self.failure).get_or_insert(error);
                1
            }
        }
    }
}

/// Copies from the device.
///
/// # Safety
/// `context` points to a live [`Lent`], `to` to `bytes` bytes that may be written.
pub(super) unsafe extern "C" fn read(
    context: *const c_void,
    stream: u64,
    address: u64,
    to: *mut u8,
    bytes: usize,
) -> c_int {
    // SAFETY: as the caller promises.
    let (lent, to) = unsafe { (&*context.cast::<Lent>(), slice::from_raw_parts_mut(to, bytes)) };
    lent.done(lent.cuda.driver().download(to, Address(address), Stream(stream)))
}

/// Copies to the device.
///
/// # Safety
/// `context` points to a live [`Lent`], `from` to `bytes` bytes.
pub(super) unsafe extern "C" fn write(
    context: *const c_void,
    stream: u64,
    address: u64,
    from: *const u8,
    bytes: usize,
) -> c_int {
    // SAFETY: as the caller promises.
    let (lent, from) = unsafe { (&*context.cast::<Lent>(), slice::from_raw_parts(from, bytes)) };
    lent.done(lent.cuda.driver().upload(Address(address), from, Stream(stream)))
}
