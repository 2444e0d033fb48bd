//! Learning rates as functions of the step.

use crate::{Error, Result, config::ScheduleKind};
use serde::{Deserialize, Serialize};
use std::f64::consts::PI;

/// A learning-rate schedule with linear warm-up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// The shape of the fall.
    pub kind: ScheduleKind,
    /// The rate of a constant schedule after its warm-up.
    pub base_lr: f64,
    /// Optimiser steps W over which the rate grows linearly; 0 for none.
    pub warmup: u64,
    /// Optimiser steps of the whole training ("cosine" ends there).
    pub total_steps: u64,
    /// Optimiser steps per epoch ("cosine-epoch" changes its rate there).
    pub steps_per_epoch: u64,
    /// Epochs of the whole training ("cosine-epoch" ends there).
    pub epochs: u64,
    /// Added to a step for its position in a cosine, after a resumption changed the steps per epoch.
    pub shift: i64,
}

impl Schedule {
    /// Checks that the numbers define a schedule.
    ///
    /// # Errors
    /// A rate that is not positive and finite, or a count of zero that the kind divides by.
    pub fn validate(&self) -> Result<()> {
        if !(self.base_lr.is_finite() && self.base_lr > 0.0) {
            return Err(Error::Usage(format!("--lr {} is not a positive number", self.base_lr)));
        }
        let zero = match self.kind {
            ScheduleKind::Cosine if self.total_steps == 0 => Some("steps"),
            ScheduleKind::CosineEpoch if self.epochs == 0 => Some("epochs"),
            ScheduleKind::CosineEpoch if self.steps_per_epoch == 0 => Some("steps an epoch"),
            _ => None,
        };
        zero.map_or(Ok(()), |what| {
            Err(Error::Usage(format!("a {} schedule needs at least 1 {what}", self.kind)))
        })
    }

    /// The rate of optimiser step `step`, counted from 0:
    ///
    /// rate = base · fall · min(1, (step + 1) / W), with
    /// - constant: fall = 1
    /// - cosine: fall = ½(1 + cos(π · step / total_steps))
    /// - cosine-epoch: fall = ½(1 + cos(π · ⌊step / steps_per_epoch⌋ / epochs))
    ///
    /// where the cosines take step + shift. From its end on, a cosine stays at zero. (Loshchilov & Hutter 2017, SGDR, equation 5, without restarts.)
    pub fn rate(&self, step: u64) -> f64 {
        let at = step.saturating_add_signed(self.shift);
        let fall = match self.kind {
            ScheduleKind::Constant => 1.0,
            ScheduleKind::Cosine => half_cosine(at, self.total_steps),
            ScheduleKind::CosineEpoch => half_cosine(at / self.steps_per_epoch.max(1), self.epochs),
        };
        let warm = if step < self.warmup { (step as f64 + 1.0) / self.warmup as f64 } else { 1.0 };
        self.base_lr * fall * warm
    }
}

/// ½(1 + cos(π · at / end)), 0 from `end` on.
fn half_cosine(at: u64, end: u64) -> f64 {
    if at >= end { 0.0 } else { 0.5 * (1.0 + (PI * at as f64 / end as f64).cos()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: Schedule = Schedule {
        kind: ScheduleKind::Constant,
        base_lr: 0.5,
        warmup: 4,
        total_steps: 100,
        steps_per_epoch: 10,
        epochs: 10,
        shift: 0,
    };

    #[test]
    fn cosine_by_epoch_is_pytorchs() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/cosine_annealing.safetensors");
        let bytes = std::fs::read(path).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let data = tensors.tensor("out.lr").unwrap().data();
        let rates: Vec<f64> = data.chunks_exact(8).map(bytemuck::pod_read_unaligned).collect();
        let epochs = rates.len() as u64 - 1;
        let (kind, base_lr, steps_per_epoch) = (ScheduleKind::CosineEpoch, 2e-4, 7);
        let schedule = Schedule {
            kind,
            base_lr,
            warmup: 0,
            total_steps: epochs * steps_per_epoch,
            steps_per_epoch,
            epochs,
            shift: 0,
        };
        for (epoch, want) in rates.iter().enumerate() {
            let rate = schedule.rate(epoch as u64 * steps_per_epoch);
            assert!((rate - want).abs() <= 1e-10 * base_lr, "epoch {epoch}: {rate} and {want}");
        }
    }

    #[test]
    fn warm_up_is_linear_and_reaches_the_schedule() {
        let rates: Vec<f64> = (0..6).map(|step| BASE.rate(step)).collect();
        assert_eq!(rates, [0.125, 0.25, 0.375, 0.5, 0.5, 0.5]);
        let cosine = Schedule { kind: ScheduleKind::Cosine, ..BASE };
        let cold = Schedule { warmup: 0, ..cosine.clone() };
        assert_eq!(cosine.rate(1), cold.rate(1) * 0.5);
        assert_eq!(cosine.rate(3), cold.rate(3));
    }

    #[test]
    fn cosines_fall_from_the_base_rate_to_zero() {
        let by_step = Schedule { kind: ScheduleKind::Cosine, warmup: 0, ..BASE };
        assert_eq!(by_step.rate(0), 0.5);
        approx::assert_abs_diff_eq!(by_step.rate(50), 0.25, epsilon = 1e-15);
        assert!((0..120).all(|step| by_step.rate(step + 1) <= by_step.rate(step)));
        assert_eq!((by_step.rate(100), by_step.rate(u64::MAX)), (0.0, 0.0));
        let by_epoch = Schedule { kind: ScheduleKind::CosineEpoch, warmup: 0, ..BASE };
        assert_eq!(by_epoch.rate(20), by_epoch.rate(29));
        assert_eq!(by_epoch.rate(29), by_step.rate(20));
        assert!(by_epoch.rate(30) < by_epoch.rate(29));
    }

    #[test]
    fn absurd_numbers_are_errors_and_never_divide_by_zero() {
        for lr in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(Schedule { base_lr: lr, ..BASE }.validate().is_err(), "{lr}");
        }
        let empty = Schedule { total_steps: 0, steps_per_epoch: 0, epochs: 0, ..BASE };
        for kind in [ScheduleKind::Cosine, ScheduleKind::CosineEpoch] {
            let schedule = Schedule { kind, ..empty.clone() };
            assert!(schedule.validate().is_err());
            assert!(schedule.rate(3).is_finite());
        }
        assert!(empty.validate().is_ok());
    }
}
