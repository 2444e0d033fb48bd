//! Contexts: which is current on a thread, what ended it, and what it leaves behind.

use std::{cell::RefCell, collections::BTreeMap, thread::ThreadId};

use crate::{
    code::{Code, Failure, Outcome, fail},
    handle::Handle,
    log,
    state::{Context, Kind, State, Stream},
};

thread_local! {
    static STACK: RefCell<Vec<Handle>> = const { RefCell::new(Vec::new()) };
}

/// The context that is current on this thread; 0 without one.
pub fn top() -> Handle {
    STACK.with_borrow(|stack| stack.last().copied().unwrap_or(0))
}

/// The context that is current on this thread.
///
/// # Errors
/// `CUDA_ERROR_INVALID_CONTEXT` without one, `CUDA_ERROR_CONTEXT_IS_DESTROYED` for one that is gone.
pub fn current(state: &State) -> Outcome<Handle> {
    match top() {
        0 => fail!(INVALID_CONTEXT, "no context is current on this thread: call cuCtxSetCurrent first"),
        context if state.contexts.get(context).is_err() => {
            fail!(CONTEXT_IS_DESTROYED, "the context that is current on this thread was destroyed")
        }
        context => Ok(context),
    }
}

/// Makes a context current in place of the one that is; 0 leaves none.
pub fn set(context: Handle) {
    STACK.with_borrow_mut(|stack| {
        stack.pop();
        if context != 0 {
            stack.push(context);
        }
    });
}

/// Makes a context current on top of the others.
pub fn push(context: Handle) {
    STACK.with_borrow_mut(|stack| stack.push(context));
}

/// Takes the current context off.
pub fn pop() -> Option<Handle> {
    STACK.with_borrow_mut(Vec::pop)
}

/// A name for a thread, as a key.
pub fn thread_key(thread: ThreadId) -> String {
    format!("{thread:?}")
}

/// Makes a context of a device.
pub fn create(state: &mut State, device: usize, flags: u32, retained: Option<usize>) -> Handle {
    let context = Context {
        device,
        retained,
        flags,
        fault: None,
        legacy: 0,
        per_thread: BTreeMap::new(),
        peers: Vec::new(),
        limits: BTreeMap::new(),
    };
    let handle = state.contexts.insert(context);
    let legacy = state.streams.insert(Stream::default_of(handle));
    if let Ok(context) = state.contexts.get_mut(handle) {
        context.legacy = legacy;
    }
    handle
}

/// Ends a context by the fault of its work.
pub fn fail(state: &mut State, context: Handle, fault: Failure) {
    if let Ok(context) = state.contexts.get_mut(context) {
        context.fault.get_or_insert(fault);
    }
}

/// Ends a context whose work is done: reports what the program did not give back, and gives it back.
pub fn destroy(state: &mut State, context: Handle) -> Outcome {
    let healthy = state.contexts.get(context)?.check().is_ok();
    let defaults: Vec<Handle> = {
        let context = state.contexts.get(context)?;
        context.per_thread.values().copied().chain([context.legacy]).collect()
    };
    let mut leaks: Vec<String> = Vec::new();
    let mut count = |kind: &str, handles: &[Handle]| {
        if !handles.is_empty() {
            leaks.push(format!("{} {kind}", handles.len()));
        }
    };
    let mine: Vec<u64> = state
        .allocations
        .iter()
        .filter(|(_, allocation)| allocation.context == context)
        .map(|(&at, _)| at)
        .collect();
    let of = |kinds: &dyn Fn(&Kind) -> bool| -> Vec<(u64, u64)> {
        let matching =
            mine.iter().filter_map(|at| state.allocations.get(at).map(|allocation| (*at, allocation)));
        matching
            .filter(|(_, allocation)| kinds(&allocation.kind))
            .map(|(at, allocation)| (at, allocation.bytes))
            .collect()
    };
    let device = of(&|kind| matches!(kind, Kind::Large { .. } | Kind::Small { .. }));
    let (pinned, opened) =
        (of(&|kind| matches!(kind, Kind::Host { .. })), of(&|kind| matches!(kind, Kind::Opened { .. })));
    let streams: Vec<Handle> = state
        .streams
        .iter()
        .filter(|(handle, stream)| stream.context == context && !defaults.contains(handle))
        .map(|(handle, _)| handle)
        .collect();
    let events: Vec<Handle> =
        state.events.iter().filter(|(_, event)| event.context == context).map(|(handle, _)| handle).collect();
    let modules: Vec<Handle> = state
        .modules
        .iter()
        .filter(|(_, module)| module.context == context)
        .map(|(handle, _)| handle)
        .collect();
    count("streams", &streams);
    count("events", &events);
    count("modules", &modules);
    for (kind, ranges) in [
        ("allocations of device memory", device),
        ("allocations of pinned memory", pinned),
        ("opened memory handles", opened),
    ] {
        if let Some((address, bytes)) = ranges.first() {
            let total: u64 = ranges.iter().map(|(_, bytes)| bytes).sum();
            leaks.push(format!(
                "{} {kind}, {total} bytes (the first: {bytes} bytes at {address:#x})",
                ranges.len()
            ));
        }
    }
    if healthy && !leaks.is_empty() {
        log::write(&format!("leak: the context ends with {}", leaks.join("; ")));
    }
    for module in modules {
        crate::module::unload(state, module)?;
    }
    for event in events {
        state.events.remove(event)?;
    }
    for stream in streams.into_iter().chain(defaults) {
        state.streams.remove(stream)?;
    }
    for address in mine {
        state.release(address)?;
    }
    state.contexts.remove(context)?;
    Ok(())
}

/// The context of a raw handle, or of the device's primary context where it was retained.
pub fn checked(state: &State, context: Handle) -> Outcome<Handle> {
    state
        .contexts
        .get(context)
        .map(|_| context)
        .map_err(|failure| Failure { code: Code::INVALID_CONTEXT, message: failure.message })
}
