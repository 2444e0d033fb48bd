//! Memory and events that processes of one machine share.

use std::{ffi::c_char, ptr, sync::Arc};

use cudarc::driver::sys::{self, CUevent_flags as Flags};

use super::{
    Block, Context, Event, check, cuEventCreate, cuIpcGetEventHandle, cuIpcGetMemHandle,
    cuIpcOpenEventHandle, cuIpcOpenMemHandle_v2,
};
use crate::{
    Result,
    cuda::driver::{EventHandle, HANDLE_BYTES, MemoryHandle},
};

object! {
    /// Another process's block, mapped into this address space.
    PeerBlock(sys::CUdeviceptr), cuIpcCloseMemHandle
}

fn bytes(characters: [c_char; HANDLE_BYTES]) -> [u8; HANDLE_BYTES] {
    characters.map(|c| c as u8)
}

fn characters(bytes: [u8; HANDLE_BYTES]) -> [c_char; HANDLE_BYTES] {
    bytes.map(|b| b as c_char)
}

impl Block {
    /// The driver exports memory of `cuMemAlloc`; every block is allocated with it.
    pub fn export(&self) -> Result<MemoryHandle> {
        self.context.enter()?;
        let mut handle = sys::CUipcMemHandle { reserved: [0; HANDLE_BYTES] };
        // SAFETY: the block is live; writes one handle to a live variable.
        check(unsafe { cuIpcGetMemHandle(&mut handle, self.raw) }, || "share device memory".into())?;
        Ok(MemoryHandle(bytes(handle.reserved)))
    }
}

impl PeerBlock {
    pub fn open(context: &Arc<Context>, handle: &MemoryHandle) -> Result<Self> {
        context.enter()?;
        let mut raw = 0;
        let handle = sys::CUipcMemHandle { reserved: characters(handle.0) };
        let flags = sys::CUipcMem_flags::CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS as u32;
        // SAFETY: the driver checks the handle, which is plain bytes; writes one address to a live variable.
        let code = unsafe { cuIpcOpenMemHandle_v2(&mut raw, handle, flags) };
        check(code, || "open another process's device memory".into())?;
        Ok(Self { context: context.clone(), raw })
    }

    pub fn address(&self) -> u64 {
        self.raw
    }
}

impl Event {
    /// An event that other processes can open; such events measure no time.
    pub fn create_shared(context: &Arc<Context>) -> Result<Self> {
        context.enter()?;
        let mut raw = ptr::null_mut();
        let flags = Flags::CU_EVENT_INTERPROCESS as u32 | Flags::CU_EVENT_DISABLE_TIMING as u32;
        // SAFETY: writes one handle to a live variable.
        check(unsafe { cuEventCreate(&mut raw, flags) }, || "create an event to share".into())?;
        Ok(Self { context: context.clone(), raw })
    }

    pub fn export(&self) -> Result<EventHandle> {
        self.context.enter()?;
        let mut handle = sys::CUipcEventHandle { reserved: [0; HANDLE_BYTES] };
        // SAFETY: the event is live; writes one handle to a live variable.
        check(unsafe { cuIpcGetEventHandle(&mut handle, self.raw) }, || "share an event".into())?;
        Ok(EventHandle(bytes(handle.reserved)))
    }

    pub fn open(context: &Arc<Context>, handle: &EventHandle) -> Result<Self> {
        context.enter()?;
        let mut raw = ptr::null_mut();
        let handle = sys::CUipcEventHandle { reserved: characters(handle.0) };
        // SAFETY: the driver checks the handle, which is plain bytes; writes one handle to a live variable.
        let code = unsafe { cuIpcOpenEventHandle(&mut raw, handle) };
        check(code, || "open another process's event".into())?;
        Ok(Self { context: context.clone(), raw })
    }
}
