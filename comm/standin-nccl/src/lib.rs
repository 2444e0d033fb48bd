//! A test double for NCCL: its C interface over TCP on loopback. With `emulator/libcuda` as the driver, programs that call
//! NCCL run on machines without a GPU. It also fails and hangs on request. It is slow, supports f16 and f32 only, reduces f32
//! only, and treats every communicator as non-blocking. An operation runs in the order of its stream, and its
//! communicator is in progress until it is done, unlike NCCL's, which is done when the operation is queued. It cannot be
//! captured.
//!
//! | file | content |
//! | --- | --- |
//! | `lib.rs` | the functions of nccl.h that make and end communicators |
//! | `calls.rs` | the functions of nccl.h that queue operations |
//! | `id.rs` | the unique id: rank 0's address and the requested failures |
//! | `mesh.rs` | connects every pair of ranks |
//! | `shared.rs` | a communicator's state, its worker thread and its received messages |
//! | `work.rs` | runs the operations |
//! | `device.rs` | reads and writes device memory through libcuda |
//!
//! A requested failure is `KIND=OPERATION:N@RANK`. KIND is `fail` (the call returns an error), `lose` (the call succeeds, then
//! the connections to the other ranks are lost) or `hang` (the call succeeds, then nothing happens until the communicator is
//! aborted). OPERATION is `init`, `send`, `recv`, `allreduce`, `reducescatter`, `allgather` or `broadcast`. N counts its calls
//! from 1. Without `@RANK` every rank fails. Requests are read from the environment (`STANDIN_FAIL=OPERATION:N@RANK,…`,
//! `STANDIN_LOSE`, `STANDIN_HANG`) and from the bytes of the unique id after the address, each behind a `;`.
//!
//! `STANDIN_LOG` names a file to which each end of a communicator adds a line: `finalize`, `destroy` or `abort`, and the rank.

#![allow(non_snake_case, non_camel_case_types)]

mod calls;
mod device;
mod id;
mod mesh;
mod shared;
mod work;

use std::ffi::{c_char, c_int, c_void};

use device::Device;
use id::{Fault, Operation};
use shared::Communicator;

/// `ncclResult_t`.
pub type Code = c_int;
pub(crate) const SUCCESS: Code = 0;
pub(crate) const CUDA_ERROR: Code = 1;
pub(crate) const SYSTEM_ERROR: Code = 2;
pub(crate) const INVALID_ARGUMENT: Code = 4;
pub(crate) const INVALID_USAGE: Code = 5;
pub(crate) const REMOTE_ERROR: Code = 6;
pub(crate) const IN_PROGRESS: Code = 7;

/// `ncclUniqueId`.
#[repr(C)]
pub struct ncclUniqueId([u8; id::BYTES]);

/// 2.14.0: the first version with all that is here.
///
/// # Safety
/// `version` is null or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclGetVersion(version: *mut c_int) -> Code {
    // SAFETY: as the caller promises.
    unsafe { put(version, 21_400) }
}

/// Starts to listen for the ranks of one communicator.
///
/// # Safety
/// `unique` is null or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclGetUniqueId(unique: *mut ncclUniqueId) -> Code {
    match mesh::listen() {
        // SAFETY: as the caller promises.
        Ok(address) => unsafe { put(unique, ncclUniqueId(id::write(address))) },
        Err(_) => SYSTEM_ERROR,
    }
}

/// Connects a rank, in a thread of its own, on the device whose context is current. The configuration is not read: every
/// communicator is non-blocking.
///
/// # Safety
/// `comm` is null or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclCommInitRankConfig(
    comm: *mut *mut Communicator,
    size: c_int,
    unique: ncclUniqueId,
    rank: c_int,
    _config: *const c_void,
) -> Code {
    let (Ok(size), Ok(rank)) = (usize::try_from(size), usize::try_from(rank)) else {
        return INVALID_ARGUMENT;
    };
    let Some((address, orders)) = id::read(&unique.0) else { return INVALID_ARGUMENT };
    if rank >= size {
        return INVALID_ARGUMENT;
    }
    let Some(device) = Device::current() else { return CUDA_ERROR };
    let communicator = Communicator::new(rank, size, device, orders);
    let fault = communicator.shared().fault(Operation::Init);
    if fault == Some(Fault::Fail) {
        return SYSTEM_ERROR;
    }
    communicator.start(address, fault);
    // SAFETY: as the caller promises.
    match unsafe { put(comm, Box::into_raw(Box::new(communicator))) } {
        SUCCESS => IN_PROGRESS,
        code => code,
    }
}

/// Does nothing: there is nothing to flush.
///
/// # Safety
/// `comm` is null or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclCommFinalize(comm: *const Communicator) -> Code {
    // SAFETY: as the caller promises.
    match unsafe { comm.as_ref() } {
        Some(comm) => {
            comm.shared().log("finalize");
            SUCCESS
        }
        None => INVALID_ARGUMENT,
    }
}

/// Ends a communicator whose work is done.
///
/// # Safety
/// `comm` is live, and is not used afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclCommDestroy(comm: *mut Communicator) -> Code {
    // SAFETY: as the caller promises.
    unsafe { end(comm, "destroy") }
}

/// Ends a communicator at once, and the operation that it is in.
///
/// # Safety
/// `comm` is live, and is not used afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclCommAbort(comm: *mut Communicator) -> Code {
    // SAFETY: as the caller promises.
    unsafe { end(comm, "abort") }
}

/// # Safety
/// `comm` is null, or live and not used afterwards.
unsafe fn end(comm: *mut Communicator, how: &str) -> Code {
    if comm.is_null() {
        return INVALID_ARGUMENT;
    }
    // SAFETY: it was made by `into_raw`, and the caller gives it up.
    let comm = unsafe { Box::from_raw(comm) };
    comm.shared().log(how);
    comm.end();
    SUCCESS
}

/// Writes the first failure of a communicator, or whether its operations are in progress.
///
/// # Safety
/// `comm` is null or live; `code` is null or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclCommGetAsyncError(comm: *const Communicator, code: *mut Code) -> Code {
    // SAFETY: as the caller promises.
    match unsafe { comm.as_ref() } {
        // SAFETY: as the caller promises.
        Some(comm) => unsafe { put(code, comm.shared().progress()) },
        None => INVALID_ARGUMENT,
    }
}

/// The meaning of a result code.
#[unsafe(no_mangle)]
pub extern "C" fn ncclGetErrorString(code: Code) -> *const c_char {
    let text = match code {
        SUCCESS => c"no error",
        CUDA_ERROR => c"test double: unhandled cuda error",
        SYSTEM_ERROR => c"test double: unhandled system error",
        INVALID_ARGUMENT => c"test double: invalid argument",
        INVALID_USAGE => c"test double: invalid usage",
        REMOTE_ERROR => c"test double: remote process exited or there was a network error",
        IN_PROGRESS => c"test double: operation in progress",
        _ => c"test double: unknown result code",
    };
    text.as_ptr()
}

/// The message of the first failure. The string lives as long as the communicator.
///
/// # Safety
/// `comm` is null or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclGetLastError(comm: *const Communicator) -> *const c_char {
    // SAFETY: as the caller promises.
    let message = unsafe { comm.as_ref() }.and_then(|comm| comm.shared().message());
    message.unwrap_or(c"").as_ptr()
}

/// Writes a result.
///
/// # Safety
/// `to` is null or may be written.
unsafe fn put<T>(to: *mut T, value: T) -> Code {
    if to.is_null() {
        return INVALID_ARGUMENT;
    }
    // SAFETY: not null, so it may be written.
    unsafe { to.write(value) };
    SUCCESS
}
