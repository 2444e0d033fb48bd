//! The calls to the CUDA driver: each object with its calls. Every call makes the context current first; `Drop`
//! releases the object. All `unsafe` of the real driver is here.

#[macro_use]
mod object;
mod code;
mod library;
mod memory;
mod module;
mod peer;
mod stream;

use std::{
    ffi::{c_char, c_int},
    ptr,
    sync::Arc,
};

use cudarc::driver::sys::{self, CUdevice_attribute as Attribute};

pub(super) use code::*;
pub(super) use memory::{Block, PinnedBlock};
pub(super) use module::{Function, Module};
pub(super) use peer::PeerBlock;
pub(super) use stream::{Event, Graph, Stream};

use library::*;

use super::failure::{self, check};
use crate::{
    Error, Result,
    cuda::driver::{DeviceInfo, MemoryInfo},
};

/// Opens the driver's library and initialises it; returns the CUDA version that it supports in the driver's encoding:
/// 12040 for 12.4.
pub(super) fn initialise() -> Result<u32> {
    library::open()?;
    // SAFETY: takes no pointer; may be called any number of times from any thread.
    check(unsafe { cuInit(0) }, || "start the CUDA driver".into())?;
    let mut version: c_int = 0;
    // SAFETY: writes one integer to a live variable.
    check(unsafe { cuDriverGetVersion(&mut version) }, || "ask for the driver's version".into())?;
    Ok(version.unsigned_abs())
}

/// The number of devices. The driver must be initialised.
pub(super) fn device_count() -> Result<u32> {
    let mut count: c_int = 0;
    // SAFETY: writes one integer to a live variable.
    check(unsafe { cuDeviceGetCount(&mut count) }, || "count the devices".into())?;
    Ok(count.unsigned_abs())
}

/// Name, memory and limits of device `ordinal`. The driver must be initialised.
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
pub struct Context {
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

    /// Waits until all work of all streams is done.
    pub fn synchronize(&self) -> Result<()> {
        self.enter()?;
        // SAFETY: takes no pointer.
        check(unsafe { cuCtxSynchronize() }, || "wait for the device".into())
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
        // SAFETY: undoes the one retain of `open`; all objects of the context keep it alive and are gone.
        unsafe { cuDevicePrimaryCtxRelease_v2(self.device) };
    }
}
