//! The driver's error codes as errors with advice.

use super::api::{self, *};
use crate::{Error, Result};

/// Message on a machine without a driver.
pub(super) const NO_DRIVER: &str = "no NVIDIA driver on this machine (libcuda.so.1 was not found); \
                                    use --device cpu or --device emulator";

/// The CUDA version that the calls need, in the driver's encoding.
pub(super) const OLDEST: u32 = 11_040;

/// Message if the driver's library exists and cannot be opened; `words` is the system's error.
pub(super) fn broken(words: &str) -> String {
    format!(
        "the NVIDIA driver's library cannot be opened ({words}); reinstall the driver, or use --device cpu"
    )
}

/// Message if the library lacks a function.
pub(super) fn too_old(function: &str) -> String {
    format!(
        "the NVIDIA driver is too old or broken: libcuda.so.1 has no {function}; install one for CUDA 12.0 or later"
    )
}

/// A version as text: 12040 is 12.4.
pub(super) fn version(number: u32) -> (u32, u32) {
    (number / 1000, number % 1000 / 10)
}

/// An error unless the call succeeded.
pub(super) fn check(code: Code, operation: impl FnOnce() -> String) -> Result<()> {
    if code == CUDA_SUCCESS {
        return Ok(());
    }
    let (name, meaning) = api::words(code);
    Err(Error::Driver { operation: operation(), code: name, meaning, advice: advice(code) })
}

/// The error of PTX that was refused, with the compiler's log.
pub(super) fn refused(kernel: &str, code: Code, logs: [String; 2]) -> Error {
    let (name, _) = api::words(code);
    let logs: Vec<String> = logs.into_iter().filter(|log| !log.is_empty()).collect();
    let log = if logs.is_empty() { "the compiler says nothing".to_owned() } else { logs.join("\n") };
    Error::Ptx { kernel: kernel.to_owned(), code: name, advice: advice(code), log }
}

fn advice(code: Code) -> &'static str {
    match code {
        CUDA_ERROR_NO_DEVICE => "no GPU is visible: see nvidia-smi and CUDA_VISIBLE_DEVICES",
        CUDA_ERROR_INVALID_DEVICE => "the device does not exist: see ssmv-raw doctor",
        CUDA_ERROR_DEVICE_UNAVAILABLE => "another process has the device: see nvidia-smi",
        CUDA_ERROR_STUB_LIBRARY => {
            "libcuda.so is the toolkit's stub: put the driver's own first in LD_LIBRARY_PATH"
        }
        CUDA_ERROR_SYSTEM_DRIVER_MISMATCH | CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE => {
            "the driver's library and its kernel module do not fit each other: restart the machine, or reinstall the driver"
        }
        CUDA_ERROR_UNSUPPORTED_PTX_VERSION => {
            "the driver is too old for this PTX: install one for CUDA 12.0 or later"
        }
        CUDA_ERROR_NO_BINARY_FOR_GPU => "the kernel is for another kind of GPU: see ssmv-raw doctor",
        CUDA_ERROR_JIT_COMPILER_NOT_FOUND => "libnvidia-ptxjitcompiler.so is missing: reinstall the driver",
        CUDA_ERROR_INVALID_PTX | CUDA_ERROR_INVALID_SOURCE => "the line below is a defect of the kernel",
        CUDA_ERROR_OUT_OF_MEMORY => "take a smaller batch, or end what else uses the device: see nvidia-smi",
        CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES => "the block is too large for the kernel's registers",
        CUDA_ERROR_ILLEGAL_ADDRESS
        | CUDA_ERROR_MISALIGNED_ADDRESS
        | CUDA_ERROR_ILLEGAL_INSTRUCTION
        | CUDA_ERROR_INVALID_ADDRESS_SPACE
        | CUDA_ERROR_INVALID_PC
        | CUDA_ERROR_HARDWARE_STACK_ERROR
        | CUDA_ERROR_ASSERT
        | CUDA_ERROR_LAUNCH_FAILED => {
            "a kernel failed and nothing more runs in this process; --device emulator names the line that did it"
        }
        CUDA_ERROR_LAUNCH_TIMEOUT => "a kernel ran for too long on a GPU that drives a display",
        CUDA_ERROR_ECC_UNCORRECTABLE | CUDA_ERROR_NVLINK_UNCORRECTABLE | CUDA_ERROR_CONTAINED => {
            "the hardware failed: see nvidia-smi -q and the system's log"
        }
        _ => "see nvidia-smi and the system's log",
    }
}
