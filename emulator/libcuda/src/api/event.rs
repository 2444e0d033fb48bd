//! Events.

use crate::{
    code::{Code, Failure, Outcome, fail},
    driver::enter,
    ffi::{IpcHandle, Out},
    graph::Node,
    handle::Handle,
    ipc,
    state::{Event, LastRecord},
};

/// `CU_EVENT_BLOCKING_SYNC`, `CU_EVENT_DISABLE_TIMING`, `CU_EVENT_INTERPROCESS`
const ALL_FLAGS: u32 = 7;
const DISABLE_TIMING: u32 = 2;
const INTERPROCESS: u32 = 4;

/// `CU_EVENT_RECORD_EXTERNAL`
const RECORD_EXTERNAL: u32 = 1;

fn record(event: Handle, stream: Handle, flags: u32) -> Outcome {
    let mut entered = enter()?;
    let stream = entered.stream(stream)?;
    match (flags, entered.state.streams.get(stream)?.capture) {
        (RECORD_EXTERNAL, Some(capture)) => {
            entered.state.events.get(event)?;
            entered.state.record_node(capture, stream, Node::Record(event))
        }
        (0 | RECORD_EXTERNAL, _) => entered.state.record_event(event, stream),
        _ => fail!(INVALID_VALUE, "flags {flags}: 0 or CU_EVENT_RECORD_EXTERNAL is expected"),
    }
}

api! {
    cuEventCreate since 2000 (event: Out<Handle>, flags: u32) {
        let mut entered = enter()?;
        if flags > ALL_FLAGS {
            return fail!(INVALID_VALUE, "flags {flags} are unknown");
        }
        let (timing, shared) = (flags & DISABLE_TIMING == 0, flags & INTERPROCESS != 0);
        if shared && timing {
            return fail!(INVALID_VALUE, "CU_EVENT_INTERPROCESS needs CU_EVENT_DISABLE_TIMING");
        }
        let at = if shared { entered.state.event_pages.take()? } else { LastRecord::Never };
        let context = entered.context;
        event.set(entered.state.events.insert(Event { context, timing, at, shared }))
    }

    cuEventDestroy_v2 since 4000 (event: Handle) { enter()?.state.events.remove(event).map(drop) }

    cuEventRecord since 2000 (event: Handle, stream: Handle) { record(event, stream, 0) }

    cuEventRecordWithFlags since 11010 (event: Handle, stream: Handle, flags: u32) { record(event, stream, flags) }

    cuEventQuery since 2000 (event: Handle) {
        let mut entered = enter()?;
        let done = entered.state.event_is_done(event)?;
        entered.state.refuse_unsafe("cuEventQuery")?;
        if done {
            return Ok(());
        }
        let entered = entered.make_progress();
        entered.state.contexts.get(entered.context)?.check()?;
        match entered.state.event_is_done(event)? {
            true => Ok(()),
            false => Err(Failure::new(Code::NOT_READY, "")),
        }
    }

    cuEventSynchronize since 2000 (event: Handle) {
        let mut entered = enter()?;
        entered.state.event_is_done(event)?;
        entered.state.refuse_unsafe("cuEventSynchronize")?;
        // What is waited for is the newest record of now, whatever is recorded meanwhile.
        match entered.state.events.get(event)?.at.clone() {
            LastRecord::Work { work, .. } => entered.finish(Some(work)),
            LastRecord::Shared { page, number } => {
                let record = page.records(number);
                entered.wait_until(|_| page.is_complete(number, record))
            }
            LastRecord::Never | LastRecord::Captured { .. } => Ok(()),
        }
    }

    cuEventElapsedTime since 2000 (milliseconds: Out<f32>, start: Handle, end: Handle) {
        let entered = enter()?;
        milliseconds.set(entered.state.elapsed(start, end)?)
    }

    cuEventElapsedTime_v2 since 12080 (milliseconds: Out<f32>, start: Handle, end: Handle) {
        let entered = enter()?;
        milliseconds.set(entered.state.elapsed(start, end)?)
    }

    cuIpcGetEventHandle since 4010 (handle: Out<IpcHandle>, event: Handle) {
        let entered = enter()?;
        handle.set(IpcHandle(ipc::event_handle(&entered.state.events.get(event)?.at)?))
    }

    cuIpcOpenEventHandle since 4010 (event: Out<Handle>, handle: IpcHandle) {
        let mut entered = enter()?;
        let (file, number) = ipc::read_event(&handle.0)?;
        let at = entered.state.event_pages.open(file, number)?;
        let context = entered.context;
        event.set(entered.state.events.insert(Event { context, timing: false, at, shared: true }))
    }
}
