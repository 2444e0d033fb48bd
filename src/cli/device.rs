//! Where a command runs.

use ssmv_autograd::cuda::{self, Backend};

use crate::config::Device;
use crate::{Error, Result};

/// An error when `command` does not run on a device.
pub fn must_run_on(device: Device, command: &str) -> Result<()> {
    match device {
        Device::Auto | Device::Cpu => return Ok(()),
        // Where there is no driver, that is the first thing to know.
        Device::Cuda => drop(cuda::devices(Backend::Real)?),
        Device::Emulator => {}
    }
    Err(Error::Failure(format!(
        "--device {device}: {command} does not run there yet; take --device cpu, or auto, which is the same so far"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_run_yet_says_what_does() {
        must_run_on(Device::Auto, "train").unwrap();
        must_run_on(Device::Cpu, "train").unwrap();
        let error = must_run_on(Device::Emulator, "train").unwrap_err();
        assert_eq!(error.exit_code(), 1);
        assert!(error.to_string().contains("train does not run there yet; take --device cpu"), "{error}");
        let error = must_run_on(Device::Cuda, "train").unwrap_err().to_string();
        // With or without a driver, one line that says what to take.
        assert!(error.contains("--device cpu") && error.lines().count() == 1, "{error}");
    }
}
