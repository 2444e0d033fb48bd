//! The defaults of each preset: one row a preset.

use super::{Comm, Device, Layout, Loss, Precision, Rule, ScheduleKind, TrainOptions};
use Loss::{L1, L1Mse};
use ScheduleKind::{Cosine, CosineEpoch};

/// The preset that `train` takes when none is named.
pub const DEFAULT: &str = "tiny";

/// The training defaults in which presets differ; what they share is in [`Preset::options`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Preset {
    /// Its name, which is also the model's.
    pub name: &'static str,
    /// Side of a frame in pixels: the only one its model takes.
    pub canvas: i64,
    /// Side of a digit in pixels.
    pub digit_size: i64,
    /// Sequences in an epoch.
    pub sequences: i64,
    /// Epochs.
    pub epochs: i64,
    /// Sequences in a batch.
    pub batch_size: i64,
    /// Highest learning rate.
    pub lr: f64,
    /// Steps of warm-up.
    pub warmup: i64,
    /// How the learning rate falls.
    pub schedule: ScheduleKind,
    /// The loss.
    pub loss: Loss,
    /// Weight decay.
    pub weight_decay: f64,
    /// Norm to which longer gradients are scaled; 0: off.
    pub clip_norm: f64,
    /// Epochs between checkpoints.
    pub save_every: i64,
}

/// All presets, from the smallest model to the largest. `base` is the reference configuration.
#[rustfmt::skip]
pub const PRESETS: [Preset; 5] = [
    //   name   canvas digit sequences epochs batch    lr warmup     schedule   loss decay clip save-every
    row("nano",     32,   14,     4000,     2,    8, 1e-2,   100,      Cosine, L1Mse, 1e-2, 0.2, 1),
    row("tiny",     64,   28,     9000,     4,    8, 1e-2,   100,      Cosine, L1Mse, 1e-2, 0.2, 1),
    row("small",    64,   28,    10000,     4,   16, 1e-3,   100,      Cosine, L1Mse, 1e-4, 0.0, 1),
    row("base",     64,   28,    10000,    10,   16, 2e-4,     0, CosineEpoch,    L1, 1e-4, 0.0, 5),
    row("large",    64,   28,    10000,    10,   16, 2e-4,     0, CosineEpoch,    L1, 1e-4, 0.0, 5),
];

/// A row of [`PRESETS`], its fields in [`Preset`]'s order.
#[allow(clippy::too_many_arguments, reason = "a table's row, read under its heading")]
const fn row(
    name: &'static str,
    canvas: i64,
    digit_size: i64,
    sequences: i64,
    epochs: i64,
    batch_size: i64,
    lr: f64,
    warmup: i64,
    schedule: ScheduleKind,
    loss: Loss,
    weight_decay: f64,
    clip_norm: f64,
    save_every: i64,
) -> Preset {
    Preset {
        name,
        canvas,
        digit_size,
        sequences,
        epochs,
        batch_size,
        lr,
        warmup,
        schedule,
        loss,
        weight_decay,
        clip_norm,
        save_every,
    }
}

impl Preset {
    /// The preset as the lowest layer of a configuration: everything that has a default is there.
    pub fn options(&self) -> TrainOptions {
        TrainOptions {
            preset: Some(self.name.to_owned()),
            device: Some(Device::Auto),
            precision: Some(Precision::Auto),
            no_graph: Some(false),
            check_finite: Some(false),
            data: Some("digits".to_owned()),
            layout: Some(Layout::Tnhw),
            rule: Some(Rule::Standard),
            digits: Some(2),
            canvas: Some(self.canvas),
            digit_size: Some(self.digit_size),
            frames_in: Some(10),
            sequences: Some(self.sequences),
            epochs: Some(self.epochs),
            batch_size: Some(self.batch_size),
            accumulate: Some(1),
            lr: Some(self.lr),
            warmup: Some(self.warmup),
            schedule: Some(self.schedule),
            weight_decay: Some(self.weight_decay),
            loss: Some(self.loss),
            clip_norm: Some(self.clip_norm),
            ema: Some(0.0),
            seed: Some(0),
            save_every: Some(self.save_every),
            save_every_steps: Some(0),
            keep_last: Some(2),
            eval_every: Some(1),
            eval_sequences: Some(500),
            zero: Some(0),
            sync_batchnorm: Some(false),
            bucket_mib: Some(25),
            check_ranks_every: Some(100),
            comm: Some(Comm::Ring),
            comm_timeout: Some(300.0),
            ranks: Some(1),
            // No default of its own: all cores, a length in epochs, a folder named when training starts.
            threads: None,
            steps: None,
            out: None,
        }
    }
}

/// The preset of that name.
pub fn find(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|preset| preset.name == name)
}

/// The presets' names, from the smallest model to the largest.
pub fn names() -> [&'static str; PRESETS.len()] {
    PRESETS.map(|preset| preset.name)
}
