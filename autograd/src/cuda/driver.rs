//! The driver seam: all that the CUDA backend asks of a GPU. Three things answer: a real GPU's driver, the emulator, and a
//! driver that only counts.

use std::fmt;

use ssmv_kernels::Kernel;

use crate::Result;

/// Which of the three answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Backend {
    /// The NVIDIA driver of this machine.
    Nvidia,
    /// The PTX emulator: the same kernels on the CPU, for tests.
    Emulated,
    /// Nothing runs; memory is counted.
    Counting,
}

/// A handle that a driver gave out; one that it has taken back is an error to use, never a crash.
macro_rules! handles {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub u64);
    )*};
}

handles! {
    /// Host memory that the device copies from and to while the host goes on.
    Pinned
    /// Loaded PTX.
    Module
    /// A kernel of a module.
    Function
    /// A queue of work; what is in one stream runs in order.
    Stream
    /// A point in a stream.
    EventId
    /// Captured work, ready to be launched as a whole.
    Graph
}

/// An address in device memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address(pub u64);

impl Address {
    /// The address `bytes` further on.
    pub fn offset(self, bytes: u64) -> Self {
        Self(self.0.wrapping_add(bytes))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// What another process needs to reach an allocation of this one on the same machine; it means nothing elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryHandle(pub [u8; HANDLE_BYTES]);

/// What another process needs to wait for an event of this one on the same machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventHandle(pub [u8; HANDLE_BYTES]);

/// Bytes of a handle for other processes (cuda.h, `CU_IPC_HANDLE_SIZE`).
pub const HANDLE_BYTES: usize = 64;

/// What a device is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Its number, from 0.
    pub ordinal: u32,
    /// The maker's name for it.
    pub name: String,
    /// Bytes of its memory.
    pub memory: u64,
    /// Compute capability: major, minor.
    pub capability: (u32, u32),
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
    /// Bytes of its L2 cache; 0 where there is none.
    pub l2_bytes: u64,
    /// Most bytes of shared memory, static and dynamic, that a block can have.
    pub shared_per_block: u32,
    /// The CUDA version that its driver speaks: major, minor.
    pub driver: (u32, u32),
    /// Its place on the PCI bus; empty for the emulator.
    pub pci: String,
}

/// Whose work goes first where a device has work of several streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// What a device computes.
    Normal,
    /// What others wait for.
    High,
}

/// A device's memory at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryInfo {
    /// Free memory in bytes.
    pub free: u64,
    /// Memory of the device in bytes.
    pub total: u64,
}

/// What the compiler made of a kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FunctionAttributes {
    /// Registers a thread; 0 from the emulator, which has no registers to run out of.
    pub registers: u32,
    /// Bytes of static shared memory a block.
    pub static_shared: u32,
    /// Bytes of local memory a thread: spilled registers, arrays. 0 from the emulator.
    pub local: u32,
    /// Most threads of a block that the kernel can run with.
    pub max_threads: u32,
}

/// The shape of a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaunchConfig {
    /// Blocks along x, y, z.
    pub grid: [u32; 3],
    /// Threads of a block along x, y, z.
    pub block: [u32; 3],
    /// Bytes of dynamic shared memory a block.
    pub shared: u32,
}

/// An argument of a launch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Argument {
    /// An address (`.u64`).
    Pointer(Address),
    /// `.u32`.
    U32(u32),
    /// `.s32`.
    I32(i32),
    /// `.u64`.
    U64(u64),
    /// `.f32`.
    F32(f32),
    /// `.b16` with the bits of an f16.
    F16(half::f16),
}

impl Argument {
    /// The little-endian bytes in an array, and how many of them count.
    pub fn bytes(self) -> ([u8; 8], usize) {
        let (word, bytes) = match self {
            Self::Pointer(Address(v)) | Self::U64(v) => (v, 8),
            Self::U32(v) => (v.into(), 4),
            Self::I32(v) => (v.cast_unsigned().into(), 4),
            Self::F32(v) => (v.to_bits().into(), 4),
            Self::F16(v) => (v.to_bits().into(), 2),
        };
        (word.to_le_bytes(), bytes)
    }
}

macro_rules! arguments {
    ($($t:ty => $variant:ident),*) => {$(
        impl From<$t> for Argument {
            fn from(value: $t) -> Self {
                Self::$variant(value)
            }
        }
    )*};
}
arguments!(Address => Pointer, u32 => U32, i32 => I32, u64 => U64, f32 => F32, half::f16 => F16);

/// What the emulator counted in one launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaunchReport {
    /// The kernel.
    pub kernel: String,
    /// Memory requests and conflicts that were counted.
    pub counts: ssmv_emulator::Report,
}

/// One open device. Every call may come from any thread.
///
/// Work goes to streams and runs in their order; calls on a stream return before the work is done, unless they say
/// otherwise. While a stream is captured, its work is recorded and not run; then the thread that captures may neither
/// allocate nor synchronise, and copies between host and device as well as events are refused on that stream: a graph is
/// the device's own work in one order. A kernel can write device memory and pinned memory, and nothing else of the host's.
///
/// Errors are [`Error::Misuse`](crate::Error::Misuse) for handles and ranges that do not fit,
/// [`Error::OutOfMemory`](crate::Error::OutOfMemory), [`Error::Ptx`](crate::Error::Ptx),
/// [`Error::Kernel`](crate::Error::Kernel) from the emulator, and
/// [`Error::Driver`](crate::Error::Driver) for all else that the driver reports.
pub trait Driver: fmt::Debug + Send + Sync {
    /// Which of the three this is.
    fn backend(&self) -> Backend;
    /// Name, memory and limits of the device.
    fn device(&self) -> &DeviceInfo;
    /// Its memory at this moment.
    fn memory(&self) -> Result<MemoryInfo>;
    /// Whether accesses past the end of an allocation are caught; allocations are then worth making to the byte.
    fn checks_bounds(&self) -> bool;

    /// Device memory of unspecified content, at a multiple of 256 bytes.
    fn allocate(&self, bytes: u64) -> Result<Address>;
    /// Gives device memory back, once all work that was queued is done.
    fn free(&self, address: Address) -> Result<()>;
    /// Poisons a range, in the order of the stream, so that a read of it is noticed: the emulator takes the bytes for
    /// never written, a GPU's are filled with 0xFF, which is NaN in every float.
    fn poison(&self, address: Address, bytes: u64, stream: Stream) -> Result<()>;

    /// Host memory for asynchronous copies, zeroed.
    fn allocate_pinned(&self, bytes: u64) -> Result<Pinned>;
    /// Gives it back, once the copies that use it are done.
    fn free_pinned(&self, memory: Pinned) -> Result<()>;
    /// Lets `body` read and write it, once the copies that use it are done.
    fn with_pinned(&self, memory: Pinned, body: &mut dyn FnMut(&mut [u8])) -> Result<()>;

    /// Copies from the host, in the order of the stream; returns when the bytes are there.
    fn upload(&self, to: Address, from: &[u8], stream: Stream) -> Result<()>;
    /// Copies to the host, in the order of the stream; returns when the bytes are there.
    fn download(&self, to: &mut [u8], from: Address, stream: Stream) -> Result<()>;
    /// Copies the first `bytes` of pinned memory to the device.
    fn upload_pinned(&self, to: Address, from: Pinned, bytes: u64, stream: Stream) -> Result<()>;
    /// Copies to the first `bytes` of pinned memory.
    fn download_pinned(&self, to: Pinned, from: Address, bytes: u64, stream: Stream) -> Result<()>;
    /// Copies within the device; the ranges must not overlap.
    fn copy(&self, to: Address, from: Address, bytes: u64, stream: Stream) -> Result<()>;
    /// Sets every byte to `value`.
    fn fill(&self, address: Address, value: u8, bytes: u64, stream: Stream) -> Result<()>;

    /// Compiles a kernel; errors hold the compiler's log.
    fn load(&self, kernel: &Kernel) -> Result<Module>;
    /// What the compiler had to say when it took the module: registers, spills, warnings. Empty from the emulator.
    fn module_log(&self, module: Module) -> Result<String>;
    /// Forgets a module, once all work that was queued is done.
    fn unload_module(&self, module: Module) -> Result<()>;
    /// The kernel of a module.
    fn function(&self, module: Module) -> Result<Function>;
    /// What the compiler made of a kernel.
    fn attributes(&self, function: Function) -> Result<FunctionAttributes>;
    /// Allows launches of the kernel with up to `bytes` of dynamic shared memory; without it 48 KiB less what is static.
    fn allow_shared(&self, function: Function, bytes: u32) -> Result<()>;
    /// Runs a kernel. The arguments must have the number and sizes of the kernel's parameters.
    fn launch(
        &self,
        function: Function,
        config: &LaunchConfig,
        arguments: &[Argument],
        stream: Stream,
    ) -> Result<()>;

    /// A new stream, which waits for no other.
    fn create_stream(&self, priority: Priority) -> Result<Stream>;
    /// The priority of a stream, as far as the device has several.
    fn priority(&self, stream: Stream) -> Result<Priority>;
    /// Takes a stream back; what is in it still runs.
    fn destroy_stream(&self, stream: Stream) -> Result<()>;
    /// Returns when all work of a stream is done, with the error of whatever failed in it.
    fn synchronize(&self, stream: Stream) -> Result<()>;
    /// A stream's handle as libraries beside the driver take it, with the device's context made current on this thread;
    /// `None` where there is no such thing.
    fn native_stream(&self, _stream: Stream) -> Result<Option<u64>> {
        Ok(None)
    }
    /// What comes later in `stream` waits for what came before `event`, which must have been recorded.
    fn wait(&self, stream: Stream, event: EventId) -> Result<()>;

    /// A new event, not recorded. [`elapsed_ms`](Self::elapsed_ms) takes those that are `timed`; others only order, which
    /// costs a GPU less.
    fn create_event(&self, timed: bool) -> Result<EventId>;
    /// Takes an event back.
    fn destroy_event(&self, event: EventId) -> Result<()>;
    /// Puts an event at the end of a stream; an earlier record of it is forgotten.
    fn record(&self, event: EventId, stream: Stream) -> Result<()>;
    /// Returns when all that came before a recorded event is done.
    fn synchronize_event(&self, event: EventId) -> Result<()>;
    /// Whether all that came before a recorded event is done; waits for nothing on a GPU. Elsewhere events come at once.
    fn query_event(&self, event: EventId) -> Result<bool> {
        self.synchronize_event(event).map(|()| true)
    }
    /// Milliseconds between two recorded events that are timed, once both have come. From the emulator it is the host's time, which says
    /// nothing of any GPU.
    fn elapsed_ms(&self, start: EventId, end: EventId) -> Result<f32>;

    /// A handle by which other processes of this machine reach the allocation that starts at `address`. It may be freed only
    /// after all of them have closed it.
    fn export_memory(&self, address: Address) -> Result<MemoryHandle>;
    /// Makes another process's allocation, of `bytes`, part of this device's address space. Two devices must be able to reach
    /// each other's memory.
    fn open_memory(&self, handle: &MemoryHandle, bytes: u64) -> Result<Address>;
    /// Lets go of opened memory, once all work that was queued is done.
    fn close_memory(&self, address: Address) -> Result<()>;
    /// A new event that other processes can wait for. It measures no time.
    fn create_shared_event(&self) -> Result<EventId>;
    /// A handle by which other processes of this machine wait for a shared event. It may be destroyed only after all of them
    /// have destroyed theirs.
    fn export_event(&self, event: EventId) -> Result<EventHandle>;
    /// Another process's event. To [`wait`](Self::wait) for it before that process has recorded it is not an error on a GPU and
    /// waits for nothing: it must have said that it has.
    fn open_event(&self, handle: &EventHandle) -> Result<EventId>;

    /// Begins to record the work of a stream instead of running it.
    fn begin_capture(&self, stream: Stream) -> Result<()>;
    /// Ends it, on the thread that began it, and gives what was recorded. When it fails, the stream is no longer captured.
    fn end_capture(&self, stream: Stream) -> Result<Graph>;
    /// Runs captured work, in the order of the stream. What it reads and writes must still be allocated.
    fn launch_graph(&self, graph: Graph, stream: Stream) -> Result<()>;
    /// Forgets captured work; what is running runs on.
    fn destroy_graph(&self, graph: Graph) -> Result<()>;

    /// What was counted in the latest launches since the last call, oldest first. Empty from a GPU, which counts nothing.
    fn take_reports(&self) -> Vec<LaunchReport> {
        Vec::new()
    }
}
