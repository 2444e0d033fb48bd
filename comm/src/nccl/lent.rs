//! The emulator's memory, for the library that stands in for NCCL in tests: addresses on the emulator are numbers that
//! only its driver can follow.

use std::{
    ffi::{c_int, c_void},
    slice,
};

use ssmv_autograd::cuda::{Address, Cuda, Stream};

/// A device whose memory is lent.
pub(super) struct Lent(pub Cuda);

/// Copies from the device; 0 where that went well.
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
    lent.0.driver().download(to, Address(address), Stream(stream)).is_err().into()
}

/// Copies to the device; 0 where that went well.
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
    lent.0.driver().upload(Address(address), from, Stream(stream)).is_err().into()
}
