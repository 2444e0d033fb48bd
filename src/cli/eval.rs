//! `eval`: a checkpoint's errors beside the baselines.

use std::path::PathBuf;

use clap::Args;

use super::{Ui, files};
use crate::config::{Device, Layout, Rule, limits};
use crate::{Error, Result};

/// Arguments of `eval`. What is left out is as the checkpoint was trained.
#[derive(Args, Clone, Debug)]
#[command(allow_negative_numbers = true)]
pub struct EvalArgs {
    /// A checkpoint, or a run folder: its latest checkpoint
    #[arg(long, value_name = "DIR")]
    pub checkpoint: PathBuf,
    /// `digits` (built in), a folder with MNIST's IDX files, or an .npy file of sequences [default: as
    /// trained]
    #[arg(long, value_name = "digits|DIR|FILE.npy", help_heading = "Data")]
    pub data: Option<String>,
    /// Order of the axes in an .npy file
    #[arg(long, default_value_t, help_heading = "Data")]
    pub layout: Layout,
    /// How the digits move [default: as trained]
    #[arg(long, help_heading = "Data")]
    pub rule: Option<Rule>,
    /// Digits in a sequence [default: as trained]
    #[arg(long, value_name = "N", value_parser = limits::whole::<u32>("digits"), help_heading = "Data")]
    pub digits: Option<u32>,
    /// Side of a frame in pixels [default: as trained]
    #[arg(long, value_name = "PIXELS", value_parser = limits::whole::<u32>("canvas"), help_heading = "Data")]
    pub canvas: Option<u32>,
    /// Side of a digit in pixels [default: as trained]
    #[arg(
        long,
        value_name = "PIXELS",
        value_parser = limits::whole::<u32>("digit-size"),
        help_heading = "Data"
    )]
    pub digit_size: Option<u32>,
    /// Frames that the model sees [default: as trained]
    #[arg(long, value_name = "N", value_parser = limits::whole::<u32>("frames-in"), help_heading = "Data")]
    pub frames_in: Option<u32>,
    /// Test sequences; an .npy file with fewer gives all it has
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1000,
        value_parser = limits::whole::<u32>("sequences"),
        help_heading = "Data"
    )]
    pub sequences: u32,
    /// Seed of the sequences
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0,
        value_parser = limits::whole::<u64>("seed"),
        help_heading = "Data"
    )]
    pub seed: u64,
    /// Frames to predict when each prediction is fed back, beside the 2 at once
    #[arg(long, value_name = "FRAMES", default_value_t = 10, value_parser = limits::whole::<u32>("roll-out"))]
    pub roll_out: u32,
    /// Range that SSIM takes values to have: 1, or 2 as older tables
    #[arg(long, value_name = "1|2", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=2))]
    pub ssim_range: u8,
    /// Sequences in a batch
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = limits::whole::<u32>("batch-size"))]
    pub batch_size: u32,
    /// CPU threads [default: one a core]
    #[arg(long, value_name = "N", value_parser = limits::whole::<u32>("threads"))]
    pub threads: Option<u32>,
    /// Device to compute on
    #[arg(long, default_value_t)]
    pub device: Device,
    /// Print the results as JSON instead of a table
    #[arg(long)]
    pub json: bool,
    /// Write the results to FILE as JSON too
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// Examples for the help.
pub const EXAMPLES: &str = "\
Examples:
  ssmv-raw eval --checkpoint runs/tiny
  ssmv-raw eval --checkpoint runs/tiny --data mnist_test_seq.npy --sequences 10000 --json
  ssmv-raw eval --checkpoint runs/tiny --rule ssm-video --digits 3 --roll-out 20 --out result.json";

/// Evaluates.
pub fn run(args: &EvalArgs, ui: &Ui) -> Result<()> {
    files::must_exist(&args.checkpoint)?;
    evaluate(args, ui)
}

/// The work itself.
fn evaluate(_args: &EvalArgs, _ui: &Ui) -> Result<()> {
    Err(Error::Failure("eval is not built yet".to_owned()))
}
