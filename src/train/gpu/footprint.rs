//! What training takes of a device's memory, found without the device: the steps of the real trainer, taken on a driver that
//! gives out addresses and runs nothing.

use std::sync::Arc;

use serde::Serialize;
use ssmv_autograd::{
    DType, Tensor,
    cuda::{Counting, Counts, Cuda, DeviceInfo},
};

use ssmv_kernels::Kernel;

use super::{Gpu, WARM_UP, inputs};
use crate::{
    Error, Result,
    config::TrainConfig,
    data::Batch,
    model::{CHANNELS, Predictor},
    train::{
        backend::{Backend, Source},
        snapshot::Snapshot,
    },
};

/// A part of the memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MemoryPart {
    /// Name of the part, such as `gradients, f32`.
    pub name: &'static str,
    /// Size in bytes, without alignment.
    pub bytes: u64,
}

/// The memory of a training on a device. What kernels' code and the driver's own context take is not in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StepMemory {
    /// The device that was counted for.
    pub device: String,
    /// Sequences in a batch.
    pub batch_size: usize,
    /// What a step takes at its peak, part by part.
    pub parts: Vec<MemoryPart>,
    /// Their sum: what the device has given out when a step has been captured and run.
    pub peak_bytes: u64,
    /// The most that the step's own buffers hold at once, and the most that the pool holds for them.
    pub pool_in_use_bytes: u64,
    /// The pool's blocks, in use and waiting.
    pub pool_held_bytes: u64,
    /// What is given out when the model has been evaluated as well.
    pub evaluation_peak_bytes: u64,
    /// Different kernels of the step and the evaluation.
    pub kernels: u64,
    /// Launches of a step.
    pub launches: u64,
}

/// Counts what a training as `config` says takes on a device like `device`, whose `memory` is all free.
///
/// # Errors
/// [`ssmv_autograd::Error::OutOfMemory`] where it does not fit, and all that a training refuses.
pub fn step_memory(config: &TrainConfig, device: DeviceInfo) -> Result<StepMemory> {
    let driver = Arc::new(Counting::new(device));
    let cuda = Cuda::over(driver.clone())?;
    let mut gpu = black(config, Source::made_digits(config), &cuda)?;
    let at_rest = cuda.memory_report();
    let mut before = Counts::default();
    // One to be captured, and one to replay it.
    for _ in 0..WARM_UP + 2 {
        before = driver.counts();
        gpu.step_on_black()?;
    }
    // What trains launch by launch alone does not fit.
    gpu.uncaptured.take().map_or(Ok(()), Err)?;
    let (report, after) = (cuda.memory_report(), driver.counts());
    let mut parts = gpu.parts()?;
    let known: u64 = parts.iter().map(|part| part.bytes).sum();
    let in_step = report.peak_in_use - at_rest.in_use;
    let of_step = [
        ("activations and their gradients", in_step - report.peak_workspace),
        ("kernels' workspace", report.peak_workspace),
        ("sizes rounded up, blocks between uses", after.peak - known - in_step),
    ];
    parts.extend(of_step.map(|(name, bytes)| MemoryPart { name, bytes }));
    gpu.evaluate_once(config.batch_size.min(config.eval_sequences))?;
    Ok(StepMemory {
        device: cuda.device().name.clone(),
        batch_size: config.batch_size,
        parts,
        peak_bytes: after.peak,
        pool_in_use_bytes: report.peak_in_use,
        pool_held_bytes: report.peak_held,
        evaluation_peak_bytes: driver.counts().peak,
        kernels: driver.counts().modules,
        launches: after.launches - before.launches,
    })
}

/// The kernels of a training step as `config` says, and of an evaluation's batch, on a device like `device` with memory
/// without end.
///
/// # Errors
/// What stops a training for another reason than memory.
pub fn step_kernels(config: &TrainConfig, device: &DeviceInfo) -> Result<Vec<Kernel>> {
    kernels_on(config, Source::made_digits(config), device)
}

/// The same for batches from `source`.
pub(super) fn kernels_on(config: &TrainConfig, source: Source, device: &DeviceInfo) -> Result<Vec<Kernel>> {
    let endless = DeviceInfo { memory: u64::MAX / 4, ..device.clone() };
    let cuda = Cuda::over(Arc::new(Counting::new(endless)))?;
    let mut gpu = black(config, source, &cuda)?;
    gpu.step_on_black()?;
    gpu.evaluate_once(config.batch_size.min(config.eval_sequences))?;
    Ok(cuda.kernels())
}

/// The state of a training whose model is all zero: nothing is computed from it.
fn black(config: &TrainConfig, source: Source, cuda: &Cuda) -> Result<Gpu> {
    Gpu::of(Snapshot::of(config, Predictor::zeros(&config.model()?, DType::F32)?)?, config, source, cuda)
}

/// The largest batch, below that of `config`, whose training fits a device like `device`; `None` where not even one
/// sequence does. Memory grows with the batch in a straight line but for what is rounded up, so the answer is found between
/// two batches that are counted, and counted itself.
///
/// # Errors
/// What stops a training for another reason than memory.
pub fn largest_batch(config: &TrainConfig, device: &DeviceInfo) -> Result<Option<usize>> {
    let count = |batch_size: usize, memory: u64| {
        let config = TrainConfig { batch_size, ..config.clone() };
        let device = DeviceInfo { memory, ..device.clone() };
        match step_memory(&config, device) {
            Ok(counted) => Ok(Some(counted.peak_bytes.max(counted.evaluation_peak_bytes))),
            Err(Error::Tensor(ssmv_autograd::Error::OutOfMemory { .. })) => Ok(None),
            Err(error) => Err(error),
        }
    };
    let most = config.batch_size.saturating_sub(1);
    let (low, high) = ((most / 4).max(1), (most / 2).max(1));
    let everything = u64::MAX / 4;
    let (Some(at_low), Some(at_high)) = (count(low, everything)?, count(high, everything)?) else {
        return Ok(None);
    };
    let slope = (at_high.saturating_sub(at_low) / (high - low).max(1) as u64).max(1);
    let beyond = device.memory.saturating_sub(at_low) / slope;
    let mut batch = match device.memory >= at_low {
        true => low.saturating_add(usize::try_from(beyond).unwrap_or(usize::MAX)).min(most),
        false => low.min(most),
    };
    while batch > 0 && count(batch, device.memory)?.is_none() {
        batch -= (batch / 16).max(1);
    }
    Ok((batch > 0).then_some(batch))
}

impl Gpu {
    /// Takes a step on black frames.
    fn step_on_black(&mut self) -> Result<()> {
        let source = self.source;
        self.feed(self.step, 0.0, &mut |read| {
            let frames = vec![0; source.batch_bytes()];
            read(&Batch { epoch: 0, index: 0, batch: source.batch, frames })
        })?;
        self.compute()
    }

    /// What stays where it is from step to step.
    fn parts(&mut self) -> Result<Vec<MemoryPart>> {
        let [masters, halves] = self.model.arena.memories()?;
        let bytes =
            |memory: &ssmv_autograd::cuda::DeviceMemory| (memory.len() * memory.dtype().bytes()) as u64;
        let mut parts = vec![
            ("parameters, f32", bytes(masters)),
            ("parameters, f16 copy", bytes(halves)),
            ("gradients, f32", bytes(self.gradients.memory()?)),
            ("moments, f32", self.optimiser.moments.iter().map(bytes).sum()),
        ];
        parts
            .extend(self.ema.as_ref().map(|average| ("running mean of the parameters, f32", bytes(average))));
        parts.push(("input", inputs::bytes(self.source)));
        Ok(parts.into_iter().map(|(name, bytes)| MemoryPart { name, bytes }).collect())
    }

    /// A batch through the model as an evaluation takes it.
    fn evaluate_once(&mut self, batch: usize) -> Result<()> {
        let Source { seen, side, .. } = self.source;
        let frames = Tensor::zeros([batch.max(1), seen, side, side, CHANNELS], DType::F32)?;
        self.with_final_weights(&mut |model| model.predict(&frames).map(drop))
    }
}

#[cfg(test)]
mod tests {
    use ssmv_autograd::cuda::{Emulated, EmulatorOptions};

    use super::*;

    fn config() -> TrainConfig {
        let nano = TrainConfig::preset("nano").unwrap();
        TrainConfig { batch_size: 2, frames_in: 3, eval_sequences: 2, ..nano }
    }

    #[test]
    fn what_is_counted_is_what_the_emulated_device_holds() {
        let config = config();
        let options = EmulatorOptions { checks: ssmv_emulator::Checks::NONE, ..EmulatorOptions::default() };
        let cuda = Cuda::over(Arc::new(Emulated::new(&options))).unwrap();
        let source = Source::made_digits(&config);
        let mut gpu = Gpu::new(&config, source, &cuda).unwrap();
        for step in 0..u64::from(WARM_UP) + 1 {
            let frames = (0..source.batch_bytes()).map(|i| (i as u64 * 31 + step) as u8).collect();
            let batch = Batch { epoch: 0, index: 0, batch: source.batch, frames };
            gpu.feed(step, config.lr, &mut |read| read(&batch)).unwrap();
            gpu.compute().unwrap();
        }
        let held = cuda.memory_report();
        let counted = step_memory(&config, Counting::describe()).unwrap();
        for (what, counted, held) in [
            ("in use", counted.pool_in_use_bytes, held.peak_in_use),
            ("held", counted.pool_held_bytes, held.peak_held),
        ] {
            let ratio = counted as f64 / held as f64;
            assert!((0.9..1.1).contains(&ratio), "{what}: {counted} counted, {held} on the emulator");
        }
    }

    #[test]
    fn the_parts_add_up_and_grow_with_the_batch() {
        let one = step_memory(&config(), Counting::describe()).unwrap();
        let four = step_memory(&TrainConfig { batch_size: 8, ..config() }, Counting::describe()).unwrap();
        for memory in [&one, &four] {
            assert_eq!(memory.parts.iter().map(|part| part.bytes).sum::<u64>(), memory.peak_bytes);
            assert!(memory.evaluation_peak_bytes >= memory.peak_bytes && memory.launches > 100);
        }
        let part = |memory: &StepMemory, name| memory.parts.iter().find(|p| p.name == name).unwrap().bytes;
        for (name, grows) in [("gradients, f32", 1), ("activations and their gradients", 4)] {
            let ratio = part(&four, name) as f64 / part(&one, name) as f64;
            assert!((ratio / f64::from(grows) - 1.0).abs() < 0.1, "{name} grows {ratio} times");
        }
    }

    #[test]
    fn the_largest_batch_fits_and_the_next_ones_do_not() {
        let config = TrainConfig { batch_size: 512, ..config() };
        let device = DeviceInfo { memory: 24 << 20, ..Counting::describe() };
        let batch = largest_batch(&config, &device).unwrap().unwrap();
        let fits = |batch_size| step_memory(&TrainConfig { batch_size, ..config.clone() }, device.clone());
        fits(batch).unwrap();
        let error = fits(batch + batch / 8 + 1).unwrap_err();
        assert!(matches!(error, Error::Tensor(ssmv_autograd::Error::OutOfMemory { .. })), "{error}");
        let none = DeviceInfo { memory: 2 << 20, ..device.clone() };
        assert_eq!(largest_batch(&config, &none).unwrap(), None);
    }
}
