//! The position of a training in its epochs, which survives a resumption with another number of steps per epoch.

use crate::config::{Duration, TrainConfig};

/// Counts epochs: after `step` steps a training is at position `step + shift`, with `per_epoch` steps per epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epochs {
    /// Optimiser steps per epoch.
    pub per_epoch: u64,
    /// Difference to the steps taken: 0 unless a resumption changed the steps per epoch.
    pub shift: i64,
}

impl Epochs {
    /// The count of a new training.
    pub fn new(config: &TrainConfig) -> Self {
        Self { per_epoch: config.steps_per_epoch(), shift: 0 }
    }

    /// Continues after `step` steps that were counted by `before`: with another number of steps per epoch at the same
    /// fraction of the epoch, or the next step after it, so that epochs never run backwards.
    pub fn resume(&mut self, step: u64, before: Self) {
        let position = u128::from(before.position(step));
        let scaled = (position * u128::from(self.per_epoch)).div_ceil(u128::from(before.per_epoch.max(1)));
        self.shift = i64::try_from(scaled as i128 - i128::from(step)).unwrap_or(0);
    }

    /// Position after `step` steps, in steps of the current length of an epoch.
    pub fn position(&self, step: u64) -> u64 {
        step.saturating_add_signed(self.shift)
    }

    /// Epochs after `step` steps, as a fraction.
    pub fn epoch(&self, step: u64) -> f64 {
        self.position(step) as f64 / self.per_epoch as f64
    }

    /// Optimiser steps of the whole training.
    pub fn total_steps(&self, config: &TrainConfig) -> u64 {
        match config.duration() {
            Duration::Steps(steps) => steps,
            Duration::Epochs(epochs) => {
                epochs.saturating_mul(self.per_epoch).saturating_add_signed(self.shift.saturating_neg())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_go_on_with_other_steps_an_epoch() {
        let before = Epochs { per_epoch: 10, shift: 0 };
        // (steps per epoch now, position after 25 steps)
        for (per_epoch, position) in [(10, 25), (20, 50), (5, 13), (3, 8), (1, 3), (1000, 2500)] {
            let mut now = Epochs { per_epoch, shift: 0 };
            now.resume(25, before);
            assert_eq!(now.position(25), position, "{per_epoch}");
            assert!(now.epoch(25) >= before.epoch(25) && now.epoch(26) > now.epoch(25));
            // And back to the original number.
            let mut again = before;
            again.resume(25, now);
            assert!(again.epoch(25) >= now.epoch(25));
        }
    }

    #[test]
    fn a_length_in_epochs_is_what_is_left_of_them() {
        let mut config = TrainConfig::preset("nano").unwrap();
        (config.epochs, config.steps) = (Some(4), None);
        let mut epochs = Epochs { per_epoch: 20, shift: 0 };
        assert_eq!(epochs.total_steps(&config), 80);
        // One epoch of ten steps is done, three of twenty are left.
        epochs.resume(10, Epochs { per_epoch: 10, shift: 0 });
        assert_eq!(epochs.total_steps(&config), 70);
        config.steps = Some(33);
        assert_eq!(epochs.total_steps(&config), 33);
    }
}
