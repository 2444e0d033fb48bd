//! Measures a step on a device.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use ssmv_autograd::cuda::{Backend, Cuda, DeviceBuffer, Event, LoadedKernel};
use ssmv_kernels::Work;

use super::{Measured, PhaseTime, Rates, batches, median, medians};
use crate::{
    Result,
    config::TrainConfig,
    data::Batch,
    train::{
        StepFigures,
        backend::Source,
        gpu::{Gpu, compile},
        phase::Phase,
        step_memory,
        trainer::Trainer,
    },
};

/// Number of steps before the first that is timed: those before the capture, the capture, and one more.
const WARM_UP: usize = 4;
/// Most steps to wait for the loss scale to settle; after them, overflows are measured too, and reported.
const MOST_WARM_UP: usize = 24;
/// Size in bytes of a copy that keeps the device busy while the host launches, and the most copies.
const BUSY: usize = 1 << 29;
const MOST_COPIES: usize = 200;

/// A training that repeats the same few batches.
struct Steps {
    trainer: Trainer<Gpu>,
    batches: Vec<Batch>,
    taken: usize,
}

impl Steps {
    /// Runs a step; returns the figures of the one before.
    fn take(&mut self) -> Result<Vec<StepFigures>> {
        let batch = &self.batches[self.taken % self.batches.len()];
        self.taken += 1;
        self.trainer.step(&mut |read| read(batch))
    }
}

/// The number of measurements.
#[derive(Clone, Copy)]
pub(super) struct Extent {
    pub steps: usize,
    pub rounds: usize,
    /// Whether the device is so slow that it need not be kept busy while the host launches.
    pub small: bool,
}

/// Measures rounds of captured steps, then as many steps as a round has, phase by phase.
pub(super) fn measure(config: &TrainConfig, cuda: &Cuda, rates: Rates, extent: Extent) -> Result<Measured> {
    let Extent { steps, rounds, .. } = extent;
    let free = cuda.driver().memory()?.free;
    let source = Source::made_digits(config);
    compile(config, source, cuda, &mut |_, _| {})?;
    let trainer = Trainer::on_gpu(config, source, cuda)?;
    let mut run = Steps { trainer, batches: batches(source), taken: 0 };
    for step in 0..MOST_WARM_UP {
        let settled = run.take()?.last().is_some_and(|figures| !figures.skipped);
        if settled && step >= WARM_UP {
            break;
        }
    }
    run.trainer.settle()?;
    let (mut times, mut figures) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        cuda.synchronize()?;
        let start = Instant::now();
        for _ in 0..steps {
            figures.extend(run.take()?);
        }
        cuda.synchronize()?;
        times.push(start.elapsed().as_secs_f64() / steps as f64);
    }
    figures.extend(run.trainer.settle()?);
    let seconds = median(times);
    let peak_bytes = cuda.memory_report().peak_held;
    let device_bytes = free.saturating_sub(cuda.driver().memory()?.free);
    let phases = phases(&mut run, cuda, rates, extent)?;
    let device = cuda.device();
    let driver = match cuda.driver().backend() {
        Backend::Nvidia => format!("CUDA {}.{}", device.driver.0, device.driver.1),
        _ => "emulator".to_owned(),
    };
    let endless = ssmv_autograd::cuda::DeviceInfo { memory: u64::MAX / 4, ..device.clone() };
    Ok(Measured {
        preset: config.preset.clone(),
        batch_size: config.batch_size,
        frames_in: config.frames_in,
        frames_out: config.frames_out,
        size: config.size,
        precision: config.precision,
        device: device.name.clone(),
        driver,
        seconds,
        samples_per_second: config.batch_size as f64 / seconds,
        steps,
        rounds,
        skipped: figures.iter().filter(|figures| figures.skipped).count(),
        peak_bytes,
        device_bytes: Some(device_bytes),
        predicted_bytes: Some(step_memory(config, endless)?.peak_bytes),
        rates: Some(rates),
        phases,
        operators: Vec::new(),
        processor: None,
    })
}

/// A phase whose work is queued.
struct Ended {
    phase: Phase,
    event: Event,
    launched: Vec<LoadedKernel>,
}

/// Measures the phases of `steps` steps without a graph.
fn phases(run: &mut Steps, cuda: &Cuda, rates: Rates, extent: Extent) -> Result<Vec<PhaseTime>> {
    let ends = Arc::new(Mutex::new(Vec::new()));
    let (sink, device) = (Arc::clone(&ends), cuda.clone());
    run.trainer.backend.listen(Arc::new(move |phase| {
        let event = device.timed_event()?;
        event.record()?;
        let ended = Ended { phase, event, launched: device.take_launched() };
        sink.lock().unwrap_or_else(PoisonError::into_inner).push(ended);
        Ok(())
    }));
    let take_ends = || std::mem::take(&mut *ends.lock().unwrap_or_else(PoisonError::into_inner));
    cuda.keep_launched(true);
    run.take()?;
    cuda.synchronize()?;
    let start = Instant::now();
    run.take()?;
    let mut busy =
        if extent.small { Busy(None) } else { Busy::new(cuda, rates, start.elapsed().as_secs_f64())? };
    let (mut by_phase, mut last) = (Vec::new(), Vec::new());
    let first = cuda.timed_event()?;
    for _ in 0..extent.steps {
        cuda.synchronize()?;
        take_ends();
        cuda.take_launched();
        busy.keep()?;
        first.record()?;
        run.take()?;
        cuda.synchronize()?;
        last = take_ends();
        let starts = std::iter::once(&first).chain(last.iter().map(|ended| &ended.event));
        let times = last
            .iter()
            .zip(starts)
            .map(|(ended, start)| Ok((ended.phase, f64::from(ended.event.elapsed_ms(start)?) / 1e3)));
        by_phase.push(times.collect::<Result<Vec<_>>>()?);
    }
    cuda.keep_launched(false);
    run.trainer.settle()?;
    let phase = |(phase, seconds): (Phase, f64)| {
        let ended = last.iter().filter(|ended| ended.phase == phase);
        let work: Vec<Work> = ended.flat_map(|ended| &ended.launched).map(LoadedKernel::work).collect();
        PhaseTime {
            name: phase.name(),
            seconds,
            launches: work.len(),
            bytes: work.iter().map(|work| work.bytes).sum(),
            operations: work.iter().map(|work| work.operations).sum(),
            floor_seconds: Some(work.iter().map(|work| rates.floor(*work)).sum()),
        }
    };
    Ok(medians(&by_phase).into_iter().map(phase).collect())
}

/// Copies that keep a GPU busy until the host has launched a whole step. Then the step's launches are queued before the
/// device reaches them, and its events do not measure the host.
struct Busy(Option<(DeviceBuffer<u8>, DeviceBuffer<u8>, usize)>);

impl Busy {
    /// Enough copies for a step that the host launches in `seconds`.
    fn new(cuda: &Cuda, rates: Rates, seconds: f64) -> Result<Self> {
        let room = usize::try_from(cuda.driver().memory()?.free / 4).unwrap_or(usize::MAX);
        let bytes = BUSY.min(room).max(1);
        let copies = 2.0 * seconds * rates.bytes_per_second / (2 * bytes) as f64;
        Ok(Self(Some((cuda.zeros(bytes)?, cuda.uninit(bytes)?, (copies.ceil() as usize).min(MOST_COPIES)))))
    }

    fn keep(&mut self) -> Result<()> {
        if let Self(Some((from, to, copies))) = self {
            (0..*copies).try_for_each(|_| to.copy_from(from))?;
        }
        Ok(())
    }
}
