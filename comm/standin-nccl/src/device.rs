//! Device memory, read and written through the driver's library, libcuda: NVIDIA's, or `emulator/libcuda`.

use std::{
    ffi::{c_int, c_uint, c_void},
    ptr,
    sync::OnceLock,
};

use libloading::Library;

/// `CUresult`.
type Code = c_int;
/// `CUcontext` and `CUstream`, which are pointers, as numbers: they go from thread to thread.
type Handle = usize;

type Initialise = unsafe extern "C" fn(c_uint) -> Code;
type GetContext = unsafe extern "C" fn(*mut Handle) -> Code;
type SetContext = unsafe extern "C" fn(Handle) -> Code;
type Download = unsafe extern "C" fn(*mut c_void, u64, usize, Handle) -> Code;
type Upload = unsafe extern "C" fn(u64, *const c_void, usize, Handle) -> Code;
type Synchronize = unsafe extern "C" fn(Handle) -> Code;

struct Driver {
    context: GetContext,
    set_context: SetContext,
    download: Download,
    upload: Upload,
    synchronize: Synchronize,
}

impl Driver {
    /// In the order in which cudarc looks for the library, so that the process has one.
    fn open() -> Option<Self> {
        // SAFETY: opening libcuda runs its initialisers only.
        let open = |name: &str| unsafe { Library::new(name) }.ok();
        let library = ["libcuda.so", "libcuda.so.1"].into_iter().find_map(open)?;
        // SAFETY: the types are those of the functions in cuda.h, and cuInit takes no flags.
        let driver = unsafe {
            let initialise: Initialise = *library.get(b"cuInit").ok()?;
            succeeded(initialise(0)).then_some(())?;
            Self {
                context: *library.get(b"cuCtxGetCurrent").ok()?,
                set_context: *library.get(b"cuCtxSetCurrent").ok()?,
                download: *library.get(b"cuMemcpyDtoHAsync_v2").ok()?,
                upload: *library.get(b"cuMemcpyHtoDAsync_v2").ok()?,
                synchronize: *library.get(b"cuStreamSynchronize").ok()?,
            }
        };
        // Its functions are used until the process ends.
        std::mem::forget(library);
        Some(driver)
    }
}

/// The device of a communicator: a context of the driver.
#[derive(Clone, Copy)]
pub struct Device {
    driver: &'static Driver,
    context: Handle,
}

impl Device {
    /// The device that is current on this thread; `None` without a driver.
    pub fn current() -> Option<Self> {
        static DRIVER: OnceLock<Option<Driver>> = OnceLock::new();
        let driver = DRIVER.get_or_init(Driver::open).as_ref()?;
        let mut context = 0;
        // SAFETY: writes one handle to a live variable.
        succeeded(unsafe { (driver.context)(&mut context) }).then_some(Self { driver, context })
    }

    /// Copies from an address in the order of a stream and waits for it; `false` on an error of the driver.
    pub fn read(&self, stream: Handle, address: u64, to: &mut [u8]) -> bool {
        let to_bytes: *mut c_void = ptr::from_mut(to).cast();
        // SAFETY: `to` has so many bytes, and the copy is done before this returns.
        self.run(stream, || unsafe { (self.driver.download)(to_bytes, address, to.len(), stream) })
    }

    /// Copies to an address, as [`read`](Self::read).
    pub fn write(&self, stream: Handle, address: u64, from: &[u8]) -> bool {
        let from_bytes: *const c_void = ptr::from_ref(from).cast();
        // SAFETY: `from` has so many bytes, and the copy is done before this returns.
        self.run(stream, || unsafe { (self.driver.upload)(address, from_bytes, from.len(), stream) })
    }

    fn run(&self, stream: Handle, copy: impl FnOnce() -> Code) -> bool {
        // SAFETY: the context is the caller's, which outlives its communicator, and so is the stream.
        succeeded(unsafe { (self.driver.set_context)(self.context) })
            && succeeded(copy())
            // SAFETY: the same.
            && succeeded(unsafe { (self.driver.synchronize)(stream) })
    }
}

fn succeeded(code: Code) -> bool {
    code == 0
}
