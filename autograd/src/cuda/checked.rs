//! Checks that all drivers share: stale handles, ranges outside of allocations, arguments that do not fit, and calls
//! that a capture does not allow. The drivers below receive live objects and valid ranges.

use std::{fmt::Debug, sync::Arc};

use super::{
    driver::*,
    entry::{Entry, check_text},
    table::{Captures, Ranges, Table},
};
use crate::{Error, Result};
use ssmv_kernels::Kernel;

/// A driver's own work. [`Checked`] turns it into a [`Driver`]: see there for each method.
pub trait RawDriver: Debug + Send + Sync {
    /// An allocation in device memory; its `Drop` may free it.
    type Block: Debug + Send + Sync;
    /// An allocation of another process, opened here.
    type PeerBlock: Debug + Send + Sync;
    /// A block of pinned host memory; its `Drop` may free it.
    type Pinned: Debug + Send + Sync;
    /// A module of compiled PTX.
    type Module: Debug + Send + Sync;
    /// A kernel of a module.
    type Function: Debug + Send + Sync;
    /// A stream; its `Drop` may destroy it.
    type Stream: Debug + Send + Sync;
    /// An event; its `Drop` may destroy it.
    type Event: Debug + Send + Sync;
    /// A captured graph, ready to launch.
    type Graph: Debug + Send + Sync;

    /// The backend of this driver.
    const BACKEND: Backend;
    /// Whether accesses past the end of an allocation are detected.
    const CHECKS_BOUNDS: bool;

    /// Name, memory and limits of the device.
    fn device(&self) -> &DeviceInfo;
    /// Free and total device memory.
    fn memory(&self) -> Result<MemoryInfo>;
    /// Allocates device memory; 0 bytes are allowed.
    fn allocate(&self, bytes: u64) -> Result<(Address, Self::Block)>;
    /// Runs before the allocation of `bytes` at `address` is dropped; an error keeps the allocation.
    fn free(&self, _address: Address, _bytes: u64) -> Result<()> {
        Ok(())
    }
    /// Allocates at least one byte of zeroed pinned memory.
    fn allocate_pinned(&self, bytes: usize) -> Result<Self::Pinned>;
    /// Lets `body` read and write pinned memory, after the copies that use it are done.
    fn with_pinned(&self, memory: &Self::Pinned, body: &mut dyn FnMut(&mut [u8])) -> Result<()>;

    /// Copies from the host. Copies and fills are of at least 1 byte.
    fn upload(&self, to: Address, from: &[u8], stream: &Self::Stream) -> Result<()>;
    /// Copies to the host.
    fn download(&self, to: &mut [u8], from: Address, stream: &Self::Stream) -> Result<()>;
    /// Copies the first `bytes` of pinned memory to the device.
    fn upload_pinned(
        &self,
        to: Address,
        from: &Self::Pinned,
        bytes: usize,
        stream: &Self::Stream,
    ) -> Result<()>;
    /// Copies to the first `bytes` of pinned memory.
    fn download_pinned(
        &self,
        to: &Self::Pinned,
        from: Address,
        bytes: usize,
        stream: &Self::Stream,
    ) -> Result<()>;
    /// Copies within the device.
    fn copy(&self, to: Address, from: Address, bytes: u64, stream: &Self::Stream) -> Result<()>;
    /// Sets every byte of a range.
    fn fill(&self, address: Address, value: u8, bytes: u64, stream: &Self::Stream) -> Result<()>;
    /// Marks a range as unwritten, so that a read of it is detected.
    fn poison(&self, address: Address, bytes: u64, stream: &Self::Stream) -> Result<()> {
        self.fill(address, 0xFF, bytes, stream)
    }

    /// Compiles PTX; returns the compiler's log too.
    fn load_module(&self, name: &str, ptx: &str) -> Result<(Self::Module, String)>;
    /// Runs after the last handle of a module is dropped.
    fn unload_module(&self, _module: Self::Module) -> Result<()> {
        Ok(())
    }
    /// Finds a kernel of a module, with its parameters and compiled resources.
    fn function(&self, module: &Self::Module, name: &str) -> Result<(Self::Function, FunctionAttributes)>;
    /// Allows launches with up to `bytes` of dynamic shared memory.
    fn allow_shared(&self, _function: &Self::Function, _bytes: u32) -> Result<()> {
        Ok(())
    }
    /// Queues a kernel in a stream; the arguments fit it.
    fn launch(
        &self,
        function: &Self::Function,
        config: &LaunchConfig,
        arguments: &[Argument],
        stream: &Self::Stream,
    ) -> Result<()>;

    /// Creates a stream, which waits for no other stream.
    fn create_stream(&self, priority: Priority) -> Result<Self::Stream>;
    /// The priority that the driver gave a stream.
    fn priority(&self, stream: &Self::Stream) -> Result<Priority>;
    /// Waits until all work of a stream is done.
    fn synchronize(&self, stream: &Self::Stream) -> Result<()>;
    /// A stream's raw handle, for other libraries such as NCCL.
    fn native_stream(&self, _stream: &Self::Stream) -> Result<Option<u64>> {
        Ok(None)
    }
    /// Later work of a stream waits for a recorded event.
    fn wait(&self, _stream: &Self::Stream, _event: &Self::Event) -> Result<()> {
        Ok(())
    }

    /// Creates an event; only a `timed` one measures time.
    fn create_event(&self, timed: bool) -> Result<Self::Event>;
    /// True if an event was recorded, or if only its own process could tell.
    fn is_recorded(&self, event: &Self::Event) -> bool;
    /// Records an event at the end of a stream.
    fn record(&self, event: &Self::Event, stream: &Self::Stream) -> Result<()>;
    /// Waits until all work before a recorded event is done.
    fn synchronize_event(&self, _event: &Self::Event) -> Result<()> {
        Ok(())
    }
    /// Whether all work before a recorded event is done.
    fn query_event(&self, _event: &Self::Event) -> Result<bool> {
        Ok(true)
    }
    /// Milliseconds between two recorded events; waits for both.
    fn elapsed_ms(&self, start: &Self::Event, end: &Self::Event) -> Result<f32>;

    /// A handle of an allocation for other processes.
    fn export_memory(&self, _address: Address, _bytes: u64, _block: &Self::Block) -> Result<MemoryHandle> {
        Err(shares_nothing(self.device()))
    }
    /// Opens another process's allocation.
    fn open_memory(&self, _handle: &MemoryHandle, _bytes: u64) -> Result<(Address, Self::PeerBlock)> {
        Err(shares_nothing(self.device()))
    }
    /// Closes it once all queued work is done; false while another opening remains.
    fn close_memory(&self, _address: Address) -> Result<bool> {
        Err(shares_nothing(self.device()))
    }
    /// Creates an event that other processes can open.
    fn create_shared_event(&self) -> Result<Self::Event> {
        Err(shares_nothing(self.device()))
    }
    /// A handle of an event for other processes.
    fn export_event(&self, _event: &Self::Event) -> Result<EventHandle> {
        Err(shares_nothing(self.device()))
    }
    /// Opens another process's event.
    fn open_event(&self, _handle: &EventHandle) -> Result<Self::Event> {
        Err(shares_nothing(self.device()))
    }

    /// Begins to record a stream's work instead of running it.
    fn begin_capture(&self, stream: &Self::Stream) -> Result<()>;
    /// Ends the capture and returns the graph.
    fn end_capture(&self, stream: &Self::Stream) -> Result<Self::Graph>;
    /// Queues a captured graph in a stream.
    fn launch_graph(&self, graph: &Self::Graph, stream: &Self::Stream) -> Result<()>;

    /// The counters of the latest launches.
    fn take_reports(&self) -> Vec<LaunchReport> {
        Vec::new()
    }
}

/// The error of a driver that cannot share with other processes.
fn shares_nothing(device: &DeviceInfo) -> Error {
    Error::misuse("share between processes", format!("{} has nothing to share", device.name))
}

/// A [`Driver`]: the checks, then a driver's own work.
#[derive(Debug)]
pub struct Checked<D: RawDriver> {
    pub(super) raw: D,
    captures: Captures,
    blocks: Ranges<D::Block>,
    peers: Ranges<D::PeerBlock>,
    pinned: Table<PinnedEntry<D::Pinned>>,
    modules: Table<ModuleEntry<D::Module>>,
    functions: Table<Entry<D::Function>>,
    streams: Table<D::Stream>,
    events: Table<EventEntry<D::Event>>,
    graphs: Table<D::Graph>,
}

#[derive(Debug)]
struct PinnedEntry<P> {
    object: P,
    bytes: usize,
}

#[derive(Debug)]
struct ModuleEntry<M> {
    object: M,
    /// A kernel's name, and the size of each of its parameters in bytes.
    name: String,
    parameters: Vec<usize>,
    log: String,
}

#[derive(Debug)]
struct EventEntry<E> {
    object: E,
    timed: bool,
}

impl<D: RawDriver> Checked<D> {
    /// Puts the checks in front of the driver `raw`.
    pub(super) fn over(raw: D) -> Self {
        Self {
            raw,
            captures: Captures::default(),
            blocks: Ranges::default(),
            peers: Ranges::default(),
            pinned: Table::new("pinned memory"),
            modules: Table::new("module"),
            functions: Table::new("kernel"),
            streams: Table::new("stream"),
            events: Table::new("event"),
            graphs: Table::new("graph"),
        }
    }

    /// The stream; an error if the range lies outside of every allocation that this process owns or has opened.
    fn within(&self, operation: &str, range: (Address, u64), stream: Stream) -> Result<Arc<D::Stream>> {
        let (address, bytes) = (range.0.0, range.1);
        let own = self.blocks.check(operation, address, bytes);
        own.or_else(|error| self.peers.check(operation, address, bytes).map_err(|_| error))?;
        self.streams.get(stream.0)
    }

    /// As [`within`](Self::within), for a copy between host and device, which a capture refuses.
    fn across(&self, operation: &str, range: (Address, u64), stream: Stream) -> Result<Arc<D::Stream>> {
        self.captures.refuse_on(operation, stream)?;
        self.within(operation, range, stream)
    }

    fn pinned(
        &self,
        operation: &str,
        memory: Pinned,
        bytes: u64,
    ) -> Result<(Arc<PinnedEntry<D::Pinned>>, usize)> {
        let entry = self.pinned.get(memory.0)?;
        match usize::try_from(bytes) {
            Ok(bytes) if bytes <= entry.bytes => Ok((entry, bytes)),
            _ => Err(Error::misuse(operation, format!("{bytes} bytes of {} that are pinned", entry.bytes))),
        }
    }

    fn recorded(&self, operation: &str, event: EventId) -> Result<Arc<EventEntry<D::Event>>> {
        let entry = self.events.get(event.0)?;
        match self.raw.is_recorded(&entry.object) {
            true => Ok(entry),
            false => Err(Error::misuse(operation, "the event was never recorded")),
        }
    }

    fn keep_event(&self, object: D::Event, timed: bool) -> EventId {
        EventId(self.events.insert(EventEntry { object, timed }))
    }
}

impl<D: RawDriver> Driver for Checked<D> {
    fn backend(&self) -> Backend {
        D::BACKEND
    }

    fn device(&self) -> &DeviceInfo {
        self.raw.device()
    }

    fn memory(&self) -> Result<MemoryInfo> {
        self.raw.memory()
    }

    fn checks_bounds(&self) -> bool {
        D::CHECKS_BOUNDS
    }

    fn allocate(&self, bytes: u64) -> Result<Address> {
        self.captures.refuse_here("allocate device memory")?;
        let (address, block) = self.raw.allocate(bytes)?;
        self.blocks.insert(address.0, bytes, block);
        Ok(address)
    }

    fn free(&self, address: Address) -> Result<()> {
        self.captures.refuse_here("free device memory")?;
        match self.blocks.with(address.0, |bytes, _| bytes) {
            Some(bytes) => self.raw.free(address, bytes)?,
            None if self.peers.with(address.0, |_, _| ()).is_some() => {
                return Err(Error::misuse(format!("free {address}"), "it is another process's; close it"));
            }
            None => {}
        }
        self.blocks.remove(address.0).map(drop)
    }

    fn poison(&self, address: Address, bytes: u64, stream: Stream) -> Result<()> {
        let stream = self.within("fill", (address, bytes), stream)?;
        if bytes == 0 { Ok(()) } else { self.raw.poison(address, bytes, &stream) }
    }

    fn allocate_pinned(&self, bytes: u64) -> Result<Pinned> {
        self.captures.refuse_here("allocate pinned memory")?;
        let bytes = usize::try_from(bytes.max(1))
            .map_err(|_| Error::misuse("allocate pinned memory", format!("{bytes} bytes")))?;
        Ok(Pinned(self.pinned.insert(PinnedEntry { object: self.raw.allocate_pinned(bytes)?, bytes })))
    }

    fn free_pinned(&self, memory: Pinned) -> Result<()> {
        self.captures.refuse_here("free pinned memory")?;
        self.pinned.remove(memory.0).map(drop)
    }

    fn with_pinned(&self, memory: Pinned, body: &mut dyn FnMut(&mut [u8])) -> Result<()> {
        self.captures.refuse_here("wait for pinned memory")?;
        self.raw.with_pinned(&self.pinned.get(memory.0)?.object, body)
    }

    fn upload(&self, to: Address, from: &[u8], stream: Stream) -> Result<()> {
        self.captures.refuse_here("copy from the host")?;
        let stream = self.across("copy from the host", (to, from.len() as u64), stream)?;
        if from.is_empty() { Ok(()) } else { self.raw.upload(to, from, &stream) }
    }

    fn download(&self, to: &mut [u8], from: Address, stream: Stream) -> Result<()> {
        self.captures.refuse_here("copy to the host")?;
        let stream = self.across("copy to the host", (from, to.len() as u64), stream)?;
        if to.is_empty() { Ok(()) } else { self.raw.download(to, from, &stream) }
    }

    fn upload_pinned(&self, to: Address, from: Pinned, bytes: u64, stream: Stream) -> Result<()> {
        let stream = self.across("copy from the host", (to, bytes), stream)?;
        let (from, bytes) = self.pinned("copy from the host", from, bytes)?;
        if bytes == 0 { Ok(()) } else { self.raw.upload_pinned(to, &from.object, bytes, &stream) }
    }

    fn download_pinned(&self, to: Pinned, from: Address, bytes: u64, stream: Stream) -> Result<()> {
        let stream = self.across("copy to the host", (from, bytes), stream)?;
        let (to, bytes) = self.pinned("copy to the host", to, bytes)?;
        if bytes == 0 { Ok(()) } else { self.raw.download_pinned(&to.object, from, bytes, &stream) }
    }

    fn copy(&self, to: Address, from: Address, bytes: u64, stream: Stream) -> Result<()> {
        self.within("copy within the device", (from, bytes), stream)?;
        let stream = self.within("copy within the device", (to, bytes), stream)?;
        if bytes == 0 { Ok(()) } else { self.raw.copy(to, from, bytes, &stream) }
    }

    fn fill(&self, address: Address, value: u8, bytes: u64, stream: Stream) -> Result<()> {
        let stream = self.within("fill", (address, bytes), stream)?;
        if bytes == 0 { Ok(()) } else { self.raw.fill(address, value, bytes, &stream) }
    }

    fn load(&self, kernel: &Kernel) -> Result<Module> {
        self.captures.refuse_here("load a module")?;
        check_text(kernel, self.device())?;
        let (object, log) = self.raw.load_module(&kernel.name, &kernel.ptx)?;
        let (name, parameters) = (kernel.name.clone(), kernel.parameters.iter().map(|p| p.bytes).collect());
        Ok(Module(self.modules.insert(ModuleEntry { object, name, parameters, log })))
    }

    fn module_log(&self, module: Module) -> Result<String> {
        Ok(self.modules.get(module.0)?.log.clone())
    }

    fn unload_module(&self, module: Module) -> Result<()> {
        self.captures.refuse_here("unload a module")?;
        let entry = self.modules.remove(module.0)?;
        self.functions.remove_where(|function| function.module == module.0);
        Arc::into_inner(entry).map_or(Ok(()), |entry| self.raw.unload_module(entry.object))
    }

    fn function(&self, module: Module) -> Result<Function> {
        let entry = self.modules.get(module.0)?;
        let (name, parameters) = (&entry.name, entry.parameters.clone());
        let (object, attributes) = self.raw.function(&entry.object, name)?;
        Ok(Function(self.functions.insert(Entry::new(name, object, module.0, parameters, attributes))))
    }

    fn attributes(&self, function: Function) -> Result<FunctionAttributes> {
        Ok(self.functions.get(function.0)?.attributes)
    }

    fn allow_shared(&self, function: Function, bytes: u32) -> Result<()> {
        let ask = |object: &D::Function| self.raw.allow_shared(object, bytes);
        self.functions.get(function.0)?.allow_shared(bytes, self.device(), ask)
    }

    fn launch(
        &self,
        function: Function,
        config: &LaunchConfig,
        arguments: &[Argument],
        stream: Stream,
    ) -> Result<()> {
        let function = self.functions.get(function.0)?;
        function.check_launch(config, arguments)?;
        self.raw.launch(&function.object, config, arguments, &*self.streams.get(stream.0)?)
    }

    fn create_stream(&self, priority: Priority) -> Result<Stream> {
        Ok(Stream(self.streams.insert(self.raw.create_stream(priority)?)))
    }

    fn priority(&self, stream: Stream) -> Result<Priority> {
        self.raw.priority(&*self.streams.get(stream.0)?)
    }

    fn destroy_stream(&self, stream: Stream) -> Result<()> {
        self.captures.refuse_on("destroy a stream", stream)?;
        self.streams.remove(stream.0).map(drop)
    }

    fn synchronize(&self, stream: Stream) -> Result<()> {
        self.captures.refuse_here("wait for a stream")?;
        self.captures.refuse_on("wait for a stream", stream)?;
        self.raw.synchronize(&*self.streams.get(stream.0)?)
    }

    fn native_stream(&self, stream: Stream) -> Result<Option<u64>> {
        self.raw.native_stream(&*self.streams.get(stream.0)?)
    }

    fn wait(&self, stream: Stream, event: EventId) -> Result<()> {
        self.captures.refuse_on("wait for an event", stream)?;
        let event = self.recorded("wait for an event", event)?;
        self.raw.wait(&*self.streams.get(stream.0)?, &event.object)
    }

    fn create_event(&self, timed: bool) -> Result<EventId> {
        Ok(self.keep_event(self.raw.create_event(timed)?, timed))
    }

    fn destroy_event(&self, event: EventId) -> Result<()> {
        self.events.remove(event.0).map(drop)
    }

    fn record(&self, event: EventId, stream: Stream) -> Result<()> {
        self.captures.refuse_on("record an event", stream)?;
        self.raw.record(&self.events.get(event.0)?.object, &*self.streams.get(stream.0)?)
    }

    fn synchronize_event(&self, event: EventId) -> Result<()> {
        self.captures.refuse_here("wait for an event")?;
        self.raw.synchronize_event(&self.recorded("wait for an event", event)?.object)
    }

    fn query_event(&self, event: EventId) -> Result<bool> {
        self.captures.refuse_here("look for an event")?;
        self.raw.query_event(&self.recorded("look for an event", event)?.object)
    }

    fn elapsed_ms(&self, start: EventId, end: EventId) -> Result<f32> {
        const OPERATION: &str = "measure between events";
        self.captures.refuse_here("wait for an event")?;
        for event in [start, end] {
            if !self.events.get(event.0)?.timed {
                return Err(Error::misuse(OPERATION, "the event only orders and measures no time"));
            }
        }
        let (start, end) = (self.recorded(OPERATION, start)?, self.recorded(OPERATION, end)?);
        self.raw.elapsed_ms(&start.object, &end.object)
    }

    fn export_memory(&self, address: Address) -> Result<MemoryHandle> {
        let refuse = |why: String| Err(Error::misuse("export memory", why));
        if self.peers.with(address.0, |_, _| ()).is_some() {
            return refuse(format!("{address} is another process's to export"));
        }
        let export = |bytes, block: &D::Block| self.raw.export_memory(address, bytes, block);
        let exported = self.blocks.with(address.0, export);
        exported.unwrap_or_else(|| refuse(format!("no allocation starts at {address}")))
    }

    fn open_memory(&self, handle: &MemoryHandle, bytes: u64) -> Result<Address> {
        self.captures.refuse_here("open memory of another process")?;
        let (address, block) = self.raw.open_memory(handle, bytes)?;
        self.peers.insert(address.0, bytes, block);
        Ok(address)
    }

    fn close_memory(&self, address: Address) -> Result<()> {
        self.captures.refuse_here("close memory of another process")?;
        match self.raw.close_memory(address)? {
            true => self.peers.remove(address.0).map(drop),
            false => Ok(()),
        }
    }

    fn create_shared_event(&self) -> Result<EventId> {
        Ok(self.keep_event(self.raw.create_shared_event()?, false))
    }

    fn export_event(&self, event: EventId) -> Result<EventHandle> {
        self.raw.export_event(&self.events.get(event.0)?.object)
    }

    fn open_event(&self, handle: &EventHandle) -> Result<EventId> {
        Ok(self.keep_event(self.raw.open_event(handle)?, false))
    }

    fn begin_capture(&self, stream: Stream) -> Result<()> {
        let object = self.streams.get(stream.0)?;
        self.captures.begin(stream)?;
        self.raw.begin_capture(&object).inspect_err(|_| {
            let _ = self.captures.end(stream);
        })
    }

    fn end_capture(&self, stream: Stream) -> Result<Graph> {
        let object = self.streams.get(stream.0)?;
        self.captures.end(stream)?;
        Ok(Graph(self.graphs.insert(self.raw.end_capture(&object)?)))
    }

    fn launch_graph(&self, graph: Graph, stream: Stream) -> Result<()> {
        self.captures.refuse_on("launch a graph", stream)?;
        self.raw.launch_graph(&*self.graphs.get(graph.0)?, &*self.streams.get(stream.0)?)
    }

    fn destroy_graph(&self, graph: Graph) -> Result<()> {
        self.graphs.remove(graph.0).map(drop)
    }

    fn take_reports(&self) -> Vec<LaunchReport> {
        self.raw.take_reports()
    }
}
