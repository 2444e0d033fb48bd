//! Modules: PTX text that a driver of this version and device would take, and its kernels.

use std::sync::Arc;

use crate::{
    code::{Outcome, fail},
    handle::Handle,
    host,
    settings::Settings,
    state::{Function, Module, State},
};

/// The longest text that is taken.
const MOST_TEXT: usize = 256 << 20;

/// The text of an image that a program gave.
///
/// # Errors
/// `CUDA_ERROR_INVALID_IMAGE` for compiled code, which the emulator cannot run; `CUDA_ERROR_INVALID_PTX` for bytes that are
/// not text with a closing zero.
pub fn text(address: usize) -> Outcome<String> {
    let mut first = [0; 4];
    host::read("the module's image", address, &mut first)?;
    match &first {
        [0x7f, b'E', b'L', b'F'] => {
            return fail!(
                NO_BINARY_FOR_GPU,
                "the image is a cubin, compiled for a chip: give the PTX text instead"
            );
        }
        [0x50, 0xed, 0x55, 0xba] => {
            return fail!(
                NO_BINARY_FOR_GPU,
                "the image is a fatbin: compile with -ptx and give the text instead"
            );
        }
        _ => {}
    }
    let bytes = host::text("the PTX", address, MOST_TEXT)?;
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            fail!(INVALID_PTX, "byte {at} of the PTX is not text: does the text end with a zero byte?")
        }
    }
}

/// The version (80 for 8.0) that a text asks for, once driver and device are known to take it.
///
/// # Errors
/// `CUDA_ERROR_UNSUPPORTED_PTX_VERSION` for text that is newer than the driver, `CUDA_ERROR_INVALID_PTX` for another chip's.
pub fn check_header(text: &str, settings: &Settings) -> Outcome<u32> {
    let directive = |name: &str| {
        let line = text.lines().map(str::trim).find_map(|line| line.strip_prefix(name))?;
        line.split(|c: char| c.is_whitespace() || c == ',' || c == '/').find(|word| !word.is_empty())
    };
    let number = |text: &str| text.parse::<u32>().ok();
    let version = directive(".version")
        .and_then(|word| word.split_once('.'))
        .and_then(|(major, minor)| Some((number(major)?, number(minor)?)));
    let Some((major, minor)) = version else {
        return fail!(INVALID_PTX, "the PTX has no .version directive");
    };
    let newest = settings.ptx();
    if (major, minor) > newest {
        let cuda = (settings.version / 1000, settings.version % 1000 / 10);
        return fail!(
            UNSUPPORTED_PTX_VERSION,
            "the PTX is version {major}.{minor}, and a driver of CUDA {}.{} takes {}.{} at most",
            cuda.0,
            cuda.1,
            newest.0,
            newest.1
        );
    }
    let Some(target) = directive(".target") else {
        return fail!(INVALID_PTX, "the PTX has no .target directive");
    };
    let (device, digits) = (settings.capability, target.trim_start_matches("sm_"));
    let exact = digits.ends_with(|c: char| c.is_ascii_alphabetic());
    let Some(wanted) = number(digits.trim_end_matches(|c: char| c.is_ascii_alphabetic())) else {
        return fail!(INVALID_PTX, ".target {target} is not an architecture");
    };
    let has = device.0 * 10 + device.1;
    if wanted > has || exact && wanted != has {
        return fail!(INVALID_PTX, "the PTX is for {target}, and the device is sm_{has}");
    }
    Ok(major * 10 + minor)
}

/// Parses and loads a text into the memory of a context's device. The name stands in messages.
pub fn load(state: &mut State, context: Handle, text: &str, settings: &Settings) -> Outcome<Handle> {
    let version = check_header(text, settings)?;
    let memory = state.devices[state.contexts.get(context)?.device].memory.clone();
    let loaded = match ssmv_emulator::Module::parse("line", text).and_then(|module| module.load(&memory)) {
        Ok(loaded) => loaded,
        Err(ssmv_emulator::Error::Parse { line, message, .. }) => {
            // The text that a driver would read on into, had it no closing zero.
            let ends = text.trim_end().ends_with(['}', ';', '\n']) || text.trim_end().ends_with("*/");
            let hint = if ends { "" } else { " (does the text end with a zero byte?)" };
            // As the driver's compiler writes it, for programs that look for the line.
            return fail!(INVALID_PTX, "ptxas application ptx input, line {line}; error   : {message}{hint}");
        }
        Err(error) => return fail!(OUT_OF_MEMORY, "{error}"),
    };
    let module = Module { context, loaded: Arc::new(loaded), version, functions: Vec::new() };
    Ok(state.modules.insert(module))
}

/// The function of this name.
///
/// # Errors
/// `CUDA_ERROR_NOT_FOUND` lists the kernels that there are.
pub fn function(state: &mut State, module: Handle, name: &str) -> Outcome<Handle> {
    let found = state.modules.get(module)?;
    if let Some((_, function)) = found.functions.iter().find(|(known, _)| known == name) {
        return Ok(*function);
    }
    let Some(info) = found.loaded.kernels().find(|kernel| kernel.name == name).cloned() else {
        let names: Vec<&str> = found.loaded.kernels().map(|kernel| kernel.name.as_str()).collect();
        return fail!(NOT_FOUND, "the module has no kernel {name}; it has: {}", names.join(", "));
    };
    let function = Function { module, info, allowed_shared: 0, attributes: Default::default() };
    let handle = state.functions.insert(function);
    state.modules.get_mut(module)?.functions.push((name.to_owned(), handle));
    Ok(handle)
}

/// Ends a module, with its functions.
pub fn unload(state: &mut State, module: Handle) -> Outcome {
    let module = state.modules.remove(module)?;
    for (_, function) in module.functions {
        state.functions.remove(function)?;
    }
    let memory = state.devices[state.contexts.get(module.context)?.device].memory.clone();
    // Work that is queued, or a graph, may still launch its kernels; then its variables stay.
    if let Ok(loaded) = Arc::try_unwrap(module.loaded) {
        let _ = loaded.unload(&memory);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code::Code;

    #[test]
    fn headers_are_held_against_driver_and_device() {
        let settings = |version: u32, capability| Settings {
            version,
            devices: 1,
            capability,
            memory: 1 << 30,
            seed: 1,
            late: std::time::Duration::ZERO,
            checks: ssmv_emulator::Checks::ALL,
            approximation: ssmv_emulator::Approximation::Nearest,
        };
        let text = |version: &str, target: &str| {
            format!("// a comment\n.version {version}\n.target {target}, debug\n")
        };
        let check = |version: &str, target: &str, driver: u32, capability| {
            check_header(&text(version, target), &settings(driver, capability))
                .map_err(|failure| failure.code)
        };
        assert_eq!(check("7.0", "sm_80", 12080, (9, 0)), Ok(70));
        assert_eq!(check("8.0", "sm_90a", 12080, (9, 0)), Ok(80));
        assert_eq!(check("8.0", "sm_90a", 11080, (9, 0)), Err(Code::UNSUPPORTED_PTX_VERSION));
        assert_eq!(check("8.8", "sm_80", 12080, (9, 0)), Err(Code::UNSUPPORTED_PTX_VERSION));
        assert_eq!(check("8.0", "sm_90a", 12080, (8, 0)), Err(Code::INVALID_PTX));
        assert_eq!(check("7.0", "sm_80a", 12080, (9, 0)), Err(Code::INVALID_PTX));
        assert_eq!(check("7.0", "sm_x", 12080, (9, 0)), Err(Code::INVALID_PTX));
        assert_eq!(check_header("ret;", &settings(12080, (9, 0))).unwrap_err().code, Code::INVALID_PTX);
    }
}
