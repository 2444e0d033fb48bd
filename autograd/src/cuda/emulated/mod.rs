//! The emulated driver: the same trait over the PTX emulator. Work runs when it is queued, so a stream is in order by
//! itself and an event has come as soon as it is recorded; a captured stream keeps its work and a graph runs it again.

mod exports;
mod options;

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex},
    time::Instant,
};

use ssmv_emulator::{Memory, TensorCore};

pub use options::EmulatorOptions;

use exports::{Exported, Moment};

use super::{
    driver::*,
    entry::Entry,
    header::Header,
    table::{Captures, Ranges, Table, check_timed, lock},
};
use crate::{Error, Result};

/// The name of the emulated device.
const NAME: &str = "PTX emulator";
/// Threads that a block may have where its kernel does not say.
const MAX_THREADS: u32 = 1024;
/// The emulator's memory is counted in whole grains.
const GRAIN: u64 = 256;

/// An emulated device.
#[derive(Debug)]
pub struct Emulated {
    device: DeviceInfo,
    memory: Arc<Memory>,
    run: ssmv_emulator::Options,
    captures: Captures<Vec<Work>>,
    blocks: Ranges<()>,
    /// Opened allocations by address, as often as they were opened.
    opened: Mutex<HashMap<u64, Vec<Arc<Exported>>>>,
    pinned: Table<Mutex<PinnedBlock>>,
    modules: Table<LoadedModule>,
    functions: Table<Kernel>,
    streams: Table<Ordered>,
    events: Table<Moment>,
    graphs: Table<Vec<Work>>,
    keep_reports: usize,
    reports: Mutex<VecDeque<LaunchReport>>,
}

#[derive(Debug)]
struct LoadedModule {
    object: Arc<ssmv_emulator::LoadedModule>,
    header: Header,
}

type Kernel = Entry<Arc<ssmv_emulator::LoadedModule>>;

/// Host memory, aligned for every element.
#[derive(Debug)]
struct PinnedBlock {
    words: Vec<u64>,
    bytes: usize,
}

impl PinnedBlock {
    fn all(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.words)[..self.bytes]
    }

    fn first(&mut self, bytes: u64, operation: &str) -> Result<&mut [u8]> {
        let pinned = self.bytes;
        let range = usize::try_from(bytes).ok().and_then(|bytes| self.all().get_mut(..bytes));
        range.ok_or_else(|| Error::misuse(operation, format!("{bytes} bytes of {pinned} that are pinned")))
    }
}

/// A stream: the holder of the lock runs its work.
#[derive(Debug)]
struct Ordered {
    order: Mutex<()>,
    priority: Priority,
}

/// A piece of work in a stream.
#[derive(Debug)]
enum Work {
    Launch { kernel: Arc<Kernel>, config: LaunchConfig, arguments: Vec<Argument> },
    Copy { to: Address, from: Address, bytes: u64 },
    Fill { address: Address, value: u8, bytes: u64 },
    Poison { address: Address, bytes: u64 },
}

impl Emulated {
    /// What [`Emulated::new`] with these options gives.
    pub fn describe(options: &EmulatorOptions) -> DeviceInfo {
        // As an A100 and an H100 have them ("Technical specifications per compute capability").
        let (multiprocessors, shared_per_block) =
            if options.capability >= (9, 0) { (132, 227 << 10) } else { (108, 163 << 10) };
        DeviceInfo {
            ordinal: options.ordinal.into(),
            name: NAME.to_owned(),
            memory: options.memory,
            capability: options.capability,
            multiprocessors,
            l2_bytes: 0,
            shared_per_block,
            driver: (12, 0),
            pci: String::new(),
        }
    }

    /// A device with nothing in its memory.
    pub fn new(options: &EmulatorOptions) -> Self {
        let tensor_core = if options.capability >= (9, 0) { TensorCore::Hopper } else { TensorCore::Ampere };
        Self {
            device: Self::describe(options),
            memory: Arc::new(Memory::of_device(options.ordinal, length(options.memory))),
            run: ssmv_emulator::Options {
                checks: options.checks,
                tensor_core,
                approximation: options.approximation,
                budget: options.budget,
                ..Default::default()
            },
            captures: Captures::default(),
            blocks: Ranges::default(),
            opened: Mutex::default(),
            pinned: Table::new("pinned memory"),
            modules: Table::new("module"),
            functions: Table::new("kernel"),
            streams: Table::new("stream"),
            events: Table::new("event"),
            graphs: Table::new("graph"),
            keep_reports: options.reports,
            reports: Mutex::default(),
        }
    }

    /// Runs work now, or keeps it where the stream is captured.
    fn submit(&self, stream: Stream, work: Work) -> Result<()> {
        let order = self.streams.get(stream.0)?;
        let mut work = Some(work);
        self.captures.with(stream, |recorded| recorded.extend(work.take()));
        let Some(work) = work else { return Ok(()) };
        let _in_order = lock(&order.order);
        self.run(&work)
    }

    fn run(&self, work: &Work) -> Result<()> {
        match work {
            Work::Launch { kernel, config, arguments } => self.run_kernel(kernel, config, arguments),
            Work::Copy { to, from, bytes } => {
                self.blocks.check("copy within the device", from.0, *bytes)?;
                self.blocks.check("copy within the device", to.0, *bytes)?;
                self.memory.copy(to.0, from.0, length(*bytes)).map_err(fault)
            }
            Work::Fill { address, value, bytes } => {
                self.blocks.check("fill", address.0, *bytes)?;
                self.memory.fill(address.0, *value, length(*bytes)).map_err(fault)
            }
            Work::Poison { address, bytes } => {
                self.blocks.check("fill", address.0, *bytes)?;
                self.memory.mark_unwritten(address.0, length(*bytes)).map_err(fault)
            }
        }
    }

    fn run_kernel(&self, kernel: &Kernel, config: &LaunchConfig, arguments: &[Argument]) -> Result<()> {
        let config =
            ssmv_emulator::LaunchConfig { grid: config.grid, block: config.block, shared: config.shared };
        let mut packed = ssmv_emulator::Arguments::new();
        for argument in arguments {
            let (bytes, length) = argument.bytes();
            packed.push_bytes(&bytes[..length]);
        }
        let (memory, module, name) = (&self.memory, &kernel.object, &kernel.name);
        let counts =
            ssmv_emulator::launch(memory, module, name, &config, &packed, &self.run).map_err(fault)?;
        let mut reports = lock(&self.reports);
        reports.push_back(LaunchReport { kernel: name.clone(), counts });
        while reports.len() > self.keep_reports {
            reports.pop_front();
        }
        Ok(())
    }

    fn recorded(&self, event: EventId, operation: &str) -> Result<Instant> {
        let recorded = *lock(&self.events.get(event.0)?.at);
        recorded.ok_or_else(|| Error::misuse(operation, "the event was never recorded"))
    }
}

/// A length in the host's memory; one that is too large for it is refused by the emulator.
fn length(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// The emulator's error as the engine's.
fn fault(error: ssmv_emulator::Error) -> Error {
    match error {
        ssmv_emulator::Error::Usage(message) => Error::misuse(NAME, message),
        other => Error::Kernel(other.to_string()),
    }
}

impl Driver for Emulated {
    fn backend(&self) -> Backend {
        Backend::Emulated
    }

    fn device(&self) -> &DeviceInfo {
        &self.device
    }

    fn memory(&self) -> Result<MemoryInfo> {
        let total = self.device.memory;
        Ok(MemoryInfo { free: total.saturating_sub(self.memory.used() as u64), total })
    }

    fn checks_bounds(&self) -> bool {
        true
    }

    fn allocate(&self, bytes: u64) -> Result<Address> {
        self.captures.refuse_here("allocate device memory")?;
        let MemoryInfo { free, total } = self.memory()?;
        if bytes.div_ceil(GRAIN) > free / GRAIN {
            return Err(Error::out_of_memory(NAME, bytes, free, total));
        }
        let address = self.memory.alloc(length(bytes.max(1))).map_err(fault)?;
        self.blocks.insert(address, bytes, ());
        Ok(Address(address))
    }

    fn free(&self, address: Address) -> Result<()> {
        self.captures.refuse_here("free device memory")?;
        self.refuse_shared(address)?;
        self.blocks.remove(address.0)?;
        self.memory.free(address.0).map_err(fault)
    }

    fn poison(&self, address: Address, bytes: u64, stream: Stream) -> Result<()> {
        self.blocks.check("fill", address.0, bytes)?;
        self.submit(stream, Work::Poison { address, bytes })
    }

    fn allocate_pinned(&self, bytes: u64) -> Result<Pinned> {
        self.captures.refuse_here("allocate pinned memory")?;
        let full =
            || Error::misuse("allocate pinned memory", format!("the host has not {bytes} bytes for it"));
        let length = usize::try_from(bytes.max(1)).map_err(|_| full())?;
        let mut words = Vec::new();
        words.try_reserve_exact(length.div_ceil(8)).map_err(|_| full())?;
        words.resize(length.div_ceil(8), 0);
        Ok(Pinned(self.pinned.insert(Mutex::new(PinnedBlock { words, bytes: length }))))
    }

    fn free_pinned(&self, memory: Pinned) -> Result<()> {
        self.captures.refuse_here("free pinned memory")?;
        self.pinned.remove(memory.0).map(drop)
    }

    fn with_pinned(&self, memory: Pinned, body: &mut dyn FnMut(&mut [u8])) -> Result<()> {
        self.captures.refuse_here("wait for pinned memory")?;
        body(lock(&*self.pinned.get(memory.0)?).all());
        Ok(())
    }

    fn upload(&self, to: Address, from: &[u8], stream: Stream) -> Result<()> {
        self.captures.refuse_here("copy from the host")?;
        self.captures.refuse_on("copy from the host", stream)?;
        self.blocks.check("copy from the host", to.0, from.len() as u64)?;
        let order = self.streams.get(stream.0)?;
        let _in_order = lock(&order.order);
        self.memory.write(to.0, from).map_err(fault)
    }

    fn download(&self, to: &mut [u8], from: Address, stream: Stream) -> Result<()> {
        self.captures.refuse_here("copy to the host")?;
        self.captures.refuse_on("copy to the host", stream)?;
        self.blocks.check("copy to the host", from.0, to.len() as u64)?;
        let order = self.streams.get(stream.0)?;
        let _in_order = lock(&order.order);
        self.memory.read(from.0, to).map_err(fault)
    }

    fn upload_pinned(&self, to: Address, from: Pinned, bytes: u64, stream: Stream) -> Result<()> {
        self.captures.refuse_on("copy from the host", stream)?;
        self.blocks.check("copy from the host", to.0, bytes)?;
        let (order, memory) = (self.streams.get(stream.0)?, self.pinned.get(from.0)?);
        let _in_order = lock(&order.order);
        let mut memory = lock(&memory);
        self.memory.write(to.0, memory.first(bytes, "copy from the host")?).map_err(fault)
    }

    fn download_pinned(&self, to: Pinned, from: Address, bytes: u64, stream: Stream) -> Result<()> {
        self.captures.refuse_on("copy to the host", stream)?;
        self.blocks.check("copy to the host", from.0, bytes)?;
        let (order, memory) = (self.streams.get(stream.0)?, self.pinned.get(to.0)?);
        let _in_order = lock(&order.order);
        let mut memory = lock(&memory);
        self.memory.read(from.0, memory.first(bytes, "copy to the host")?).map_err(fault)
    }

    fn copy(&self, to: Address, from: Address, bytes: u64, stream: Stream) -> Result<()> {
        self.blocks.check("copy within the device", from.0, bytes)?;
        self.blocks.check("copy within the device", to.0, bytes)?;
        self.submit(stream, Work::Copy { to, from, bytes })
    }

    fn fill(&self, address: Address, value: u8, bytes: u64, stream: Stream) -> Result<()> {
        self.blocks.check("fill", address.0, bytes)?;
        self.submit(stream, Work::Fill { address, value, bytes })
    }

    fn load_module(&self, name: &str, ptx: &str) -> Result<Module> {
        self.captures.refuse_here("load a module")?;
        let header = Header::of(name, ptx, &self.device)?;
        let parsed = ssmv_emulator::Module::parse(name, ptx).map_err(|error| match error {
            ssmv_emulator::Error::Parse { line, message, .. } => Error::Ptx {
                kernel: name.to_owned(),
                code: "the emulator cannot read it".to_owned(),
                advice: "the line below is a defect of the kernel, or beyond the emulator",
                log: format!("line {line}: {message}"),
            },
            other => fault(other),
        })?;
        let object = Arc::new(parsed.load(&self.memory).map_err(fault)?);
        Ok(Module(self.modules.insert(LoadedModule { object, header })))
    }

    fn module_log(&self, module: Module) -> Result<String> {
        self.modules.get(module.0).map(|_| String::new())
    }

    fn unload_module(&self, module: Module) -> Result<()> {
        self.captures.refuse_here("unload a module")?;
        let loaded = self.modules.remove(module.0)?;
        self.functions.remove_where(|kernel| kernel.module == module.0);
        // A captured graph may still launch its kernels; then its variables stay.
        match Arc::try_unwrap(loaded).map(|loaded| Arc::try_unwrap(loaded.object)) {
            Ok(Ok(object)) => object.unload(&self.memory).map_err(fault),
            _ => Ok(()),
        }
    }

    fn function(&self, module: Module, name: &str) -> Result<Function> {
        let loaded = self.modules.get(module.0)?;
        let parameters = loaded.header.parameters(name)?;
        let mut kernels = loaded.object.kernels();
        let info = kernels.find(|kernel| kernel.name == name);
        let info = info.ok_or_else(|| Error::misuse(name, "the module has no such kernel"))?;
        let attributes = FunctionAttributes {
            static_shared: info.static_shared,
            max_threads: info.max_threads.unwrap_or(MAX_THREADS),
            ..Default::default()
        };
        let kernel = Kernel::new(name, loaded.object.clone(), module.0, parameters, attributes);
        Ok(Function(self.functions.insert(kernel)))
    }

    fn attributes(&self, function: Function) -> Result<FunctionAttributes> {
        Ok(self.functions.get(function.0)?.attributes)
    }

    fn allow_shared(&self, function: Function, bytes: u32) -> Result<()> {
        self.functions.get(function.0)?.allow_shared(bytes, &self.device, |_| Ok(()))
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
        self.submit(stream, Work::Launch { kernel, config: *config, arguments: arguments.to_vec() })
    }

    fn create_stream(&self, priority: Priority) -> Result<Stream> {
        Ok(Stream(self.streams.insert(Ordered { order: Mutex::default(), priority })))
    }

    fn priority(&self, stream: Stream) -> Result<Priority> {
        Ok(self.streams.get(stream.0)?.priority)
    }

    fn destroy_stream(&self, stream: Stream) -> Result<()> {
        self.captures.refuse_on("destroy a stream", stream)?;
        self.streams.remove(stream.0).map(drop)
    }

    fn synchronize(&self, stream: Stream) -> Result<()> {
        self.captures.refuse_here("wait for a stream")?;
        self.captures.refuse_on("wait for a stream", stream)?;
        let order = self.streams.get(stream.0)?;
        drop(lock(&order.order));
        Ok(())
    }

    fn wait(&self, stream: Stream, event: EventId) -> Result<()> {
        self.captures.refuse_on("wait for an event", stream)?;
        self.recorded(event, "wait for an event")?;
        self.streams.get(stream.0).map(drop)
    }

    fn create_event(&self, timed: bool) -> Result<EventId> {
        Ok(EventId(self.events.insert(Moment { timed, ..Moment::default() })))
    }

    fn destroy_event(&self, event: EventId) -> Result<()> {
        self.events.remove(event.0).map(drop)
    }

    fn record(&self, event: EventId, stream: Stream) -> Result<()> {
        self.captures.refuse_on("record an event", stream)?;
        let event = self.events.get(event.0)?;
        let order = self.streams.get(stream.0)?;
        let _in_order = lock(&order.order);
        *lock(&event.at) = Some(Instant::now());
        Ok(())
    }

    fn synchronize_event(&self, event: EventId) -> Result<()> {
        self.captures.refuse_here("wait for an event")?;
        self.recorded(event, "wait for an event").map(drop)
    }

    fn elapsed_ms(&self, start: EventId, end: EventId) -> Result<f32> {
        self.captures.refuse_here("wait for an event")?;
        for event in [start, end] {
            check_timed(self.events.get(event.0)?.timed)?;
        }
        let start = self.recorded(start, "measure between events")?;
        let end = self.recorded(end, "measure between events")?;
        Ok(end.saturating_duration_since(start).as_secs_f32() * 1e3)
    }

    fn export_memory(&self, address: Address) -> Result<MemoryHandle> {
        self.give_memory_handle(address)
    }

    fn open_memory(&self, handle: &MemoryHandle, bytes: u64) -> Result<Address> {
        self.captures.refuse_here("open memory of another process")?;
        self.open_memory_handle(handle, bytes)
    }

    fn close_memory(&self, address: Address) -> Result<()> {
        self.captures.refuse_here("close memory of another process")?;
        self.close_opened_memory(address)
    }

    fn create_shared_event(&self) -> Result<EventId> {
        Ok(EventId(self.events.insert(Moment { shared: true, ..Moment::default() })))
    }

    fn export_event(&self, event: EventId) -> Result<EventHandle> {
        self.give_event_handle(event)
    }

    fn open_event(&self, handle: &EventHandle) -> Result<EventId> {
        self.open_event_handle(handle)
    }

    fn begin_capture(&self, stream: Stream) -> Result<()> {
        self.streams.get(stream.0)?;
        self.captures.begin(stream, Vec::new())
    }

    fn end_capture(&self, stream: Stream) -> Result<Graph> {
        self.streams.get(stream.0)?;
        Ok(Graph(self.graphs.insert(self.captures.end(stream)?)))
    }

    fn launch_graph(&self, graph: Graph, stream: Stream) -> Result<()> {
        self.captures.refuse_on("launch a graph", stream)?;
        let (order, graph) = (self.streams.get(stream.0)?, self.graphs.get(graph.0)?);
        let _in_order = lock(&order.order);
        graph.iter().try_for_each(|work| self.run(work))
    }

    fn destroy_graph(&self, graph: Graph) -> Result<()> {
        self.graphs.remove(graph.0).map(drop)
    }

    fn take_reports(&self) -> Vec<LaunchReport> {
        lock(&self.reports).drain(..).collect()
    }
}
