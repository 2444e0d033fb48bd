//! `predict`: the frames that follow.

use std::path::PathBuf;

use clap::Args;

use super::{Ui, files};
use crate::config::{Device, Layout, limits};
use crate::{Error, Result};

/// Arguments of `predict`.
#[derive(Args, Clone, Debug)]
#[command(allow_negative_numbers = true)]
pub struct PredictArgs {
    /// A checkpoint, or a run folder: its latest checkpoint
    #[arg(long, value_name = "DIR")]
    pub checkpoint: PathBuf,
    /// Frames to go on from: an .npy file, a GIF, or a folder of PNGs in the order of their names
    #[arg(long, value_name = "PATH")]
    pub input: PathBuf,
    /// Where to: an .npy file, a .gif or .png (input, truth, prediction and error side by side), else a
    /// folder of PNGs
    #[arg(long, value_name = "PATH")]
    pub output: PathBuf,
    /// Frames to predict; beyond 2, predictions are fed back
    #[arg(long, value_name = "K", default_value_t = 2, value_parser = limits::whole::<u32>("frames"))]
    pub frames: u32,
    /// Order of the axes in an .npy input
    #[arg(long, default_value_t)]
    pub layout: Layout,
    /// Which sequence of an .npy input, counted from 0
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = limits::whole::<u32>("index"))]
    pub index: u32,
    /// CPU threads [default: one a core]
    #[arg(long, value_name = "N", value_parser = limits::whole::<u32>("threads"))]
    pub threads: Option<u32>,
    /// Device to compute on
    #[arg(long, default_value_t)]
    pub device: Device,
    /// Write over an output that exists
    #[arg(long)]
    pub force: bool,
}

/// Examples for the help.
pub const EXAMPLES: &str = "\
Examples:
  ssmv-raw predict --checkpoint runs/tiny --input mnist_test_seq.npy --index 7 --output next.gif
  ssmv-raw predict --checkpoint runs/tiny --input frames/ --output next/ --frames 10
  ssmv-raw predict --checkpoint runs/tiny --input clip.gif --output next.npy --force";

/// Predicts.
pub fn run(args: &PredictArgs, ui: &Ui) -> Result<()> {
    files::must_exist(&args.checkpoint)?;
    files::must_exist(&args.input)?;
    files::must_be_free(&args.output, args.force)?;
    predict(args, ui)
}

/// The work itself.
fn predict(_args: &PredictArgs, _ui: &Ui) -> Result<()> {
    Err(Error::Failure("predict is not built yet".to_owned()))
}
