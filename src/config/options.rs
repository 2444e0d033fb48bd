//! The options of a training, each declared once: name, type, default of every preset, limit and help. The command line, the
//! configuration file and the resolved configuration are made from this table.

use std::path::PathBuf;
use std::sync::LazyLock;

use clap::Args;
use clap::builder::PossibleValuesParser;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::limits::{
    BILLION,
    Limit::{self, Any, Below, NotNegative, Positive, Whole},
    MILLION,
};
use super::{Comm, Device, Layout, Loss, Precision, Resize, Rule, ScheduleKind, ValueRange};
use Loss::{L1, L1Mse};
use ScheduleKind::{Cosine, CosineEpoch};

/// Names of the presets, which are also the models' names, from the smallest model to the largest. `base` is the reference
/// configuration.
pub const PRESETS: [&str; 5] = ["nano", "tiny", "small", "base", "large"];

/// Preset that is used when none is named.
pub const DEFAULT_PRESET: &str = "tiny";

/// One row an option:
///
/// ```text
/// /// Help
/// #[formerly(name in older versions, which is still accepted)]
/// #[arg(further settings on the command line)]
/// #[serde(further settings in the saved configuration)]
/// name: type as given => type when resolved, limit, defaults, text of the default in the help;
/// ```
///
/// The defaults are one value for each of [`PRESETS`], one for all, or none. Without a text for it, the help shows the default
/// where it is the same for all presets, or for all but one.
macro_rules! options {
    (
        $($heading:literal {$(
            $(#[doc = $help:literal])+
            $(#[formerly($old:literal)])?
            $(#[arg($($arg:tt)*)])?
            $(#[serde($($serde:tt)*)])?
            $name:ident: $given:ty => $resolved:ty, $limit:expr, $defaults:expr $(, $shown:literal)?;
        )+})+
        in files only {$(
            $(#[doc = $file_help:literal])+
            $file_name:ident: $file_given:ty => $file_resolved:ty, $file_limit:expr, $file_defaults:expr;
        )+}
    ) => {
        /// One layer of a training's configuration: the options that a file, the command line or a preset sets. The names
        /// on the command line and the keys of a TOML file are the fields' own, with `-` for `_`. Whole numbers are `i64`
        /// here, so that a negative one gets the error of [`limits`](super::limits), which says what is allowed.
        #[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[command(allow_negative_numbers = true)]
        #[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
        pub struct TrainOptions {
            $($(
                $(#[doc = $help])+
                #[arg(long, help_heading = $heading, help = help(stringify!($name)) $(, alias = $old)? $(, $($arg)*)?)]
                $(#[serde(alias = $old)])?
                pub $name: Option<$given>,
            )+)+
            $(
                $(#[doc = $file_help])+
                #[arg(skip)]
                pub $file_name: Option<$file_given>,
            )+
        }

        /// The resolved configuration of a training: every value is present and within its limit. `None` means off, or
        /// chosen when training starts. Made by [`resolve`](super::resolve()); as TOML ([`TrainConfig::to_toml`]) it is a
        /// configuration file that resolves to itself.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case", deny_unknown_fields)]
        pub struct TrainConfig {
            $($(
                $(#[doc = $help])+
                $(#[serde($($serde)*)])?
                pub $name: $resolved,
            )+)+
            $(
                $(#[doc = $file_help])+
                pub $file_name: $file_resolved,
            )+
        }

        impl TrainOptions {
            /// The defaults of the preset `PRESETS[preset]`: the lowest layer of a configuration.
            pub(super) fn defaults(preset: usize) -> Self {
                Self {
                    $($($name: default($defaults, preset),)+)+
                    $($file_name: default($file_defaults, preset),)+
                }
            }
        }

        const OPTIONS: &[Row] = &[
            $($(Row {
                field: stringify!($name),
                help: concat!($($help),+),
                formerly: concat!($($old)?),
                limit: $limit,
                default: concat!($($shown)?),
            },)+)+
            $(Row {
                field: stringify!($file_name),
                help: concat!($($file_help),+),
                formerly: "",
                limit: $file_limit,
                default: "",
            },)+
        ];
    };
}

#[rustfmt::skip]
options! {
    "Run" {
        /// Model and its defaults, from the smallest to the largest
        #[arg(value_name = "NAME", value_parser = PossibleValuesParser::new(PRESETS))]
        preset: String => String, Any, PRESETS.map(str::to_owned), "tiny";
        /// Device to train on
        device: Device => Device, Any, [Device::Auto];
        /// Number format of activations and matrix products
        precision: Precision => Precision, Any, [Precision::Auto], "auto: f16 on a GPU, f32 on the CPU";
        /// On a GPU, launch the kernels one by one instead of replaying a captured graph: same bits, slower
        #[arg(num_args = 0, default_missing_value = "true")]
        no_graph: bool => bool, Any, [false];
        /// Check every operator's output and stop at the first that is not finite; slow, and without a graph
        #[arg(num_args = 0, default_missing_value = "true")]
        check_finite: bool => bool, Any, [false];
        /// CPU threads, 1 to 1024
        #[arg(value_name = "N")]
        threads: i64 => Option<usize>, Whole(1, 1024), [], "one per core";
        /// Seed of weights and data: the same seed gives the same bits
        #[arg(value_name = "N")]
        seed: i64 => u64, Whole(0, i64::MAX), [0];
        /// Start from these weights, with a new optimiser and step 0: a run folder, a checkpoint, or a safetensors file. Of a
        /// model with another --frames-out or --size, the tensors that fit are taken, and the others are listed
        #[arg(value_name = "WEIGHTS", conflicts_with = "resume")]
        init: PathBuf => Option<PathBuf>, Any, [];
        /// Run folder; must be empty or absent unless --resume is given
        #[arg(value_name = "DIR")]
        out: PathBuf => Option<PathBuf>, Any, [], "runs/PRESET-DATE-TIME";
    }
    "Data" {
        /// `digits` (built in), MNIST's IDX files or their folder, or clips: an .npy or .npz array, a GIF, an animated PNG, a
        /// video (through ffmpeg), a folder of these or of folders of PNG or JPEG frames; docs/data.md has the details.
        /// Colours stay colours; of grey clips, the model sees the grey three times and predicts the mean of its three channels
        #[arg(value_name = "digits|PATH")]
        data: String => String, Any, ["digits".to_owned()];
        /// Order of an array's axes
        #[arg(hide_possible_values = true, value_name = "auto|thw|…|ntchw")]
        layout: Layout => Layout, Any, [Layout::Auto];
        /// Values of an array that are black and white; others are clamped
        #[arg(value_name = "auto|BLACK,WHITE", allow_hyphen_values = true)]
        range: ValueRange => ValueRange, Any, [ValueRange::Auto];
        /// How frames of another size become the model's
        resize: Resize => Resize, Any, [Resize::Fill];
        /// Frames a second to take from animations and videos, at most 1000
        #[arg(value_name = "N")]
        fps: f64 => Option<f64>, Positive(1000.0), [], "all frames";
        /// Frames from the start of a window of a clip to the next one's
        #[arg(value_name = "FRAMES")]
        stride: i64 => Option<usize>, Whole(1, MILLION), [], "1 in training; in tests the window's length";
        /// Motion of the digits
        rule: Rule => Rule, Any, [Rule::Standard];
        /// Digits in a sequence, 1 to 64
        #[arg(value_name = "N")]
        digits: i64 => usize, Whole(1, 64), [2];
        /// Side of the frames in pixels, for which the model is built: a multiple of 16, 32 to 256
        #[formerly("canvas")]
        #[arg(value_name = "PIXELS")]
        size: i64 => usize, Whole(32, 256), [32, 64, 64, 64, 64];
        /// Side of a digit in pixels, at most --size
        #[arg(value_name = "PIXELS")]
        digit_size: i64 => usize, Whole(4, 1024), [14, 28, 28, 28, 28], "7/16 of --size: 28 for 64";
        // At least 3: the skip connections read the last three input frames.
        /// Input frames, from which the model predicts the next --frames-out; 3 to 1000
        #[arg(value_name = "N")]
        frames_in: i64 => usize, Whole(3, 1000), [10];
        /// Frames that one pass of the model predicts, 1 to 20; the decoder's skips have channels for each
        #[arg(value_name = "N")]
        frames_out: i64 => usize, Whole(1, 20), [2];
        /// Sequences in an epoch
        #[arg(value_name = "N")]
        sequences: i64 => usize, Whole(1, BILLION), [4000, 9000, 10000, 10000, 10000];
    }
    "Optimisation" {
        /// Length of the training in epochs
        #[arg(value_name = "N", conflicts_with = "steps")]
        epochs: i64 => Option<u64>, Whole(1, MILLION), [2, 7, 4, 10, 10];
        /// Length of the training in optimiser steps, instead of --epochs
        #[arg(value_name = "N")]
        steps: i64 => Option<u64>, Whole(1, BILLION), [];
        /// Sequences in a batch, 1 to 65536
        #[arg(value_name = "N")]
        batch_size: i64 => usize, Whole(1, 65536), [8, 8, 16, 16, 16];
        /// Batches in an optimiser step: their gradients are accumulated
        #[arg(value_name = "N")]
        accumulate: i64 => usize, Whole(1, 65536), [1];
        /// Highest learning rate
        #[arg(value_name = "RATE")]
        lr: f64 => f64, Positive(10.0), [1e-2, 1e-2, 1e-3, 2e-4, 2e-4];
        /// Warm-up: steps in which the learning rate rises linearly from zero
        #[arg(value_name = "STEPS")]
        warmup: i64 => u64, Whole(0, BILLION), [100, 100, 100, 0, 0];
        /// Learning rate after the warm-up
        schedule: ScheduleKind => ScheduleKind, Any, [Cosine, Cosine, Cosine, CosineEpoch, CosineEpoch];
        /// Weight decay of AdamW; norms, biases, A_log and D have none
        #[arg(value_name = "X")]
        weight_decay: f64 => f64, NotNegative(10.0), [1e-2, 1e-2, 1e-4, 1e-4, 1e-4];
        /// Loss function
        loss: Loss => Loss, Any, [L1Mse, L1Mse, L1Mse, L1, L1];
        /// Maximum norm of the gradient: a longer gradient is scaled to it; 0 turns it off
        #[arg(value_name = "NORM")]
        #[serde(with = "zero_is_off")]
        clip_norm: f64 => Option<f64>, NotNegative(1e9), [0.2, 0.2, 0.0, 0.0, 0.0];
        /// Decay of the exponential moving average of the weights, which is kept beside them, below 1; update t uses at most
        /// (1 + t)/(10 + t), so that a short training's average is of its end; 0 turns it off
        #[arg(value_name = "DECAY")]
        #[serde(with = "zero_is_off")]
        ema: f64 => Option<f64>, Below(1.0), [0.0];
    }
    "Checkpoints and evaluation" {
        /// Epochs between checkpoints; 0: only at the end
        #[arg(value_name = "EPOCHS")]
        #[serde(with = "zero_is_off")]
        save_every: i64 => Option<u64>, Whole(0, MILLION), [1, 1, 1, 5, 5];
        /// Optimiser steps between checkpoints, in addition to --save-every; 0 turns it off
        #[arg(value_name = "STEPS")]
        #[serde(with = "zero_is_off")]
        save_every_steps: i64 => Option<u64>, Whole(0, BILLION), [0];
        /// Number of newest checkpoints to keep; 0 keeps all
        #[arg(value_name = "N")]
        #[serde(with = "zero_is_off")]
        keep_last: i64 => Option<u64>, Whole(0, MILLION), [2];
        /// Epochs between evaluations; 0: only at the end
        #[arg(value_name = "EPOCHS")]
        #[serde(with = "zero_is_off")]
        eval_every: i64 => Option<u64>, Whole(0, MILLION), [1];
        /// Test sequences in an evaluation
        #[arg(value_name = "N")]
        eval_sequences: i64 => usize, Whole(1, MILLION), [500], "500; 16 on the emulator";
        /// Keep report.html in the run folder current: curves, errors, predictions and configuration, to open in a browser
        #[arg(num_args = 0, default_missing_value = "true")]
        report: bool => bool, Any, [false];
    }
    "Several ranks" {
        /// 1: each rank updates a share of the parameters, and all ranks gather the results (ZeRO stage 1); every rank still
        /// has memory for the moments of all parameters
        #[arg(value_name = "0|1")]
        zero: i64 => u8, Whole(0, 1), [0];
        /// Normalise with the statistics of all ranks' batches instead of each rank's own
        #[arg(num_args = 0, default_missing_value = "true")]
        sync_batchnorm: bool => bool, Any, [false];
        /// Size of a bucket of gradients, which are reduced together, in MiB
        #[arg(value_name = "MIB")]
        bucket_mib: i64 => usize, Whole(1, 65536), [25];
        /// Steps between two comparisons of all ranks' parameters; 0 turns it off
        #[arg(value_name = "STEPS")]
        #[serde(with = "zero_is_off")]
        check_ranks_every: i64 => Option<u64>, Whole(0, BILLION), [100];
        /// All-reduce that sums the gradients of GPUs
        comm: Comm => Comm, Any, [Comm::Ring];
        /// Seconds without data from another rank before a rank stops
        #[arg(value_name = "SECONDS")]
        comm_timeout: f64 => f64, Positive(1e6), [300.0];
    }
    in files only {
        /// Number of ranks that train together, each on batches of its own: set from the environment when training starts,
        /// never on the command line; in a file, the number that the run had.
        ranks: i64 => usize, Whole(1, 65535), [1];
        /// Folder in which the training was started, from which a relative path of its data starts.
        started_in: PathBuf => Option<PathBuf>, Any, [];
    }
}

/// One option as the command line's help, errors and limits need it.
struct Row {
    /// Name of the field: the option's name with `_` for `-`.
    field: &'static str,
    /// Lines of help, joined.
    help: &'static str,
    /// Name in older versions, which files may still have; empty: none.
    formerly: &'static str,
    limit: Limit,
    /// Text of the default in the help; empty: made from the values.
    default: &'static str,
}

impl TrainOptions {
    /// Names of all options, as in a file.
    pub fn names() -> impl Iterator<Item = String> {
        OPTIONS.iter().map(|row| row.field.replace('_', "-"))
    }

    /// The name of the option that an older version called `name`.
    pub(super) fn renamed(name: &str) -> Option<String> {
        let row = OPTIONS.iter().find(|row| !row.formerly.is_empty() && row.formerly == name);
        row.map(|row| row.field.replace('_', "-"))
    }
}

/// The limit of the option `name`, where it is a number.
pub(super) fn limit(name: &str) -> Option<Limit> {
    let field = name.replace('-', "_");
    OPTIONS.iter().find(|row| row.field == field).map(|row| row.limit).filter(|limit| *limit != Any)
}

/// The default of the option `name` for each of [`PRESETS`], as the help shows it.
pub fn shown_defaults(name: &str) -> Vec<String> {
    static DEFAULTS: LazyLock<Vec<Table>> = LazyLock::new(|| {
        (0..PRESETS.len()).map(|i| Table::try_from(TrainOptions::defaults(i)).unwrap_or_default()).collect()
    });
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Float(number) if *number != 0.0 && *number < 0.1 => format!("{number:e}"),
        Value::Float(number) => number.to_string(),
        other => other.to_string(),
    };
    DEFAULTS.iter().filter_map(|preset| preset.get(name)).map(text).collect()
}

/// The help of an option, with its default.
fn help(field: &str) -> String {
    let row = OPTIONS.iter().find(|row| row.field == field);
    let (help, shown) = row.map_or(("", ""), |row| (row.help.trim(), row.default));
    let shown = Some(shown.to_owned()).filter(|text| !text.is_empty());
    match shown.or_else(|| common_default(&field.replace('_', "-"))) {
        Some(default) => format!("{help} [default: {default}]"),
        None => help.to_owned(),
    }
}

/// The default that all presets share; or all but one, which is then named; else `the preset's`. Flags have none.
fn common_default(name: &str) -> Option<String> {
    let values = shown_defaults(name);
    let last = values.last().filter(|value| *value != "false")?;
    let mut others = values.iter().zip(PRESETS).filter(|(value, _)| *value != last);
    Some(match (others.next(), others.next()) {
        (None, _) => last.clone(),
        (Some((value, preset)), None) => format!("{last}; {preset}: {value}"),
        _ => "the preset's".to_owned(),
    })
}

/// The value for a preset out of one for each, one for all, or none.
fn default<T, const N: usize>(values: [T; N], preset: usize) -> Option<T> {
    const { assert!(N == PRESETS.len() || N <= 1, "one value for each preset, one for all, or none") }
    values.into_iter().nth(if N == 1 { 0 } else { preset })
}

/// Writes `None` as 0, so that a file can also turn off an option of a lower layer.
mod zero_is_off {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<T, S>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error>
    where
        T: Copy + Default + Serialize,
        S: Serializer,
    {
        value.unwrap_or_default().serialize(serializer)
    }

    pub fn deserialize<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
    where
        T: Default + PartialEq + Deserialize<'de>,
        D: Deserializer<'de>,
    {
        Ok(Some(T::deserialize(deserializer)?).filter(|value| *value != T::default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TrainConfig;

    #[test]
    fn the_presets_have_these_defaults() {
        let shared = |preset: &str, length: &str, rest: &str| {
            format!(
                "preset = \"{preset}\"\ndevice = \"auto\"\nprecision = \"auto\"\nno-graph = false\ncheck-finite = false\n\
                 seed = 0\ndata = \"digits\"\nlayout = \"auto\"\nrange = \"auto\"\nresize = \"fill\"\nrule = \"standard\"\ndigits = 2\n{length}\
                 {rest}save-every-steps = 0\nkeep-last = 2\neval-every = 1\neval-sequences = 500\nreport = false\n\
                 zero = 0\nsync-batchnorm = false\nbucket-mib = 25\ncheck-ranks-every = 100\ncomm = \"ring\"\ncomm-timeout = 300.0\n\
                 ranks = 1\n"
            )
        };
        let length = |size: i64, digit: i64, sequences: i64, epochs: i64, batch: i64| {
            format!(
                "size = {size}\ndigit-size = {digit}\nframes-in = 10\nframes-out = 2\nsequences = {sequences}\nepochs = {epochs}\n\
                 batch-size = {batch}\naccumulate = 1\n"
            )
        };
        let rest = |lr: f64, warmup: i64, schedule: &str, decay: f64, loss: &str, clip: f64, save: i64| {
            format!(
                "lr = {lr:?}\nwarmup = {warmup}\nschedule = \"{schedule}\"\nweight-decay = {decay:?}\nloss = \"{loss}\"\n\
                 clip-norm = {clip:?}\nema = 0.0\nsave-every = {save}\n"
            )
        };
        let quick = rest(1e-2, 100, "cosine", 1e-2, "l1+mse", 0.2, 1);
        let reference = rest(2e-4, 0, "cosine-epoch", 1e-4, "l1", 0.0, 5);
        for (preset, length, rest) in [
            ("nano", length(32, 14, 4000, 2, 8), &quick),
            ("tiny", length(64, 28, 9000, 7, 8), &quick),
            ("small", length(64, 28, 10000, 4, 16), &rest(1e-3, 100, "cosine", 1e-4, "l1+mse", 0.0, 1)),
            ("base", length(64, 28, 10000, 10, 16), &reference),
            ("large", length(64, 28, 10000, 10, 16), &reference),
        ] {
            let saved = TrainConfig::preset(preset).unwrap().to_toml().unwrap();
            assert_eq!(saved, shared(preset, &length, rest));
        }
        assert_eq!(
            PRESETS.to_vec(),
            crate::model::PRESETS.iter().map(|model| model.name).collect::<Vec<_>>()
        );
    }

    #[test]
    fn every_number_has_a_limit_and_help_that_agrees_with_it() {
        let defaults = Table::try_from(TrainOptions::defaults(0)).unwrap();
        for (name, value) in &defaults {
            let number = value.is_integer() || value.is_float();
            assert_eq!(limit(name).is_some(), number, "{name}");
        }
        for row in OPTIONS {
            let Some((before, after)) = row.help.split_once(" to ") else { continue };
            let low = before.rsplit(' ').next().and_then(|word| word.parse().ok());
            let high = after.split(' ').next().and_then(|word| word.parse().ok());
            if let (Some(low), Some(high)) = (low, high) {
                assert_eq!(row.limit, Whole(low, high), "{}", row.field);
            }
        }
    }

    #[test]
    fn the_help_shows_the_defaults() {
        for (field, expected) in [
            ("seed", "the same bits [default: 0]"),
            ("comm_timeout", "stops [default: 300]"),
            ("size", "32 to 256 [default: 64; nano: 32]"),
            ("loss", "Loss function [default: the preset's]"),
            ("threads", "1 to 1024 [default: one per core]"),
            ("steps", "instead of --epochs"),
            ("no_graph", "slower"),
        ] {
            assert!(help(field).ends_with(expected), "{}", help(field));
        }
    }
}
