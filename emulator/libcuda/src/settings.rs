//! The settings of the emulated driver, from environment variables that are read at `cuInit`.
//!
//! | variable | what it sets | default |
//! | --- | --- | --- |
//! | `SSMV_CUDA_VERSION` | the CUDA version of the driver, which decides the PTX that it takes: `11.4` to `13.1` | `12.8` |
//! | `SSMV_CUDA_DEVICES` | how many devices there are: 1 to 8 | 1 |
//! | `SSMV_CUDA_ARCH` | what they are: `sm_80` (A100) or `sm_90` (H100) | `sm_90` |
//! | `SSMV_CUDA_MEMORY` | bytes of each device: `512M`, `8G` | `8G` |
//! | `SSMV_CUDA_SEED` | chooses the order of work that streams and events leave open; 0 keeps the order of the calls | 1 |
//! | `SSMV_CUDA_LATE` | milliseconds that queued work waits while no thread waits for it | 2 |
//! | `SSMV_CUDA_CHECKS` | `all`; `written` for all but reads of memory that was never written, which a GPU does not detect; or `none` for bounds and alignment only (faster) | `all` |
//! | `SSMV_CUDA_APPROXIMATION` | `nearest`, or `worst` for all the error that the ISA allows approximate instructions | `nearest` |
//! | `SSMV_CUDA_LOG` | a file for messages, or `off` | standard error |
//! | `SSMV_CUDA_TRACE` | `1` writes every call with its result | off |

use std::time::Duration;

use ssmv_emulator::{Approximation, Checks, TensorCore};

use crate::code::{Outcome, fail};

/// The most devices, which have a range of addresses each.
pub const MOST_DEVICES: usize = 8;

/// See the module's table.
#[derive(Debug, Clone)]
pub struct Settings {
    /// As the driver writes it: 12080.
    pub version: u32,
    /// How many devices there are.
    pub devices: usize,
    /// Compute capability: major, minor.
    pub capability: (u32, u32),
    /// Bytes of each device.
    pub memory: u64,
    /// Of the order of work; 0 for the order of the calls.
    pub seed: u64,
    /// How long queued work waits while no thread waits for it.
    pub late: Duration,
    /// The checks of every launch.
    pub checks: Checks,
    /// The error of approximate instructions.
    pub approximation: Approximation,
}

impl Settings {
    /// From the environment.
    ///
    /// # Errors
    /// `CUDA_ERROR_INVALID_VALUE` names the variable that cannot be understood.
    pub fn from_environment() -> Outcome<Self> {
        Self::read(|name| std::env::var(name).ok())
    }

    fn read(variable: impl Fn(&str) -> Option<String>) -> Outcome<Self> {
        let checks = match variable("SSMV_CUDA_CHECKS").as_deref().unwrap_or("all") {
            // The counts of traffic are for reports, which nothing here asks for.
            "all" => Checks { traffic: false, ..Checks::ALL },
            "written" => Checks { uninitialised_memory: false, traffic: false, ..Checks::ALL },
            "none" => Checks::NONE,
            other => {
                return fail!(INVALID_VALUE, "SSMV_CUDA_CHECKS={other}: all, written or none is expected");
            }
        };
        let approximation = match variable("SSMV_CUDA_APPROXIMATION").as_deref().unwrap_or("nearest") {
            "nearest" => Approximation::Nearest,
            "worst" => Approximation::Worst,
            other => {
                return fail!(INVALID_VALUE, "SSMV_CUDA_APPROXIMATION={other}: nearest or worst is expected");
            }
        };
        let text = |name: &str, default: &str| variable(name).unwrap_or_else(|| default.to_owned());
        let arch = text("SSMV_CUDA_ARCH", "sm_90");
        let capability = match arch.trim_end_matches('a') {
            "sm_80" => (8, 0),
            "sm_86" => (8, 6),
            "sm_89" => (8, 9),
            "sm_90" => (9, 0),
            _ => {
                return fail!(
                    INVALID_VALUE,
                    "SSMV_CUDA_ARCH={arch}: sm_80, sm_86, sm_89 or sm_90 is expected"
                );
            }
        };
        Ok(Self {
            version: version(&text("SSMV_CUDA_VERSION", "12.8"))?,
            devices: number("SSMV_CUDA_DEVICES", &text("SSMV_CUDA_DEVICES", "1"), 1, MOST_DEVICES as u64)?
                as usize,
            capability,
            memory: bytes(&text("SSMV_CUDA_MEMORY", "8G"))?,
            seed: number("SSMV_CUDA_SEED", &text("SSMV_CUDA_SEED", "1"), 0, u64::MAX)?,
            late: Duration::from_millis(number("SSMV_CUDA_LATE", &text("SSMV_CUDA_LATE", "2"), 0, 60_000)?),
            checks,
            approximation,
        })
    }

    /// The arithmetic of the devices' tensor cores.
    pub fn tensor_core(&self) -> TensorCore {
        if self.capability >= (9, 0) { TensorCore::Hopper } else { TensorCore::Ampere }
    }

    /// The newest PTX that the driver's compiler takes (CUDA's release notes, table of PTX versions).
    pub fn ptx(&self) -> (u32, u32) {
        const NEWEST: [(u32, (u32, u32)); 15] = [
            (13_010, (9, 1)),
            (13_000, (9, 0)),
            (12_090, (8, 8)),
            (12_080, (8, 7)),
            (12_070, (8, 6)),
            (12_050, (8, 5)),
            (12_040, (8, 4)),
            (12_030, (8, 3)),
            (12_020, (8, 2)),
            (12_010, (8, 1)),
            (12_000, (8, 0)),
            (11_080, (7, 8)),
            (11_070, (7, 7)),
            (11_060, (7, 6)),
            (11_050, (7, 5)),
        ];
        NEWEST.iter().find(|(driver, _)| *driver <= self.version).map_or((7, 4), |&(_, ptx)| ptx)
    }
}

fn version(text: &str) -> Outcome<u32> {
    let parts =
        text.split_once('.').and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    match parts {
        Some((major @ 11..=13u32, minor @ 0..=9u32)) if (11, 4) <= (major, minor) => {
            Ok(major * 1000 + minor * 10)
        }
        _ => fail!(INVALID_VALUE, "SSMV_CUDA_VERSION={text}: a version from 11.4 to 13.9 is expected"),
    }
}

fn number(name: &str, text: &str, least: u64, most: u64) -> Outcome<u64> {
    match text.parse() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => fail!(INVALID_VALUE, "{name}={text}: a number from {least} to {most} is expected"),
    }
}

fn bytes(text: &str) -> Outcome<u64> {
    let (digits, shift) = match text.strip_suffix(['G', 'M']) {
        Some(digits) => (digits, if text.ends_with('G') { 30 } else { 20 }),
        None => (text, 0),
    };
    // Each device has 2^40 addresses, four times what it may hold.
    match digits.parse::<u64>().ok().and_then(|n| n.checked_mul(1 << shift)) {
        Some(bytes) if (4 << 20..=1 << 38).contains(&bytes) => Ok(bytes),
        _ => fail!(INVALID_VALUE, "SSMV_CUDA_MEMORY={text}: 4M to 256G is expected"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, value: &str) -> Outcome<Settings> {
        Settings::read(|asked| (asked == name).then(|| value.to_owned()))
    }

    #[test]
    fn variables_are_read_and_refused() {
        let default = read("", "").unwrap();
        assert_eq!(
            (default.version, default.ptx(), default.devices, default.memory),
            (12080, (8, 7), 1, 8 << 30)
        );
        assert_eq!(read("SSMV_CUDA_VERSION", "11.8").unwrap().ptx(), (7, 8));
        assert_eq!(read("SSMV_CUDA_VERSION", "13.0").unwrap().ptx(), (9, 0));
        assert_eq!(read("SSMV_CUDA_MEMORY", "512M").unwrap().memory, 512 << 20);
        assert_eq!(read("SSMV_CUDA_ARCH", "sm_80").unwrap().capability, (8, 0));
        for (name, value) in [
            ("SSMV_CUDA_VERSION", "12"),
            ("SSMV_CUDA_VERSION", "10.2"),
            ("SSMV_CUDA_MEMORY", "1K"),
            ("SSMV_CUDA_MEMORY", "99999999999999G"),
            ("SSMV_CUDA_DEVICES", "9"),
            ("SSMV_CUDA_ARCH", "sm_70"),
            ("SSMV_CUDA_SEED", "-1"),
            ("SSMV_CUDA_CHECKS", "some"),
            ("SSMV_CUDA_APPROXIMATION", "best"),
        ] {
            let failure = read(name, value).unwrap_err();
            assert!(failure.message.starts_with(&format!("{name}={value}: ")), "{}", failure.message);
        }
    }
}
