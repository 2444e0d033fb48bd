//! The emulated driver: [`Driver`](super::Driver) over the PTX emulator. Work runs when it is queued, so a stream is in
//! order by itself and a recorded event is complete at once; a captured stream stores its work and a graph replays it.

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
    checked::{Checked, RawDriver},
    driver::*,
    host_block::HostBlock,
    table::lock,
};
use crate::{Error, Result};

/// The emulated device's product name.
const NAME: &str = "PTX emulator";
/// Most threads of a block where its kernel sets no limit.
const MAX_THREADS: u32 = 1024;
/// Allocations are rounded up to this many bytes.
const GRAIN: u64 = 256;

/// An emulated device, with the shared checks.
pub type Emulated = Checked<EmulatedDriver>;

/// The emulator's memory, and how it runs kernels.
#[derive(Debug)]
pub struct EmulatedDriver {
    device: DeviceInfo,
    memory: Arc<Memory>,
    run: ssmv_emulator::Options,
    /// Opened allocations by address, with the number of openings.
    opened: Mutex<HashMap<u64, Vec<Arc<Exported>>>>,
    keep_reports: usize,
    reports: Mutex<VecDeque<LaunchReport>>,
}

/// A kernel of a module.
#[derive(Debug)]
pub struct EmulatedKernel {
    name: String,
    module: Arc<ssmv_emulator::LoadedModule>,
}

/// A stream: the thread that holds its lock runs its work.
#[derive(Debug)]
pub struct EmulatedStream {
    order: Mutex<()>,
    priority: Priority,
    /// The work captured so far, while the stream is captured.
    captured: Mutex<Option<Vec<Work>>>,
}

/// Captured work, in its order.
#[derive(Debug)]
pub struct EmulatedGraph(Vec<Work>);

/// A piece of work in a stream.
#[derive(Debug)]
enum Work {
    Launch { kernel: Arc<EmulatedKernel>, config: LaunchConfig, arguments: Vec<Argument> },
    Copy { to: Address, from: Address, bytes: u64 },
    Fill { address: Address, value: u8, bytes: u64 },
    Poison { address: Address, bytes: u64 },
}

impl Emulated {
    /// The device information of [`Emulated::new`] with these options.
    pub fn describe(options: &EmulatorOptions) -> DeviceInfo {
        // The values of an A100 and an H100 ("Technical specifications per compute capability").
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

    /// A device with empty memory.
    pub fn new(options: &EmulatorOptions) -> Self {
        let tensor_core = if options.capability >= (9, 0) { TensorCore::Hopper } else { TensorCore::Ampere };
        Self::over(EmulatedDriver {
            device: Self::describe(options),
            memory: Arc::new(Memory::of_device(options.ordinal, length(options.memory))),
            run: ssmv_emulator::Options {
                checks: options.checks,
                tensor_core,
                approximation: options.approximation,
                budget: options.budget,
                ..Default::default()
            },
            opened: Mutex::default(),
            keep_reports: options.reports,
            reports: Mutex::default(),
        })
    }
}

impl EmulatedDriver {
    /// Runs work now, or stores it while the stream is captured.
    fn submit(&self, stream: &EmulatedStream, work: Work) -> Result<()> {
        if let Some(captured) = &mut *lock(&stream.captured) {
            captured.push(work);
            return Ok(());
        }
        let _in_order = lock(&stream.order);
        self.run(&work)
    }

    fn run(&self, work: &Work) -> Result<()> {
        match work {
            Work::Launch { kernel, config, arguments } => self.run_kernel(kernel, config, arguments),
            Work::Copy { to, from, bytes } => self.memory.copy(to.0, from.0, length(*bytes)).map_err(fault),
            Work::Fill { address, value, bytes } => {
                self.memory.fill(address.0, *value, length(*bytes)).map_err(fault)
            }
            Work::Poison { address, bytes } => {
                self.memory.mark_unwritten(address.0, length(*bytes)).map_err(fault)
            }
        }
    }

    fn run_kernel(
        &self,
        kernel: &EmulatedKernel,
        config: &LaunchConfig,
        arguments: &[Argument],
    ) -> Result<()> {
        let config =
            ssmv_emulator::LaunchConfig { grid: config.grid, block: config.block, shared: config.shared };
        let mut packed = ssmv_emulator::Arguments::new();
        for argument in arguments {
            let (bytes, length) = argument.bytes();
            packed.push_bytes(&bytes[..length]);
        }
        let (memory, module, name) = (&self.memory, &kernel.module, &kernel.name);
        let counts =
            ssmv_emulator::launch(memory, module, name, &config, &packed, &self.run).map_err(fault)?;
        let mut reports = lock(&self.reports);
        reports.push_back(LaunchReport { kernel: name.clone(), counts });
        while reports.len() > self.keep_reports {
            reports.pop_front();
        }
        Ok(())
    }
}

/// A length in host memory; the emulator refuses one that is too large.
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

impl RawDriver for EmulatedDriver {
    type Block = ();
    type PeerBlock = ();
    type Pinned = HostBlock;
    type Module = Arc<ssmv_emulator::LoadedModule>;
    type Function = Arc<EmulatedKernel>;
    type Stream = EmulatedStream;
    type Event = Arc<Moment>;
    type Graph = EmulatedGraph;

    const BACKEND: Backend = Backend::Emulated;
    const CHECKS_BOUNDS: bool = true;

    fn device(&self) -> &DeviceInfo {
        &self.device
    }

    fn memory(&self) -> Result<MemoryInfo> {
        let total = self.device.memory;
        Ok(MemoryInfo { free: total.saturating_sub(self.memory.used() as u64), total })
    }

    fn allocate(&self, bytes: u64) -> Result<(Address, ())> {
        let MemoryInfo { free, total } = self.memory()?;
        if bytes.div_ceil(GRAIN) > free / GRAIN {
            return Err(Error::out_of_memory(NAME, bytes, free, total));
        }
        let address = self.memory.alloc(length(bytes.max(1))).map_err(fault)?;
        Ok((Address(address), ()))
    }

    fn free(&self, address: Address, _: u64) -> Result<()> {
        self.refuse_opened(address)?;
        self.memory.free(address.0).map_err(fault)
    }

    fn allocate_pinned(&self, bytes: usize) -> Result<HostBlock> {
        HostBlock::new(bytes)
    }

    fn with_pinned(&self, memory: &HostBlock, body: &mut dyn FnMut(&mut [u8])) -> Result<()> {
        memory.with(|all| body(all));
        Ok(())
    }

    fn upload(&self, to: Address, from: &[u8], stream: &EmulatedStream) -> Result<()> {
        let _in_order = lock(&stream.order);
        self.memory.write(to.0, from).map_err(fault)
    }

    fn download(&self, to: &mut [u8], from: Address, stream: &EmulatedStream) -> Result<()> {
        let _in_order = lock(&stream.order);
        self.memory.read(from.0, to).map_err(fault)
    }

    fn upload_pinned(
        &self,
        to: Address,
        from: &HostBlock,
        bytes: usize,
        stream: &EmulatedStream,
    ) -> Result<()> {
        let _in_order = lock(&stream.order);
        from.with(|all| self.memory.write(to.0, &all[..bytes])).map_err(fault)
    }

    fn download_pinned(
        &self,
        to: &HostBlock,
        from: Address,
        bytes: usize,
        stream: &EmulatedStream,
    ) -> Result<()> {
        let _in_order = lock(&stream.order);
        to.with(|all| self.memory.read(from.0, &mut all[..bytes])).map_err(fault)
    }

    fn copy(&self, to: Address, from: Address, bytes: u64, stream: &EmulatedStream) -> Result<()> {
        self.submit(stream, Work::Copy { to, from, bytes })
    }

    fn fill(&self, address: Address, value: u8, bytes: u64, stream: &EmulatedStream) -> Result<()> {
        self.submit(stream, Work::Fill { address, value, bytes })
    }

    fn poison(&self, address: Address, bytes: u64, stream: &EmulatedStream) -> Result<()> {
        self.submit(stream, Work::Poison { address, bytes })
    }

    fn load_module(&self, name: &str, ptx: &str) -> Result<(Self::Module, String)> {
        let parsed = ssmv_emulator::Module::parse(name, ptx).map_err(|error| match error {
            ssmv_emulator::Error::Parse { line, message, .. } => Error::Ptx {
                kernel: name.to_owned(),
                code: "the emulator cannot read it".to_owned(),
                advice: "the line below is a defect of the kernel, or beyond the emulator",
                log: format!("line {line}: {message}"),
            },
            other => fault(other),
        })?;
        Ok((Arc::new(parsed.load(&self.memory).map_err(fault)?), String::new()))
    }

    fn unload_module(&self, module: Self::Module) -> Result<()> {
        // A captured graph may still launch its kernels, so the variables stay.
        Arc::try_unwrap(module).map_or(Ok(()), |module| module.unload(&self.memory).map_err(fault))
    }

    fn function(&self, module: &Self::Module, name: &str) -> Result<(Self::Function, FunctionAttributes)> {
        let info = module.kernels().find(|kernel| kernel.name == name);
        let info = info.ok_or_else(|| Error::misuse(name, "the module has no such kernel"))?;
        let attributes = FunctionAttributes {
            static_shared: info.static_shared,
            max_threads: info.max_threads.unwrap_or(MAX_THREADS),
            ..Default::default()
        };
        Ok((Arc::new(EmulatedKernel { name: name.to_owned(), module: module.clone() }), attributes))
    }

    fn launch(
        &self,
        kernel: &Self::Function,
        config: &LaunchConfig,
        arguments: &[Argument],
        stream: &EmulatedStream,
    ) -> Result<()> {
        let (kernel, arguments) = (kernel.clone(), arguments.to_vec());
        self.submit(stream, Work::Launch { kernel, config: *config, arguments })
    }

    fn create_stream(&self, priority: Priority) -> Result<EmulatedStream> {
        Ok(EmulatedStream { order: Mutex::default(), priority, captured: Mutex::default() })
    }

    fn priority(&self, stream: &EmulatedStream) -> Result<Priority> {
        Ok(stream.priority)
    }

    fn synchronize(&self, stream: &EmulatedStream) -> Result<()> {
        drop(lock(&stream.order));
        Ok(())
    }

    fn create_event(&self, _: bool) -> Result<Arc<Moment>> {
        Ok(Arc::default())
    }

    fn is_recorded(&self, event: &Arc<Moment>) -> bool {
        lock(&event.at).is_some()
    }

    fn record(&self, event: &Arc<Moment>, stream: &EmulatedStream) -> Result<()> {
        let _in_order = lock(&stream.order);
        *lock(&event.at) = Some(Instant::now());
        Ok(())
    }

    fn elapsed_ms(&self, start: &Arc<Moment>, end: &Arc<Moment>) -> Result<f32> {
        // Both may be one event, so only one lock is held at a time.
        let start = *lock(&start.at);
        let end = *lock(&end.at);
        let elapsed = start.zip(end).map(|(start, end)| end.saturating_duration_since(start));
        Ok(elapsed.unwrap_or_default().as_secs_f32() * 1e3)
    }

    fn export_memory(&self, address: Address, bytes: u64, (): &()) -> Result<MemoryHandle> {
        Ok(self.export_block(address, bytes))
    }

    fn open_memory(&self, handle: &MemoryHandle, bytes: u64) -> Result<(Address, ())> {
        Ok((self.open_block(handle, bytes)?, ()))
    }

    fn close_memory(&self, address: Address) -> Result<bool> {
        self.close_block(address)
    }

    fn create_shared_event(&self) -> Result<Arc<Moment>> {
        Ok(Arc::new(Moment { shared: true, ..Moment::default() }))
    }

    fn export_event(&self, event: &Arc<Moment>) -> Result<EventHandle> {
        exports::export_moment(event)
    }

    fn open_event(&self, handle: &EventHandle) -> Result<Arc<Moment>> {
        exports::open_moment(handle)
    }

    fn begin_capture(&self, stream: &EmulatedStream) -> Result<()> {
        *lock(&stream.captured) = Some(Vec::new());
        Ok(())
    }

    fn end_capture(&self, stream: &EmulatedStream) -> Result<EmulatedGraph> {
        Ok(EmulatedGraph(lock(&stream.captured).take().unwrap_or_default()))
    }

    fn launch_graph(&self, graph: &EmulatedGraph, stream: &EmulatedStream) -> Result<()> {
        let _in_order = lock(&stream.order);
        graph.0.iter().try_for_each(|work| self.run(work))
    }

    fn take_reports(&self) -> Vec<LaunchReport> {
        lock(&self.reports).drain(..).collect()
    }
}
