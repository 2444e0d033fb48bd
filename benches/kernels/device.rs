//! A case on a device: its buffers, its launches, and how long they take or what the emulator counts.

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use ssmv_autograd::{
    Result,
    cuda::{Argument, Cuda, DeviceBuffer, LoadedKernel},
};
use ssmv_emulator::Report;

use crate::cases::{Arg, Case, Content, Launch};

/// Bytes of the random block that larger buffers repeat.
const BLOCK: usize = 1 << 24;

/// At least as many bytes are written between two runs, and twice the L2 cache.
const FLUSH: u64 = 1 << 28;

/// Bytes that the bandwidth is measured by.
const COPY: usize = 1 << 30;

/// Kernels and buffers that are ready to be launched.
pub struct Ready {
    before: Vec<(LoadedKernel, Vec<Argument>)>,
    launches: Vec<(LoadedKernel, Vec<Argument>)>,
    /// Keeps the arguments' memory alive.
    _buffers: Vec<DeviceBuffer<u8>>,
}

impl Ready {
    /// Compiles the kernels and fills the buffers.
    pub fn new(cuda: &Cuda, case: &Case) -> Result<Self> {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let buffers: Vec<_> =
            case.buffers.iter().map(|content| fill(cuda, content, &mut rng)).collect::<Result<_>>()?;
        let load = |launch: &Launch| {
            let argument = |arg: &Arg| match *arg {
                Arg::Buffer(i) => Argument::from(&buffers[i]),
                Arg::F32(x) => x.into(),
            };
            Ok((cuda.load(&launch.kernel)?, launch.args.iter().map(argument).collect()))
        };
        let before = case.before.iter().map(load).collect::<Result<_>>()?;
        let launches = case.launches.iter().map(load).collect::<Result<_>>()?;
        Ok(Self { before, launches, _buffers: buffers })
    }

    fn prepare(&self, cuda: &Cuda) -> Result<()> {
        self.before.iter().try_for_each(|(kernel, arguments)| cuda.launch(kernel, arguments))
    }

    fn launch(&self, cuda: &Cuda) -> Result<()> {
        self.launches.iter().try_for_each(|(kernel, arguments)| cuda.launch(kernel, arguments))
    }

    /// The median of `runs` runs in seconds, by events, with a cold L2 cache.
    pub fn seconds(&self, cuda: &Cuda, flush: &mut Flush, runs: usize) -> Result<f64> {
        self.prepare(cuda)?;
        median(cuda, flush, runs, || self.launch(cuda))
    }

    /// What the emulator counts in one run.
    pub fn counts(&self, cuda: &Cuda) -> Result<Report> {
        self.prepare(cuda)?;
        cuda.driver().take_reports();
        self.launch(cuda)?;
        cuda.synchronize()?;
        let mut sum = Report::default();
        cuda.driver().take_reports().iter().for_each(|report| sum += &report.counts);
        Ok(sum)
    }
}

/// A buffer that is larger than the L2 cache.
pub struct Flush(DeviceBuffer<u8>);

impl Flush {
    /// Twice the cache, and 256 MiB at least.
    pub fn new(cuda: &Cuda) -> Result<Self> {
        Ok(Self(cuda.uninit((2 * cuda.device().l2_bytes).max(FLUSH) as usize)?))
    }
}

/// Runs `body` three times to warm up and then `runs` times, each behind a write of the flush buffer, and gives the median
/// in seconds. The write takes longer than a launch, so that the launches wait on the device and not for the host.
fn median(cuda: &Cuda, flush: &mut Flush, runs: usize, body: impl Fn() -> Result<()>) -> Result<f64> {
    let (start, end) = (cuda.timed_event()?, cuda.timed_event()?);
    let mut times = Vec::new();
    for run in 0..runs + 3 {
        flush.0.clear()?;
        start.record()?;
        body()?;
        end.record()?;
        end.synchronize()?;
        if run >= 3 {
            times.push(f64::from(end.elapsed_ms(&start)?) / 1e3);
        }
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

/// Bytes a second, read and written, of a copy within the device of 1 GiB.
pub fn copy_bandwidth(cuda: &Cuda, flush: &mut Flush, runs: usize) -> Result<f64> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let from = fill(cuda, &Content::Bytes(COPY as u64), &mut rng)?;
    let to: DeviceBuffer<u8> = cuda.uninit(COPY)?;
    let (driver, stream) = (cuda.driver(), cuda.compute_stream());
    let seconds =
        median(cuda, flush, runs, || driver.copy(to.address(), from.address(), COPY as u64, stream))?;
    Ok(2.0 * COPY as f64 / seconds)
}

/// A buffer with its content: random values are drawn for a block and repeated.
fn fill(cuda: &Cuda, content: &Content, rng: &mut ChaCha8Rng) -> Result<DeviceBuffer<u8>> {
    let bytes = match content {
        Content::Halves(n) => 2 * n,
        Content::Singles(n) | Content::Positive(n) => 4 * n,
        Content::Bytes(n) | Content::Stale(n) => *n,
        Content::Exactly(bytes) => return cuda.copy_of(bytes),
    } as usize;
    let buffer: DeviceBuffer<u8> = cuda.uninit(bytes)?;
    if matches!(content, Content::Stale(_)) {
        return Ok(buffer);
    }
    let block = random_block(content, bytes.min(BLOCK), rng);
    let (driver, stream) = (cuda.driver(), cuda.compute_stream());
    driver.upload(buffer.address(), &block, stream)?;
    for at in (block.len()..bytes).step_by(BLOCK) {
        let len = block.len().min(bytes - at) as u64;
        driver.copy(buffer.address_of(at)?, buffer.address(), len, stream)?;
    }
    Ok(buffer)
}

fn random_block(content: &Content, len: usize, rng: &mut ChaCha8Rng) -> Vec<u8> {
    let mut block = vec![0u8; len];
    match content {
        Content::Halves(_) => {
            for chunk in block.chunks_exact_mut(2) {
                chunk.copy_from_slice(&half::f16::from_f32(rng.random_range(-1.0f32..1.0)).to_le_bytes());
            }
        }
        Content::Singles(_) | Content::Positive(_) => {
            let low = if matches!(content, Content::Positive(_)) { 0.0f32 } else { -1.0 };
            for chunk in block.chunks_exact_mut(4) {
                chunk.copy_from_slice(&rng.random_range(low..1.0).to_le_bytes());
            }
        }
        _ => rng.fill_bytes(&mut block),
    }
    block
}
