//! The functions of nccl.h that queue operations.

use std::{
    cell::RefCell,
    ffi::{c_int, c_void},
    ptr,
    sync::Arc,
};

use crate::{
    Code, IN_PROGRESS, INVALID_ARGUMENT, INVALID_USAGE, SUCCESS, SYSTEM_ERROR,
    id::{Fault, Operation},
    shared::{Communicator, Shared},
    work::Job,
};

/// The open group of a thread.
#[derive(Default)]
struct Group {
    depth: usize,
    jobs: Vec<(Arc<Shared>, Job)>,
    refused: Code,
}

thread_local! {
    static GROUP: RefCell<Group> = RefCell::default();
}

/// Opens a group on this thread.
#[unsafe(no_mangle)]
pub extern "C" fn ncclGroupStart() -> Code {
    GROUP.with_borrow_mut(|group| group.depth += 1);
    SUCCESS
}

/// Closes the group and starts its operations.
#[unsafe(no_mangle)]
pub extern "C" fn ncclGroupEnd() -> Code {
    let group = GROUP.with_borrow_mut(|group| {
        group.depth = group.depth.checked_sub(1)?;
        Some(if group.depth == 0 { std::mem::take(group) } else { Group::default() })
    });
    match group {
        None => INVALID_USAGE,
        Some(group) if group.refused != SUCCESS => group.refused,
        Some(group) if group.jobs.is_empty() => SUCCESS,
        Some(mut group) => {
            while let Some((shared, _)) = group.jobs.first() {
                let shared = shared.clone();
                let (mine, others) = group.jobs.into_iter().partition(|(of, _)| Arc::ptr_eq(of, &shared));
                let mine: Vec<_> = mine;
                group.jobs = others;
                shared.submit(mine.into_iter().map(|(_, job)| job).collect());
            }
            IN_PROGRESS
        }
    }
}

/// Sends elements to a rank.
///
/// # Safety
/// `comm` is null or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclSend(
    from: *const c_void,
    count: usize,
    dtype: c_int,
    peer: c_int,
    comm: *const Communicator,
    stream: *const c_void,
) -> Code {
    // SAFETY: as the caller promises.
    unsafe { queue(comm, Operation::Send, (from, ptr::null()), (count, dtype), peer, 0, stream) }
}

/// Receives elements from a rank.
///
/// # Safety
/// `comm` is null or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclRecv(
    to: *mut c_void,
    count: usize,
    dtype: c_int,
    peer: c_int,
    comm: *const Communicator,
    stream: *const c_void,
) -> Code {
    // SAFETY: as the caller promises.
    unsafe { queue(comm, Operation::Recv, (ptr::null(), to), (count, dtype), peer, 0, stream) }
}

/// Reduces elements over all ranks.
///
/// # Safety
/// `comm` is null or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclAllReduce(
    from: *const c_void,
    to: *mut c_void,
    count: usize,
    dtype: c_int,
    reduction: c_int,
    comm: *const Communicator,
    stream: *const c_void,
) -> Code {
    // SAFETY: as the caller promises.
    unsafe { queue(comm, Operation::AllReduce, (from, to), (count, dtype), 0, reduction, stream) }
}

/// Reduces elements over all ranks; each gets its share of `count` elements.
///
/// # Safety
/// `comm` is null or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclReduceScatter(
    from: *const c_void,
    to: *mut c_void,
    count: usize,
    dtype: c_int,
    reduction: c_int,
    comm: *const Communicator,
    stream: *const c_void,
) -> Code {
    // SAFETY: as the caller promises.
    unsafe { queue(comm, Operation::ReduceScatter, (from, to), (count, dtype), 0, reduction, stream) }
}

/// Collects the shares of all ranks, of `count` elements each.
///
/// # Safety
/// `comm` is null or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclAllGather(
    from: *const c_void,
    to: *mut c_void,
    count: usize,
    dtype: c_int,
    comm: *const Communicator,
    stream: *const c_void,
) -> Code {
    // SAFETY: as the caller promises.
    unsafe { queue(comm, Operation::AllGather, (from, to), (count, dtype), 0, 0, stream) }
}

/// Copies elements from the root to all ranks.
///
/// # Safety
/// `comm` is null or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ncclBroadcast(
    from: *const c_void,
    to: *mut c_void,
    count: usize,
    dtype: c_int,
    root: c_int,
    comm: *const Communicator,
    stream: *const c_void,
) -> Code {
    // SAFETY: as the caller promises.
    unsafe { queue(comm, Operation::Broadcast, (from, to), (count, dtype), root, 0, stream) }
}

/// Adds an operation to the open group, or starts it.
///
/// # Safety
/// `comm` is null or live.
unsafe fn queue(
    comm: *const Communicator,
    operation: Operation,
    (from, to): (*const c_void, *const c_void),
    (count, dtype): (usize, c_int),
    peer: c_int,
    reduction: c_int,
    stream: *const c_void,
) -> Code {
    // SAFETY: as the caller promises.
    let Some(comm) = (unsafe { comm.as_ref() }) else { return INVALID_ARGUMENT };
    let shared = comm.shared().clone();
    let (from, to, stream) = (from.addr() as u64, to.addr() as u64, stream.addr());
    let job = shared.fault(operation).map_or(Ok(None), |fault| match fault {
        Fault::Fail => Err(SYSTEM_ERROR),
        later => Ok(Some(later)),
    });
    let job = job.and_then(|fault| {
        let job = Job::new(operation, (from, to), (count, dtype), peer, reduction, stream, fault);
        job.filter(|job| job.peer < shared.size).ok_or(INVALID_ARGUMENT)
    });
    GROUP.with_borrow_mut(|group| match job {
        Err(code) => {
            group.refused = if group.depth > 0 { code } else { SUCCESS };
            code
        }
        Ok(job) if group.depth > 0 => {
            group.jobs.push((shared, job));
            SUCCESS
        }
        Ok(job) => {
            shared.submit(vec![job]);
            IN_PROGRESS
        }
    })
}
