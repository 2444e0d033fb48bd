//! The real driver: libcuda, opened when it is asked for, so that one program runs with and without it.

mod api;
mod failure;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use super::{
    driver::*,
    entry::Entry,
    header::Header,
    table::{Captures, Ranges, Table, check_timed},
};
use crate::{Error, Result};

/// The oldest compute capability that the kernels run on: A100.
const OLDEST_DEVICE: (u32, u32) = (8, 0);

/// The devices that the NVIDIA driver knows, whether this program can use them or not.
///
/// # Errors
/// [`Error::NoDevice`] without a driver, or with one that is too old.
pub fn devices() -> Result<Vec<DeviceInfo>> {
    let version = initialise()?;
    (0..api::device_count()?).map(|ordinal| api::device_info(ordinal, version)).collect()
}

/// Whether the kernels run on a device.
pub fn is_usable(device: &DeviceInfo) -> bool {
    device.capability >= OLDEST_DEVICE
}

fn initialise() -> Result<u32> {
    let version = api::initialise()?;
    if version < failure::OLDEST {
        let (major, minor) = failure::version(version);
        return Err(Error::NoDevice(format!(
            "the NVIDIA driver speaks CUDA {major}.{minor}, and 11.4 is needed at least; install a newer one"
        )));
    }
    Ok(version)
}

/// An open GPU.
#[derive(Debug)]
pub struct Real {
    device: DeviceInfo,
    context: Arc<api::Context>,
    captures: Captures<()>,
    blocks: Ranges<api::Block>,
    /// Blocks of other processes.
    peers: Ranges<api::PeerBlock>,
    pinned: Table<api::PinnedBlock>,
    modules: Table<LoadedModule>,
    functions: Table<Kernel>,
    streams: Table<api::Stream>,
    events: Table<RecordedEvent>,
    graphs: Table<api::Graph>,
}

#[derive(Debug)]
struct LoadedModule {
    object: Arc<api::Module>,
    header: Header,
    log: String,
}

type Kernel = Entry<api::Function>;

#[derive(Debug)]
struct RecordedEvent {
    object: api::Event,
    /// Whether times can be measured with it.
    timed: bool,
    recorded: AtomicBool,
}

impl RecordedEvent {
    fn new(object: api::Event, timed: bool) -> Self {
        Self { object, timed, recorded: AtomicBool::new(false) }
    }
}

impl Real {
    /// Opens a device.
    ///
    /// # Errors
    /// [`Error::NoDevice`] without a driver, without such a device, or where the kernels do not run on it.
    pub fn open(ordinal: u32) -> Result<Self> {
        let version = initialise()?;
        let count = api::device_count()?;
        if ordinal >= count {
            let message = match count {
                0 => "the NVIDIA driver sees no device; use --device cpu or --device emulator".to_owned(),
                1 => format!("there is no device {ordinal}; this machine has device 0 alone"),
                n => format!("there is no device {ordinal}; this machine has devices 0 to {}", n - 1),
            };
            return Err(Error::NoDevice(message));
        }
        let device = api::device_info(ordinal, version)?;
        if !is_usable(&device) {
            let (major, minor) = device.capability;
            return Err(Error::NoDevice(format!(
                "device {ordinal} ({}) has compute capability {major}.{minor}, and the kernels need 8.0 (A100) or later; \
                 use --device cpu",
                device.name
            )));
        }
        Ok(Self {
            device,
            context: api::Context::open(ordinal)?,
            captures: Captures::default(),
            blocks: Ranges::default(),
            peers: Ranges::default(),
            pinned: Table::new("pinned memory"),
            modules: Table::new("module"),
            functions: Table::new("kernel"),
            streams: Table::new("stream"),
            events: Table::new("event"),
            graphs: Table::new("graph"),
        })
    }

    fn recorded(&self, event: EventId, operation: &str) -> Result<Arc<RecordedEvent>> {
        let object = self.events.get(event.0)?;
        match object.recorded.load(Ordering::Acquire) {
            true => Ok(object),
            false => Err(Error::misuse(operation, "the event was never recorded")),
        }
    }

    /// An error unless the whole range lies within one allocation, this process's or one that it opened.
    fn check(&self, operation: &str, address: u64, bytes: u64) -> Result<()> {
        let own = self.blocks.check(operation, address, bytes);
        own.or_else(|error| self.peers.check(operation, address, bytes).map_err(|_| error))
    }

    fn pinned(&self, memory: Pinned, bytes: u64, operation: &str) -> Result<(Arc<api::PinnedBlock>, usize)> {
        let block = self.pinned.get(memory.0)?;
        match usize::try_from(bytes) {
            Ok(bytes) if bytes <= block.bytes => Ok((block, bytes)),
            _ => Err(Error::misuse(operation, format!("{bytes} bytes of {} that are pinned", block.bytes))),
        }
    }
}

impl Driver for Real {
    fn backend(&self) -> Backend {
        Backend::Real
    }

    fn device(&self) -> &DeviceInfo {
        &self.device
    }

    fn memory(&self) -> Result<MemoryInfo> {
        self.context.memory()
    }

    fn checks_bounds(&self) -> bool {
        false
    }

    fn allocate(&self, bytes: u64) -> Result<Address> {
        self.captures.refuse_here("allocate device memory")?;
        let block = match api::Block::allocate(&self.context, bytes.max(1))? {
            Ok(block) => block,
            Err(api::CUDA_ERROR_OUT_OF_MEMORY) => {
                let MemoryInfo { free, total } = self.memory()?;
                return Err(Error::out_of_memory(&self.device.name, bytes, free, total));
            }
            Err(code) => {
                failure::check(code, || format!("allocate {bytes} bytes"))?;
                return Err(Error::misuse("allocate", "the driver gave no memory"));
            }
        };
        let address = block.address();
        self.blocks.insert(address, bytes, block);
        Ok(Address(address))
    }

    fn free(&self, address: Address) -> Result<()> {
        self.captures.refuse_here("free device memory")?;
        self.blocks.remove(address.0).map(drop)
    }

    fn poison(&self, address: Address, bytes: u64, stream: Stream) -> Result<()> {
        self.fill(address, 0xFF, bytes, stream)
    }

    fn allocate_pinned(&self, bytes: u64) -> Result<Pinned> {
        self.captures.refuse_here("allocate pinned memory")?;
        let length = usize::try_from(bytes.max(1))
            .map_err(|_| Error::misuse("allocate pinned memory", format!("{bytes} bytes")))?;
        Ok(Pinned(self.pinned.insert(api::PinnedBlock::allocate(&self.context, length)?)))
    }

    fn free_pinned(&self, memory: Pinned) -> Result<()> {
        self.captures.refuse_here("free pinned memory")?;
        self.pinned.remove(memory.0).map(drop)
    }

    fn with_pinned(&self, memory: Pinned, body: &mut dyn FnMut(&mut [u8])) -> Result<()> {
        self.captures.refuse_here("wait for pinned memory")?;
        self.pinned.get(memory.0)?.with(body)
    }

    fn upload(&self, to: Address, from: &[u8], stream: Stream) -> Result<()> {
        self.captures.refuse_here("copy from the host")?;
        self.captures.refuse_on("copy from the host", stream)?;
        self.check("copy from the host", to.0, from.len() as u64)?;
        let stream = self.streams.get(stream.0)?;
        if from.is_empty() { Ok(()) } else { stream.upload(to.0, from) }
    }

    fn download(&self, to: &mut [u8], from: Address, stream: Stream) -> Result<()> {
        self.captures.refuse_here("copy to the host")?;
        self.captures.refuse_on("copy to the host", stream)?;
        self.check("copy to the host", from.0, to.len() as u64)?;
        let stream = self.streams.get(stream.0)?;
        if to.is_empty() { Ok(()) } else { stream.download(to, from.0) }
    }

    fn upload_pinned(&self, to: Address, from: Pinned, bytes: u64, stream: Stream) -> Result<()> {
        self.captures.refuse_on("copy from the host", stream)?;
        self.check("copy from the host", to.0, bytes)?;
        let (block, bytes) = self.pinned(from, bytes, "copy from the host")?;
        let stream = self.streams.get(stream.0)?;
        if bytes == 0 { Ok(()) } else { stream.upload_pinned(to.0, &block, bytes) }
    }

    fn download_pinned(&self, to: Pinned, from: Address, bytes: u64, stream: Stream) -> Result<()> {
        self.captures.refuse_on("copy to the host", stream)?;
        self.check("copy to the host", from.0, bytes)?;
        let (block, bytes) = self.pinned(to, bytes, "copy to the host")?;
        let stream = self.streams.get(stream.0)?;
        if bytes == 0 { Ok(()) } else { stream.download_pinned(&block, from.0, bytes) }
    }

    fn copy(&self, to: Address, from: Address, bytes: u64, stream: Stream) -> Result<()> {
        self.check("copy within the device", from.0, bytes)?;
        self.check("copy within the device", to.0, bytes)?;
        let stream = self.streams.get(stream.0)?;
        if bytes == 0 { Ok(()) } else { stream.copy(to.0, from.0, bytes as usize) }
    }

    fn fill(&self, address: Address, value: u8, bytes: u64, stream: Stream) -> Result<()> {
        self.check("fill", address.0, bytes)?;
        let stream = self.streams.get(stream.0)?;
        if bytes == 0 { Ok(()) } else { stream.fill(address.0, value, bytes as usize) }
    }

    fn load_module(&self, name: &str, ptx: &str) -> Result<Module> {
        self.captures.refuse_here("load a module")?;
        let header = Header::of(name, ptx, &self.device)?;
        let (object, log) = api::Module::load(&self.context, name, ptx)?;
        Ok(Module(self.modules.insert(LoadedModule { object: Arc::new(object), header, log })))
    }

    fn module_log(&self, module: Module) -> Result<String> {
        Ok(self.modules.get(module.0)?.log.clone())
    }

    fn unload_module(&self, module: Module) -> Result<()> {
        self.captures.refuse_here("unload a module")?;
        self.modules.remove(module.0)?;
        self.functions.remove_where(|function| function.module == module.0);
        Ok(())
    }

    fn function(&self, module: Module, name: &str) -> Result<Function> {
        let loaded = self.modules.get(module.0)?;
        let parameters = loaded.header.parameters(name)?;
        let object = api::Function::of(&loaded.object, name)?;
        let attributes = object.attributes()?;
        let kernel = Kernel::new(name, object, module.0, parameters, attributes);
        Ok(Function(self.functions.insert(kernel)))
    }

    fn attributes(&self, function: Function) -> Result<FunctionAttributes> {
        Ok(self.functions.get(function.0)?.attributes)
    }

    fn allow_shared(&self, function: Function, bytes: u32) -> Result<()> {
        self.functions.get(function.0)?.allow_shared(bytes, &self.device, |kernel| kernel.allow_shared(bytes))
    }

    fn launch(
        &self,
        function: Function,
        config: &LaunchConfig,
        arguments: &[Argument],
        stream: Stream,
    ) -> Result<()> {
        let kernel = self.functions.get(function.0)?;
        kernel.check_launch(config, arguments)?;
        kernel.object.launch(config, arguments, &*self.streams.get(stream.0)?)
    }

    fn create_stream(&self, priority: Priority) -> Result<Stream> {
        Ok(Stream(self.streams.insert(api::Stream::create(&self.context, priority)?)))
    }

    fn priority(&self, stream: Stream) -> Result<Priority> {
        self.streams.get(stream.0)?.priority()
    }

    fn destroy_stream(&self, stream: Stream) -> Result<()> {
        self.captures.refuse_on("destroy a stream", stream)?;
        self.streams.remove(stream.0).map(drop)
    }

    fn synchronize(&self, stream: Stream) -> Result<()> {
        self.captures.refuse_here("wait for a stream")?;
        self.captures.refuse_on("wait for a stream", stream)?;
        self.streams.get(stream.0)?.synchronize()
    }

    fn native_stream(&self, stream: Stream) -> Result<Option<u64>> {
        self.streams.get(stream.0)?.native().map(Some)
    }

    fn wait(&self, stream: Stream, event: EventId) -> Result<()> {
        self.captures.refuse_on("wait for an event", stream)?;
        let event = self.recorded(event, "wait for an event")?;
        self.streams.get(stream.0)?.wait(&event.object)
    }

    fn create_event(&self, timed: bool) -> Result<EventId> {
        let object = api::Event::create(&self.context, timed)?;
        Ok(EventId(self.events.insert(RecordedEvent::new(object, timed))))
    }

    fn destroy_event(&self, event: EventId) -> Result<()> {
        self.events.remove(event.0).map(drop)
    }

    fn record(&self, event: EventId, stream: Stream) -> Result<()> {
        self.captures.refuse_on("record an event", stream)?;
        let event = self.events.get(event.0)?;
        event.object.record(&*self.streams.get(stream.0)?)?;
        event.recorded.store(true, Ordering::Release);
        Ok(())
    }

    fn synchronize_event(&self, event: EventId) -> Result<()> {
        self.captures.refuse_here("wait for an event")?;
        self.recorded(event, "wait for an event")?.object.synchronize()
    }

    fn query_event(&self, event: EventId) -> Result<bool> {
        self.captures.refuse_here("look for an event")?;
        self.recorded(event, "look for an event")?.object.query()
    }

    fn elapsed_ms(&self, start: EventId, end: EventId) -> Result<f32> {
        for event in [start, end] {
            check_timed(self.events.get(event.0)?.timed)?;
        }
        self.synchronize_event(start)?;
        self.synchronize_event(end)?;
        let start = self.recorded(start, "measure between events")?;
        start.object.elapsed_ms(&self.recorded(end, "measure between events")?.object)
    }

    fn export_memory(&self, address: Address) -> Result<MemoryHandle> {
        self.blocks.with(address.0, |_, block| block.export()).unwrap_or_else(|| {
            Err(Error::misuse("export memory", format!("no allocation starts at {address}")))
        })
    }

    fn open_memory(&self, handle: &MemoryHandle, bytes: u64) -> Result<Address> {
        self.captures.refuse_here("open memory of another process")?;
        let block = api::PeerBlock::open(&self.context, handle)?;
        let address = block.address();
        self.peers.insert(address, bytes, block);
        Ok(Address(address))
    }

    fn close_memory(&self, address: Address) -> Result<()> {
        self.captures.refuse_here("close memory of another process")?;
        self.context.synchronize()?;
        self.peers.remove(address.0).map(drop)
    }

    fn create_shared_event(&self) -> Result<EventId> {
        let object = api::Event::create_shared(&self.context)?;
        Ok(EventId(self.events.insert(RecordedEvent::new(object, false))))
    }

    fn export_event(&self, event: EventId) -> Result<EventHandle> {
        self.events.get(event.0)?.object.export()
    }

    fn open_event(&self, handle: &EventHandle) -> Result<EventId> {
        // Whether it was recorded is known to its process alone.
        let object = api::Event::open(&self.context, handle)?;
        Ok(EventId(
            self.events.insert(RecordedEvent {
                recorded: AtomicBool::new(true),
                ..RecordedEvent::new(object, false)
            }),
        ))
    }

    fn begin_capture(&self, stream: Stream) -> Result<()> {
        let object = self.streams.get(stream.0)?;
        self.captures.begin(stream, ())?;
        object.begin_capture().inspect_err(|_| {
            let _ = self.captures.end(stream);
        })
    }

    fn end_capture(&self, stream: Stream) -> Result<Graph> {
        let object = self.streams.get(stream.0)?;
        self.captures.end(stream)?;
        Ok(Graph(self.graphs.insert(object.end_capture()?)))
    }

    fn launch_graph(&self, graph: Graph, stream: Stream) -> Result<()> {
        self.captures.refuse_on("launch a graph", stream)?;
        let stream = self.streams.get(stream.0)?;
        stream.launch_graph(&*self.graphs.get(graph.0)?)
    }

    fn destroy_graph(&self, graph: Graph) -> Result<()> {
        self.graphs.remove(graph.0).map(drop)
    }
}
