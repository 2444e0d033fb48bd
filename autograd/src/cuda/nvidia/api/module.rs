//! Compiled PTX and its kernels.

use std::{
    ffi::{CString, c_int, c_void},
    ptr,
    sync::Arc,
};

use cudarc::driver::sys::{self, CUfunction_attribute as FunctionAttribute, CUjit_option as Jit};

use super::{
    CUDA_SUCCESS, Context, Stream, check, cuFuncGetAttribute, cuFuncSetAttribute, cuLaunchKernel,
    cuModuleGetFunction, cuModuleLoadDataEx, failure,
};
use crate::{
    Error, Result,
    cuda::driver::{Argument, FunctionAttributes, LaunchConfig},
};

/// Size of each of the compiler's two logs in bytes; the driver cuts longer ones.
const LOG_BYTES: usize = 16 << 10;

object! {
    /// A module of compiled PTX.
    Module(sys::CUmodule), cuModuleUnload
}

impl Module {
    /// Compiles PTX; also returns the compiler's log.
    pub fn load(context: &Arc<Context>, name: &str, ptx: &str) -> Result<(Self, String)> {
        context.enter()?;
        let image = CString::new(ptx)
            .map_err(|e| Error::misuse(name, format!("the PTX has a zero byte at {}", e.nul_position())))?;
        let (mut info, mut errors) = (vec![0u8; LOG_BYTES], vec![0u8; LOG_BYTES]);
        let mut options = [
            Jit::CU_JIT_INFO_LOG_BUFFER,
            Jit::CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES,
            Jit::CU_JIT_ERROR_LOG_BUFFER,
            Jit::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES,
            Jit::CU_JIT_LOG_VERBOSE,
        ];
        // The interface passes numbers cast to pointers.
        let number = |n: usize| ptr::without_provenance_mut::<c_void>(n);
        let mut values = [
            info.as_mut_ptr().cast(),
            number(LOG_BYTES),
            errors.as_mut_ptr().cast(),
            number(LOG_BYTES),
            number(1),
        ];
        let mut raw = ptr::null_mut();
        // SAFETY: the text ends with a zero; options and values have the given count; each log has the given length
        // and, like
        // the variable for the handle, outlives the call.
        let code = unsafe {
            cuModuleLoadDataEx(
                &mut raw,
                image.as_ptr().cast(),
                options.len() as u32,
                options.as_mut_ptr(),
                values.as_mut_ptr(),
            )
        };
        let log = |bytes: &[u8]| {
            let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
            String::from_utf8_lossy(&bytes[..end]).trim().to_owned()
        };
        if code != CUDA_SUCCESS {
            return Err(failure::refused(name, code, [log(&errors), log(&info)]));
        }
        Ok((Self { context: context.clone(), raw }, log(&info)))
    }
}

/// A kernel; it keeps its module alive.
#[derive(Debug)]
pub struct Function {
    pub name: String,
    module: Arc<Module>,
    raw: sys::CUfunction,
}

// SAFETY: the driver's functions take its handles from any thread.
unsafe impl Send for Function {}
// SAFETY: the same.
unsafe impl Sync for Function {}

impl Function {
    pub fn of(module: &Arc<Module>, name: &str) -> Result<Self> {
        module.context.enter()?;
        let c_name = CString::new(name).map_err(|_| Error::misuse(name, "the name has a zero byte"))?;
        let mut raw = ptr::null_mut();
        // SAFETY: the module is live, the name ends with a zero; writes one handle to a live variable.
        let code = unsafe { cuModuleGetFunction(&mut raw, module.raw, c_name.as_ptr()) };
        check(code, || format!("find kernel {name}"))?;
        Ok(Self { name: name.to_owned(), module: module.clone(), raw })
    }

    pub fn attributes(&self) -> Result<FunctionAttributes> {
        self.module.context.enter()?;
        let attribute = |which: FunctionAttribute| {
            let mut value: c_int = 0;
            // SAFETY: the function is live; writes one integer to a live variable.
            let code = unsafe { cuFuncGetAttribute(&mut value, which, self.raw) };
            check(code, || format!("describe kernel {}", self.name))?;
            Ok::<u32, Error>(value.unsigned_abs())
        };
        Ok(FunctionAttributes {
            registers: attribute(FunctionAttribute::CU_FUNC_ATTRIBUTE_NUM_REGS)?,
            static_shared: attribute(FunctionAttribute::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES)?,
            local: attribute(FunctionAttribute::CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES)?,
            max_threads: attribute(FunctionAttribute::CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK)?,
        })
    }

    pub fn allow_shared(&self, bytes: u32) -> Result<()> {
        self.module.context.enter()?;
        let which = FunctionAttribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        let value = c_int::try_from(bytes).unwrap_or(c_int::MAX);
        // SAFETY: the function is live; takes no pointer.
        let code = unsafe { cuFuncSetAttribute(self.raw, which, value) };
        check(code, || format!("allow {} {bytes} bytes of shared memory", self.name))
    }

    /// The caller has checked the arguments' number and sizes against the kernel's parameters.
    pub fn launch(&self, config: &LaunchConfig, arguments: &[Argument], stream: &Stream) -> Result<()> {
        self.module.context.enter()?;
        let mut words: Vec<u64> = arguments.iter().map(|a| u64::from_le_bytes(a.bytes().0)).collect();
        let mut pointers: Vec<*mut c_void> =
            words.iter_mut().map(|word| ptr::from_mut(word).cast()).collect();
        let LaunchConfig { grid: [gx, gy, gz], block: [bx, by, bz], shared } = *config;
        // SAFETY: one pointer a parameter, each to at least the parameter's bytes (hosts of the driver are little-endian); the
        // driver copies them before it returns.
        let code = unsafe {
            cuLaunchKernel(
                self.raw,
                gx,
                gy,
                gz,
                bx,
                by,
                bz,
                shared,
                stream.raw,
                pointers.as_mut_ptr(),
                ptr::null_mut(),
            )
        };
        check(code, || format!("launch {} with grid {:?}, block {:?}", self.name, config.grid, config.block))
    }
}
