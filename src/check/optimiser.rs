//! The optimiser's kernels against the CPU's AdamW, clipping and loss scale.

use std::ops::Range;

use ssmv_autograd::{
    DType,
    cuda::{Cuda, DeviceMemory},
    optim::{AdamW, AdamWOptions, DeviceAdamW, average, clip_factor, ema_share, gradient_norm},
};
use ssmv_kernels::optim::StepState;

use super::{compare::bound, draw::Draw, operators::SINGLE, results::Results, selftest::Part};
use crate::{Result, train::loss_scale::LossScale};

const NAME: &str = "adamw, clipping, loss scale";
/// Number of parameters: not a multiple of a vector, and more than one block's.
const LEN: usize = 9001;
/// The parameters that decay: whole groups of 64, as an arena has them.
const DECAYING: Range<usize> = 1024..6016;
const RATE: f64 = 1e-2;
/// Clipping norm: some steps are clipped.
const MAX_NORM: f64 = 40.0;
const STEPS: usize = 5;
/// The step that overflows and is skipped.
const OVERFLOW: usize = 2;
/// Decay of the moving average of the weights: below the warm-up's from the third update on.
const DECAY: f64 = 0.25;

/// Runs a few steps on both sides.
pub(super) fn run(cuda: &Cuda, results: &mut Results) {
    if results.wants(NAME)
        && let Err(error) = compare(cuda, results)
    {
        results.failed(Part::Operators, NAME, &error.to_string());
    }
}

/// The tensors that are compared after the last step.
#[rustfmt::skip]
const TENSORS: [&str; 9] = [
    "parameters", "f16 parameters", "first moment", "second moment", "running mean", "kept unless skipped",
    "norm", "scale", "updates",
];

/// The values of each of [`TENSORS`].
type State = [Vec<f64>; 9];

fn compare(cuda: &Cuda, results: &mut Results) -> Result<()> {
    let inputs = Inputs::draw();
    let (made, wanted) = (inputs.on_device(cuda)?, inputs.on_cpu()?);
    for ((tensor, got), want) in TENSORS.iter().zip(&made).zip(&wanted) {
        let dtype = if *tensor == "f16 parameters" { DType::F16 } else { DType::F32 };
        results.near(Part::Operators, NAME, tensor, got, want, bound(SINGLE, tensor, dtype));
    }
    Ok(())
}

fn widened(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

/// The inputs of both sides.
struct Inputs {
    parameters: Vec<f32>,
    /// Gradients of each step, multiplied by the first loss scale.
    gradients: Vec<Vec<f32>>,
    options: AdamWOptions,
}

impl Inputs {
    fn draw() -> Self {
        let mut draw = Draw::new(NAME, 0);
        let mut values = |most: f64| draw.list(LEN, -most, most).into_iter().map(|v| v as f32);
        let parameters = values(1.0).collect();
        let scale = LossScale::default().scale();
        let mut gradients: Vec<Vec<f32>> =
            (0..STEPS).map(|step| values(0.25 * (step + 1) as f64).map(|g| g * scale).collect()).collect();
        gradients[OVERFLOW][LEN / 2] = f32::INFINITY;
        Self {
            parameters,
            gradients,
            options: AdamWOptions { lr: RATE, weight_decay: 1e-2, ..AdamWOptions::default() },
        }
    }

    fn on_device(&self, cuda: &Cuda) -> Result<State> {
        let AdamWOptions { lr, beta1, beta2, eps, weight_decay, .. } = self.options;
        let copy = |dtype, values: &[f32]| DeviceMemory::copy_of(cuda, dtype, values);
        let masters = copy(DType::F32, &self.parameters)?;
        let halves = copy(DType::F16, &self.parameters)?;
        let mean = copy(DType::F32, &self.parameters)?;
        let kept = copy(DType::F32, &self.parameters)?;
        let settings = StepState {
            rate: lr,
            beta1,
            beta2,
            eps,
            weight_decay,
            max_norm: MAX_NORM,
            ema_decay: DECAY,
            ..StepState::default()
        };
        let state = LossScale::default().on_device(settings);
        let optimiser = DeviceAdamW::new(cuda, LEN, &[DECAYING], &state)?;
        for (step, gradient) in self.gradients.iter().enumerate() {
            let gradient = copy(DType::F32, gradient)?;
            optimiser.step([&masters, &halves], &gradient)?;
            if step <= OVERFLOW {
                optimiser.keep(&gradient, &kept)?;
            }
            optimiser.average(&masters, &mean)?;
        }
        let state = optimiser.record()?.state;
        let whole = |memory: &DeviceMemory| -> Result<Vec<f64>> { Ok(widened(&memory.download(0..LEN)?)) };
        Ok([
            whole(&masters)?,
            whole(&halves)?,
            whole(&optimiser.moments[0])?,
            whole(&optimiser.moments[1])?,
            whole(&mean)?,
            whole(&kept)?,
            vec![state.norm],
            vec![f64::from(state.scale)],
            vec![state.updates as f64],
        ])
    }

    fn on_cpu(&self) -> Result<State> {
        let mut p = self.parameters.clone();
        let (mut mean, mut kept) = (p.clone(), p.clone());
        let mut optimiser = AdamW::new(self.options, LEN, vec![DECAYING]);
        let (mut scale, mut norm) = (LossScale::default(), 0.0);
        for (step, gradient) in self.gradients.iter().enumerate() {
            let scaled_by = f64::from(scale.scale());
            norm = gradient_norm(gradient) / scaled_by;
            let skipped = !norm.is_finite();
            if !skipped {
                optimiser.options.gradient_scale = clip_factor(norm, MAX_NORM) / scaled_by;
                optimiser.step(&mut p, gradient)?;
                average(&p, &mut mean, ema_share(DECAY, optimiser.updates));
                if step <= OVERFLOW {
                    kept.copy_from_slice(gradient);
                }
            }
            scale.update(step as u64, skipped)?;
        }
        Ok([
            widened(&p),
            widened(&p),
            widened(&optimiser.m),
            widened(&optimiser.v),
            widened(&mean),
            widened(&kept),
            vec![norm],
            vec![f64::from(scale.scale())],
            vec![optimiser.updates as f64],
        ])
    }
}
