//! What a training step costs: the step as a training runs it, then phase by phase, beside the least that it could take.
//!
//! The step's own time is that of training as it is: on a device the captured graph, its frames from pinned memory, its
//! figures read back a step late. The phases are timed by events between launches of the same step without a graph; there,
//! each kernel's [`Work`](ssmv_kernels::Work) and two rates measured in the same run give the floor.

mod cpu;
mod gpu;
mod rates;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use ssmv_autograd::cuda::{Backend, Cuda};

use super::{backend::Source, phase::Phase};
use crate::{
    Error, Result,
    config::{Device, TrainConfig},
    data::Batch,
    device,
};

pub use rates::Rates;

/// Different batches that steps take by turns.
const BATCHES: u64 = 4;

/// What is to be measured.
#[derive(Clone, Debug)]
pub struct BenchSpec {
    /// Name of the model's preset.
    pub preset: String,
    /// Device that computes the steps.
    pub device: Device,
    /// Sequences in a batch: one measurement each.
    pub batch_sizes: Vec<usize>,
    /// Frames that the model sees.
    pub frames_in: usize,
    /// Steps of a round; `None`: 20 on a GPU, 5 on the CPU, 1 where it is small.
    pub steps: Option<usize>,
    /// One round, and small sizes for the device's rates: to see that all of it runs. The emulator always measures so.
    pub small: bool,
}

/// Measured times and memory of a step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measured {
    /// Name of the model's preset.
    pub preset: String,
    /// Sequences in a batch.
    pub batch_size: usize,
    /// Frames that the model sees.
    pub frames_in: usize,
    /// The device's or the processor's name.
    pub device: String,
    /// What runs the kernels: `CUDA` with the version that the driver speaks, `emulator`, or `none`.
    pub driver: String,
    /// Seconds of a step: the median over the rounds.
    pub seconds: f64,
    /// Sequences trained on in a second.
    pub samples_per_second: f64,
    /// Steps in a round.
    pub steps: usize,
    /// Number of rounds of `steps` steps.
    pub rounds: usize,
    /// Measured steps whose gradients overflowed, so that the optimiser did less.
    pub skipped: usize,
    /// The most that the step's memory came to: the device pool's, or the host's buffers.
    pub peak_bytes: u64,
    /// What the device had less of afterwards, kernels' code included; absent on the CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_bytes: Option<u64>,
    /// What was counted for the step without running it, code left out; absent on the CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predicted_bytes: Option<u64>,
    /// What floors are reckoned with; absent on the CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rates: Option<Rates>,
    /// The phases of a step that is launched kernel by kernel, in their order.
    pub phases: Vec<PhaseTime>,
    /// The operators of a step, the longest first; absent on a device.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub operators: Vec<OperatorTime>,
    /// Measured rates of the processor; absent on a device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processor: Option<CpuRates>,
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

/// What the processor can do at most, on all threads.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct CpuRates {
    /// f32 operations a second from registers.
    pub f32_operations: f64,
    /// bf16 operations a second from registers, where the processor has the instruction.
    pub bf16_operations: Option<f64>,
    /// Bytes read and written a second by a copy.
    pub memory_bytes: f64,
}

impl Measured {
    /// The least that the step could take: the sum of the phases' floors.
    pub fn floor_seconds(&self) -> Option<f64> {
        self.phases.iter().map(|phase| phase.floor_seconds).sum()
    }

    /// The share of the measured matrix rate that the step's operations come to.
    pub fn share_of_matrix_rate(&self) -> Option<f64> {
        let operations: u64 = self.phases.iter().map(|phase| phase.operations).sum();
        self.rates.map(|rates| operations as f64 / self.seconds / rates.operations_per_second)
    }
}

/// A phase of the step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PhaseTime {
    /// Name of the phase, as tables show it.
    pub name: &'static str,
    /// Median time of the phase, in seconds.
    pub seconds: f64,
    /// Kernels launched in the phase.
    pub launches: usize,
    /// Bytes that they must move.
    pub bytes: u64,
    /// Operations that they must do.
    pub operations: u64,
    /// The sum over its kernels of what bytes or operations take, whichever is more; absent on the CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub floor_seconds: Option<f64>,
}

/// Measures all batch sizes; `each` hears of one when it is done.
///
/// # Errors
/// A device that is not there, a batch that does not fit, and all that a training refuses.
pub fn bench(spec: &BenchSpec, each: &mut dyn FnMut(&Measured) -> Result<()>) -> Result<()> {
    let is_small = |cuda: &Cuda| spec.small || cuda.driver().backend() != Backend::Nvidia;
    let rates = device::open(spec.device)?.map(|cuda| rates::measure(&cuda, is_small(&cuda))).transpose()?;
    for &batch_size in &spec.batch_sizes {
        let config = config(spec, batch_size)?;
        // A device of its own each, so that the pool holds nothing of another batch.
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
    let (device, frames_in, sequences) = (spec.device, spec.frames_in, preset.sequences.max(batch_size));
    // Long enough that the learning rate does not fall to nothing meanwhile.
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

/// The middle one, or of two the larger; 0 of none.
fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(0.0)
}

/// The median of each phase over steps, each of which is a list of phases that ended with what they took; a phase may come
/// several times.
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
