//! Contexts, and which is current on a thread.

use std::{collections::BTreeMap, ffi::c_int};

use crate::{
    capture::exchange_thread_mode,
    code::{Code, Failure, Outcome, fail},
    context,
    driver::{Driver, device, driver, enter},
    ffi::Out,
    handle::Handle,
    state::Mode,
};

/// `CU_LIMIT_*`: stack, printf and heap sizes, of which only the values are kept.
const LIMITS: [(u32, usize); 3] = [(0, 1 << 10), (1, 1 << 20), (2, 8 << 20)];

/// The most urgent and the least urgent priority of a stream.
pub(super) const PRIORITIES: (c_int, c_int) = (-5, 0);

/// Ends a context once its work is done, wherever it is current.
pub(super) fn destroy(driver: &'static Driver, handle: Handle) -> Outcome {
    let mut state = driver.lock();
    context::checked(&state, handle)?;
    state.refuse_unsafe("the end of a context")?;
    state.schedule.waiting += 1;
    driver.notify();
    while !state.schedule.is_idle(handle) {
        state = driver.pause(state, std::time::Duration::from_micros(200));
    }
    state.schedule.waiting -= 1;
    for device in state.devices.iter_mut().filter(|device| device.primary == Some(handle)) {
        device.primary = None;
    }
    context::destroy(&mut state, handle)
}

fn create(context_out: Out<Handle>, flags: u32, number: c_int) -> Outcome {
    let (driver, ordinal) = device(number)?;
    let handle = context::create(&mut driver.lock(), ordinal, flags, None);
    context::push(handle);
    context_out.set(handle)
}

/// A context of the program's, or the current one for 0.
fn given_or_current(driver: &Driver, handle: Handle) -> Outcome<Handle> {
    let state = driver.lock();
    if handle == 0 { context::current(&state) } else { context::checked(&state, handle) }
}

api! {
    cuCtxCreate_v2 since 3020 (context_out: Out<Handle>, flags: u32, number: c_int) { create(context_out, flags, number) }

    cuCtxCreate_v3 since 11040 (context_out: Out<Handle>, _affinity: usize, count: c_int, flags: u32, number: c_int) {
        match count {
            0 => create(context_out, flags, number),
            _ => fail!(UNSUPPORTED_EXEC_AFFINITY, "execution affinity is not emulated"),
        }
    }

    cuCtxCreate_v4 since 12050 (context_out: Out<Handle>, parameters: usize, flags: u32, number: c_int) {
        match parameters {
            0 => create(context_out, flags, number),
            _ => fail!(NOT_SUPPORTED, "parameters of a context are not emulated"),
        }
    }

    cuCtxDestroy_v2 since 4000 (handle: Handle) {
        let driver = driver()?;
        let primary = driver.lock().devices.iter().any(|device| device.primary == Some(handle));
        if primary {
            return fail!(INVALID_CONTEXT, "a primary context ends with cuDevicePrimaryCtxRelease");
        }
        destroy(driver, handle)?;
        if context::top() == handle {
            context::pop();
        }
        Ok(())
    }

    cuCtxSetCurrent since 4000 (handle: Handle) {
        let state = driver()?.lock();
        if handle != 0 {
            context::checked(&state, handle)?;
        }
        context::set(handle);
        Ok(())
    }

    cuCtxGetCurrent since 4000 (context_out: Out<Handle>) {
        driver()?;
        context_out.set(context::top())
    }

    cuCtxPushCurrent_v2 since 4000 (handle: Handle) {
        context::checked(&driver()?.lock(), handle)?;
        context::push(handle);
        Ok(())
    }

    cuCtxPopCurrent_v2 since 4000 (context_out: Out<Handle>) {
        driver()?;
        match context::pop() {
            Some(handle) => context_out.set_if_asked(handle),
            None => fail!(INVALID_CONTEXT, "no context is current on this thread"),
        }
    }

    cuCtxGetDevice since 2000 (number: Out<c_int>) { number.set(enter()?.device()? as c_int) }

    cuCtxGetDevice_v2 since 13000 (number: Out<c_int>, handle: Handle) {
        let driver = driver()?;
        let handle = given_or_current(driver, handle)?;
        number.set(driver.lock().contexts.get(handle)?.device as c_int)
    }

    cuCtxGetFlags since 7000 (flags: Out<u32>) {
        let entered = enter()?;
        flags.set(entered.state.contexts.get(entered.context)?.flags)
    }

    cuCtxGetId since 12000 (handle: Handle, id: Out<u64>) { id.set(given_or_current(driver()?, handle)? as u64) }

    cuCtxGetApiVersion since 3020 (handle: Handle, version: Out<u32>) {
        given_or_current(driver()?, handle)?;
        version.set(3020)
    }

    cuCtxSynchronize since 2000 () {
        let mut entered = enter()?;
        let context = entered.context;
        entered.state.refuse_wait_for_all("cuCtxSynchronize", context)?;
        entered.finish_all().map(drop)
    }

    cuCtxSynchronize_v2 since 13000 (handle: Handle) {
        let driver = driver()?;
        let handle = given_or_current(driver, handle)?;
        let mut state = driver.lock();
        state.refuse_wait_for_all("cuCtxSynchronize", handle)?;
        state.contexts.get(handle)?.check()?;
        crate::driver::Entered { driver, state, context: handle }.finish_all().map(drop)
    }

    cuCtxGetStreamPriorityRange since 5050 (least: Out<c_int>, greatest: Out<c_int>) {
        enter()?;
        least.set_if_asked(PRIORITIES.1)?;
        greatest.set_if_asked(PRIORITIES.0)
    }

    cuCtxGetLimit since 3010 (value: Out<usize>, limit: u32) {
        let entered = enter()?;
        let set: &BTreeMap<u32, usize> = &entered.state.contexts.get(entered.context)?.limits;
        match LIMITS.iter().find(|(known, _)| *known == limit) {
            Some((_, default)) => value.set(set.get(&limit).copied().unwrap_or(*default)),
            None => fail!(UNSUPPORTED_LIMIT, "limit {limit} is not emulated"),
        }
    }

    cuCtxSetLimit since 3010 (limit: u32, value: usize) {
        let mut entered = enter()?;
        if LIMITS.iter().all(|(known, _)| *known != limit) {
            return fail!(UNSUPPORTED_LIMIT, "limit {limit} is not emulated");
        }
        let context = entered.context;
        entered.state.contexts.get_mut(context)?.limits.insert(limit, value);
        Ok(())
    }

    cuCtxGetCacheConfig since 3020 (value: Out<u32>) {
        enter()?;
        value.set(0)
    }

    cuCtxSetCacheConfig since 3020 (_value: u32) { enter().map(drop) }

    cuCtxGetSharedMemConfig since 4020 (value: Out<u32>) {
        enter()?;
        value.set(1)
    }

    cuCtxSetSharedMemConfig since 4020 (_value: u32) { enter().map(drop) }

    cuCtxResetPersistingL2Cache since 11000 () { enter().map(drop) }

    cuCtxEnablePeerAccess since 4000 (peer: Handle, flags: u32) {
        let mut entered = enter()?;
        let (context, state) = (entered.context, &mut *entered.state);
        let other = context::checked(state, peer).and_then(|peer| Ok(state.contexts.get(peer)?.device))?;
        let own = state.contexts.get(context)?;
        match () {
            () if flags != 0 => fail!(INVALID_VALUE, "flags {flags}: 0 is expected"),
            () if own.device == other => fail!(INVALID_DEVICE, "a device is not its own peer"),
            () if own.peers.contains(&other) => {
                Err(Failure::new(Code::PEER_ACCESS_ALREADY_ENABLED, "access to the device was enabled before"))
            }
            () => state.enable_peer(context, other),
        }
    }

    cuCtxDisablePeerAccess since 4000 (peer: Handle) {
        let mut entered = enter()?;
        let (context, state) = (entered.context, &mut *entered.state);
        let other = context::checked(state, peer).and_then(|peer| Ok(state.contexts.get(peer)?.device))?;
        state.disable_peer(context, other)
    }

    cuThreadExchangeStreamCaptureMode since 10010 (mode: Out<u32>) {
        driver()?;
        let old = exchange_thread_mode(Mode::from_number(mode.get()?)?);
        mode.set(match old {
            Mode::Global => 0,
            Mode::ThreadLocal => 1,
            Mode::Relaxed => 2,
        })
    }
}
