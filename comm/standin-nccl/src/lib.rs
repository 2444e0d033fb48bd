//! A library that speaks NCCL's C interface over TCP on loopback. It lets what calls NCCL run on machines without a GPU,
//! with the emulator for a device, and fails and hangs to order. It is no NCCL: it is neither fast nor clever, it knows f16
//! and f32 alone, it reduces f32 alone, and every communicator is a non-blocking one.
//!
//! It cannot reach a device's memory, so it exports one function that NCCL has not, [`ssmv_standin_memory`], by which the
//! caller lends it a way to read and write.
//!
//! | file | what it is |
//! | --- | --- |
//! | `lib.rs` | the functions of nccl.h that make and end communicators |
//! | `calls.rs` | those that queue operations |
//! | `id.rs` | the unique id: rank 0's address, and the failures that are ordered |
//! | `mesh.rs` | how ranks find each other: a connection between every two |
//! | `shared.rs` | a communicator's state, its worker and its mail |
//! | `work.rs` | what the operations do |
//!
//! Failures to order: `KIND=OPERATION:N@RANK`, where KIND is `fail` (the call is refused), `lose` (the call is taken, and
//! then the other ranks are lost) or `hang` (nothing more happens until the communicator is aborted); OPERATION is `init`,
//! `send`, `recv`, `allreduce`, `reducescatter`, `allgather` or `broadcast`, N counts its calls from 1, and without `@RANK`
//! it is every rank's. They stand in the environment as `STANDIN_FAIL=OPERATION:N@RANK,…`, and so on, or in the bytes of the
//! unique id after the address, each after a `;`.
//!
//! How communicators end stands in the file that `STANDIN_LOG` names, a line each: `finalize`, `destroy` or `abort`, and the
//! rank.

#![allow(non_snake_case, non_camel_case_types)]

mod calls;
mod id;
mod mesh;
mod shared;
mod work;

use std::ffi::{c_char, c_int, c_void};

use id::{Fault, Operation};
use shared::{Communicator, Memory, Read, Write};

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

/// Begins to listen for the ranks of one communicator.
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

/// Connects a rank, in a thread of its own; the configuration is taken for one of a non-blocking communicator.
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
    let communicator = Communicator::new(rank, size, orders);
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

/// Lends a communicator a way to its device's memory. `context` is handed back to both functions.
///
/// # Safety
/// `comm` is live. Both functions may be called from any thread, with `context`, until it is destroyed or aborted.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ssmv_standin_memory(
    comm: *const Communicator,
    read: Read,
    write: Write,
    context: *const c_void,
) -> Code {
    // SAFETY: as the caller promises.
    match unsafe { comm.as_ref() } {
        Some(comm) => comm.shared().lend(Memory { read, write, context }),
        None => INVALID_ARGUMENT,
    }
}

/// Nothing is kept back, so there is nothing to flush.
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
/// `comm` is live, and used no more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclCommDestroy(comm: *mut Communicator) -> Code {
    // SAFETY: as the caller promises.
    unsafe { end(comm, "destroy") }
}

/// Ends a communicator, whatever it does.
///
/// # Safety
/// `comm` is live, and used no more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclCommAbort(comm: *mut Communicator) -> Code {
    // SAFETY: as the caller promises.
    unsafe { end(comm, "abort") }
}

/// # Safety
/// `comm` is null, or live and used no more.
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

/// How the work of a communicator goes.
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

/// What a code means.
#[unsafe(no_mangle)]
pub extern "C" fn ncclGetErrorString(code: Code) -> *const c_char {
    let words = match code {
        SUCCESS => c"no error",
        CUDA_ERROR => c"stand-in: unhandled cuda error",
        SYSTEM_ERROR => c"stand-in: unhandled system error",
        INVALID_ARGUMENT => c"stand-in: invalid argument",
        INVALID_USAGE => c"stand-in: invalid usage",
        REMOTE_ERROR => c"stand-in: remote process exited or there was a network error",
        IN_PROGRESS => c"stand-in: operation in progress",
        _ => c"stand-in: unknown result code",
    };
    words.as_ptr()
}

/// What went wrong first; good while the communicator is live.
///
/// # Safety
/// `comm` is null or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclGetLastError(comm: *const Communicator) -> *const c_char {
    // SAFETY: as the caller promises.
    let words = unsafe { comm.as_ref() }.and_then(|comm| comm.shared().words());
    words.unwrap_or(c"").as_ptr()
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
