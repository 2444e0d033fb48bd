//! The cost of a training step: the time of the step as a training runs it, then the time of each phase beside its
//! lower bound.
//!
//! The step's time is that of a real training: on a device with the captured graph, frames from pinned memory, and
//! figures that are read back a step late. The phases are timed by events between the launches of the same step without
//! a graph. The lower bound of a phase follows from each kernel's [`Work`](ssmv_kernels::Work) and two rates measured
//! in the same run.

mod cpu;
mod gpu;
mod rates;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use ssmv_autograd::{
    ProcessorRates, bf16_available,
    cuda::{Backend, Cuda},
};

use super::{backend::Source, phase::Phase, precision};
use crate::{
    Error, Result,
    config::{Device, Precision, TrainConfig},
    data::Batch,
    device,
};

pub use rates::Rates;

/// Number of different batches that the steps repeat.
const BATCHES: u64 = 4;

/// Specification of a measurement.
#[derive(Clone, Debug)]
pub struct BenchSpec {
    /// Name of the model's preset.
    pub preset: String,
    /// Device that computes the steps.
    pub device: Device,
    /// Precision of the steps.
    pub precision: Precision,
    /// Batch sizes in sequences: one measurement each.
    pub batch_sizes: Vec<usize>,
    /// Number of input frames of the model.
    pub frames_in: usize,
    /// Number of frames that one pass predicts.
    pub frames_out: usize,
    /// Side of a frame in pixels; `None`: the preset's.
    pub size: Option<usize>,
    /// Steps per round; `None`: 20 on a GPU, 5 on the CPU, 1 with `small`.
    pub steps: Option<usize>,
    /// One round, and small sizes for the device's rates, as a quick check. The emulator always uses this.
    pub small: bool,
}

/// Measured times and memory of a step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measured {
    /// Name of the model's preset.
    pub preset: String,
    /// Number of sequences per batch.
    pub batch_size: usize,
    /// Number of input frames of the model.
    pub frames_in: usize,
    /// Number of frames that one pass predicts.
    pub frames_out: usize,
    /// Side of a frame in pixels.
    pub size: usize,
    /// Precision of the steps: never `auto`.
    pub precision: Precision,
    /// Product name of the device or the processor.
    pub device: String,
    /// Platform of the kernels: `CUDA` with the driver's version, `emulator`, or `none`.
    pub driver: String,
    /// Seconds per step: the median over the rounds.
    pub seconds: f64,
    /// Sequences trained per second.
    pub samples_per_second: f64,
    /// Number of steps per round.
    pub steps: usize,
    /// Number of rounds of `steps` steps.
    pub rounds: usize,
    /// Measured steps whose gradients overflowed, so that the optimiser did less work.
    pub skipped: usize,
    /// Peak memory of the step in bytes: of the device pool, or of the host's buffers.
    pub peak_bytes: u64,
    /// Device memory in bytes that the process took, including the kernels' code; absent on the CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_bytes: Option<u64>,
    /// Device memory in bytes of the step, counted without running it and without code; absent on the CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predicted_bytes: Option<u64>,
    /// The device's measured rates, used for the lower bounds; absent on the CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rates: Option<Rates>,
    /// The phases of a step that is launched kernel by kernel, in order.
    pub phases: Vec<PhaseTime>,
    /// The operators of a step, the longest first; absent on a device.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub operators: Vec<OperatorTime>,
    /// Measured rates of the processor; absent on a device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processor: Option<ProcessorRates>,
}

/// All passes of a step by one operator in one direction on inputs of the same shapes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OperatorTime {
    /// The operator's name.
    pub name: &'static str,
    /// `forward` or `backward`.
    pub direction: &'static str,
    /// Shapes of the first two inputs.
    pub shapes: String,
    /// Passes in a step.
    pub passes: usize,
    /// Seconds of all of them in a step: the median over the steps.
    pub seconds: f64,
    /// Floating-point operations of their products.
    pub operations: u64,
    /// The fewest bytes that they move.
    pub bytes: u64,
}

impl Measured {
    /// The lower bound of the step's time: the sum over the phases.
    pub fn floor_seconds(&self) -> Option<f64> {
        self.phases.iter().map(|phase| phase.floor_seconds).sum()
    }

    /// The step's operation rate as a share of the measured matrix rate.
    pub fn share_of_matrix_rate(&self) -> Option<f64> {
        let operations: u64 = self.phases.iter().map(|phase| phase.operations).sum();
        self.rates.map(|rates| operations as f64 / self.seconds / rates.operations_per_second)
    }
}

/// A phase of the step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PhaseTime {
    /// Name of the phase in tables.
    pub name: &'static str,
    /// Median time of the phase, in seconds.
    pub seconds: f64,
    /// Number of kernels launched in the phase.
    pub launches: usize,
    /// Memory traffic of these kernels in bytes.
    pub bytes: u64,
    /// Number of operations of these kernels.
    pub operations: u64,
    /// Sum over its kernels of the time for their bytes or their operations, the larger one; absent on the CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub floor_seconds: Option<f64>,
}

/// Measures all batch sizes; calls `each` after each of them.
///
/// # Errors
/// A missing device, a precision that it does not have, a batch that does not fit, and any error of a training.
pub fn bench(spec: &BenchSpec, each: &mut dyn FnMut(&Measured) -> Result<()>) -> Result<()> {
    let is_small = |cuda: &Cuda| spec.small || cuda.driver().backend() != Backend::Nvidia;
    let gpu = device::open(spec.device)?;
    let precision = precision::resolve(spec.precision, gpu.as_ref().map(|_| spec.device), bf16_available())?;
    let rates = gpu.map(|cuda| rates::measure(&cuda, is_small(&cuda))).transpose()?;
    for &batch_size in &spec.batch_sizes {
        let config = TrainConfig { precision, ..config(spec, batch_size)? };
        // Open a new device for each size, so that its pool holds no memory of another batch.
        let measured = match (device::open(spec.device)?, rates) {
            (Some(cuda), Some(rates)) => {
                let small = is_small(&cuda);
                let (steps, rounds) = if small { (1, 1) } else { (20, 5) };
                let extent = gpu::Extent { steps: spec.steps.unwrap_or(steps), rounds, small };
                gpu::measure(&config, &cuda, rates, extent)?
            }
            _ => cpu::measure(&config, spec.steps.unwrap_or(if spec.small { 1 } else { 5 }), spec.small)?,
        };
        each(&measured)?;
    }
    Ok(())
}

fn config(spec: &BenchSpec, batch_size: usize) -> Result<TrainConfig> {
    if spec.steps == Some(0) || batch_size == 0 {
        return Err(Error::Usage("--steps and --batch-size start at 1".into()));
    }
    let preset = TrainConfig::preset(&spec.preset)?;
    let model = TrainConfig { size: spec.size.unwrap_or(preset.size), frames_out: spec.frames_out, ..preset };
    let preset = TrainConfig::of(&model.model()?)?;
    let (device, frames_in, sequences) = (spec.device, spec.frames_in, preset.sequences.max(batch_size));
    // So long that the learning rate does not fall to zero during the measurement.
    let config = TrainConfig { batch_size, device, frames_in, sequences, steps: Some(1 << 30), ..preset };
    Ok(TrainConfig { epochs: None, ..config })
}

/// Batches of random bytes: no kernel is faster on them than on a training's frames.
fn batches(source: Source) -> Vec<Batch> {
    let one = |index| {
        let mut frames = vec![0; source.batch_bytes()];
        ChaCha8Rng::seed_from_u64(index).fill_bytes(&mut frames);
        Batch { epoch: 0, index, batch: source.batch, frames }
    };
    (0..BATCHES).map(one).collect()
}

/// The median, or the larger of the two middle values; 0 for an empty list.
fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(0.0)
}

/// The median time of each phase over several steps. Each step is a list of phases with their times, and may contain a
/// phase several times.
fn medians(steps: &[Vec<(Phase, f64)>]) -> Vec<(Phase, f64)> {
    let of_step =
        |phase, step: &[(Phase, f64)]| step.iter().filter(|(p, _)| *p == phase).map(|(_, t)| t).sum();
    let of_phase = |phase| (phase, median(steps.iter().map(|step| of_step(phase, step)).collect()));
    Phase::ALL.map(of_phase).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_that_come_twice_are_added_and_steps_give_medians() {
        let step = |loss: f64| vec![(Phase::Loss, loss), (Phase::Encoder, 1.0), (Phase::Loss, 1.0)];
        let medians = medians(&[step(1.0), step(9.0), step(2.0)]);
        let of = |phase| medians.iter().find(|(p, _)| *p == phase).unwrap().1;
        assert_eq!((of(Phase::Loss), of(Phase::Encoder), of(Phase::Optimiser)), (3.0, 1.0, 0.0));
        assert_eq!(median(vec![]), 0.0);
    }
}
