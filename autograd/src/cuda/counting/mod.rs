//! The counting driver: a device that gives out addresses and counts bytes, and runs nothing. What a step takes of a GPU's
//! memory is found by taking the step on it, with no GPU at hand.

mod blocks;

use std::sync::{
    Mutex,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use self::blocks::Blocks;
use super::{
    driver::*,
    entry::Entry,
    header::Header,
    table::{Captures, Table, check_timed, lock},
};
use crate::{Error, Result};

/// Threads that a block may have where its kernel does not say.
const MAX_THREADS: u32 = 1024;

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Bytes of device memory given out, in the device's pages.
    pub used: u64,
    /// The most at once.
    pub peak: u64,
    /// Modules loaded.
    pub modules: u64,
    /// Bytes of their PTX.
    pub ptx_bytes: u64,
    /// Kernels launched, those of a graph at each of its launches.
    pub launches: u64,
}

/// A device that counts. Its memory holds nothing: what is read from it is zero.
#[derive(Debug)]
pub struct Counting {
    device: DeviceInfo,
    blocks: Mutex<Blocks>,
    captures: Captures<u64>,
    pinned: Table<Mutex<Vec<u64>>>,
    modules: Table<Header>,
    functions: Table<Entry<()>>,
    streams: Table<Priority>,
    events: Table<Counted>,
    graphs: Table<u64>,
    loaded: AtomicU64,
    ptx_bytes: AtomicU64,
    launches: AtomicU64,
}

/// An event.
#[derive(Debug)]
struct Counted {
    timed: bool,
    recorded: AtomicBool,
}

impl Counting {
    /// A device as `device` describes it; requests beyond its `memory` are refused as a GPU refuses them.
    pub fn new(device: DeviceInfo) -> Self {
        Self {
            blocks: Mutex::new(Blocks::new(device.memory)),
            device,
            captures: Captures::default(),
            pinned: Table::new("pinned memory"),
            modules: Table::new("module"),
            functions: Table::new("kernel"),
            streams: Table::new("stream"),
            events: Table::new("event"),
            graphs: Table::new("graph"),
            loaded: AtomicU64::new(0),
            ptx_bytes: AtomicU64::new(0),
            launches: AtomicU64::new(0),
        }
    }

    /// An H100 of 80 GB: what is counted on where there is no GPU to ask.
    pub fn describe() -> DeviceInfo {
        DeviceInfo {
            ordinal: 0,
            name: "H100 (none is here)".to_owned(),
            memory: 80_000_000_000,
            capability: (9, 0),
            multiprocessors: 132,
            l2_bytes: 50 << 20,
            shared_per_block: 227 << 10,
            driver: (12, 0),
            pci: String::new(),
        }
    }

    /// What was counted so far.
    pub fn counts(&self) -> Counts {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (used, peak) = lock(&self.blocks).used();
        Counts {
            used,
            peak,
            modules: count(&self.loaded),
            ptx_bytes: count(&self.ptx_bytes),
            launches: count(&self.launches),
        }
    }

    /// Work of which all that is to be done is the check of its place.
    fn touch(&self, operation: &str, ranges: &[(Address, u64)], stream: Stream) -> Result<()> {
        self.streams.get(stream.0)?;
        let blocks = lock(&self.blocks);
        ranges.iter().try_for_each(|(address, bytes)| blocks.check(operation, *address, *bytes))
    }

    /// The same between host and device.
    fn cross(&self, operation: &str, range: (Address, u64), stream: Stream) -> Result<()> {
        self.captures.refuse_on(operation, stream)?;
        self.touch(operation, &[range], stream)
    }

    fn cross_pinned(
        &self,
        operation: &str,
        (address, bytes): (Address, u64),
        memory: Pinned,
        stream: Stream,
    ) -> Result<()> {
        let pinned = lock(&*self.pinned.get(memory.0)?).len() as u64 * 8;
        if bytes > pinned {
            return Err(Error::misuse(operation, format!("{bytes} bytes of {pinned} that are pinned")));
        }
        self.cross(operation, (address, bytes), stream)
    }

    fn recorded(&self, event: EventId, operation: &str) -> Result<()> {
        match self.events.get(event.0)?.recorded.load(Ordering::Acquire) {
            true => Ok(()),
            false => Err(Error::misuse(operation, "the event was never recorded")),
        }
    }
}

impl Driver for Counting {
    fn backend(&self) -> Backend {
        Backend::Counting
    }

    fn device(&self) -> &DeviceInfo {
        &self.device
    }

    fn memory(&self) -> Result<MemoryInfo> {
        let total = self.device.memory;
        Ok(MemoryInfo { free: total.saturating_sub(self.counts().used), total })
    }

    /// As a GPU: the pool rounds sizes up.
    fn checks_bounds(&self) -> bool {
        false
    }

    fn allocate(&self, bytes: u64) -> Result<Address> {
        self.captures.refuse_here("allocate device memory")?;
        if let Some(address) = lock(&self.blocks).take(bytes) {
            return Ok(address);
        }
        let MemoryInfo { free, total } = self.memory()?;
        Err(Error::out_of_memory(&self.device.name, bytes, free, total))
    }

    fn free(&self, address: Address) -> Result<()> {
        self.captures.refuse_here("free device memory")?;
        lock(&self.blocks).give(address)
    }

    fn poison(&self, address: Address, bytes: u64, stream: Stream) -> Result<()> {
        self.touch("fill", &[(address, bytes)], stream)
    }

    fn allocate_pinned(&self, bytes: u64) -> Result<Pinned> {
        self.captures.refuse_here("allocate pinned memory")?;
        let full =
            || Error::misuse("allocate pinned memory", format!("the host has not {bytes} bytes for it"));
        let words = usize::try_from(bytes.div_ceil(8)).map_err(|_| full())?;
        let mut memory = Vec::new();
        memory.try_reserve_exact(words).map_err(|_| full())?;
        memory.resize(words, 0);
        Ok(Pinned(self.pinned.insert(Mutex::new(memory))))
    }

    fn free_pinned(&self, memory: Pinned) -> Result<()> {
        self.captures.refuse_here("free pinned memory")?;
        self.pinned.remove(memory.0).map(drop)
    }

    fn with_pinned(&self, memory: Pinned, body: &mut dyn FnMut(&mut [u8])) -> Result<()> {
        self.captures.refuse_here("wait for pinned memory")?;
        body(bytemuck::cast_slice_mut(&mut lock(&*self.pinned.get(memory.0)?)));
        Ok(())
    }

    fn upload(&self, to: Address, from: &[u8], stream: Stream) -> Result<()> {
        self.captures.refuse_here("copy from the host")?;
        self.cross("copy from the host", (to, from.len() as u64), stream)
    }

    fn download(&self, to: &mut [u8], from: Address, stream: Stream) -> Result<()> {
        self.captures.refuse_here("copy to the host")?;
        self.cross("copy to the host", (from, to.len() as u64), stream)?;
        to.fill(0);
        Ok(())
    }

    fn upload_pinned(&self, to: Address, from: Pinned, bytes: u64, stream: Stream) -> Result<()> {
        self.cross_pinned("copy from the host", (to, bytes), from, stream)
    }

    fn download_pinned(&self, to: Pinned, from: Address, bytes: u64, stream: Stream) -> Result<()> {
        self.cross_pinned("copy to the host", (from, bytes), to, stream)
    }

    fn copy(&self, to: Address, from: Address, bytes: u64, stream: Stream) -> Result<()> {
        self.touch("copy within the device", &[(from, bytes), (to, bytes)], stream)
    }

    fn fill(&self, address: Address, _: u8, bytes: u64, stream: Stream) -> Result<()> {
        self.touch("fill", &[(address, bytes)], stream)
    }

    fn load_module(&self, name: &str, ptx: &str) -> Result<Module> {
        self.captures.refuse_here("load a module")?;
        let header = Header::of(name, ptx, &self.device)?;
        self.loaded.fetch_add(1, Ordering::Relaxed);
        self.ptx_bytes.fetch_add(ptx.len() as u64, Ordering::Relaxed);
        Ok(Module(self.modules.insert(header)))
    }

    fn module_log(&self, module: Module) -> Result<String> {
        self.modules.get(module.0).map(|_| String::new())
    }

    fn unload_module(&self, module: Module) -> Result<()> {
        self.captures.refuse_here("unload a module")?;
        self.modules.remove(module.0)?;
        self.functions.remove_where(|kernel| kernel.module == module.0);
        Ok(())
    }

    fn function(&self, module: Module, name: &str) -> Result<Function> {
        let parameters = self.modules.get(module.0)?.parameters(name)?;
        let attributes = FunctionAttributes { max_threads: MAX_THREADS, ..Default::default() };
        let kernel = Entry::new(name, (), module.0, parameters, attributes);
        Ok(Function(self.functions.insert(kernel)))
    }

    /// Nothing of what only a compiler knows.
    fn attributes(&self, function: Function) -> Result<FunctionAttributes> {
        Ok(self.functions.get(function.0)?.attributes)
    }

    fn allow_shared(&self, function: Function, bytes: u32) -> Result<()> {
        self.functions.get(function.0)?.allow_shared(bytes, &self.device, |()| Ok(()))
    }

    fn launch(
        &self,
        function: Function,
        config: &LaunchConfig,
        arguments: &[Argument],
        stream: Stream,
    ) -> Result<()> {
        self.functions.get(function.0)?.check_launch(config, arguments)?;
        self.streams.get(stream.0)?;
        if self.captures.with(stream, |launches| *launches += 1).is_none() {
            self.launches.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn create_stream(&self, priority: Priority) -> Result<Stream> {
        Ok(Stream(self.streams.insert(priority)))
    }

    fn priority(&self, stream: Stream) -> Result<Priority> {
        Ok(*self.streams.get(stream.0)?)
    }

    fn destroy_stream(&self, stream: Stream) -> Result<()> {
        self.captures.refuse_on("destroy a stream", stream)?;
        self.streams.remove(stream.0).map(drop)
    }

    fn synchronize(&self, stream: Stream) -> Result<()> {
        self.captures.refuse_here("wait for a stream")?;
        self.captures.refuse_on("wait for a stream", stream)?;
        self.streams.get(stream.0).map(drop)
    }

    fn wait(&self, stream: Stream, event: EventId) -> Result<()> {
        self.captures.refuse_on("wait for an event", stream)?;
        self.recorded(event, "wait for an event")?;
        self.streams.get(stream.0).map(drop)
    }

    fn create_event(&self, timed: bool) -> Result<EventId> {
        Ok(EventId(self.events.insert(Counted { timed, recorded: AtomicBool::new(false) })))
    }

    fn destroy_event(&self, event: EventId) -> Result<()> {
        self.events.remove(event.0).map(drop)
    }

    fn record(&self, event: EventId, stream: Stream) -> Result<()> {
        self.captures.refuse_on("record an event", stream)?;
        self.streams.get(stream.0)?;
        self.events.get(event.0)?.recorded.store(true, Ordering::Release);
        Ok(())
    }

    fn synchronize_event(&self, event: EventId) -> Result<()> {
        self.captures.refuse_here("wait for an event")?;
        self.recorded(event, "wait for an event")
    }

    /// No time goes by.
    fn elapsed_ms(&self, start: EventId, end: EventId) -> Result<f32> {
        self.captures.refuse_here("wait for an event")?;
        for event in [start, end] {
            check_timed(self.events.get(event.0)?.timed)?;
            self.recorded(event, "measure between events")?;
        }
        Ok(0.0)
    }

    fn begin_capture(&self, stream: Stream) -> Result<()> {
        self.streams.get(stream.0)?;
        self.captures.begin(stream, 0)
    }

    fn end_capture(&self, stream: Stream) -> Result<Graph> {
        self.streams.get(stream.0)?;
        Ok(Graph(self.graphs.insert(self.captures.end(stream)?)))
    }

    fn launch_graph(&self, graph: Graph, stream: Stream) -> Result<()> {
        self.captures.refuse_on("launch a graph", stream)?;
        self.streams.get(stream.0)?;
        self.launches.fetch_add(*self.graphs.get(graph.0)?, Ordering::Relaxed);
        Ok(())
    }

    fn destroy_graph(&self, graph: Graph) -> Result<()> {
        self.graphs.remove(graph.0).map(drop)
    }
}
