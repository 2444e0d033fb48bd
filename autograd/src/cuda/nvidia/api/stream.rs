//! Streams and their work, events, graphs.

use std::{ffi::c_int, ptr, sync::Arc};

use cudarc::driver::sys::{self, CUevent_flags as Flags};

use super::{
    CUDA_ERROR_NOT_READY, Context, PinnedBlock, check, cuCtxGetStreamPriorityRange, cuEventCreate,
    cuEventElapsedTime, cuEventQuery, cuEventRecord, cuEventSynchronize, cuGraphDestroy,
    cuGraphInstantiateWithFlags, cuGraphLaunch, cuMemcpyDtoDAsync_v2, cuMemcpyDtoHAsync_v2,
    cuMemcpyHtoDAsync_v2, cuMemsetD8Async, cuStreamBeginCapture_v2, cuStreamCreateWithPriority,
    cuStreamEndCapture, cuStreamGetPriority, cuStreamSynchronize, cuStreamWaitEvent,
};
use crate::{Result, cuda::driver::Priority};

object! {
    /// A stream that does not wait for the default stream.
    Stream(sys::CUstream), cuStreamDestroy_v2
}
object! {
    /// An event: a point in a stream.
    Event(sys::CUevent), cuEventDestroy_v2
}
object! {
    /// A graph that can be launched.
    Graph(sys::CUgraphExec), cuGraphExecDestroy
}

impl Stream {
    pub fn create(context: &Arc<Context>, priority: Priority) -> Result<Self> {
        let number = context.priorities()?[priority as usize];
        let mut raw = ptr::null_mut();
        let flags = sys::CUstream_flags::CU_STREAM_NON_BLOCKING as u32;
        // SAFETY: writes one handle to a live variable; the context is current, `priorities` entered it.
        let code = unsafe { cuStreamCreateWithPriority(&mut raw, flags, number) };
        check(code, || "create a stream".into())?;
        Ok(Self { context: context.clone(), raw })
    }

    /// The priority that the driver assigned to this stream.
    pub fn priority(&self) -> Result<Priority> {
        let [normal, _] = self.context.priorities()?;
        let mut number: c_int = 0;
        // SAFETY: the stream is live; writes one integer to a live variable.
        check(unsafe { cuStreamGetPriority(self.raw, &mut number) }, || {
            "ask for a stream's priority".into()
        })?;
        Ok(if number < normal { Priority::High } else { Priority::Normal })
    }

    pub fn synchronize(&self) -> Result<()> {
        self.context.enter()?;
        // SAFETY: the stream is live.
        check(unsafe { cuStreamSynchronize(self.raw) }, || "wait for the stream".into())
    }

    /// The driver's raw handle; the context is made current on this thread.
    pub fn native(&self) -> Result<u64> {
        self.context.enter()?;
        Ok(self.raw.addr() as u64)
    }

    pub fn wait(&self, event: &Event) -> Result<()> {
        self.context.enter()?;
        // SAFETY: both handles are live.
        check(unsafe { cuStreamWaitEvent(self.raw, event.raw, 0) }, || "wait for an event".into())
    }

    /// Returns when the bytes are copied. The caller checks the range at `to`.
    pub fn upload(&self, to: u64, from: &[u8]) -> Result<()> {
        self.context.enter()?;
        let operation = || format!("copy {} bytes to the device", from.len());
        // SAFETY: reads the slice, which outlives the copy: the stream is waited for before the borrow ends.
        let code = unsafe { cuMemcpyHtoDAsync_v2(to, from.as_ptr().cast(), from.len(), self.raw) };
        check(code, operation).and(self.synchronize())
    }

    /// Returns when the bytes are copied. The caller checks the range at `from`.
    pub fn download(&self, to: &mut [u8], from: u64) -> Result<()> {
        self.context.enter()?;
        let bytes = to.len();
        // SAFETY: writes the slice, which outlives the copy: the stream is waited for before the borrow ends.
        let code = unsafe { cuMemcpyDtoHAsync_v2(to.as_mut_ptr().cast(), from, bytes, self.raw) };
        check(code, || format!("copy {bytes} bytes from the device")).and(self.synchronize())
    }

    /// `bytes` is at most the block's size.
    pub fn upload_pinned(&self, to: u64, from: &PinnedBlock, bytes: usize) -> Result<()> {
        self.context.enter()?;
        from.copy(self, |address| {
            // SAFETY: reads memory that is freed, and written by the host, only after the copy's event.
            let code = unsafe { cuMemcpyHtoDAsync_v2(to, address.cast(), bytes, self.raw) };
            check(code, || format!("copy {bytes} bytes to the device"))
        })
    }

    /// `bytes` is at most the block's size.
    pub fn download_pinned(&self, to: &PinnedBlock, from: u64, bytes: usize) -> Result<()> {
        self.context.enter()?;
        to.copy(self, |address| {
            // SAFETY: writes memory that is freed, and read by the host, only after the copy's event.
            let code = unsafe { cuMemcpyDtoHAsync_v2(address.cast(), from, bytes, self.raw) };
            check(code, || format!("copy {bytes} bytes from the device"))
        })
    }

    /// The caller checks both ranges.
    pub fn copy(&self, to: u64, from: u64, bytes: usize) -> Result<()> {
        self.context.enter()?;
        // SAFETY: touches no host memory; the ranges lie in live device memory.
        let code = unsafe { cuMemcpyDtoDAsync_v2(to, from, bytes, self.raw) };
        check(code, || format!("copy {bytes} bytes within the device"))
    }

    /// The caller checks the range.
    pub fn fill(&self, address: u64, value: u8, bytes: usize) -> Result<()> {
        self.context.enter()?;
        // SAFETY: touches no host memory; the range lies in live device memory.
        let code = unsafe { cuMemsetD8Async(address, value, bytes, self.raw) };
        check(code, || format!("fill {bytes} bytes"))
    }

    pub fn begin_capture(&self) -> Result<()> {
        self.context.enter()?;
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream is live.
        check(unsafe { cuStreamBeginCapture_v2(self.raw, mode) }, || "begin to capture a stream".into())
    }

    pub fn end_capture(&self) -> Result<Graph> {
        self.context.enter()?;
        let mut graph = ptr::null_mut();
        // SAFETY: the stream is live; writes one handle to a live variable.
        check(unsafe { cuStreamEndCapture(self.raw, &mut graph) }, || "end the capture of a stream".into())?;
        let mut raw = ptr::null_mut();
        // SAFETY: the graph is live; writes one handle to a live variable.
        let code = unsafe { cuGraphInstantiateWithFlags(&mut raw, graph, 0) };
        // SAFETY: the graph is live, has no other owner, and the instantiated graph does not need it.
        unsafe { cuGraphDestroy(graph) };
        check(code, || "make a graph of captured work".into())?;
        Ok(Graph { context: self.context.clone(), raw })
    }

    pub fn launch_graph(&self, graph: &Graph) -> Result<()> {
        self.context.enter()?;
        // SAFETY: both handles are live; the driver completes a running graph whose handle is destroyed.
        check(unsafe { cuGraphLaunch(graph.raw, self.raw) }, || "launch a graph".into())
    }
}

impl Context {
    /// The driver's numbers for a normal and a high priority; a lower number is scheduled first.
    fn priorities(&self) -> Result<[c_int; 2]> {
        self.enter()?;
        let (mut least, mut greatest): (c_int, c_int) = (0, 0);
        // SAFETY: writes two integers to live variables.
        let code = unsafe { cuCtxGetStreamPriorityRange(&mut least, &mut greatest) };
        check(code, || "ask for the priorities of streams".into())?;
        Ok([least, greatest])
    }
}

impl Event {
    /// Creates an event; one that is not `timed` only orders work, which costs the device less.
    pub fn create(context: &Arc<Context>, timed: bool) -> Result<Self> {
        context.enter()?;
        let mut raw = ptr::null_mut();
        let flags = if timed { Flags::CU_EVENT_DEFAULT } else { Flags::CU_EVENT_DISABLE_TIMING };
        // SAFETY: writes one handle to a live variable.
        check(unsafe { cuEventCreate(&mut raw, flags as u32) }, || "create an event".into())?;
        Ok(Self { context: context.clone(), raw })
    }

    pub fn record(&self, stream: &Stream) -> Result<()> {
        self.context.enter()?;
        // SAFETY: both handles are live.
        check(unsafe { cuEventRecord(self.raw, stream.raw) }, || "record an event".into())
    }

    pub fn synchronize(&self) -> Result<()> {
        self.context.enter()?;
        // SAFETY: the event is live.
        check(unsafe { cuEventSynchronize(self.raw) }, || "wait for an event".into())
    }

    pub fn query(&self) -> Result<bool> {
        self.context.enter()?;
        // SAFETY: the event is live.
        match unsafe { cuEventQuery(self.raw) } {
            CUDA_ERROR_NOT_READY => Ok(false),
            code => check(code, || "look for an event".into()).map(|()| true),
        }
    }

    /// Milliseconds between two events that are complete.
    pub fn elapsed_ms(&self, end: &Self) -> Result<f32> {
        self.context.enter()?;
        let mut time = 0.0;
        // SAFETY: both handles are live; writes one number to a live variable.
        check(unsafe { cuEventElapsedTime(&mut time, self.raw, end.raw) }, || {
            "measure between events".into()
        })?;
        Ok(time)
    }
}
