//! A kernel in a driver's tables, with the data that launches are checked against; the same for all drivers.

use std::sync::atomic::{AtomicU32, Ordering};

use ssmv_kernels::Kernel;

use super::{
    driver::{Argument, DeviceInfo, FunctionAttributes, LaunchConfig},
    limits::{check_launch, check_shared},
};
use crate::{Error, Result};

/// A kernel of a module, with the driver's own object for it.
#[derive(Debug)]
pub(super) struct Entry<O> {
    pub name: String,
    pub object: O,
    pub module: u64,
    pub attributes: FunctionAttributes,
    /// Size of each parameter in bytes.
    parameters: Vec<usize>,
    /// Dynamic shared memory in bytes that launches may request.
    allowed_shared: AtomicU32,
}

impl<O> Entry<O> {
    pub fn new(
        name: &str,
        object: O,
        module: u64,
        parameters: Vec<usize>,
        attributes: FunctionAttributes,
    ) -> Self {
        let allowed_shared = AtomicU32::new(0);
        Self { name: name.to_owned(), object, module, attributes, parameters, allowed_shared }
    }

    /// Allows launches with up to `bytes` of dynamic shared memory, after checking the device's limit and calling
    /// `ask`, which asks the driver.
    pub fn allow_shared(
        &self,
        bytes: u32,
        device: &DeviceInfo,
        ask: impl FnOnce(&O) -> Result<()>,
    ) -> Result<()> {
        check_shared(&self.name, bytes, &self.attributes, device)?;
        ask(&self.object)?;
        self.allowed_shared.store(bytes, Ordering::Release);
        Ok(())
    }

    /// An error for a launch that does not fit the kernel or exceeds its allowed shared memory.
    pub fn check_launch(&self, config: &LaunchConfig, arguments: &[Argument]) -> Result<()> {
        check_arguments(&self.name, &self.parameters, arguments)?;
        let allowed = self.allowed_shared.load(Ordering::Acquire);
        check_launch(&self.name, config, &self.attributes, allowed)
    }
}

/// An error for a kernel that exceeds the device, and for text that some drivers refuse.
pub(super) fn check_text(kernel: &Kernel, device: &DeviceInfo) -> Result<()> {
    let (name, ptx) = (&kernel.name, &kernel.ptx);
    if let Some(at) = ptx.find('\0') {
        return Err(Error::misuse(name, format!("the PTX has a zero byte at {at}")));
    }
    let not_ascii = |text: &str| text.chars().find(|c| !c.is_ascii());
    if let Some((line, c)) = ptx.lines().zip(1..).find_map(|(text, line)| Some((line, not_ascii(text)?))) {
        let message =
            format!("line {line} of the PTX has {c:?}; drivers r570 to r580 refuse text that is not ASCII");
        return Err(Error::misuse(name, message));
    }
    let words =
        |rest: &'_ str| rest.split_whitespace().next().map(|word| word.trim_end_matches(',').to_owned());
    if let Some(word) = ptx.split_once(".target").and_then(|(_, rest)| words(rest))
        && word != kernel.target.name()
    {
        let message =
            format!("the PTX is for {word}, not for the kernel's {} ({})", kernel.target, device.name);
        return Err(Error::misuse(name, message));
    }
    let (major, minor) = device.capability;
    if kernel.target.runs_on(major, minor) {
        return Ok(());
    }
    let (target, has) = (kernel.target, major * 10 + minor);
    let message = format!("the kernel is for {target}, and {} is sm_{has}; use its sm_80 form", device.name);
    Err(Error::misuse(name, message))
}

/// An error unless the arguments fit the parameters' number and sizes.
fn check_arguments(kernel: &str, parameters: &[usize], arguments: &[Argument]) -> Result<()> {
    if parameters.len() != arguments.len() {
        let message = format!("{} arguments given for {} parameters", arguments.len(), parameters.len());
        return Err(Error::misuse(format!("launch {kernel}"), message));
    }
    for (i, (&expected, argument)) in parameters.iter().zip(arguments).enumerate() {
        let (_, given) = argument.bytes();
        if given != expected {
            let message =
                format!("argument {i} ({argument:?}) has {given} bytes, and the parameter {expected}");
            return Err(Error::misuse(format!("launch {kernel}"), message));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use ssmv_kernels::Target;

    use super::*;
    use crate::cuda::driver::Address;

    #[test]
    fn text_that_some_drivers_refuse_is_refused() {
        let device = DeviceInfo {
            ordinal: 0,
            name: "H200".into(),
            memory: 1 << 37,
            capability: (9, 0),
            multiprocessors: 132,
            l2_bytes: 50 << 20,
            shared_per_block: 227 << 10,
            driver: (13, 0),
            pci: String::new(),
        };
        let kernel = |ptx: &str| Kernel::by_hand("first", Target::Sm80, ptx);
        check_text(&kernel(".version 7.0\n// the input"), &device).unwrap();
        let error = check_text(&kernel(".version 7.0\n// √input"), &device).unwrap_err().to_string();
        assert_eq!(
            error,
            "first: line 2 of the PTX has '√'; drivers r570 to r580 refuse text that is not ASCII"
        );
    }

    #[test]
    fn arguments_must_fit() {
        let pointer = Argument::Pointer(Address(256));
        check_arguments("k", &[8, 4], &[pointer, 1.0f32.into()]).unwrap();
        let few = check_arguments("k", &[8, 4], &[pointer]).unwrap_err().to_string();
        assert_eq!(few, "launch k: 1 arguments given for 2 parameters");
        let wrong = check_arguments("k", &[8, 4], &[pointer, 1u64.into()]).unwrap_err().to_string();
        assert!(wrong.contains("argument 1") && wrong.contains("8 bytes, and the parameter 4"), "{wrong}");
    }
}
