//! One layer of a training configuration: what a file or the command line says, and nothing else.

use std::path::PathBuf;

use clap::Args;
use clap::builder::PossibleValuesParser;
use serde::{Deserialize, Serialize};

use super::{Comm, Device, Layout, Loss, Precision, Rule, ScheduleKind, presets};

/// Everything that `train` can be told, each field optional: one layer of the configuration. The names on the
/// command line and the keys of a TOML file are the fields' own, with `-` for `_`. Whole numbers are `i64`
/// here so that a negative one is met by [`limits`](super::limits) and named there with what is allowed.
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[command(allow_negative_numbers = true)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct TrainOptions {
    /// Model and its defaults, from the smallest to the largest [default: tiny]
    #[arg(
        long,
        value_name = "NAME",
        help_heading = "Run",
        value_parser = PossibleValuesParser::new(presets::names())
    )]
    pub preset: Option<String>,
    /// Device to train on [default: auto]
    #[arg(long, help_heading = "Run")]
    pub device: Option<Device>,
    /// What activations and matrix products are computed in [default: auto: f16 on a GPU, f32 on the processor]
    #[arg(long, help_heading = "Run")]
    pub precision: Option<Precision>,
    /// On a GPU, launch each kernel of a step by itself instead of a captured graph: the same bits, slower
    #[arg(long, help_heading = "Run", num_args = 0, default_missing_value = "true")]
    pub no_graph: Option<bool>,
    /// Look at every operator's output and end at the first that is not finite; slow, and without a graph
    #[arg(long, help_heading = "Run", num_args = 0, default_missing_value = "true")]
    pub check_finite: Option<bool>,
    /// CPU threads, 1 to 1024 [default: one a core]
    #[arg(long, value_name = "N", help_heading = "Run")]
    pub threads: Option<i64>,
    /// Seed of weights and data: the same seed gives the same bits [default: 0]
    #[arg(long, value_name = "N", help_heading = "Run")]
    pub seed: Option<i64>,
    /// Run folder; must be empty or absent unless --resume is given [default: runs/PRESET-DATE-TIME]
    #[arg(long, value_name = "DIR", help_heading = "Run")]
    pub out: Option<PathBuf>,

    /// `digits` (built in), a folder with MNIST's IDX files, or an .npy file of sequences [default: digits]
    #[arg(long, value_name = "digits|DIR|FILE.npy", help_heading = "Data")]
    pub data: Option<String>,
    /// Order of the axes in an .npy file [default: tnhw]
    #[arg(long, help_heading = "Data")]
    pub layout: Option<Layout>,
    /// How the digits move [default: standard]
    #[arg(long, help_heading = "Data")]
    pub rule: Option<Rule>,
    /// Digits in a sequence, 1 to 64 [default: 2]
    #[arg(long, value_name = "N", help_heading = "Data")]
    pub digits: Option<i64>,
    /// Side of a frame in pixels, the one that the preset's model takes [default: 64; nano: 32]
    #[arg(long, value_name = "PIXELS", help_heading = "Data")]
    pub canvas: Option<i64>,
    /// Side of a digit in pixels, at most the canvas [default: 28; nano: 14]
    #[arg(long, value_name = "PIXELS", help_heading = "Data")]
    pub digit_size: Option<i64>,
    /// Frames that the model sees before it predicts the next 2, 3 to 1000 [default: 10]
    #[arg(long, value_name = "N", help_heading = "Data")]
    pub frames_in: Option<i64>,
    /// Sequences in an epoch [default: the preset's]
    #[arg(long, value_name = "N", help_heading = "Data")]
    pub sequences: Option<i64>,

    /// Length of the training in epochs [default: the preset's]
    #[arg(long, value_name = "N", help_heading = "Optimisation", conflicts_with = "steps")]
    pub epochs: Option<i64>,
    /// Length of the training in optimiser steps, instead of --epochs
    #[arg(long, value_name = "N", help_heading = "Optimisation")]
    pub steps: Option<i64>,
    /// Sequences in a batch, 1 to 65536 [default: the preset's]
    #[arg(long, value_name = "N", help_heading = "Optimisation")]
    pub batch_size: Option<i64>,
    /// Batches whose gradients make one optimiser step [default: 1]
    #[arg(long, value_name = "N", help_heading = "Optimisation")]
    pub accumulate: Option<i64>,
    /// Learning rate at its highest [default: the preset's]
    #[arg(long, value_name = "RATE", help_heading = "Optimisation")]
    pub lr: Option<f64>,
    /// Steps in which the learning rate rises from zero [default: the preset's]
    #[arg(long, value_name = "STEPS", help_heading = "Optimisation")]
    pub warmup: Option<i64>,
    /// How the learning rate falls after the warm-up [default: the preset's]
    #[arg(long, help_heading = "Optimisation")]
    pub schedule: Option<ScheduleKind>,
    /// AdamW's weight decay; norms, biases, A_log and D take none [default: the preset's]
    #[arg(long, value_name = "X", help_heading = "Optimisation")]
    pub weight_decay: Option<f64>,
    /// What training makes small [default: the preset's]
    #[arg(long, help_heading = "Optimisation")]
    pub loss: Option<Loss>,
    /// Norm to which longer gradients are scaled; 0 turns it off [default: the preset's]
    #[arg(long, value_name = "NORM", help_heading = "Optimisation")]
    pub clip_norm: Option<f64>,
    /// Decay of a running mean of the weights, kept beside them, below 1; 0 turns it off [default: 0]
    #[arg(long, value_name = "DECAY", help_heading = "Optimisation")]
    pub ema: Option<f64>,

    /// Epochs between checkpoints; 0: none before the end [default: the preset's]
    #[arg(long, value_name = "EPOCHS", help_heading = "Checkpoints and evaluation")]
    pub save_every: Option<i64>,
    /// Optimiser steps between checkpoints, besides --save-every; 0 turns it off [default: 0]
    #[arg(long, value_name = "STEPS", help_heading = "Checkpoints and evaluation")]
    pub save_every_steps: Option<i64>,
    /// Checkpoints to keep, the newest; 0 keeps all [default: 2]
    #[arg(long, value_name = "N", help_heading = "Checkpoints and evaluation")]
    pub keep_last: Option<i64>,
    /// Epochs between evaluations; 0: only at the end [default: 1]
    #[arg(long, value_name = "EPOCHS", help_heading = "Checkpoints and evaluation")]
    pub eval_every: Option<i64>,
    /// Test sequences in an evaluation [default: 500; 16 on the emulator]
    #[arg(long, value_name = "N", help_heading = "Checkpoints and evaluation")]
    pub eval_sequences: Option<i64>,

    /// 1: each rank updates a share of the parameters, and all gather the results (ZeRO stage 1); moments have room for all of
    /// them on every rank [default: 0]
    #[arg(long, value_name = "0|1", help_heading = "Several ranks")]
    pub zero: Option<i64>,
    /// Normalise by the statistics of all ranks' batches instead of each rank's own
    #[arg(long, help_heading = "Several ranks", num_args = 0, default_missing_value = "true")]
    pub sync_batchnorm: Option<bool>,
    /// Gradients that are reduced together, in MiB [default: 25]
    #[arg(long, value_name = "MIB", help_heading = "Several ranks")]
    pub bucket_mib: Option<i64>,
    /// Steps between two comparisons of all ranks' parameters; 0 turns it off [default: 100]
    #[arg(long, value_name = "STEPS", help_heading = "Several ranks")]
    pub check_ranks_every: Option<i64>,
    /// How gradients on GPUs are added up [default: ring]
    #[arg(long, help_heading = "Several ranks")]
    pub comm: Option<Comm>,
    /// Seconds without a byte from another rank after which a rank gives up [default: 300]
    #[arg(long, value_name = "SECONDS", help_heading = "Several ranks")]
    pub comm_timeout: Option<f64>,
    /// How many ranks there are: from the environment, never from the command line; in a file, those of the run
    #[arg(skip)]
    pub ranks: Option<i64>,
}

impl TrainOptions {
    /// The names of all options, as in a file: those of the command line, and the number of ranks of a run.
    pub fn names() -> Vec<String> {
        let command = Self::augment_args(clap::Command::new("train"));
        let given = command.get_arguments().filter_map(|arg| arg.get_long());
        given.chain(["ranks"]).map(str::to_owned).collect()
    }
}
