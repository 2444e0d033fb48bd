//! A communicator of the library's, and the calls on it.

use std::{
    ffi::{CStr, c_char, c_int, c_void},
    fmt::Display,
    mem::ManuallyDrop,
    ptr::{self, NonNull},
    sync::Arc,
};

use super::{
    api::{self, Api, Code, Config, IN_PROGRESS, RawComm, RawId, SUCCESS},
    error,
    lent::Lent,
    operation::{Call, Operation},
};
use ssmv_autograd::DType;

use super::Result;
use crate::Reduction;

/// The library's version.
pub(super) fn version(api: &Api) -> Result<(u32, u32, u32)> {
    let mut number: c_int = 0;
    // SAFETY: writes one integer to a live variable.
    let code = unsafe { (api.version)(&mut number) };
    check(api, ptr::null_mut(), &"nccl version", code)?;
    Ok(api::version(number.unsigned_abs()))
}

/// A new id.
pub(super) fn unique_id(api: &Api) -> Result<[u8; 128]> {
    let mut id = RawId([0; 128]);
    // SAFETY: writes 128 bytes to a live variable.
    let code = unsafe { (api.unique_id)(&mut id) };
    check(api, ptr::null_mut(), &"nccl unique id", code)?;
    Ok(id.0)
}

/// A communicator that is connected, or connects; dropped, it is aborted, which waits for no other rank.
pub(super) struct Handle {
    api: Arc<Api>,
    raw: NonNull<RawComm>,
}

// SAFETY: NCCL lets any thread call, one at a time for each communicator; the handle is not `Sync`.
unsafe impl Send for Handle {}

impl Handle {
    /// Begins to connect a rank, on the device whose context is current on this thread.
    pub fn connect(api: &Arc<Api>, (rank, size): (usize, usize), id: [u8; 128]) -> Result<Self> {
        let mut raw = ptr::null_mut();
        let config = Config::NON_BLOCKING;
        // SAFETY: writes one handle to a live variable; the configuration is read during the call.
        let code = unsafe { (api.connect)(&mut raw, size as c_int, RawId(id), rank as c_int, &config) };
        let handle = NonNull::new(raw).map(|raw| Self { api: api.clone(), raw });
        let what = format!("connect rank {rank} of {size}");
        check(api, raw, &what, code)?;
        handle.ok_or_else(|| error::failed(&what, code, "the library gave no communicator".into()))
    }

    /// Lends the stand-in the emulator's memory, which must stay where it is as long as the handle lives.
    pub fn lend(&self, memory: &Arc<Lent>) -> Result<()> {
        let Some(lend) = self.api.lend_memory else { return Ok(()) };
        // SAFETY: the communicator is live; both functions take this context, from any thread.
        let code = unsafe {
            lend(self.raw.as_ptr(), super::lent::read, super::lent::write, Arc::as_ptr(memory).cast())
        };
        self.check(&"lend memory", code)
    }

    /// Whether what was called so far is under way, with the error of whatever failed.
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

    /// Closes it and starts what was called in it.
    pub fn group_end(&self, what: &dyn Display) -> Result<()> {
        // SAFETY: takes nothing; the communicator of what was called in the group is live.
        self.check(what, unsafe { (self.api.group_end)() })
    }

    /// Calls an operation, in place, on a stream's native handle. The call's range is checked.
    pub fn call(&self, call: &Call, (rank, size): (usize, usize), stream: u64) -> Result<()> {
        let (api, raw) = (&self.api, self.raw.as_ptr());
        let stream: *mut c_void = ptr::without_provenance_mut(stream as usize);
        let dtype = if call.dtype == DType::F16 { 6 } else { 7 };
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
                (api.all_reduce)(memory, memory, count, dtype, number(reduction), raw, stream)
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
                        number(reduction),
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

    /// Begins to end a communicator whose ranks all end it.
    pub fn finalize(&self, what: &dyn Display) -> Result<()> {
        // SAFETY: the communicator is live.
        self.check(what, unsafe { (self.api.finalize)(self.raw.as_ptr()) })
    }

    /// Frees a communicator that is finalised, or never had other ranks.
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

fn number(reduction: Reduction) -> c_int {
    match reduction {
        Reduction::Sum => 0,
        Reduction::Max => 2,
    }
}

/// An error, with NCCL's own words, unless the call succeeded or goes on. `raw` is live, or null.
fn check(api: &Api, raw: *mut RawComm, what: &dyn Display, code: Code) -> Result<()> {
    if code == SUCCESS || code == IN_PROGRESS {
        return Ok(());
    }
    // SAFETY: takes any code.
    let meaning = text(unsafe { (api.error_string)(code) });
    // SAFETY: takes a live communicator or null.
    let last = text(unsafe { (api.last_error)(raw) });
    let words = if last.is_empty() { meaning } else { format!("{meaning}: {last}") };
    Err(error::failed(what, code, words))
}

/// A string of the library's, on one line.
fn text(words: *const c_char) -> String {
    if words.is_null() {
        return String::new();
    }
    // SAFETY: the library's strings end with a zero and live at least until its next call.
    let words = unsafe { CStr::from_ptr(words) }.to_string_lossy();
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}
