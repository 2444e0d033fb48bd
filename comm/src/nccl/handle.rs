//! A communicator of the library, and the calls on it.

use std::{
    ffi::{CStr, c_char, c_int, c_void},
    fmt::Display,
    mem::{self, ManuallyDrop, offset_of},
    ptr::{self, NonNull},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use cudarc::nccl::sys::{
    cudaStream_t, ncclComm, ncclComm_t, ncclConfig_t, ncclDataType_t, ncclRedOp_t, ncclResult_t,
};
use ssmv_autograd::DType;

use super::{
    Result, UniqueId, error,
    library::{Api, Code},
    operation::{Call, Operation},
};
use crate::ReduceOp;

pub(super) const SUCCESS: Code = ncclResult_t::ncclSuccess as Code;
const IN_PROGRESS: Code = ncclResult_t::ncclInProgress as Code;

/// A non-blocking communicator by the configuration of NCCL 2.14. Later versions use their defaults for the rest, because of
/// its size and version.
fn non_blocking() -> ncclConfig_t {
    // SAFETY: the fields are integers and pointers, which may be zero.
    let mut config: ncclConfig_t = unsafe { mem::zeroed() };
    config.size = offset_of!(ncclConfig_t, minCTAs);
    (config.magic, config.version) = (0xcafe_beef, 21_400);
    config.blocking = 0;
    // nccl.h, `NCCL_CONFIG_UNDEF_INT`.
    config.cgaClusterSize = c_int::MIN;
    config
}

/// A communicator that is connected or connects. Dropping it aborts it, which does not wait for other ranks.
pub(super) struct Handle {
    api: Arc<Api>,
    raw: NonNull<ncclComm>,
}

// SAFETY: NCCL lets any thread call, one at a time for each communicator; the handle is not `Sync`.
unsafe impl Send for Handle {}

impl Handle {
    /// Starts to connect a rank on the device whose context is current on this thread.
    pub fn connect(api: &Arc<Api>, (rank, size): (usize, usize), id: UniqueId) -> Result<Self> {
        let mut raw = ptr::null_mut();
        let config = non_blocking();
        // SAFETY: writes one handle to a live variable; the configuration is read during the call.
        let code = unsafe { (api.connect)(&mut raw, size as c_int, id.raw(), rank as c_int, &config) };
        let handle = NonNull::new(raw).map(|raw| Self { api: api.clone(), raw });
        let what = format!("connect rank {rank} of {size}");
        check(api, raw, &what, code)?;
        handle.ok_or_else(|| error::failed(&what, code, "the library returned no communicator".into()))
    }

    /// Whether all calls so far are queued in their streams. The error is the first failure, in the background too.
    pub fn is_done(&self, what: &dyn Display) -> Result<bool> {
        let mut state = SUCCESS;
        // SAFETY: the communicator is live; writes one integer to a live variable.
        let code = unsafe { (self.api.async_error)(self.raw.as_ptr(), &mut state) };
        self.check(what, code)?;
        self.check(what, state)?;
        Ok(state != IN_PROGRESS)
    }

    /// Opens a group on this thread.
    pub fn group_start(&self) -> Result<()> {
        // SAFETY: takes nothing.
        self.check(&"nccl group", unsafe { (self.api.group_start)() })
    }

    /// Closes the group and starts its operations.
    pub fn group_end(&self, what: &dyn Display) -> Result<()> {
        // SAFETY: takes nothing; the communicators of the group's operations are live.
        self.check(what, unsafe { (self.api.group_end)() })
    }

    /// Calls an operation, in place, on a stream's native handle. The call's range is checked.
    pub fn call(&self, call: &Call, (rank, size): (usize, usize), stream: u64) -> Result<()> {
        let (api, raw) = (&self.api, self.raw.as_ptr());
        let stream: cudaStream_t = ptr::without_provenance_mut(stream as usize);
        let dtype = match call.dtype {
            DType::F16 => ncclDataType_t::ncclFloat16,
            _ => ncclDataType_t::ncclFloat32,
        };
        let at = |element: usize| -> *mut c_void {
            let bytes = (element * call.dtype.bytes()) as u64;
            ptr::without_provenance_mut(call.address.offset(bytes).0 as usize)
        };
        let (memory, count) = (at(0), call.count);
        let code = match call.operation {
            // SAFETY: the communicator is live; `count` elements lie in device memory, as the caller checked.
            Operation::Send { to } => unsafe { (api.send)(memory, count, dtype, to as c_int, raw, stream) },
            // SAFETY: the same.
            Operation::Receive { from } => unsafe {
                (api.recv)(memory, count, dtype, from as c_int, raw, stream)
            },
            // SAFETY: the same.
            Operation::AllReduce(reduction) => unsafe {
                (api.all_reduce)(memory, memory, count, dtype, reduction_of(reduction), raw, stream)
            },
            Operation::ReduceScatter(reduction) => {
                let share = call.share(size)?;
                // SAFETY: the same: the shares are those `count` elements.
                unsafe {
                    (api.reduce_scatter)(
                        memory,
                        at(rank * share),
                        share,
                        dtype,
                        reduction_of(reduction),
                        raw,
                        stream,
                    )
                }
            }
            Operation::AllGather => {
                let share = call.share(size)?;
                // SAFETY: the same: the shares are those `count` elements.
                unsafe { (api.all_gather)(at(rank * share), memory, share, dtype, raw, stream) }
            }
            // SAFETY: the same.
            Operation::Broadcast { root } => unsafe {
                (api.broadcast)(memory, memory, count, dtype, root as c_int, raw, stream)
            },
        };
        self.check(&format_args!("nccl {}", call.operation), code)
    }

    /// Starts to end a communicator, which all its ranks do.
    pub fn finalize(&self, what: &dyn Display) -> Result<()> {
        // SAFETY: the communicator is live.
        self.check(what, unsafe { (self.api.finalize)(self.raw.as_ptr()) })
    }

    /// Frees a communicator that is finalised or has one rank.
    pub fn destroy(self, what: &dyn Display) -> Result<()> {
        // Not dropped: that would abort what is destroyed. The library is never closed, so its handle may be forgotten.
        let handle = ManuallyDrop::new(self);
        // SAFETY: the communicator is live, and nothing else uses it.
        let code = unsafe { (handle.api.destroy)(handle.raw.as_ptr()) };
        check(&handle.api, ptr::null_mut(), what, code)
    }

    fn check(&self, what: &dyn Display, code: Code) -> Result<()> {
        check(&self.api, self.raw.as_ptr(), what, code)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: the communicator is live, and nothing else uses it. An error cannot be reported here.
        unsafe { (self.api.abort)(self.raw.as_ptr()) };
    }
}

fn reduction_of(reduction: ReduceOp) -> ncclRedOp_t {
    match reduction {
        ReduceOp::Sum => ncclRedOp_t::ncclSum,
        ReduceOp::Max => ncclRedOp_t::ncclMax,
    }
}

/// An error with NCCL's message, unless the call succeeded or is in progress. `raw` is live or null.
pub(super) fn check(api: &Api, raw: ncclComm_t, what: &dyn Display, code: Code) -> Result<()> {
    if code == SUCCESS || code == IN_PROGRESS {
        return Ok(());
    }
    // SAFETY: takes any code.
    let meaning = text(unsafe { (api.error_string)(code) });
    // SAFETY: takes a live communicator or null.
    let last = text(unsafe { (api.last_error)(raw) });
    let message = if last.is_empty() { meaning } else { format!("{meaning}: {last}") };
    Err(error::failed(what, code, message))
}

/// A string of the library, on one line.
fn text(string: *const c_char) -> String {
    if string.is_null() {
        return String::new();
    }
    // SAFETY: the library's strings end with a zero and live at least until its next call.
    let string = unsafe { CStr::from_ptr(string) }.to_string_lossy();
    string.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Calls without a pause in between, since most work is done at once.
const EAGER: usize = 20;
/// The first pause between two calls, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_micros(20), Duration::from_millis(1));

/// Calls `done` until it returns true or fails; false after `timeout`. It is called at least once.
pub(super) fn wait_until(timeout: Duration, mut done: impl FnMut() -> Result<bool>) -> Result<bool> {
    let (start, mut calls, mut pause) = (Instant::now(), 0, PAUSES.0);
    while !done()? {
        if start.elapsed() >= timeout {
            return Ok(false);
        }
        calls += 1;
        if calls < EAGER {
            thread::yield_now();
        } else {
            thread::sleep(pause);
            pause = (pause * 2).min(PAUSES.1);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nccl::Error;

    #[test]
    fn a_wait_ends_when_done_late_or_failed() {
        let mut looks = 0;
        let mut third = || {
            looks += 1;
            Ok(looks == 3)
        };
        assert_eq!(wait_until(Duration::from_secs(60), &mut third), Ok(true));
        assert_eq!(wait_until(Duration::from_millis(5), || Ok(false)), Ok(false));
        let failure = Error::misuse("look", "it failed");
        assert_eq!(wait_until(Duration::from_secs(60), || Err(failure.clone())), Err(failure));
        assert_eq!(wait_until(Duration::ZERO, || Ok(true)), Ok(true));
    }
}
