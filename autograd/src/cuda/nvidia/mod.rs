//! NVIDIA's driver: libcuda, opened at run time, so that one program runs with and without it.

mod api;
mod failure;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use super::{
    checked::{Checked, RawDriver},
    driver::*,
};
use crate::{Error, Result};

/// The oldest compute capability that the kernels support: A100.
const OLDEST_DEVICE: (u32, u32) = (8, 0);

/// All devices of the NVIDIA driver, including those that this program cannot use.
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

/// An open GPU, with the shared checks.
pub type Nvidia = Checked<NvidiaDriver>;

/// The libcuda calls for one GPU.
#[derive(Debug)]
pub struct NvidiaDriver {
    device: DeviceInfo,
    context: Arc<api::Context>,
}

/// An event, and whether it was recorded.
#[derive(Debug)]
pub struct RecordedEvent {
    object: api::Event,
    recorded: AtomicBool,
}

impl RecordedEvent {
    fn new(object: api::Event, recorded: bool) -> Self {
        Self { object, recorded: AtomicBool::new(recorded) }
    }
}

impl Nvidia {
    /// Opens GPU `ordinal`.
    ///
    /// # Errors
    /// [`Error::NoDevice`] without a driver, without such a device, or if the kernels do not support it.
    pub fn open(ordinal: u32) -> Result<Self> {
        let version = initialise()?;
        let count = api::device_count()?;
        if ordinal >= count {
            let message = match count {
                0 => "the NVIDIA driver sees no device; use --device cpu or --device emulator".to_owned(),
                1 => format!("device {ordinal} does not exist; this machine has only device 0"),
                n => format!("device {ordinal} does not exist; this machine has devices 0 to {}", n - 1),
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
        Ok(Self::over(NvidiaDriver { device, context: api::Context::open(ordinal)? }))
    }
}

impl RawDriver for NvidiaDriver {
    type Block = api::Block;
    type PeerBlock = api::PeerBlock;
    type Pinned = api::PinnedBlock;
    type Module = Arc<api::Module>;
    type Function = api::Function;
    type Stream = api::Stream;
    type Event = RecordedEvent;
    type Graph = api::Graph;

    const BACKEND: Backend = Backend::Nvidia;
    const CHECKS_BOUNDS: bool = false;

    fn device(&self) -> &DeviceInfo {
        &self.device
    }

    fn memory(&self) -> Result<MemoryInfo> {
        self.context.memory()
    }

    fn allocate(&self, bytes: u64) -> Result<(Address, api::Block)> {
        match api::Block::allocate(&self.context, bytes.max(1))? {
            Ok(block) => Ok((Address(block.address()), block)),
            Err(api::CUDA_ERROR_OUT_OF_MEMORY) => {
                let MemoryInfo { free, total } = self.memory()?;
                Err(Error::out_of_memory(&self.device.name, bytes, free, total))
            }
            Err(code) => {
                failure::check(code, || format!("allocate {bytes} bytes"))?;
                Err(Error::misuse("allocate", "the driver gave no memory"))
            }
        }
    }

    fn allocate_pinned(&self, bytes: usize) -> Result<api::PinnedBlock> {
        api::PinnedBlock::allocate(&self.context, bytes)
    }

    fn with_pinned(&self, memory: &api::PinnedBlock, body: &mut dyn FnMut(&mut [u8])) -> Result<()> {
        memory.with(body)
    }

    fn upload(&self, to: Address, from: &[u8], stream: &api::Stream) -> Result<()> {
        stream.upload(to.0, from)
    }

    fn download(&self, to: &mut [u8], from: Address, stream: &api::Stream) -> Result<()> {
        stream.download(to, from.0)
    }

    fn upload_pinned(
        &self,
        to: Address,
        from: &api::PinnedBlock,
        bytes: usize,
        stream: &api::Stream,
    ) -> Result<()> {
        stream.upload_pinned(to.0, from, bytes)
    }

    fn download_pinned(
        &self,
        to: &api::PinnedBlock,
        from: Address,
        bytes: usize,
        stream: &api::Stream,
    ) -> Result<()> {
        stream.download_pinned(to, from.0, bytes)
    }

    fn copy(&self, to: Address, from: Address, bytes: u64, stream: &api::Stream) -> Result<()> {
        stream.copy(to.0, from.0, bytes as usize)
    }

    fn fill(&self, address: Address, value: u8, bytes: u64, stream: &api::Stream) -> Result<()> {
        stream.fill(address.0, value, bytes as usize)
    }

    fn load_module(&self, name: &str, ptx: &str) -> Result<(Arc<api::Module>, String)> {
        let (object, log) = api::Module::load(&self.context, name, ptx)?;
        Ok((Arc::new(object), log))
    }

    fn function(&self, module: &Arc<api::Module>, name: &str) -> Result<(api::Function, FunctionAttributes)> {
        let object = api::Function::of(module, name)?;
        let attributes = object.attributes()?;
        Ok((object, attributes))
    }

    fn allow_shared(&self, function: &api::Function, bytes: u32) -> Result<()> {
        function.allow_shared(bytes)
    }

    fn launch(
        &self,
        function: &api::Function,
        config: &LaunchConfig,
        arguments: &[Argument],
        stream: &api::Stream,
    ) -> Result<()> {
        function.launch(config, arguments, stream)
    }

    fn create_stream(&self, priority: Priority) -> Result<api::Stream> {
        api::Stream::create(&self.context, priority)
    }

    fn priority(&self, stream: &api::Stream) -> Result<Priority> {
        stream.priority()
    }

    fn synchronize(&self, stream: &api::Stream) -> Result<()> {
        stream.synchronize()
    }

    fn native_stream(&self, stream: &api::Stream) -> Result<Option<u64>> {
        stream.native().map(Some)
    }

    fn wait(&self, stream: &api::Stream, event: &RecordedEvent) -> Result<()> {
        stream.wait(&event.object)
    }

    fn create_event(&self, timed: bool) -> Result<RecordedEvent> {
        Ok(RecordedEvent::new(api::Event::create(&self.context, timed)?, false))
    }

    fn is_recorded(&self, event: &RecordedEvent) -> bool {
        event.recorded.load(Ordering::Acquire)
    }

    fn record(&self, event: &RecordedEvent, stream: &api::Stream) -> Result<()> {
        event.object.record(stream)?;
        event.recorded.store(true, Ordering::Release);
        Ok(())
    }

    fn synchronize_event(&self, event: &RecordedEvent) -> Result<()> {
        event.object.synchronize()
    }

    fn query_event(&self, event: &RecordedEvent) -> Result<bool> {
        event.object.query()
    }

    fn elapsed_ms(&self, start: &RecordedEvent, end: &RecordedEvent) -> Result<f32> {
        start.object.synchronize()?;
        end.object.synchronize()?;
        start.object.elapsed_ms(&end.object)
    }

    fn export_memory(&self, _: Address, _: u64, block: &api::Block) -> Result<MemoryHandle> {
        block.export()
    }

    fn open_memory(&self, handle: &MemoryHandle, _: u64) -> Result<(Address, api::PeerBlock)> {
        let block = api::PeerBlock::open(&self.context, handle)?;
        Ok((Address(block.address()), block))
    }

    fn close_memory(&self, _: Address) -> Result<bool> {
        self.context.synchronize().map(|()| true)
    }

    fn create_shared_event(&self) -> Result<RecordedEvent> {
        Ok(RecordedEvent::new(api::Event::create_shared(&self.context)?, false))
    }

    fn export_event(&self, event: &RecordedEvent) -> Result<EventHandle> {
        event.object.export()
    }

    fn open_event(&self, handle: &EventHandle) -> Result<RecordedEvent> {
        // Only the process that owns the event can tell whether it was recorded.
        Ok(RecordedEvent::new(api::Event::open(&self.context, handle)?, true))
    }

    fn begin_capture(&self, stream: &api::Stream) -> Result<()> {
        stream.begin_capture()
    }

    fn end_capture(&self, stream: &api::Stream) -> Result<api::Graph> {
        stream.end_capture()
    }

    fn launch_graph(&self, graph: &api::Graph, stream: &api::Stream) -> Result<()> {
        stream.launch_graph(graph)
    }
}
