//! The driver's result codes, as numbers: a newer driver may return one that today's enumeration lacks.

use std::ffi::{CStr, c_char};

use cudarc::driver::sys::CUresult;

use super::library::{cuGetErrorName, cuGetErrorString};

/// A `CUresult` of any value.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code(pub u32);

macro_rules! codes {
    ($($name:ident)*) => {$(
        pub(in crate::cuda::nvidia) const $name: Code = Code(CUresult::$name as u32);
    )*};
}

// The codes that this program handles.
codes! {
    CUDA_SUCCESS
    CUDA_ERROR_ASSERT
    CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE
    CUDA_ERROR_CONTAINED
    CUDA_ERROR_DEVICE_UNAVAILABLE
    CUDA_ERROR_ECC_UNCORRECTABLE
    CUDA_ERROR_HARDWARE_STACK_ERROR
    CUDA_ERROR_ILLEGAL_ADDRESS
    CUDA_ERROR_ILLEGAL_INSTRUCTION
    CUDA_ERROR_INVALID_ADDRESS_SPACE
    CUDA_ERROR_INVALID_DEVICE
    CUDA_ERROR_INVALID_PC
    CUDA_ERROR_INVALID_PTX
    CUDA_ERROR_INVALID_SOURCE
    CUDA_ERROR_JIT_COMPILER_NOT_FOUND
    CUDA_ERROR_LAUNCH_FAILED
    CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES
    CUDA_ERROR_LAUNCH_TIMEOUT
    CUDA_ERROR_MISALIGNED_ADDRESS
    CUDA_ERROR_NOT_INITIALIZED
    CUDA_ERROR_NOT_READY
    CUDA_ERROR_NO_BINARY_FOR_GPU
    CUDA_ERROR_NO_DEVICE
    CUDA_ERROR_NVLINK_UNCORRECTABLE
    CUDA_ERROR_OUT_OF_MEMORY
    CUDA_ERROR_STUB_LIBRARY
    CUDA_ERROR_SYSTEM_DRIVER_MISMATCH
    CUDA_ERROR_UNSUPPORTED_PTX_VERSION
}

/// The driver's name and message for a code.
pub(in crate::cuda::nvidia) fn words(code: Code) -> (String, String) {
    let text = |get: unsafe fn(Code, *mut *const c_char) -> Code| {
        let mut text: *const c_char = std::ptr::null();
        // SAFETY: writes one pointer to a live variable: to a constant string of the library, or null.
        let known = unsafe { get(code, &mut text) } == CUDA_SUCCESS && !text.is_null();
        // SAFETY: the string ends with a zero and lives as long as the library, which is never closed.
        known.then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
    };
    let name = text(cuGetErrorName).unwrap_or_else(|| format!("error {}", code.0));
    (name, text(cuGetErrorString).unwrap_or_else(|| "no description".into()))
}
