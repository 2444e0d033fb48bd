//! The counting driver: a device that allocates addresses, counts bytes and runs nothing. It measures the GPU memory of
//! a step without a GPU.

mod blocks;

use std::sync::{
    Mutex,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use self::blocks::Blocks;
use super::{
    checked::{Checked, RawDriver},
    driver::*,
    host_block::HostBlock,
    table::lock,
};
use crate::{Error, Result};

/// Most threads of a block where its kernel sets no limit.
const MAX_THREADS: u32 = 1024;

/// Launches, modules and bytes counted so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Bytes of device memory allocated, in whole pages.
    pub used: u64,
    /// The most bytes allocated at once.
    pub peak: u64,
    /// Number of modules loaded.
    pub modules: u64,
    /// Size of their PTX in bytes.
    pub ptx_bytes: u64,
    /// Number of kernels launched; a graph's count at each of its launches.
    pub launches: u64,
}

/// A device that counts. Its memory has no contents: reads return zero.
pub type Counting = Checked<CountingDriver>;

/// The counters of one device.
#[derive(Debug)]
pub struct CountingDriver {
    device: DeviceInfo,
    blocks: Mutex<Blocks>,
    modules: AtomicU64,
    ptx_bytes: AtomicU64,
    launches: AtomicU64,
}

/// A stream: its priority, and the launches of its capture if it is captured.
#[derive(Debug)]
pub struct CountingStream {
    priority: Priority,
    captured: Mutex<Option<u64>>,
}

impl Counting {
    /// A device as `device` describes it; requests beyond its `memory` are refused as on a GPU.
    pub fn new(device: DeviceInfo) -> Self {
        let blocks = Mutex::new(Blocks::new(device.memory));
        let [modules, ptx_bytes, launches] = [0; 3].map(AtomicU64::new);
        Self::over(CountingDriver { device, blocks, modules, ptx_bytes, launches })
    }

    /// An H100 of 80 GB: the default device to count on.
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

    /// The counts so far.
    pub fn counts(&self) -> Counts {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (used, peak) = lock(&self.raw.blocks).used();
        Counts {
            used,
            peak,
            modules: count(&self.raw.modules),
            ptx_bytes: count(&self.raw.ptx_bytes),
            launches: count(&self.raw.launches),
        }
    }
}

impl RawDriver for CountingDriver {
    type Block = ();
    type PeerBlock = ();
    type Pinned = HostBlock;
    type Module = ();
    type Function = ();
    type Stream = CountingStream;
    type Event = AtomicBool;
    /// The number of its launches.
    type Graph = u64;

    const BACKEND: Backend = Backend::Counting;
    /// As on a GPU, the pool rounds sizes up.
    const CHECKS_BOUNDS: bool = false;

    fn device(&self) -> &DeviceInfo {
        &self.device
    }

    fn memory(&self) -> Result<MemoryInfo> {
        let total = self.device.memory;
        Ok(MemoryInfo { free: total.saturating_sub(lock(&self.blocks).used().0), total })
    }

    fn allocate(&self, bytes: u64) -> Result<(Address, ())> {
        if let Some(address) = lock(&self.blocks).take(bytes) {
            return Ok((address, ()));
        }
        let MemoryInfo { free, total } = self.memory()?;
        Err(Error::out_of_memory(&self.device.name, bytes, free, total))
    }

    fn free(&self, _: Address, bytes: u64) -> Result<()> {
        lock(&self.blocks).give(bytes);
        Ok(())
    }

    fn allocate_pinned(&self, bytes: usize) -> Result<HostBlock> {
        HostBlock::new(bytes)
    }

    fn with_pinned(&self, memory: &HostBlock, body: &mut dyn FnMut(&mut [u8])) -> Result<()> {
        memory.with(|all| body(all));
        Ok(())
    }

    fn upload(&self, _: Address, _: &[u8], _: &CountingStream) -> Result<()> {
        Ok(())
    }

    fn download(&self, to: &mut [u8], _: Address, _: &CountingStream) -> Result<()> {
        to.fill(0);
        Ok(())
    }

    fn upload_pinned(&self, _: Address, _: &HostBlock, _: usize, _: &CountingStream) -> Result<()> {
        Ok(())
    }

    fn download_pinned(&self, _: &HostBlock, _: Address, _: usize, _: &CountingStream) -> Result<()> {
        Ok(())
    }

    fn copy(&self, _: Address, _: Address, _: u64, _: &CountingStream) -> Result<()> {
        Ok(())
    }

    fn fill(&self, _: Address, _: u8, _: u64, _: &CountingStream) -> Result<()> {
        Ok(())
    }

    fn load_module(&self, _: &str, ptx: &str) -> Result<((), String)> {
        self.modules.fetch_add(1, Ordering::Relaxed);
        self.ptx_bytes.fetch_add(ptx.len() as u64, Ordering::Relaxed);
        Ok(((), String::new()))
    }

    /// Attributes that only a compiler can determine are 0.
    fn function(&self, (): &(), _: &str) -> Result<((), FunctionAttributes)> {
        Ok(((), FunctionAttributes { max_threads: MAX_THREADS, ..Default::default() }))
    }

    fn launch(&self, (): &(), _: &LaunchConfig, _: &[Argument], stream: &CountingStream) -> Result<()> {
        match &mut *lock(&stream.captured) {
            Some(launches) => *launches += 1,
            None => {
                self.launches.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    fn create_stream(&self, priority: Priority) -> Result<CountingStream> {
        Ok(CountingStream { priority, captured: Mutex::default() })
    }

    fn priority(&self, stream: &CountingStream) -> Result<Priority> {
        Ok(stream.priority)
    }

    fn synchronize(&self, _: &CountingStream) -> Result<()> {
        Ok(())
    }

    fn create_event(&self, _: bool) -> Result<AtomicBool> {
        Ok(AtomicBool::new(false))
    }

    fn is_recorded(&self, event: &AtomicBool) -> bool {
        event.load(Ordering::Acquire)
    }

    fn record(&self, event: &AtomicBool, _: &CountingStream) -> Result<()> {
        event.store(true, Ordering::Release);
        Ok(())
    }

    /// Always 0: no work runs, so none takes time.
    fn elapsed_ms(&self, _: &AtomicBool, _: &AtomicBool) -> Result<f32> {
        Ok(0.0)
    }

    fn begin_capture(&self, stream: &CountingStream) -> Result<()> {
        *lock(&stream.captured) = Some(0);
        Ok(())
    }

    fn end_capture(&self, stream: &CountingStream) -> Result<u64> {
        Ok(lock(&stream.captured).take().unwrap_or_default())
    }

    fn launch_graph(&self, launches: &u64, _: &CountingStream) -> Result<()> {
        self.launches.fetch_add(*launches, Ordering::Relaxed);
        Ok(())
    }
}
