//! Launches of kernels and calls of host functions in streams.

use std::ffi::c_void;

use ssmv_emulator::{Arguments, LaunchConfig, Parameter};

use crate::{
    code::{Outcome, fail},
    driver::{Entered, enter},
    ffi::{CuLaunchConfig, In, KernelNodeParams, LaunchAttribute, Out},
    handle::Handle,
    host,
    work::{HostCall, Launch, Work},
};

/// `CU_LAUNCH_PARAM_END`, `_BUFFER_POINTER`, `_BUFFER_SIZE`.
const END: usize = 0;
const BUFFER: usize = 1;
const SIZE: usize = 2;

/// `CU_LAUNCH_ATTRIBUTE_*` that change nothing where nothing runs at once.
const WITHOUT_EFFECT: [u32; 7] = [0, 1, 2, 6, 8, 9, 10];
/// A cluster's size; one block is what the emulator has.
const CLUSTER: u32 = 4;

/// Where each parameter lies in a buffer of all.
pub(super) fn offsets(parameters: &[Parameter]) -> Vec<usize> {
    let mut end = 0usize;
    let offset = |parameter: &Parameter| {
        let at = end.next_multiple_of(parameter.align.max(1));
        end = at + parameter.bytes;
        at
    };
    parameters.iter().map(offset).collect()
}

/// The arguments of a launch: a pointer each, or a buffer of all.
fn arguments(parameters: &[Parameter], pointers: In<*mut c_void>, extra: In<usize>) -> Outcome<Arguments> {
    let read = |what: &str, address: usize, bytes: usize| {
        let mut value = vec![0; bytes];
        host::read(what, address, &mut value).map(|()| value)
    };
    if !pointers.is_null() {
        if !extra.is_null() {
            return fail!(INVALID_VALUE, "both kernelParams and extra are given");
        }
        let pointers = pointers.array(parameters.len())?;
        return parameters
            .iter()
            .zip(pointers)
            .map(|(parameter, pointer)| {
                read(&format!("parameter {}", parameter.name), pointer.addr(), parameter.bytes)
            })
            .collect();
    }
    if extra.is_null() {
        return match parameters.first() {
            None => Ok(Arguments::new()),
            Some(first) => {
                fail!(INVALID_VALUE, "no arguments are given, and the first parameter is {}", first.name)
            }
        };
    }
    let (mut buffer, mut size) = (None, None);
    for pair in extra_pairs(extra)? {
        match pair {
            (BUFFER, value) => buffer = Some(value),
            (SIZE, pointer) => {
                let mut bytes = [0; 8];
                host::read("the size of the arguments", pointer, &mut bytes)?;
                size = Some(usize::from_le_bytes(bytes));
            }
            (other, _) => return fail!(INVALID_VALUE, "extra has the unknown option {other}"),
        }
    }
    let (Some(buffer), Some(size)) = (buffer, size) else {
        return fail!(INVALID_VALUE, "extra lacks the buffer of arguments or its size");
    };
    let offsets = offsets(parameters);
    let needed = parameters.last().zip(offsets.last()).map_or(0, |(last, at)| at + last.bytes);
    if size < needed {
        return fail!(
            INVALID_VALUE,
            "the buffer of arguments has {size} bytes, and the parameters take {needed}"
        );
    }
    let each = parameters.iter().zip(offsets);
    each.map(|(parameter, at)| read(&format!("parameter {}", parameter.name), buffer + at, parameter.bytes))
        .collect()
}

fn extra_pairs(extra: In<usize>) -> Outcome<Vec<(usize, usize)>> {
    let mut pairs = Vec::new();
    for index in 0..8 {
        // Three words at most are there when the list is short, so each is read when it is known to be there.
        let words = extra.array(2 * index + 1)?;
        match words.last() {
            Some(&END) | None => return Ok(pairs),
            Some(&key) => pairs.push((key, extra.array(2 * index + 2)?[2 * index + 1])),
        }
    }
    fail!(INVALID_VALUE, "extra does not end with CU_LAUNCH_PARAM_END")
}

/// The launch that a structure describes, under the driver's limits. It runs in the context of its module, which in a graph
/// need not be the thread's. A grid of no blocks is refused when it is launched: until then a graph may have one.
pub(super) fn launch_of(entered: &Entered, p: &KernelNodeParams) -> Outcome<Launch> {
    let found = entered.state.functions.get(p.function)?;
    let (info, name) = (&found.info, &found.info.name);
    let module = entered.state.modules.get(found.module)?;
    for (axis, (grid, most)) in p.grid.into_iter().zip([i32::MAX as u32, 65535, 65535]).enumerate() {
        if grid > most {
            return fail!(INVALID_VALUE, "{name}: {grid} blocks along axis {axis}; 1 to {most} are possible");
        }
    }
    for (axis, (block, most)) in p.block.into_iter().zip([1024, 1024, 64]).enumerate() {
        if block == 0 || block > most {
            return fail!(
                INVALID_VALUE,
                "{name}: a block of {block} threads along axis {axis}; 1 to {most} are possible"
            );
        }
    }
    let threads: u32 = p.block.iter().product();
    if threads > 1024 {
        return fail!(INVALID_VALUE, "{name}: a block of {threads} threads; 1024 are possible");
    }
    if info.required_block.is_some_and(|required| required != p.block) {
        return fail!(
            INVALID_VALUE,
            "{name}: a block of {:?}; the kernel requires {:?}",
            p.block,
            info.required_block
        );
    }
    if threads > found.most_threads() {
        let most = found.most_threads();
        return fail!(
            LAUNCH_OUT_OF_RESOURCES,
            "{name}: a block of {threads} threads; the kernel allows {most}"
        );
    }
    if p.shared > found.most_dynamic_shared() {
        let most = found.most_dynamic_shared();
        return fail!(
            INVALID_VALUE,
            "{name}: {} bytes of dynamic shared memory, and {most} are allowed: \
             cuFuncSetAttribute with CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES allows more",
            p.shared
        );
    }
    Ok(Launch {
        module: module.loaded.clone(),
        memory: entered.state.memory_of(module.context)?,
        kernel: name.clone(),
        config: LaunchConfig { grid: p.grid, block: p.block, shared: p.shared },
        arguments: arguments(&info.parameters, p.parameters, p.extra)?,
        options: entered.driver.options.clone(),
    })
}

fn launch(parameters: &KernelNodeParams, stream: Handle) -> Outcome {
    let mut entered = enter()?;
    let stream = entered.stream(stream)?;
    if entered.state.streams.get(stream)?.context != entered.context {
        return fail!(INVALID_HANDLE, "the stream belongs to another context than the thread's current one");
    }
    let work = launch_of(&entered, parameters)?;
    let found = entered.state.functions.get(parameters.function)?;
    if entered.state.modules.get(found.module)?.context != entered.context {
        let name = &found.info.name;
        return fail!(INVALID_HANDLE, "{name} was loaded in another context than the thread's current one");
    }
    work.check_grid()?;
    entered.state.submit(stream, Work::Launch(work)).map(drop)
}

fn check_attributes(attributes: In<LaunchAttribute>, count: u32) -> Outcome {
    for attribute in attributes.array(count as usize)? {
        match attribute.id {
            id if WITHOUT_EFFECT.contains(&id) => {}
            CLUSTER if attribute.value[0] == 1 | 1 << 32 && attribute.value[1] as u32 == 1 => {}
            CLUSTER => return fail!(NOT_SUPPORTED, "clusters of several blocks are not emulated"),
            id => return fail!(NOT_SUPPORTED, "launch attribute {id} is not emulated"),
        }
    }
    Ok(())
}

api! {
    cuLaunchKernel since 4000 (
        function: Handle, gx: u32, gy: u32, gz: u32, bx: u32, by: u32, bz: u32, shared: u32, stream: Handle,
        parameters: In<*mut c_void>, extra: In<usize>,
    ) {
        let grid = [gx, gy, gz];
        launch(&KernelNodeParams { function, grid, block: [bx, by, bz], shared, parameters, extra }, stream)
    }

    cuLaunchKernelEx since 11080 (
        config: In<CuLaunchConfig>, function: Handle, parameters: In<*mut c_void>, extra: In<usize>,
    ) {
        let CuLaunchConfig { grid, block, shared, stream, attributes, count } = config.get()?;
        check_attributes(attributes, count)?;
        launch(&KernelNodeParams { function, grid, block, shared, parameters, extra }, stream)
    }

    cuLaunchCooperativeKernel since 9000 (
        function: Handle, gx: u32, gy: u32, gz: u32, bx: u32, by: u32, bz: u32, shared: u32, stream: Handle,
        parameters: In<*mut c_void>,
    ) {
        let extra = In::nothing();
        launch(
            &KernelNodeParams { function, grid: [gx, gy, gz], block: [bx, by, bz], shared, parameters, extra },
            stream,
        )
    }

    cuLaunchHostFunc since 10000 (stream: Handle, function: Option<unsafe extern "C" fn(*mut c_void)>, data: usize) {
        let mut entered = enter()?;
        let stream = entered.stream(stream)?;
        let Some(function) = function else {
            return fail!(INVALID_VALUE, "the host function is null");
        };
        entered.state.submit(stream, Work::Host(HostCall::Plain(function, data))).map(drop)
    }

    cuStreamAddCallback since 5000 (
        stream: Handle, function: Option<unsafe extern "C" fn(*mut c_void, u32, *mut c_void)>, data: usize, flags: u32,
    ) {
        let mut entered = enter()?;
        let target = entered.stream(stream)?;
        let Some(function) = function else {
            return fail!(INVALID_VALUE, "the callback is null");
        };
        if flags != 0 {
            return fail!(INVALID_VALUE, "flags {flags}: 0 is expected");
        }
        entered.state.refuse_wait("cuStreamAddCallback", target)?;
        entered.state.submit(target, Work::Host(HostCall::Stream(function, stream, data))).map(drop)
    }

    cuOccupancyAvailableDynamicSMemPerBlock since 10020 (
        bytes: Out<usize>, handle: Handle, blocks: i32, threads: i32,
    ) {
        let entered = enter()?;
        let found = entered.state.functions.get(handle)?;
        if blocks < 1 || threads < 1 {
            return fail!(INVALID_VALUE, "{blocks} blocks of {threads} threads");
        }
        let all = if entered.driver.settings.capability >= (9, 0) { 228 << 10 } else { 164 << 10 };
        let each = (all / blocks.unsigned_abs() as usize).saturating_sub(1024 + found.info.static_shared as usize);
        bytes.set(each.min(found.most_dynamic_shared() as usize))
    }
}
