//! A kernel as a driver keeps it: what a launch is checked against, the same for all drivers.

use std::sync::atomic::{AtomicU32, Ordering};

use super::{
    driver::{Argument, DeviceInfo, FunctionAttributes, LaunchConfig},
    header::check_arguments,
    limits::{check_launch, check_shared},
};
use crate::Result;

/// A kernel of a module, with the driver's own object for it.
#[derive(Debug)]
pub(super) struct Entry<O> {
    pub name: String,
    pub object: O,
    pub module: u64,
    pub attributes: FunctionAttributes,
    /// Bytes of each parameter.
    parameters: Vec<usize>,
    /// Bytes of dynamic shared memory that launches may ask for.
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

    /// Allows launches with up to `bytes` of dynamic shared memory, once the device has them and `ask` has asked the driver.
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

    /// An error for a launch that does not fit the kernel or what it was allowed.
    pub fn check_launch(&self, config: &LaunchConfig, arguments: &[Argument]) -> Result<()> {
        check_arguments(&self.name, &self.parameters, arguments)?;
        let allowed = self.allowed_shared.load(Ordering::Acquire);
        check_launch(&self.name, config, &self.attributes, allowed)
    }
}
