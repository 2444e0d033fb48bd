//! The calls to the CUDA driver: each object with its calls, its context made current first and its end in `Drop`.
//! All `unsafe` of the real driver is here.

use std::{
    ffi::{CStr, CString, c_char, c_int, c_void},
    ptr,
    sync::{Arc, Mutex},
};

use super::{
    super::{
        driver::{Argument, DeviceInfo, FunctionAttributes, Geometry, MemoryInfo},
        table::lock,
    },
    failure::{self, check},
};
use crate::{Error, Result};

/// Brings the driver's functions in, and keeps their names: the bindings panic where one is missing, so they are looked
/// up before the first call. All are in CUDA 11.4.
macro_rules! functions {
    ($($name:ident)*) => {
        pub(super) use cudarc::driver::sys::{$($name),*};
        const NAMES: &[&str] = &[$(stringify!($name)),*];
    };
}
functions! {
    cuCtxSetCurrent cuDeviceGet cuDeviceGetAttribute cuDeviceGetCount cuDeviceGetName cuDeviceGetPCIBusId
    cuDevicePrimaryCtxRelease_v2 cuDevicePrimaryCtxRetain cuDeviceTotalMem_v2 cuDriverGetVersion cuEventCreate
    cuEventDestroy_v2 cuEventElapsedTime cuEventRecord cuEventSynchronize cuFuncGetAttribute cuFuncSetAttribute
    cuGetErrorName cuGetErrorString cuGraphDestroy cuGraphExecDestroy cuGraphInstantiateWithFlags cuGraphLaunch cuInit
    cuLaunchKernel cuMemAlloc_v2 cuMemFreeHost cuMemFree_v2 cuMemGetInfo_v2 cuMemHostAlloc cuMemcpyDtoDAsync_v2
    cuMemcpyDtoHAsync_v2 cuMemcpyHtoDAsync_v2 cuMemsetD8Async cuModuleGetFunction cuModuleLoadDataEx cuModuleUnload
    cuStreamBeginCapture_v2 cuStreamCreate cuStreamDestroy_v2 cuStreamEndCapture cuStreamSynchronize cuStreamWaitEvent
}
use cudarc::driver::sys::{self, CUdevice_attribute as Attribute, CUfunction_attribute as FunctionAttribute};

/// Bytes of each of the compiler's two logs; what is longer is cut by the driver.
const LOG_BYTES: usize = 16 << 10;

/// Opens the driver's library and initialises it; gives the CUDA version that it speaks, as the driver writes it:
/// 12040 for 12.4.
pub(super) fn initialise() -> Result<u32> {
    // SAFETY: opening a library runs its initialisers; the only names tried are those of NVIDIA's driver.
    if !unsafe { sys::is_culib_present() } {
        return Err(Error::NoDevice(failure::NO_DRIVER.into()));
    }
    // SAFETY: the library was found just now, so this opens it and does not panic.
    let library = unsafe { sys::culib() };
    for name in NAMES {
        // SAFETY: the symbol is only looked up, never called through this type.
        if unsafe { library.get::<unsafe extern "C" fn()>(name.as_bytes()) }.is_err() {
            return Err(Error::NoDevice(failure::too_old(name)));
        }
    }
    // SAFETY: takes no pointer; may be called any number of times from any thread.
    check(unsafe { cuInit(0) }, || "start the CUDA driver".into())?;
    let mut version: c_int = 0;
    // SAFETY: writes one integer to a live variable.
    check(unsafe { cuDriverGetVersion(&mut version) }, || "ask for the driver's version".into())?;
    Ok(version.unsigned_abs())
}

/// How many devices there are. The driver is initialised.
pub(super) fn device_count() -> Result<u32> {
    let mut count: c_int = 0;
    // SAFETY: writes one integer to a live variable.
    check(unsafe { cuDeviceGetCount(&mut count) }, || "count the devices".into())?;
    Ok(count.unsigned_abs())
}

/// What device `ordinal` is. The driver is initialised.
pub(super) fn device_info(ordinal: u32, version: u32) -> Result<DeviceInfo> {
    let device = device(ordinal)?;
    let mut name: [c_char; 256] = [0; 256];
    let mut pci: [c_char; 32] = [0; 32];
    let mut memory = 0;
    let operation = || format!("describe device {ordinal}");
    // SAFETY: writes at most the given length, its closing zero included, to a live array.
    check(unsafe { cuDeviceGetName(name.as_mut_ptr(), name.len() as c_int, device) }, operation)?;
    // SAFETY: the same.
    check(unsafe { cuDeviceGetPCIBusId(pci.as_mut_ptr(), pci.len() as c_int, device) }, operation)?;
    // SAFETY: writes one integer to a live variable.
    check(unsafe { cuDeviceTotalMem_v2(&mut memory, device) }, operation)?;
    let attribute = |which: Attribute| {
        let mut value: c_int = 0;
        // SAFETY: writes one integer to a live variable.
        check(unsafe { cuDeviceGetAttribute(&mut value, which, device) }, operation)?;
        Ok::<u32, Error>(value.unsigned_abs())
    };
    Ok(DeviceInfo {
        ordinal,
        name: text(&name),
        memory: memory as u64,
        capability: (
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        ),
        multiprocessors: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
        l2_bytes: attribute(Attribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE)?.into(),
        shared_per_block: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?,
        driver: failure::version(version),
        pci: text(&pci),
    })
}

fn device(ordinal: u32) -> Result<sys::CUdevice> {
    let mut device = 0;
    let number = c_int::try_from(ordinal).unwrap_or(c_int::MAX);
    // SAFETY: writes one integer to a live variable.
    check(unsafe { cuDeviceGet(&mut device, number) }, || format!("open device {ordinal}"))?;
    Ok(device)
}

/// The characters up to the closing zero.
fn text(characters: &[c_char]) -> String {
    let bytes: Vec<u8> = characters.iter().take_while(|&&c| c != 0).map(|&c| c as u8).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A device's primary context.
#[derive(Debug)]
pub(super) struct Context {
    device: sys::CUdevice,
    raw: sys::CUcontext,
}

// SAFETY: the driver's functions may be called from any thread, and a context may be current on several.
unsafe impl Send for Context {}
// SAFETY: the same.
unsafe impl Sync for Context {}

impl Context {
    pub fn open(ordinal: u32) -> Result<Arc<Self>> {
        let device = device(ordinal)?;
        let mut raw = ptr::null_mut();
        // SAFETY: writes one pointer to a live variable; `device` came from the driver.
        let code = unsafe { cuDevicePrimaryCtxRetain(&mut raw, device) };
        check(code, || format!("open device {ordinal}"))?;
        Ok(Arc::new(Self { device, raw }))
    }

    /// Makes the context current on this thread; every call below begins with it.
    fn enter(&self) -> Result<()> {
        // SAFETY: the context was retained and is released in `drop` alone.
        check(unsafe { cuCtxSetCurrent(self.raw) }, || "enter the device's context".into())
    }

    pub fn memory(&self) -> Result<MemoryInfo> {
        self.enter()?;
        let (mut free, mut total) = (0, 0);
        // SAFETY: writes two integers to live variables.
        check(unsafe { cuMemGetInfo_v2(&mut free, &mut total) }, || "ask for the free memory".into())?;
        Ok(MemoryInfo { free: free as u64, total: total as u64 })
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: undoes the one retain of `open`; all objects of the context hold it and are gone.
        unsafe { cuDevicePrimaryCtxRelease_v2(self.device) };
    }
}

/// An object of a context: a raw handle that `Drop` gives back.
macro_rules! object {
    ($(#[$doc:meta])* $name:ident($raw:ty), $destroy:ident) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub(super) struct $name {
            context: Arc<Context>,
            raw: $raw,
        }

        // SAFETY: the driver's functions take its handles from any thread.
        unsafe impl Send for $name {}
        // SAFETY: the same.
        unsafe impl Sync for $name {}

        impl Drop for $name {
            fn drop(&mut self) {
                if self.context.enter().is_ok() {
                    // SAFETY: the handle is live and nobody else has it; the driver lets work that uses it finish.
                    unsafe { $destroy(self.raw) };
                }
            }
        }
    };
}

object! {
    /// A block of device memory.
    Block(sys::CUdeviceptr), cuMemFree_v2
}
object! {
    /// A stream that does not wait for the default stream.
    Stream(sys::CUstream), cuStreamDestroy_v2
}
object! {
    /// An event.
    Event(sys::CUevent), cuEventDestroy_v2
}
object! {
    /// Compiled PTX.
    Module(sys::CUmodule), cuModuleUnload
}
object! {
    /// A graph that can be launched.
    Graph(sys::CUgraphExec), cuGraphExecDestroy
}

impl Block {
    /// The error code is kept apart, so that the caller can tell a full device.
    pub fn allocate(context: &Arc<Context>, bytes: u64) -> Result<Result<Self, sys::CUresult>> {
        context.enter()?;
        let mut raw = 0;
        let length = usize::try_from(bytes).unwrap_or(usize::MAX);
        // SAFETY: writes one address to a live variable.
        match unsafe { cuMemAlloc_v2(&mut raw, length) } {
            sys::CUresult::CUDA_SUCCESS => Ok(Ok(Self { context: context.clone(), raw })),
            code => Ok(Err(code)),
        }
    }

    pub fn address(&self) -> u64 {
        self.raw
    }
}

/// Pinned host memory, and the event of the last copy that uses it.
#[derive(Debug)]
pub(super) struct PinnedBlock {
    copied: Event,
    address: *mut u8,
    pub bytes: usize,
    /// Whether a copy may still be under way. Whoever holds the lock may read and write the memory then.
    pending: Mutex<bool>,
}

// SAFETY: the memory is only reached with the lock held, and the driver takes its address from any thread.
unsafe impl Send for PinnedBlock {}
// SAFETY: the same.
unsafe impl Sync for PinnedBlock {}

impl PinnedBlock {
    /// Zeroed memory of at least one byte.
    pub fn allocate(context: &Arc<Context>, bytes: usize) -> Result<Self> {
        let copied = Event::create(context)?;
        let mut address: *mut c_void = ptr::null_mut();
        // SAFETY: writes one pointer to a live variable; the context is current, `Event::create` entered it.
        check(unsafe { cuMemHostAlloc(&mut address, bytes, 0) }, || {
            format!("allocate {bytes} bytes of pinned memory")
        })?;
        let address = address.cast::<u8>();
        // SAFETY: the driver gave `bytes` bytes there, and nobody else knows of them.
        unsafe { address.write_bytes(0, bytes) };
        Ok(Self { copied, address, bytes, pending: Mutex::new(false) })
    }

    /// Waits for the copies and gives the memory to `body`.
    pub fn with(&self, body: &mut dyn FnMut(&mut [u8])) -> Result<()> {
        let mut pending = lock(&self.pending);
        if std::mem::take(&mut *pending) {
            self.copied.synchronize()?;
        }
        // SAFETY: `bytes` initialised bytes that live as long as `self`. The lock keeps out other threads and new copies, and
        // earlier copies are done: each waits for the one before it, and the last one was waited for.
        body(unsafe { std::slice::from_raw_parts_mut(self.address, self.bytes) });
        Ok(())
    }

    /// Queues a copy that uses the memory, after the copies that do so already.
    fn copy(&self, stream: &Stream, copy: impl FnOnce(*mut u8) -> Result<()>) -> Result<()> {
        let mut pending = lock(&self.pending);
        if *pending {
            stream.wait(&self.copied)?;
        }
        copy(self.address)?;
        *pending = true;
        self.copied.record(stream)
    }
}

impl Drop for PinnedBlock {
    fn drop(&mut self) {
        let context = &self.copied.context;
        if *lock(&self.pending) && self.copied.synchronize().is_err() || context.enter().is_err() {
            // The device may still write there: the memory is lost rather than handed to someone else.
            return;
        }
        // SAFETY: the memory came from `cuMemHostAlloc`, and the copies that used it are done.
        unsafe { cuMemFreeHost(self.address.cast()) };
    }
}

impl Stream {
    pub fn create(context: &Arc<Context>) -> Result<Self> {
        context.enter()?;
        let mut raw = ptr::null_mut();
        let flags = sys::CUstream_flags::CU_STREAM_NON_BLOCKING as u32;
        // SAFETY: writes one handle to a live variable.
        check(unsafe { cuStreamCreate(&mut raw, flags) }, || "create a stream".into())?;
        Ok(Self { context: context.clone(), raw })
    }

    pub fn synchronize(&self) -> Result<()> {
        self.context.enter()?;
        // SAFETY: the stream is live.
        check(unsafe { cuStreamSynchronize(self.raw) }, || "wait for the stream".into())
    }

    pub fn wait(&self, event: &Event) -> Result<()> {
        self.context.enter()?;
        // SAFETY: both handles are live.
        check(unsafe { cuStreamWaitEvent(self.raw, event.raw, 0) }, || "wait for an event".into())
    }

    /// Returns when the bytes are copied. The range at `to` is the caller's to check.
    pub fn upload(&self, to: u64, from: &[u8]) -> Result<()> {
        self.context.enter()?;
        let operation = || format!("copy {} bytes to the device", from.len());
        // SAFETY: reads the slice, which outlives the copy: the stream is waited for before the borrow ends.
        let code = unsafe { cuMemcpyHtoDAsync_v2(to, from.as_ptr().cast(), from.len(), self.raw) };
        check(code, operation).and(self.synchronize())
    }

    /// Returns when the bytes are copied. The range at `from` is the caller's to check.
    pub fn download(&self, to: &mut [u8], from: u64) -> Result<()> {
        self.context.enter()?;
        let bytes = to.len();
        // SAFETY: writes the slice, which outlives the copy: the stream is waited for before the borrow ends.
        let code = unsafe { cuMemcpyDtoHAsync_v2(to.as_mut_ptr().cast(), from, bytes, self.raw) };
        check(code, || format!("copy {bytes} bytes from the device")).and(self.synchronize())
    }

    /// `bytes` is at most the block's.
    pub fn upload_pinned(&self, to: u64, from: &PinnedBlock, bytes: usize) -> Result<()> {
        self.context.enter()?;
        from.copy(self, |address| {
            // SAFETY: reads memory that is freed, and written by the host, only after the copy's event.
            let code = unsafe { cuMemcpyHtoDAsync_v2(to, address.cast(), bytes, self.raw) };
            check(code, || format!("copy {bytes} bytes to the device"))
        })
    }

    /// `bytes` is at most the block's.
    pub fn download_pinned(&self, to: &PinnedBlock, from: u64, bytes: usize) -> Result<()> {
        self.context.enter()?;
        to.copy(self, |address| {
            // SAFETY: writes memory that is freed, and looked at by the host, only after the copy's event.
            let code = unsafe { cuMemcpyDtoHAsync_v2(address.cast(), from, bytes, self.raw) };
            check(code, || format!("copy {bytes} bytes from the device"))
        })
    }

    /// Both ranges are the caller's to check.
    pub fn copy(&self, to: u64, from: u64, bytes: usize) -> Result<()> {
        self.context.enter()?;
        // SAFETY: touches no host memory; the ranges lie in live device memory.
        let code = unsafe { cuMemcpyDtoDAsync_v2(to, from, bytes, self.raw) };
        check(code, || format!("copy {bytes} bytes within the device"))
    }

    /// The range is the caller's to check.
    pub fn fill(&self, address: u64, value: u8, bytes: usize) -> Result<()> {
        self.context.enter()?;
        // SAFETY: touches no host memory; the range lies in live device memory.
        let code = unsafe { cuMemsetD8Async(address, value, bytes, self.raw) };
        check(code, || format!("fill {bytes} bytes"))
    }

    pub fn begin_capture(&self) -> Result<()> {
        self.context.enter()?;
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream is live.
        check(unsafe { cuStreamBeginCapture_v2(self.raw, mode) }, || "begin to capture a stream".into())
    }

    pub fn end_capture(&self) -> Result<Graph> {
        self.context.enter()?;
        let mut graph = ptr::null_mut();
        // SAFETY: the stream is live; writes one handle to a live variable.
        check(unsafe { cuStreamEndCapture(self.raw, &mut graph) }, || "end the capture of a stream".into())?;
        let mut raw = ptr::null_mut();
        // SAFETY: the graph is live; writes one handle to a live variable.
        let code = unsafe { cuGraphInstantiateWithFlags(&mut raw, graph, 0) };
        // SAFETY: the graph is live, nobody else has it, and what was instantiated does not need it.
        unsafe { cuGraphDestroy(graph) };
        check(code, || "make a graph of captured work".into())?;
        Ok(Graph { context: self.context.clone(), raw })
    }

    pub fn launch_graph(&self, graph: &Graph) -> Result<()> {
        self.context.enter()?;
        // SAFETY: both handles are live; a graph that runs on when its handle is destroyed is the driver's to end.
        check(unsafe { cuGraphLaunch(graph.raw, self.raw) }, || "launch a graph".into())
    }
}

impl Event {
    pub fn create(context: &Arc<Context>) -> Result<Self> {
        context.enter()?;
        let mut raw = ptr::null_mut();
        // SAFETY: writes one handle to a live variable.
        check(unsafe { cuEventCreate(&mut raw, 0) }, || "create an event".into())?;
        Ok(Self { context: context.clone(), raw })
    }

    pub fn record(&self, stream: &Stream) -> Result<()> {
        self.context.enter()?;
        // SAFETY: both handles are live.
        check(unsafe { cuEventRecord(self.raw, stream.raw) }, || "record an event".into())
    }

    pub fn synchronize(&self) -> Result<()> {
        self.context.enter()?;
        // SAFETY: the event is live.
        check(unsafe { cuEventSynchronize(self.raw) }, || "wait for an event".into())
    }

    /// Both have come.
    pub fn elapsed_ms(&self, end: &Self) -> Result<f32> {
        self.context.enter()?;
        let mut time = 0.0;
        // SAFETY: both handles are live; writes one number to a live variable.
        check(unsafe { cuEventElapsedTime(&mut time, self.raw, end.raw) }, || {
            "measure between events".into()
        })?;
        Ok(time)
    }
}

impl Module {
    /// Compiles PTX; also gives what the compiler said.
    pub fn load(context: &Arc<Context>, name: &str, ptx: &str) -> Result<(Self, String)> {
        use sys::CUjit_option as Jit;
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
        // The interface takes numbers in the guise of pointers.
        let number = |n: usize| ptr::without_provenance_mut::<c_void>(n);
        let mut values = [
            info.as_mut_ptr().cast(),
            number(LOG_BYTES),
            errors.as_mut_ptr().cast(),
            number(LOG_BYTES),
            number(1),
        ];
        let mut raw = ptr::null_mut();
        // SAFETY: the text ends with a zero; options and values are as many as said; each log is as long as said and, like
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
        if code != sys::CUresult::CUDA_SUCCESS {
            return Err(failure::refused(name, code, [log(&errors), log(&info)]));
        }
        Ok((Self { context: context.clone(), raw }, log(&info)))
    }
}

/// A kernel; it keeps its module.
#[derive(Debug)]
pub(super) struct Function {
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

    /// The arguments' number and sizes are those of the kernel's parameters: the caller has checked them.
    pub fn launch(&self, geometry: &Geometry, arguments: &[Argument], stream: &Stream) -> Result<()> {
        self.module.context.enter()?;
        let mut words: Vec<u64> = arguments.iter().map(|a| u64::from_le_bytes(a.bytes().0)).collect();
        let mut pointers: Vec<*mut c_void> =
            words.iter_mut().map(|word| ptr::from_mut(word).cast()).collect();
        let Geometry { grid: [gx, gy, gz], block: [bx, by, bz], shared } = *geometry;
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
        check(code, || {
            format!("launch {} with grid {:?}, block {:?}", self.name, geometry.grid, geometry.block)
        })
    }
}

/// The driver's name for an error and its own words for it. The driver's library is open: the code came from it.
pub(super) fn words(code: sys::CUresult) -> (String, String) {
    let text = |get: unsafe fn(sys::CUresult, *mut *const c_char) -> sys::CUresult| {
        let mut text: *const c_char = ptr::null();
        // SAFETY: writes one pointer to a live variable: to a constant string of the library, or null.
        let known = unsafe { get(code, &mut text) } == sys::CUresult::CUDA_SUCCESS && !text.is_null();
        // SAFETY: the string ends with a zero and lives as long as the library, which is never closed.
        known.then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
    };
    let name = text(cuGetErrorName).unwrap_or_else(|| format!("error {}", code as u32));
    (name, text(cuGetErrorString).unwrap_or_else(|| "no description".into()))
}
