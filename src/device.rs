//! Which device a command computes on.

use ssmv_autograd::cuda::{self, Backend, Counting, Cuda, DeviceInfo};

use crate::{Result, config::Device};

/// The GPU (or the emulator) that `device` names; `None` for the CPU. `auto` is the first GPU that the kernels run on, where
/// there is one.
///
/// # Errors
/// No driver, one that is too old, no GPU of compute capability 8.0: the message says what to do.
pub fn open(device: Device) -> Result<Option<Cuda>> {
    open_for(device, 0)
}

/// The same for one of several ranks of a machine: they take its GPUs by turns.
///
/// # Errors
/// As [`open`].
pub fn open_for(device: Device, local_rank: usize) -> Result<Option<Cuda>> {
    let of_rank = |devices: &[DeviceInfo]| {
        let usable: Vec<_> = devices.iter().filter(|device| cuda::is_usable(device)).collect();
        (!usable.is_empty()).then(|| usable[local_rank % usable.len()].ordinal)
    };
    match device {
        Device::Cpu => Ok(None),
        Device::Cuda => {
            let devices = cuda::devices(Backend::Real)?;
            // Where none will do, the first says why.
            Ok(Some(Cuda::open(Backend::Real, of_rank(&devices).unwrap_or(0))?))
        }
        Device::Emulator => Ok(Some(Cuda::open(Backend::Emulated, 0)?)),
        Device::Auto => {
            let devices = cuda::devices(Backend::Real).unwrap_or_default();
            of_rank(&devices).map(|ordinal| Ok(Cuda::open(Backend::Real, ordinal)?)).transpose()
        }
    }
}

/// What `device` is, or what it would most likely be: where there is no GPU, an H100. `None` for the CPU.
///
/// # Errors
/// Settings of the emulator that make no sense.
pub fn describe(device: Device) -> Result<Option<DeviceInfo>> {
    let first = |backend| cuda::devices(backend).map(|devices| devices.into_iter().find(cuda::is_usable));
    Ok(match device {
        Device::Cpu => None,
        Device::Emulator => first(Backend::Emulated)?,
        Device::Cuda | Device::Auto => {
            let here = first(Backend::Real).ok().flatten();
            Some(here.unwrap_or_else(Counting::describe))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_says_what_to_do() {
        assert!(open(Device::Cpu).unwrap().is_none());
        assert!(open(Device::Emulator).unwrap().is_some());
        // Where there is no driver; on a machine with a GPU this opens it.
        if let Err(error) = open(Device::Cuda) {
            let message = error.to_string();
            assert!(message.contains("--device cpu") && message.lines().count() == 1, "{message}");
            assert!(open(Device::Auto).unwrap().is_none());
        }
    }
}
