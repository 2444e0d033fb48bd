//! Streams and their capture.

use std::ffi::c_int;

use super::context::PRIORITIES;
use crate::{
    capture::Status,
    code::{Code, Failure, Outcome, fail},
    driver::{Entered, enter},
    ffi::Out,
    handle::Handle,
    state::{Mode, Stream},
    stream,
};

/// `CU_STREAM_NON_BLOCKING`
const NON_BLOCKING: u32 = 1;

fn create(stream_out: Out<Handle>, flags: u32, priority: c_int) -> Outcome {
    let mut entered = enter()?;
    if flags > NON_BLOCKING {
        return fail!(
            INVALID_VALUE,
            "flags {flags}: CU_STREAM_DEFAULT or CU_STREAM_NON_BLOCKING is expected"
        );
    }
    let context = entered.context;
    let priority = priority.clamp(PRIORITIES.0, PRIORITIES.1);
    stream_out.set(entered.state.streams.insert(Stream::new(context, flags & NON_BLOCKING == 0, priority)))
}

/// The stream's newest work is done.
fn is_done(entered: &Entered, stream: Handle) -> Outcome<bool> {
    Ok(entered.state.streams.get(stream)?.last.is_none_or(|last| entered.state.schedule.is_done(last)))
}

fn capture_info(stream: Handle, status: Out<u32>, id: Out<u64>) -> Outcome {
    let mut entered = enter()?;
    let stream = entered.stream(stream)?;
    let (found, number) = entered.state.capture_status(stream)?;
    status.set(found as u32)?;
    if found == Status::Active { id.set_if_asked(number) } else { Ok(()) }
}

api! {
    cuStreamCreate since 2000 (stream_out: Out<Handle>, flags: u32) { create(stream_out, flags, 0) }

    cuStreamCreateWithPriority since 5050 (stream_out: Out<Handle>, flags: u32, priority: c_int) {
        create(stream_out, flags, priority)
    }

    cuStreamDestroy_v2 since 4000 (handle: Handle) {
        let mut entered = enter()?;
        if handle <= 2 {
            return fail!(INVALID_HANDLE, "a default stream cannot be destroyed");
        }
        stream::destroy(&mut entered.state, handle)
    }

    cuStreamGetPriority since 5050 (handle: Handle, priority: Out<c_int>) {
        let mut entered = enter()?;
        let handle = entered.stream(handle)?;
        priority.set(entered.state.streams.get(handle)?.priority)
    }

    cuStreamGetFlags since 5050 (handle: Handle, flags: Out<u32>) {
        let mut entered = enter()?;
        let legacy = handle <= 1;
        let handle = entered.stream(handle)?;
        flags.set((!legacy && !entered.state.streams.get(handle)?.blocking).into())
    }

    cuStreamGetId since 12000 (handle: Handle, id: Out<u64>) {
        let mut entered = enter()?;
        id.set(entered.stream(handle)? as u64)
    }

    cuStreamGetCtx since 9020 (handle: Handle, context: Out<Handle>) {
        let mut entered = enter()?;
        let handle = entered.stream(handle)?;
        context.set(entered.state.streams.get(handle)?.context)
    }

    cuStreamSynchronize since 2000 (handle: Handle) {
        let mut entered = enter()?;
        let handle = entered.stream(handle)?;
        entered.state.refuse_wait("cuStreamSynchronize", handle)?;
        let last = entered.state.streams.get(handle)?.last;
        entered.finish(last)
    }

    cuStreamQuery since 2000 (handle: Handle) {
        let mut entered = enter()?;
        let handle = entered.stream(handle)?;
        entered.state.refuse_wait("cuStreamQuery", handle)?;
        if is_done(&entered, handle)? {
            return Ok(());
        }
        let entered = entered.make_progress();
        entered.state.contexts.get(entered.context)?.check()?;
        match is_done(&entered, handle)? {
            true => Ok(()),
            false => Err(Failure::new(Code::NOT_READY, "")),
        }
    }

    cuStreamWaitEvent since 3020 (handle: Handle, event: Handle, flags: u32) {
        let mut entered = enter()?;
        if flags > 1 {
            return fail!(INVALID_VALUE, "flags {flags}: 0 is expected");
        }
        let handle = entered.stream(handle)?;
        entered.state.wait_event(handle, event)
    }

    cuStreamBeginCapture_v2 since 10010 (handle: Handle, mode: u32) {
        let mut entered = enter()?;
        let handle = entered.stream(handle)?;
        entered.state.begin_capture(handle, Mode::from_number(mode)?)
    }

    cuStreamEndCapture since 10000 (handle: Handle, graph: Out<Handle>) {
        let mut entered = enter()?;
        let handle = entered.stream(handle)?;
        graph.set(0)?;
        graph.set(entered.state.end_capture(handle)?)
    }

    cuStreamIsCapturing since 10000 (handle: Handle, status: Out<u32>) {
        capture_info(handle, status, Out::nowhere())
    }

    cuStreamGetCaptureInfo since 10010 (handle: Handle, status: Out<u32>, id: Out<u64>) {
        capture_info(handle, status, id)
    }

    cuStreamGetCaptureInfo_v2 since 11030 (
        handle: Handle, status: Out<u32>, id: Out<u64>, graph: Out<Handle>, nodes: Out<usize>, count: Out<usize>,
    ) {
        if !graph.is_null() || !nodes.is_null() || !count.is_null() {
            return fail!(NOT_SUPPORTED, "the graph of an active capture is not available");
        }
        capture_info(handle, status, id)
    }
}
