//! Modules, libraries, functions and their attributes.

use std::ffi::{c_char, c_int};

use crate::{
    code::{Failure, Outcome, fail},
    driver::{Entered, enter},
    ffi::{In, Out, string},
    handle::Handle,
    host, module,
    state::Function,
};

/// `CU_JIT_INFO_LOG_BUFFER`, its size, `CU_JIT_ERROR_LOG_BUFFER`, its size.
const INFO_LOG: u32 = 3;
const ERROR_LOG: u32 = 5;

/// `CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES`
const MAX_DYNAMIC_SHARED: u32 = 8;

/// Static and dynamic shared memory of a block, at most.
fn most_shared(entered: &Entered) -> u32 {
    if entered.driver.settings.capability >= (9, 0) { 227 << 10 } else { 163 << 10 }
}

fn load(module_out: Out<Handle>, text: Outcome<String>) -> Outcome {
    let mut entered = enter()?;
    entered.state.refuse_unsafe("cuModuleLoad")?;
    let text = text?;
    let (context, settings) = (entered.context, &entered.driver.settings);
    module_out.set(module::load(&mut entered.state, context, &text, settings)?)
}

/// Writes the two logs of a compilation where the options ask for them.
fn write_logs(options: &[u32], values: &[usize], failure: Option<&Failure>) -> Outcome {
    for (wanted, text) in
        [(INFO_LOG, ""), (ERROR_LOG, failure.map_or("", |failure| failure.message.as_str()))]
    {
        let value = |option: u32| options.iter().position(|&known| known == option).map(|at| values[at]);
        // The size is a number in the guise of a pointer; a buffer without a size has none.
        if let (Some(buffer), Some(size)) = (value(wanted), value(wanted + 1))
            && buffer != 0
            && size as u32 > 0
        {
            let capacity = size as u32 as usize;
            let mut bytes = text.as_bytes()[..text.len().min(capacity - 1)].to_vec();
            bytes.push(0);
            host::write("the compiler's log", buffer, &bytes)?;
        }
    }
    Ok(())
}

fn attribute(entered: &Entered, function: &Function, which: u32) -> Outcome<c_int> {
    let (major, minor) = entered.driver.settings.capability;
    let set = |default: c_int| function.attributes.get(&which).copied().unwrap_or(default);
    Ok(match which {
        0 => function.most_threads() as c_int,
        1 => function.info.static_shared as c_int,
        // The emulator has no registers to run out of; programs divide by the count.
        4 => 32,
        2 | 3 => 0,
        5 => entered.state.modules.get(function.module)?.version as c_int,
        6 => (major * 10 + minor) as c_int,
        7 => 0,
        8 => function.most_dynamic_shared() as c_int,
        9 => set(-1),
        10..=15 => set(0),
        _ => return fail!(INVALID_VALUE, "{which} is not an attribute of a function"),
    })
}

fn set_attribute(handle: Handle, which: u32, value: c_int) -> Outcome {
    let mut entered = enter()?;
    let most = most_shared(&entered);
    let function = entered.state.functions.get_mut(handle)?;
    match which {
        MAX_DYNAMIC_SHARED => {
            let fixed = function.info.static_shared;
            match u32::try_from(value) {
                Ok(bytes) if bytes + fixed <= most => {
                    function.allowed_shared = bytes;
                    Ok(())
                }
                _ => fail!(
                    INVALID_VALUE,
                    "{}: {value} bytes of dynamic shared memory beside {fixed} static ones; {most} are possible in all",
                    function.info.name
                ),
            }
        }
        9..=15 => {
            function.attributes.insert(which, value);
            Ok(())
        }
        _ => fail!(INVALID_VALUE, "attribute {which} of a function cannot be set"),
    }
}

/// Blocks of a multiprocessor that fit beside each other, by threads and shared memory.
fn active_blocks(entered: &Entered, function: &Function, threads: u32, shared: usize) -> Outcome<u32> {
    if threads == 0 || threads > function.most_threads() {
        let most = function.most_threads();
        return fail!(
            INVALID_VALUE,
            "a block of {threads} threads; {} takes 1 to {most}",
            function.info.name
        );
    }
    let per_block = u64::from(function.info.static_shared) + shared as u64 + 1024;
    let per_multiprocessor: u64 = if most_shared(entered) == 227 << 10 { 228 << 10 } else { 164 << 10 };
    let by_threads = 2048 / threads.next_multiple_of(32);
    Ok(by_threads.min(32).min((per_multiprocessor / per_block) as u32))
}

api! {
    cuModuleLoadData since 2000 (module_out: Out<Handle>, image: usize) { load(module_out, module::text(image)) }

    cuModuleLoadDataEx since 2010 (
        module_out: Out<Handle>, image: usize, count: u32, options: In<u32>, values: In<usize>,
    ) {
        let (options, values) = (options.array(count as usize)?, values.array(count as usize)?);
        let outcome = load(module_out, module::text(image));
        write_logs(&options, &values, outcome.as_ref().err())?;
        outcome
    }

    cuModuleLoadFatBinary since 2000 (module_out: Out<Handle>, image: usize) { load(module_out, module::text(image)) }

    cuModuleLoad since 2000 (module_out: Out<Handle>, path: In<c_char>) {
        let path = string("the module's path", path)?;
        let text = match std::fs::read(&path) {
            Err(error) => fail!(FILE_NOT_FOUND, "{path}: {error}"),
            // A file needs no closing zero; the same code looks at what it holds.
            Ok(mut bytes) => {
                bytes.push(0);
                bytes.resize(bytes.len().max(4), 0);
                module::text(bytes.as_ptr().addr())
            }
        };
        load(module_out, text)
    }

    cuModuleUnload since 2000 (handle: Handle) {
        let mut entered = enter()?;
        entered.state.refuse_unsafe("cuModuleUnload")?;
        entered.state.modules.get(handle)?;
        let mut entered = entered.finish_all()?;
        module::unload(&mut entered.state, handle)
    }

    cuModuleGetLoadingMode since 11070 (mode: Out<u32>) { mode.set(1) }

    cuModuleGetFunction since 2000 (function_out: Out<Handle>, handle: Handle, name: In<c_char>) {
        let mut entered = enter()?;
        let name = string("the function's name", name)?;
        function_out.set(module::function(&mut entered.state, handle, &name)?)
    }

    cuModuleGetGlobal_v2 since 3020 (address: Out<u64>, bytes: Out<usize>, handle: Handle, name: In<c_char>) {
        let entered = enter()?;
        let name = string("the variable's name", name)?;
        match entered.state.modules.get(handle)?.loaded.variable(&name) {
            Some((at, length)) => {
                address.set_if_asked(at)?;
                bytes.set_if_asked(length)
            }
            None => fail!(NOT_FOUND, "the module has no variable {name}"),
        }
    }

    cuLibraryLoadData since 12000 (
        library: Out<Handle>, code: usize, _options: In<u32>, _values: In<usize>, _count: u32,
        _library_options: In<u32>, _library_values: In<usize>, _library_count: u32,
    ) {
        load(library, module::text(code))
    }

    cuLibraryUnload since 12000 (library: Handle) {
        let mut entered = enter()?;
        entered.state.refuse_unsafe("cuLibraryUnload")?;
        entered.state.modules.get(library)?;
        let mut entered = entered.finish_all()?;
        module::unload(&mut entered.state, library)
    }

    cuLibraryGetKernel since 12000 (kernel: Out<Handle>, library: Handle, name: In<c_char>) {
        let mut entered = enter()?;
        let name = string("the kernel's name", name)?;
        kernel.set(module::function(&mut entered.state, library, &name)?)
    }

    cuLibraryGetModule since 12000 (module_out: Out<Handle>, library: Handle) {
        enter()?.state.modules.get(library)?;
        module_out.set(library)
    }

    cuKernelGetFunction since 12000 (function_out: Out<Handle>, kernel: Handle) {
        enter()?.state.functions.get(kernel)?;
        function_out.set(kernel)
    }

    cuKernelGetAttribute since 12000 (value: Out<c_int>, which: u32, kernel: Handle, _device: c_int) {
        let entered = enter()?;
        value.set(attribute(&entered, entered.state.functions.get(kernel)?, which)?)
    }

    cuKernelSetAttribute since 12000 (which: u32, value: c_int, kernel: Handle, _device: c_int) {
        set_attribute(kernel, which, value)
    }

    cuFuncGetAttribute since 2020 (value: Out<c_int>, which: u32, handle: Handle) {
        let entered = enter()?;
        value.set(attribute(&entered, entered.state.functions.get(handle)?, which)?)
    }

    cuFuncSetAttribute since 9000 (handle: Handle, which: u32, value: c_int) { set_attribute(handle, which, value) }

    cuFuncSetCacheConfig since 3000 (handle: Handle, _config: u32) { enter()?.state.functions.get(handle).map(drop) }

    cuFuncSetSharedMemConfig since 4020 (handle: Handle, _config: u32) { enter()?.state.functions.get(handle).map(drop) }

    cuFuncGetModule since 11000 (module_out: Out<Handle>, handle: Handle) {
        module_out.set(enter()?.state.functions.get(handle)?.module)
    }

    cuFuncGetParamInfo since 12040 (handle: Handle, index: usize, offset: Out<usize>, bytes: Out<usize>) {
        let entered = enter()?;
        let parameters = &entered.state.functions.get(handle)?.info.parameters;
        let Some(parameter) = parameters.get(index) else {
            return fail!(INVALID_VALUE, "the function has {} parameters", parameters.len());
        };
        offset.set(super::launch::offsets(parameters)[index])?;
        bytes.set_if_asked(parameter.bytes)
    }

    cuOccupancyMaxActiveBlocksPerMultiprocessor since 6050 (
        blocks: Out<c_int>, handle: Handle, threads: c_int, shared: usize,
    ) {
        let entered = enter()?;
        let found = entered.state.functions.get(handle)?;
        blocks.set(active_blocks(&entered, found, threads.max(0).unsigned_abs(), shared)? as c_int)
    }

    cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags since 7000 (
        blocks: Out<c_int>, handle: Handle, threads: c_int, shared: usize, _flags: u32,
    ) {
        let entered = enter()?;
        let found = entered.state.functions.get(handle)?;
        blocks.set(active_blocks(&entered, found, threads.max(0).unsigned_abs(), shared)? as c_int)
    }

    cuOccupancyMaxPotentialBlockSize since 6050 (
        grid: Out<c_int>, block: Out<c_int>, handle: Handle, shared_of: Option<unsafe extern "C" fn(c_int) -> usize>,
        shared: usize, limit: c_int,
    ) {
        let entered = enter()?;
        let found = entered.state.functions.get(handle)?;
        let most = match limit {
            1.. => found.most_threads().min(limit.unsigned_abs()),
            _ => found.most_threads(),
        };
        let mut best = (0, 32);
        for threads in (32..=most.max(32)).step_by(32) {
            // SAFETY: the program gave the function for this call.
            let shared = shared_of.map_or(shared, |shared_of| unsafe { shared_of(threads as c_int) });
            let blocks = active_blocks(&entered, found, threads.min(most), shared)?;
            best = best.max((blocks * threads, threads));
        }
        let multiprocessors = if entered.driver.settings.capability >= (9, 0) { 132 } else { 108 };
        block.set(best.1.min(most) as c_int)?;
        grid.set((best.0 / best.1 * multiprocessors) as c_int)
    }
}
