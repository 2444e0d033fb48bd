//! The driver API's rules: each is broken on purpose, by a process of its own, and must be caught with a sentence that
//! says what is wrong.

mod capture;
mod driver;
mod graphs;
mod memory;
mod order;
mod processes;

use std::{
    ffi::{CString, c_void},
    process::{Command, Output},
    ptr,
};

// The functions below are in this library.
use ssmv_cuda as _;

/// Codes (cuda.h, `CUresult`).
pub(crate) const SUCCESS: u32 = 0;
pub(crate) const INVALID_VALUE: u32 = 1;
pub(crate) const INVALID_CONTEXT: u32 = 201;
pub(crate) const INVALID_HANDLE: u32 = 400;
pub(crate) const NOT_READY: u32 = 600;
pub(crate) const ILLEGAL_ADDRESS: u32 = 700;
pub(crate) const CAPTURE_UNSUPPORTED: u32 = 900;
pub(crate) const CAPTURE_INVALIDATED: u32 = 901;

pub(crate) type Handle = usize;

/// Declares functions of the library as safe ones: every call here passes what cuda.h asks for.
macro_rules! functions {
    ($($name:ident($($argument:ident: $type:ty),*);)*) => {
        mod raw {
            #[allow(clippy::wildcard_imports)]
            use super::*;
            unsafe extern "C" { $(pub fn $name($($argument: $type),*) -> u32;)* }
        }
        $(
            #[allow(non_snake_case, clippy::too_many_arguments)]
            pub(crate) fn $name($($argument: $type),*) -> u32 {
                // SAFETY: pointers are those of live variables of the tests, of the types that cuda.h has.
                unsafe { raw::$name($($argument),*) }
            }
        )*
    };
}

functions! {
    cuInit(flags: u32);
    cuDevicePrimaryCtxRetain(context: *mut Handle, device: i32);
    cuDevicePrimaryCtxRelease_v2(device: i32);
    cuCtxSetCurrent(context: Handle);
    cuCtxSynchronize();
    cuCtxGetDevice(device: *mut i32);
    cuMemAlloc_v2(address: *mut u64, bytes: usize);
    cuMemFree_v2(address: u64);
    cuMemAllocAsync(address: *mut u64, bytes: usize, stream: Handle);
    cuMemFreeAsync(address: u64, stream: Handle);
    cuMemHostAlloc(pointer: *mut usize, bytes: usize, flags: u32);
    cuMemFreeHost(pointer: usize);
    cuMemcpyHtoD_v2(to: u64, from: *const c_void, bytes: usize);
    cuMemcpyHtoDAsync_v2(to: u64, from: *const c_void, bytes: usize, stream: Handle);
    cuMemcpyDtoH_v2(to: *mut c_void, from: u64, bytes: usize);
    cuMemcpyDtoHAsync_v2(to: *mut c_void, from: u64, bytes: usize, stream: Handle);
    cuMemcpyDtoDAsync_v2(to: u64, from: u64, bytes: usize, stream: Handle);
    cuMemsetD8Async(address: u64, value: u8, count: usize, stream: Handle);
    cuModuleLoadData(module: *mut Handle, image: *const c_void);
    cuModuleGetFunction(function: *mut Handle, module: Handle, name: *const std::ffi::c_char);
    cuFuncSetAttribute(function: Handle, which: u32, value: i32);
    cuLaunchKernel(
        function: Handle, gx: u32, gy: u32, gz: u32, bx: u32, by: u32, bz: u32, shared: u32, stream: Handle,
        parameters: *mut *mut c_void, extra: *mut *mut c_void
    );
    cuLaunchHostFunc(stream: Handle, function: Option<unsafe extern "C" fn(*mut c_void)>, data: *mut c_void);
    cuStreamCreate(stream: *mut Handle, flags: u32);
    cuStreamDestroy_v2(stream: Handle);
    cuStreamSynchronize(stream: Handle);
    cuStreamQuery(stream: Handle);
    cuStreamWaitEvent(stream: Handle, event: Handle, flags: u32);
    cuStreamBeginCapture_v2(stream: Handle, mode: u32);
    cuStreamEndCapture(stream: Handle, graph: *mut Handle);
    cuEventCreate(event: *mut Handle, flags: u32);
    cuEventRecord(event: Handle, stream: Handle);
    cuEventQuery(event: Handle);
    cuEventSynchronize(event: Handle);
    cuEventElapsedTime(milliseconds: *mut f32, start: Handle, end: Handle);
    cuGraphCreate(graph: *mut Handle, flags: u32);
    cuGraphAddKernelNode(
        node: *mut Handle, graph: Handle, after: *const Handle, count: usize, parameters: *const KernelNode
    );
    cuGraphExecKernelNodeSetParams(exec: Handle, node: Handle, parameters: *const KernelNode);
    cuGraphInstantiateWithFlags(exec: *mut Handle, graph: Handle, flags: u64);
    cuGraphLaunch(exec: Handle, stream: Handle);
    cuIpcGetMemHandle(handle: *mut IpcHandle, address: u64);
    cuIpcOpenMemHandle_v2(address: *mut u64, handle: IpcHandle, flags: u32);
    cuIpcCloseMemHandle(address: u64);
    cuIpcGetEventHandle(handle: *mut IpcHandle, event: Handle);
    cuIpcOpenEventHandle(event: *mut Handle, handle: IpcHandle);
}

/// `CUDA_KERNEL_NODE_PARAMS`.
#[repr(C)]
pub(crate) struct KernelNode {
    pub function: Handle,
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub shared: u32,
    pub parameters: *mut *mut c_void,
    pub extra: *mut *mut c_void,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct IpcHandle(pub [u8; 64]);

/// y[i] = x[i] + value for the first n threads; with n past the end, a store out of bounds.
pub(crate) const ADD: &str = "
.version 7.0
.target sm_80
.address_size 64
.extern .shared .align 4 .b8 room[];
.visible .entry add(.param .u64 x, .param .u64 y, .param .u32 value)
{
    .reg .b32 %v, %i, %n;
    .reg .b64 %x, %y, %at;
    ld.param.u64 %x, [x];
    ld.param.u64 %y, [y];
    ld.param.u32 %v, [value];
    mov.u32 %i, %tid.x;
    mul.wide.u32 %at, %i, 4;
    add.u64 %x, %x, %at;
    add.u64 %y, %y, %at;
    ld.global.u32 %n, [%x];
    add.u32 %n, %n, %v;
    st.global.u32 [%y], %n;
    ret;
}
";

/// Runs `body` in a process of its own, with environment variables, and holds what it writes against the sentences.
pub(crate) fn rule_with(name: &str, variables: &[(&str, &str)], sentences: &[&str], body: impl FnOnce()) {
    if std::env::var("SSMV_RULE").is_ok_and(|running| running == name) {
        return body();
    }
    let output = child(name).envs(variables.iter().copied()).output().unwrap();
    let text = said(&output);
    assert!(output.status.success(), "{text}");
    for sentence in sentences {
        assert!(text.contains(sentence), "`{sentence}` is not in:\n{text}");
    }
}

/// [`rule_with`] with the defaults.
pub(crate) fn rule(name: &str, sentences: &[&str], body: impl FnOnce()) {
    rule_with(name, &[], sentences, body);
}

/// A process that runs the body of one test.
pub(crate) fn child(name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--nocapture"]).env("SSMV_RULE", name);
    command
}

/// What a process wrote.
pub(crate) fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Initialises the driver and makes the primary context of device 0 current.
pub(crate) fn start() {
    assert_eq!(cuInit(0), SUCCESS);
    assert_eq!(cuCtxSetCurrent(primary()), SUCCESS);
}

/// The primary context of device 0, retained once more.
pub(crate) fn primary() -> Handle {
    let mut context = 0;
    assert_eq!(cuDevicePrimaryCtxRetain(&mut context, 0), SUCCESS);
    context
}

pub(crate) fn allocate(bytes: usize) -> u64 {
    let mut address = 0;
    assert_eq!(cuMemAlloc_v2(&mut address, bytes), SUCCESS);
    address
}

/// A stream that waits for no other.
pub(crate) fn stream() -> Handle {
    let mut stream = 0;
    assert_eq!(cuStreamCreate(&mut stream, 1), SUCCESS);
    stream
}

pub(crate) fn event() -> Handle {
    let mut event = 0;
    assert_eq!(cuEventCreate(&mut event, 2), SUCCESS);
    event
}

/// Loads a text; its code.
pub(crate) fn load(text: &str, module: &mut Handle) -> u32 {
    let text = CString::new(text).unwrap();
    cuModuleLoadData(module, text.as_ptr().cast())
}

/// The kernel of [`ADD`].
pub(crate) fn add_kernel() -> Handle {
    let (mut module, mut function) = (0, 0);
    assert_eq!(load(ADD, &mut module), SUCCESS);
    assert_eq!(cuModuleGetFunction(&mut function, module, c"add".as_ptr()), SUCCESS);
    function
}

/// Launches [`ADD`] with one block; its code.
pub(crate) fn add(function: Handle, x: u64, y: u64, value: u32, threads: u32, stream: Handle) -> u32 {
    launch(function, x, y, value, threads, 0, stream)
}

/// [`add`] with dynamic shared memory.
pub(crate) fn launch(
    function: Handle,
    mut x: u64,
    mut y: u64,
    mut value: u32,
    threads: u32,
    shared: u32,
    stream: Handle,
) -> u32 {
    let mut parameters: [*mut c_void; 3] =
        [ptr::from_mut(&mut x).cast(), ptr::from_mut(&mut y).cast(), ptr::from_mut(&mut value).cast()];
    cuLaunchKernel(function, 1, 1, 1, threads, 1, 1, shared, stream, parameters.as_mut_ptr(), ptr::null_mut())
}

/// The first number at an address, after all work of the legacy stream.
pub(crate) fn number_at(address: u64) -> u32 {
    let mut number = 0u32;
    assert_eq!(cuMemcpyDtoH_v2(ptr::from_mut(&mut number).cast(), address, 4), SUCCESS);
    number
}

pub(crate) fn write_number(address: u64, number: u32) {
    assert_eq!(cuMemcpyHtoD_v2(address, ptr::from_ref(&number).cast(), 4), SUCCESS);
}
