//! What C programs pass: pointers to write to and to read from, and cuda.h's structures.

use std::ffi::{c_char, c_void};

use crate::{
    code::{Outcome, fail},
    handle::Handle,
    host,
};

/// A pointer to a place for a result. The caller promises that it is one, or null.
#[derive(Debug, Clone, Copy)]
#[repr(transparent)]
pub struct Out<T>(*mut T);

impl<T: Copy> Out<T> {
    /// Writes the result.
    ///
    /// # Errors
    /// `CUDA_ERROR_INVALID_VALUE` where the pointer is null or misaligned.
    pub fn set(self, value: T) -> Outcome {
        if self.0.is_null() || !self.0.is_aligned() {
            return fail!(INVALID_VALUE, "the pointer for the result is null or misaligned");
        }
        // SAFETY: a C caller gives a pointer to a live variable of this type, and uses it for nothing else during the call.
        unsafe { self.0.write(value) };
        Ok(())
    }

    /// Writes the result where one is asked for.
    pub fn set_if_asked(self, value: T) -> Outcome {
        if self.0.is_null() { Ok(()) } else { self.set(value) }
    }

    /// No place: a result that is not asked for.
    pub fn nowhere() -> Self {
        Self(std::ptr::null_mut())
    }

    /// Reads what is there, for places that are both.
    pub fn get(self) -> Outcome<T> {
        In(self.0.cast_const()).get()
    }

    /// Whether a result is asked for.
    pub fn is_null(self) -> bool {
        self.0.is_null()
    }

    /// The place `index` elements on, of an array.
    pub fn at(self, index: usize) -> Self {
        Self(self.0.wrapping_add(index))
    }
}

/// A pointer to an argument. The caller promises that it is one, or null.
#[derive(Debug, Clone, Copy)]
#[repr(transparent)]
pub struct In<T>(*const T);

impl<T: Copy> In<T> {
    /// No argument.
    pub fn nothing() -> Self {
        Self(std::ptr::null())
    }

    /// The argument.
    ///
    /// # Errors
    /// `CUDA_ERROR_INVALID_VALUE` where the pointer is null or misaligned.
    pub fn get(self) -> Outcome<T> {
        if self.0.is_null() || !self.0.is_aligned() {
            return fail!(INVALID_VALUE, "a pointer to an argument is null or misaligned");
        }
        // SAFETY: a C caller gives a pointer to a live value of this type, and does not write it during the call.
        Ok(unsafe { self.0.read() })
    }

    /// An array of arguments; none where the pointer is null and so is the count.
    pub fn array(self, count: usize) -> Outcome<Vec<T>> {
        (0..count).map(|index| Self(self.0.wrapping_add(index)).get()).collect()
    }

    /// The pointer as a number.
    pub fn address(self) -> usize {
        self.0.addr()
    }

    /// Whether there is none.
    pub fn is_null(self) -> bool {
        self.0.is_null()
    }
}

pub fn string(what: &str, text: In<c_char>) -> Outcome<String> {
    let bytes = host::text(what, text.address(), 1 << 16)?;
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text),
        Err(_) => fail!(INVALID_VALUE, "{what} is not text"),
    }
}

/// Writes a text with its closing zero, cut to fit.
pub fn write_text(what: &str, to: Out<c_char>, capacity: usize, text: &str) -> Outcome {
    if capacity == 0 || to.is_null() {
        return fail!(INVALID_VALUE, "the buffer for {what} is null or has no bytes");
    }
    let mut bytes = text.as_bytes()[..text.len().min(capacity - 1)].to_vec();
    bytes.push(0);
    host::write(what, to.0.addr(), &bytes)
}

/// `CUipcMemHandle` and `CUipcEventHandle`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct IpcHandle(pub [u8; 64]);

/// `CUuuid`.
pub type Uuid = [u8; 16];

/// `CUDA_MEMCPY2D`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Memcpy2d {
    pub src_x: usize,
    pub src_y: usize,
    pub src_type: u32,
    pub src_host: usize,
    pub src_device: u64,
    pub src_array: usize,
    pub src_pitch: usize,
    pub dst_x: usize,
    pub dst_y: usize,
    pub dst_type: u32,
    pub dst_host: usize,
    pub dst_device: u64,
    pub dst_array: usize,
    pub dst_pitch: usize,
    pub width: usize,
    pub height: usize,
}

/// `CUDA_MEMCPY3D`.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub struct Memcpy3d {
    pub src_x: usize,
    pub src_y: usize,
    pub src_z: usize,
    pub src_lod: usize,
    pub src_type: u32,
    pub src_host: usize,
    pub src_device: u64,
    pub src_array: usize,
    pub reserved0: usize,
    pub src_pitch: usize,
    pub src_height: usize,
    pub dst_x: usize,
    pub dst_y: usize,
    pub dst_z: usize,
    pub dst_lod: usize,
    pub dst_type: u32,
    pub dst_host: usize,
    pub dst_device: u64,
    pub dst_array: usize,
    pub reserved1: usize,
    pub dst_pitch: usize,
    pub dst_height: usize,
    pub width: usize,
    pub height: usize,
    pub depth: usize,
}

impl From<Memcpy2d> for Memcpy3d {
    fn from(flat: Memcpy2d) -> Self {
        Self {
            src_x: flat.src_x,
            src_y: flat.src_y,
            src_type: flat.src_type,
            src_host: flat.src_host,
            src_device: flat.src_device,
            src_array: flat.src_array,
            src_pitch: flat.src_pitch,
            dst_x: flat.dst_x,
            dst_y: flat.dst_y,
            dst_type: flat.dst_type,
            dst_host: flat.dst_host,
            dst_device: flat.dst_device,
            dst_array: flat.dst_array,
            dst_pitch: flat.dst_pitch,
            width: flat.width,
            height: flat.height,
            depth: 1,
            ..Self::default()
        }
    }
}

/// `CUDA_KERNEL_NODE_PARAMS_v1`, with which `_v2` begins.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct KernelNodeParams {
    pub function: Handle,
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub shared: u32,
    pub parameters: In<*mut c_void>,
    pub extra: In<usize>,
}

/// `CUDA_MEMSET_NODE_PARAMS`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct MemsetNodeParams {
    pub address: u64,
    pub pitch: usize,
    pub value: u32,
    pub element: u32,
    pub width: usize,
    pub height: usize,
}

/// `CUDA_HOST_NODE_PARAMS`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct HostNodeParams {
    pub function: Option<unsafe extern "C" fn(*mut c_void)>,
    pub data: usize,
}

/// `CUlaunchConfig`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct CuLaunchConfig {
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub shared: u32,
    pub stream: Handle,
    pub attributes: In<LaunchAttribute>,
    pub count: u32,
}

/// `CUlaunchAttribute`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct LaunchAttribute {
    pub id: u32,
    pub padding: u32,
    pub value: [u64; 8],
}

/// `CUDA_GRAPH_INSTANTIATE_PARAMS`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct InstantiateParams {
    pub flags: u64,
    pub upload_stream: Handle,
    pub error_node: Handle,
    pub result: u32,
}
