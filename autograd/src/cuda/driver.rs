//! The GPU driver interface. It has three implementations: a real GPU's driver, the emulator, and a driver that only
//! counts.

use std::fmt;

use ssmv_kernels::Kernel;

use crate::Result;

/// The implementations of [`Driver`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Backend {
    /// The NVIDIA driver of this machine.
    Nvidia,
    /// The PTX emulator: the same kernels on the CPU, for tests.
    Emulated,
    /// Counts memory and runs nothing.
    Counting,
}

/// A handle that a driver gave out; using it after its release is an error, never a crash.
macro_rules! handles {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub u64);
    )*};
}

handles! {
    /// Pinned host memory: the device copies from and to it while the host continues.
    Pinned
    /// A module of compiled PTX.
    Module
    /// A kernel of a module.
    Function
    /// A queue of work, which runs in order.
    Stream
    /// A point in a stream, for waiting and timing.
    EventId
    /// Captured work, ready to be launched as a whole.
    Graph
}

/// An address in device memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address(pub u64);

impl Address {
    /// The address `bytes` after this one.
    pub fn offset(self, bytes: u64) -> Self {
        Self(self.0.wrapping_add(bytes))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// A handle by which another process of this machine opens an allocation of this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryHandle(pub [u8; HANDLE_BYTES]);

/// A handle by which another process of this machine waits for an event of this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventHandle(pub [u8; HANDLE_BYTES]);

/// Size of a handle for other processes in bytes (cuda.h, `CU_IPC_HANDLE_SIZE`).
pub const HANDLE_BYTES: usize = 64;

/// Name, memory and limits of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Ordinal of the device, from 0.
    pub ordinal: u32,
    /// The vendor's product name.
    pub name: String,
    /// Size of its memory in bytes.
    pub memory: u64,
    /// Compute capability: major, minor.
    pub capability: (u32, u32),
    /// Number of streaming multiprocessors.
    pub multiprocessors: u32,
    /// Size of its L2 cache in bytes; 0 for a device without one.
    pub l2_bytes: u64,
    /// Most bytes of shared memory, static and dynamic, that a block can have.
    pub shared_per_block: u32,
    /// The CUDA version that its driver supports: major, minor.
    pub driver: (u32, u32),
    /// Its PCI bus address; empty for the emulator.
    pub pci: String,
}

/// Scheduling priority of a stream among several on one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// Normal: computation on the main stream.
    Normal,
    /// High: work that others wait for, such as communication.
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

/// Resources of a compiled kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FunctionAttributes {
    /// Registers per thread; 0 from the emulator, where registers are unlimited.
    pub registers: u32,
    /// Static shared memory per block in bytes.
    pub static_shared: u32,
    /// Local memory per thread in bytes: spilled registers and arrays. 0 from the emulator.
    pub local: u32,
    /// Most threads per block that the kernel can run with.
    pub max_threads: u32,
}

/// The shape of a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaunchConfig {
    /// Blocks along x, y, z.
    pub grid: [u32; 3],
    /// Threads of a block along x, y, z.
    pub block: [u32; 3],
    /// Dynamic shared memory per block in bytes.
    pub shared: u32,
}

/// An argument of a launch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Argument {
    /// A device address (`.u64`).
    Pointer(Address),
    /// An unsigned 32-bit number (`.u32`).
    U32(u32),
    /// A signed 32-bit number (`.s32`).
    I32(i32),
    /// An unsigned 64-bit number (`.u64`).
    U64(u64),
    /// A 32-bit float (`.f32`).
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

/// The emulator's counters of one launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaunchReport {
    /// Name of the kernel that was launched.
    pub kernel: String,
    /// Counted memory requests and bank conflicts.
    pub counts: ssmv_emulator::Report,
}

/// One open device. Every method may be called from any thread.
///
/// Work is queued in streams, each of which runs it in order; methods that take a stream return before the work is
/// done, unless they say otherwise. While a stream is captured, its work is recorded and not run. During a capture the
/// capturing thread may neither allocate nor synchronise, and copies between host and device and events are refused on
/// that stream: a graph contains only the device's own work, in one order. A kernel can write device memory and pinned
/// memory, and no other memory of the host.
///
/// Errors are [`Error::Misuse`](crate::Error::Misuse) for handles and ranges that do not fit,
/// [`Error::OutOfMemory`](crate::Error::OutOfMemory), [`Error::Ptx`](crate::Error::Ptx),
/// [`Error::Kernel`](crate::Error::Kernel) from the emulator, and
/// [`Error::Driver`](crate::Error::Driver) for all else that the driver reports.
pub trait Driver: fmt::Debug + Send + Sync {
    /// The implementation that this is.
    fn backend(&self) -> Backend;
    /// Name, memory and limits of the device.
    fn device(&self) -> &DeviceInfo;
    /// Free and total device memory now.
    fn memory(&self) -> Result<MemoryInfo>;
    /// Whether accesses past the end of an allocation are detected; allocations should then be exact to the byte.
    fn checks_bounds(&self) -> bool;

    /// Device memory of unspecified content, at a multiple of 256 bytes.
    fn allocate(&self, bytes: u64) -> Result<Address>;
    /// Frees device memory, once all work that was queued is done.
    fn free(&self, address: Address) -> Result<()>;
    /// Poisons a range, in the order of the stream, so that a read of it is detected: the emulator marks the bytes as
    /// never written, a GPU fills them with 0xFF, which is NaN in every float type.
    fn poison(&self, address: Address, bytes: u64, stream: Stream) -> Result<()>;

    /// Host memory for asynchronous copies, zeroed.
    fn allocate_pinned(&self, bytes: u64) -> Result<Pinned>;
    /// Frees pinned memory, once the copies that use it are done.
    fn free_pinned(&self, memory: Pinned) -> Result<()>;
    /// Lets `body` read and write pinned memory, once the copies that use it are done.
    fn with_pinned(&self, memory: Pinned, body: &mut dyn FnMut(&mut [u8])) -> Result<()>;

    /// Copies from the host, in the order of the stream; returns when the copy is done.
    fn upload(&self, to: Address, from: &[u8], stream: Stream) -> Result<()>;
    /// Copies to the host, in the order of the stream; returns when the copy is done.
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
    /// The compiler's log for the module: registers, spills, warnings. Empty from the emulator.
    fn module_log(&self, module: Module) -> Result<String>;
    /// Unloads a module, once all work that was queued is done.
    fn unload_module(&self, module: Module) -> Result<()>;
    /// The kernel of a module.
    fn function(&self, module: Module) -> Result<Function>;
    /// Resources of a compiled kernel.
    fn attributes(&self, function: Function) -> Result<FunctionAttributes>;
    /// Allows launches of the kernel with up to `bytes` of dynamic shared memory; the default is 48 KiB less the static
    /// part.
    fn allow_shared(&self, function: Function, bytes: u32) -> Result<()>;
    /// Runs a kernel. The arguments must have the number and sizes of the kernel's parameters.
    fn launch(
        &self,
        function: Function,
        config: &LaunchConfig,
        arguments: &[Argument],
        stream: Stream,
    ) -> Result<()>;

    /// Creates a stream, which waits for no other stream.
    fn create_stream(&self, priority: Priority) -> Result<Stream>;
    /// The priority of a stream; drivers without priorities return the default.
    fn priority(&self, stream: Stream) -> Result<Priority>;
    /// Destroys a stream; work that is queued in it still runs.
    fn destroy_stream(&self, stream: Stream) -> Result<()>;
    /// Waits until all work of a stream is done; returns the error of work that failed.
    fn synchronize(&self, stream: Stream) -> Result<()>;
    /// A stream's raw handle for other libraries, with the device's context made current on this thread; `None` where
    /// the driver has none.
    fn native_stream(&self, _stream: Stream) -> Result<Option<u64>> {
        Ok(None)
    }
    /// Makes later work in `stream` wait for `event`, which must have been recorded.
    fn wait(&self, stream: Stream, event: EventId) -> Result<()>;

    /// Creates an event, not recorded. [`elapsed_ms`](Self::elapsed_ms) requires `timed` events; others only order
    /// work, which costs a GPU less.
    fn create_event(&self, timed: bool) -> Result<EventId>;
    /// Destroys an event, recorded or not.
    fn destroy_event(&self, event: EventId) -> Result<()>;
    /// Records an event at the end of a stream; this replaces an earlier record of it.
    fn record(&self, event: EventId, stream: Stream) -> Result<()>;
    /// Waits until all work before a recorded event is done.
    fn synchronize_event(&self, event: EventId) -> Result<()>;
    /// Whether all work before a recorded event is done; does not wait on a GPU. Elsewhere work is done when it is
    /// queued.
    fn query_event(&self, event: EventId) -> Result<bool> {
        self.synchronize_event(event).map(|()| true)
    }
    /// Milliseconds between two recorded, timed events; waits for both. The emulator measures host time, which does not
    /// predict a GPU's.
    fn elapsed_ms(&self, start: EventId, end: EventId) -> Result<f32>;

    /// A handle by which other processes of this machine reach the allocation that starts at `address`. It may be freed only
    /// after all of them have closed it.
    fn export_memory(&self, address: Address) -> Result<MemoryHandle>;
    /// Maps another process's allocation, of `bytes`, into this device's address space. Two devices need peer access to
    /// each other's memory.
    fn open_memory(&self, handle: &MemoryHandle, bytes: u64) -> Result<Address>;
    /// Closes opened memory, once all work that was queued is done.
    fn close_memory(&self, address: Address) -> Result<()>;
    /// Creates an event that other processes can wait for. It measures no time.
    fn create_shared_event(&self) -> Result<EventId>;
    /// A handle by which other processes of this machine wait for a shared event. It may be destroyed only after all of them
    /// have destroyed theirs.
    fn export_event(&self, event: EventId) -> Result<EventHandle>;
    /// Opens another process's event. [`wait`](Self::wait) on it returns at once on a GPU if that process has not
    /// recorded it yet: wait for its message that it has.
    fn open_event(&self, handle: &EventHandle) -> Result<EventId>;

    /// Starts recording the work of a stream instead of running it.
    fn begin_capture(&self, stream: Stream) -> Result<()>;
    /// Ends the capture, on the thread that began it, and returns the graph. If it fails, the stream is no longer
    /// captured.
    fn end_capture(&self, stream: Stream) -> Result<Graph>;
    /// Queues a captured graph, in the order of the compute stream. Memory that it uses must still be allocated.
    fn launch_graph(&self, graph: Graph, stream: Stream) -> Result<()>;
    /// Destroys a captured graph; a running launch of it completes.
    fn destroy_graph(&self, graph: Graph) -> Result<()>;

    /// The counters of the launches since the last call, oldest first. Empty from a GPU, which counts nothing.
    fn take_reports(&self) -> Vec<LaunchReport> {
        Vec::new()
    }
}
