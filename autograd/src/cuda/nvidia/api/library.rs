//! The driver's library and its functions, opened on first use.
//!
//! Argument types are those of `cudarc`'s bindings of cuda.h, which the compiler checks; results are numbers
//! ([`Code`]).

use std::{
    error::Error as _,
    ffi::{c_char, c_int, c_uint, c_void},
    mem::ManuallyDrop,
    sync::OnceLock,
};

use cudarc::driver::sys::{
    CUcontext, CUdevice, CUdevice_attribute, CUdeviceptr, CUevent, CUfunction, CUfunction_attribute, CUgraph,
    CUgraphExec, CUipcEventHandle, CUipcMemHandle, CUjit_option, CUmodule, CUstream, CUstreamCaptureMode,
};
use libloading::Library;

use super::{Code, code::CUDA_ERROR_NOT_INITIALIZED, failure};
use crate::{Error, Result};

/// File names of the library, in the order of the attempts. The driver installs the first; the second may be the
/// toolkit's stub, which only a linker can use.
const NAMES: [&str; 2] = ["libcuda.so.1", "libcuda.so"];

static FUNCTIONS: OnceLock<Functions> = OnceLock::new();

/// Declares [`Functions`], looks all of them up, and defines a Rust function for each.
macro_rules! functions {
    ($($name:ident($($argument:ident: $type:ty),*);)*) => {
        /// The functions of the library, which is never closed.
        #[allow(non_snake_case)]
        struct Functions {
            $($name: unsafe extern "C" fn($($type),*) -> Code,)*
        }

        impl Functions {
            #[allow(non_snake_case)]
            fn of(library: &Library) -> Result<Self> {
                $(
                    // SAFETY: the type is that of the function in cuda.h, with the result's number for its enumeration.
                    let found = unsafe { library.get(stringify!($name).as_bytes()) };
                    let $name: unsafe extern "C" fn($($type),*) -> Code =
                        *found.map_err(|_| Error::NoDevice(failure::too_old(stringify!($name))))?;
                )*
                Ok(Self { $($name),* })
            }
        }

        $(
            /// The driver's function of this name.
            ///
            /// # Safety
            /// As cuda.h documents for it.
            #[allow(non_snake_case, clippy::too_many_arguments)]
            pub(super) unsafe fn $name($($argument: $type),*) -> Code {
                match FUNCTIONS.get() {
                    // SAFETY: the caller's promise.
                    Some(functions) => unsafe { (functions.$name)($($argument),*) },
                    None => CUDA_ERROR_NOT_INITIALIZED,
                }
            }
        )*

        /// The functions as `cudarc` declares them: a declaration that differs from cuda.h does not compile.
        mod declared {
            use super::*;
            use cudarc::driver::sys;
            type Code = sys::CUresult;
            $(const _: unsafe fn($($type),*) -> Code = sys::$name;)*
        }

        #[cfg(test)]
        const ALL: &[&str] = &[$(stringify!($name)),*];
    };
}

// All are in CUDA 11.4.
functions! {
    cuCtxGetStreamPriorityRange(least: *mut c_int, greatest: *mut c_int);
    cuCtxSetCurrent(context: CUcontext);
    cuCtxSynchronize();
    cuDeviceGet(device: *mut CUdevice, ordinal: c_int);
    cuDeviceGetAttribute(value: *mut c_int, which: CUdevice_attribute, device: CUdevice);
    cuDeviceGetCount(count: *mut c_int);
    cuDeviceGetName(name: *mut c_char, length: c_int, device: CUdevice);
    cuDeviceGetPCIBusId(id: *mut c_char, length: c_int, device: CUdevice);
    cuDevicePrimaryCtxRelease_v2(device: CUdevice);
    cuDevicePrimaryCtxRetain(context: *mut CUcontext, device: CUdevice);
    cuDeviceTotalMem_v2(bytes: *mut usize, device: CUdevice);
    cuDriverGetVersion(version: *mut c_int);
    cuEventCreate(event: *mut CUevent, flags: c_uint);
    cuEventDestroy_v2(event: CUevent);
    cuEventElapsedTime(milliseconds: *mut f32, start: CUevent, end: CUevent);
    cuEventQuery(event: CUevent);
    cuEventRecord(event: CUevent, stream: CUstream);
    cuEventSynchronize(event: CUevent);
    cuFuncGetAttribute(value: *mut c_int, which: CUfunction_attribute, function: CUfunction);
    cuFuncSetAttribute(function: CUfunction, which: CUfunction_attribute, value: c_int);
    cuGetErrorName(code: Code, name: *mut *const c_char);
    cuGetErrorString(code: Code, text: *mut *const c_char);
    cuGraphDestroy(graph: CUgraph);
    cuGraphExecDestroy(graph: CUgraphExec);
    cuGraphInstantiateWithFlags(executable: *mut CUgraphExec, graph: CUgraph, flags: u64);
    cuGraphLaunch(graph: CUgraphExec, stream: CUstream);
    cuInit(flags: c_uint);
    cuIpcCloseMemHandle(address: CUdeviceptr);
    cuIpcGetEventHandle(handle: *mut CUipcEventHandle, event: CUevent);
    cuIpcGetMemHandle(handle: *mut CUipcMemHandle, address: CUdeviceptr);
    cuIpcOpenEventHandle(event: *mut CUevent, handle: CUipcEventHandle);
    cuIpcOpenMemHandle_v2(address: *mut CUdeviceptr, handle: CUipcMemHandle, flags: c_uint);
    cuLaunchKernel(
        function: CUfunction,
        grid_x: c_uint,
        grid_y: c_uint,
        grid_z: c_uint,
        block_x: c_uint,
        block_y: c_uint,
        block_z: c_uint,
        shared: c_uint,
        stream: CUstream,
        arguments: *mut *mut c_void,
        extra: *mut *mut c_void
    );
    cuMemAlloc_v2(address: *mut CUdeviceptr, bytes: usize);
    cuMemFreeHost(address: *mut c_void);
    cuMemFree_v2(address: CUdeviceptr);
    cuMemGetInfo_v2(free: *mut usize, total: *mut usize);
    cuMemHostAlloc(address: *mut *mut c_void, bytes: usize, flags: c_uint);
    cuMemcpyDtoDAsync_v2(to: CUdeviceptr, from: CUdeviceptr, bytes: usize, stream: CUstream);
    cuMemcpyDtoHAsync_v2(to: *mut c_void, from: CUdeviceptr, bytes: usize, stream: CUstream);
    cuMemcpyHtoDAsync_v2(to: CUdeviceptr, from: *const c_void, bytes: usize, stream: CUstream);
    cuMemsetD8Async(address: CUdeviceptr, value: u8, bytes: usize, stream: CUstream);
    cuModuleGetFunction(function: *mut CUfunction, module: CUmodule, name: *const c_char);
    cuModuleLoadDataEx(
        module: *mut CUmodule,
        image: *const c_void,
        count: c_uint,
        options: *mut CUjit_option,
        values: *mut *mut c_void
    );
    cuModuleUnload(module: CUmodule);
    cuStreamBeginCapture_v2(stream: CUstream, mode: CUstreamCaptureMode);
    cuStreamCreateWithPriority(stream: *mut CUstream, flags: c_uint, priority: c_int);
    cuStreamDestroy_v2(stream: CUstream);
    cuStreamEndCapture(stream: CUstream, graph: *mut CUgraph);
    cuStreamGetPriority(stream: CUstream, priority: *mut c_int);
    cuStreamSynchronize(stream: CUstream);
    cuStreamWaitEvent(stream: CUstream, event: CUevent, flags: c_uint);
}

/// Opens the library, permanently, and looks its functions up.
///
/// # Errors
/// [`Error::NoDevice`] without a driver, or for one that lacks a function.
pub(super) fn open() -> Result<()> {
    if FUNCTIONS.get().is_some() {
        return Ok(());
    }
    let mut broken = None;
    for name in NAMES {
        // SAFETY: opening a library runs its initialisers; the only names tried are those of NVIDIA's driver.
        match unsafe { Library::new(name) } {
            Ok(library) => {
                // Never closed: the driver's threads may outlive its users.
                let functions = Functions::of(&ManuallyDrop::new(library))?;
                // Another thread may have been first; its functions are the same.
                let _ = FUNCTIONS.set(functions);
                return Ok(());
            }
            Err(error) => {
                let words = error.source().map_or_else(|| error.to_string(), ToString::to_string);
                // A library that exists and cannot be opened deserves the longer message.
                if !(words.contains(name) && words.contains("No such file")) {
                    broken.get_or_insert(words);
                }
            }
        }
    }
    Err(Error::NoDevice(
        broken.map_or_else(|| failure::NO_DRIVER.to_owned(), |words| failure::broken(&words)),
    ))
}

#[cfg(test)]
mod tests {
    use std::{
        path::{Path, PathBuf},
        process::Command,
    };

    use super::*;
    use crate::cuda::{Backend, devices};

    /// Set where this test runs as a child process that lists the devices.
    const LOOK: &str = "SSMV_TEST_LOOK_FOR_DEVICES";

    /// Builds a C library with all functions, each of which returns `code`.
    fn build(folder: &Path, name: &str, code: u32) {
        let functions: String = ALL
            .iter()
            .map(|name| format!("#[no_mangle]\npub extern \"C\" fn {name}() -> u32 {{ {code} }}\n"))
            .collect();
        let source = folder.join(format!("{name}.rs"));
        std::fs::write(&source, format!("#![allow(non_snake_case)]\n{functions}")).unwrap();
        let cargo = std::env::var_os("CARGO").map(PathBuf::from);
        let beside = cargo.map(|cargo| cargo.with_file_name("rustc")).filter(|rustc| rustc.exists());
        let built = Command::new(beside.unwrap_or_else(|| "rustc".into()))
            .args(["--edition=2021", "--crate-type=cdylib", "--crate-name=driver", "-o"])
            .arg(folder.join(name))
            .arg(&source)
            .output()
            .unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    }

    /// The output of a child process that lists devices and finds these libraries, each with its functions' result
    /// code.
    fn look(libraries: &[(&str, u32)]) -> String {
        let folder =
            std::env::temp_dir().join(format!("ssmv-driver-{}-{}", std::process::id(), libraries.len()));
        std::fs::create_dir_all(&folder).unwrap();
        libraries.iter().for_each(|(name, code)| build(&folder, name, *code));
        let output = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "--nocapture",
                "cuda::nvidia::api::library::tests::the_drivers_own_library_comes_first",
            ])
            .env("LD_LIBRARY_PATH", &folder)
            .env(LOOK, "1")
            .output()
            .unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    #[test]
    fn the_drivers_own_library_comes_first() {
        if std::env::var_os(LOOK).is_some() {
            println!("found: {:?}", devices(Backend::Nvidia));
            return;
        }
        // A code that cuda.h lacks, as a later driver may return it.
        let said = look(&[("libcuda.so.1", 123_456), ("libcuda.so", 34)]);
        assert!(said.contains("error 123456"), "{said}");
        // Without the first name the other one is tried; this machine may also have a real driver.
        let said = look(&[("libcuda.so", 34)]);
        assert!(said.contains("found: ") && !said.contains("not found"), "{said}");
    }
}
