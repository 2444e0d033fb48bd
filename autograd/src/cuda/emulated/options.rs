//! Options of the emulated device.

use crate::{Error, Result, host_memory};

/// Device memory in bytes where the host's memory size is unknown.
const MEMORY_OTHERWISE: u64 = 4 << 30;

/// The emulated GPU model, and the checks of the emulator.
#[derive(Clone, Debug, PartialEq)]
pub struct EmulatorOptions {
    /// Bytes of device memory.
    pub memory: u64,
    /// The device's compute capability: (8, 0) is an A100, (9, 0) an H100. It also selects the tensor-core arithmetic
    /// of `mma`.
    pub capability: (u32, u32),
    /// Faults to check for.
    pub checks: ssmv_emulator::Checks,
    /// The error of approximate instructions: the smallest, or the largest that the PTX ISA allows.
    pub approximation: ssmv_emulator::Approximation,
    /// Most instructions that a warp may run in one launch.
    pub budget: u64,
    /// The device's index among those of one process that share memory: their addresses differ.
    pub ordinal: u8,
    /// Launches whose counters are kept for [`take_reports`](crate::cuda::Driver::take_reports); older ones are
    /// dropped.
    pub reports: usize,
}

impl Default for EmulatorOptions {
    /// Half of the host's free memory, an H100, all checks, approximations to nearest.
    fn default() -> Self {
        let options = ssmv_emulator::Options::default();
        Self {
            memory: host_memory().map_or(MEMORY_OTHERWISE, |memory| memory.available / 2),
            capability: (9, 0),
            checks: options.checks,
            approximation: options.approximation,
            budget: options.budget,
            ordinal: 0,
            reports: 1024,
        }
    }
}

impl EmulatorOptions {
    /// The defaults, changed by the environment: `SSMV_EMULATOR_MEMORY` (MiB), `SSMV_EMULATOR_DEVICE` (`sm_80` or `sm_90`),
    /// `SSMV_EMULATOR_CHECKS` (`all` or `none`), `SSMV_EMULATOR_APPROXIMATION` (`nearest` or `worst`).
    ///
    /// # Errors
    /// [`Error::NoDevice`] for an invalid value.
    pub fn from_environment() -> Result<Self> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let mut options = Self::default();
        let wrong = |name: &str, value: &str, expected: &str| {
            Err(Error::NoDevice(format!("{name} is `{value}`, and must be {expected}")))
        };
        let set =
            |name: &'static str| variable(name).filter(|value| !value.is_empty()).map(|value| (name, value));
        if let Some((name, value)) = set("SSMV_EMULATOR_MEMORY") {
            match value.parse::<u64>().ok().and_then(|mib| mib.checked_mul(1 << 20)) {
                Some(bytes) if bytes > 0 => options.memory = bytes,
                _ => return wrong(name, &value, "a number of MiB"),
            }
        }
        if let Some((name, value)) = set("SSMV_EMULATOR_DEVICE") {
            options.capability = match value.as_str() {
                "sm_80" => (8, 0),
                "sm_90" => (9, 0),
                _ => return wrong(name, &value, "sm_80 or sm_90"),
            };
        }
        if let Some((name, value)) = set("SSMV_EMULATOR_CHECKS") {
            options.checks = match value.as_str() {
                "all" => ssmv_emulator::Checks::ALL,
                "none" => ssmv_emulator::Checks::NONE,
                _ => return wrong(name, &value, "all or none"),
            };
        }
        if let Some((name, value)) = set("SSMV_EMULATOR_APPROXIMATION") {
            options.approximation = match value.as_str() {
                "nearest" => ssmv_emulator::Approximation::Nearest,
                "worst" => ssmv_emulator::Approximation::Worst,
                _ => return wrong(name, &value, "nearest or worst"),
            };
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_decides_what_device_is_played() {
        let with = |name: &'static str, value: &'static str| {
            EmulatorOptions::from_variables(move |asked| (asked == name).then(|| value.to_owned()))
        };
        assert_eq!(with("SSMV_EMULATOR_MEMORY", "64").unwrap().memory, 64 << 20);
        assert_eq!(with("SSMV_EMULATOR_DEVICE", "sm_80").unwrap().capability, (8, 0));
        assert_eq!(with("SSMV_EMULATOR_CHECKS", "none").unwrap().checks, ssmv_emulator::Checks::NONE);
        assert_eq!(with("SSMV_EMULATOR_CHECKS", "").unwrap().checks, ssmv_emulator::Checks::ALL);
        let worst = with("SSMV_EMULATOR_APPROXIMATION", "worst").unwrap();
        assert_eq!(worst.approximation, ssmv_emulator::Approximation::Worst);
        for (name, value) in [
            ("SSMV_EMULATOR_MEMORY", "0"),
            ("SSMV_EMULATOR_MEMORY", "-1"),
            ("SSMV_EMULATOR_MEMORY", "18446744073709551615"),
            ("SSMV_EMULATOR_DEVICE", "sm_70"),
            ("SSMV_EMULATOR_CHECKS", "some"),
            ("SSMV_EMULATOR_APPROXIMATION", "best"),
        ] {
            let error = with(name, value).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains(value), "{error}");
        }
    }
}
