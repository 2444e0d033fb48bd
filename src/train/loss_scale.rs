//! Loss scaling: the loss is multiplied by a scale before the backward pass, so that small gradients do not vanish
//! in f16, and the gradients are divided by it again before the optimiser.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use ssmv_kernels::optim::StepState;

/// The scale of dynamic loss scaling, with the semantics of `torch.amp.GradScaler`: a step whose gradients hold an
/// infinity or NaN is skipped and the scale is multiplied by `backoff`; after `interval` good steps in a row it is
/// multiplied by `growth`, unless that would pass f32.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossScale {
    scale: f32,
    growth: f32,
    backoff: f32,
    interval: u32,
    floor: f32,
    growth_tracker: u32,
    consecutive_skips: u32,
}

impl LossScale {
    /// Default floor: 2⁻¹⁴, thirty skipped steps in a row from the initial scale. If gradients still overflow f16
    /// there, the model has diverged and the scale is not the cause.
    pub const FLOOR: f32 = 1.0 / 16384.0;

    /// A scale with these numbers; the floor is [`LossScale::FLOOR`].
    ///
    /// # Errors
    /// A scale that is not positive and finite, a growth below 1, a backoff outside (0, 1], an interval of 0.
    pub fn new(scale: f32, growth: f32, backoff: f32, interval: u32) -> Result<Self> {
        let loss_scale = Self {
            scale,
            growth,
            backoff,
            interval,
            floor: Self::FLOOR,
            growth_tracker: 0,
            consecutive_skips: 0,
        };
        loss_scale.validate()?;
        Ok(loss_scale)
    }

    /// The same scale with another floor; 0 for none.
    pub fn with_floor(self, floor: f32) -> Self {
        Self { floor, ..self }
    }

    /// A scale of 1 that never changes, for training in f32; a step with an infinity or NaN is still skipped.
    pub fn off() -> Self {
        Self { scale: 1.0, growth: 1.0, backoff: 1.0, interval: 1, floor: 0.0, ..Self::default() }
    }

    /// Checks the numbers, for a state read from a file.
    ///
    /// # Errors
    /// As [`LossScale::new`].
    pub fn validate(&self) -> Result<()> {
        let good = self.scale.is_finite()
            && self.scale > 0.0
            && self.growth.is_finite()
            && self.growth >= 1.0
            && self.backoff > 0.0
            && self.backoff <= 1.0
            && self.interval > 0
            && self.floor >= 0.0;
        if good {
            return Ok(());
        }
        Err(Error::Failure(format!(
            "loss scale {} with growth {}, backoff {}, interval {} and floor {} makes no sense",
            self.scale, self.growth, self.backoff, self.interval, self.floor
        )))
    }

    /// Factor of the next loss.
    pub fn scale(&self) -> f32 {
        self.scale
    }

    /// Number of steps skipped since the last one that was taken.
    pub fn consecutive_skips(&self) -> u32 {
        self.consecutive_skips
    }

    /// Records whether optimiser step `step` was taken (`found_inf` false) or skipped (true), and sets the scale of the
    /// next one.
    ///
    /// # Errors
    /// The scale falls below the floor: training has diverged and must stop.
    pub fn update(&mut self, step: u64, found_inf: bool) -> Result<()> {
        if found_inf {
            self.scale *= self.backoff;
            self.growth_tracker = 0;
            self.consecutive_skips = self.consecutive_skips.saturating_add(1);
        } else {
            self.consecutive_skips = 0;
            self.growth_tracker = self.growth_tracker.saturating_add(1);
            if self.growth_tracker >= self.interval {
                let grown = self.scale * self.growth;
                self.scale = if grown.is_finite() { grown } else { self.scale };
                self.growth_tracker = 0;
            }
        }
        self.check(step)
    }

    /// Sets the scale that all ranks agreed on.
    pub fn agree(&mut self, scale: f32) {
        self.scale = scale;
    }

    /// Whether the scale can change.
    pub fn is_on(&self) -> bool {
        self.growth != 1.0 || self.backoff != 1.0
    }

    /// The scale as a device's state.
    pub fn of_device(state: &StepState) -> Self {
        let StepState { scale, growth, backoff, interval, growth_tracker, consecutive_skips, .. } = *state;
        Self { scale, growth, backoff, interval, floor: Self::FLOOR, growth_tracker, consecutive_skips }
    }

    /// A device's state with this scale.
    pub fn on_device(&self, state: StepState) -> StepState {
        let Self { scale, growth, backoff, interval, growth_tracker, consecutive_skips, .. } = *self;
        StepState { scale, growth, backoff, interval, growth_tracker, consecutive_skips, ..state }
    }

    /// An error if the scale is below the floor after step `step`.
    ///
    /// # Errors
    /// Only that one: training has diverged and must stop.
    pub fn check(&self, step: u64) -> Result<()> {
        Self::check_scale(step, self.scale, self.floor, self.consecutive_skips)
    }

    /// As [`LossScale::check`], for a scale, its floor and the skipped steps before it.
    pub(super) fn check_scale(step: u64, scale: f32, floor: f32, skips: u32) -> Result<()> {
        if scale < floor || scale == 0.0 {
            return Err(Error::Failure(format!(
                "step {step}: the loss scale fell to {scale:e}, below its floor of {floor:e}, after {skips} skipped steps \
                 in a row: training has diverged; lower the learning rate or go on from an earlier checkpoint"
            )));
        }
        Ok(())
    }
}

impl Default for LossScale {
    /// PyTorch's numbers: 65536, growth 2, backoff ½, interval 2000.
    fn default() -> Self {
        Self {
            scale: 65536.0,
            growth: 2.0,
            backoff: 0.5,
            interval: 2000,
            floor: Self::FLOOR,
            growth_tracker: 0,
            consecutive_skips: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moves_as_pytorchs_grad_scaler() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/grad_scaler.safetensors");
        let bytes = std::fs::read(path).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let read = |name| {
            let data = tensors.tensor(name).unwrap().data();
            data.chunks_exact(8).map(bytemuck::pod_read_unaligned::<f64>)
        };
        let mut scale = LossScale::new(1024.0, 2.0, 0.5, 4).unwrap();
        for (step, (found, want)) in read("in.found_inf").zip(read("out.scale")).enumerate() {
            scale.update(step as u64, found != 0.0).unwrap();
            assert_eq!(f64::from(scale.scale()), want, "step {step}");
        }
    }

    #[test]
    fn falls_to_the_floor_and_says_at_which_step() {
        let mut scale = LossScale::default();
        for step in 0..30 {
            scale.update(step, true).unwrap();
        }
        assert_eq!(scale.scale(), LossScale::FLOOR);
        let message = scale.update(30, true).unwrap_err().to_string();
        assert!(message.starts_with("step 30:") && message.contains("31 skipped"), "{message}");
        let mut unbounded = LossScale::default().with_floor(0.0);
        assert!((0..1000).any(|step| unbounded.update(step, true).is_err()), "a scale of 0 is an error");
    }

    #[test]
    fn does_not_grow_past_f32() {
        let mut scale = LossScale::new(2.0f32.powi(127), 2.0, 0.5, 1).unwrap();
        scale.update(0, false).unwrap();
        assert_eq!(scale.scale(), 2.0f32.powi(127));
    }

    #[test]
    fn off_stays_at_one_and_counts_skips() {
        let mut scale = LossScale::off();
        for step in 0..5000 {
            scale.update(step, step % 3 != 0).unwrap();
            assert_eq!((scale.scale(), u64::from(scale.consecutive_skips())), (1.0, step % 3));
        }
    }

    #[test]
    fn a_saved_state_goes_on_alike() {
        let mut scale = LossScale::new(1024.0, 2.0, 0.5, 4).unwrap();
        for step in 0..6 {
            scale.update(step, step == 1).unwrap();
        }
        let json = serde_json::to_string(&scale).unwrap();
        let mut copy: LossScale = serde_json::from_str(&json).unwrap();
        assert_eq!(copy, scale);
        for step in 6..30 {
            scale.update(step, step == 20).unwrap();
            copy.update(step, step == 20).unwrap();
            assert_eq!(copy, scale);
        }
    }

    #[test]
    fn senseless_numbers_are_errors() {
        for (scale, growth, backoff, interval) in [
            (0.0, 2.0, 0.5, 1),
            (f32::NAN, 2.0, 0.5, 1),
            (1.0, 0.5, 0.5, 1),
            (1.0, 2.0, 1.5, 1),
            (1.0, 2.0, 0.5, 0),
        ] {
            assert!(LossScale::new(scale, growth, backoff, interval).is_err());
        }
    }
}
