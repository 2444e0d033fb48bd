//! `info`: a model's parts.

use clap::Args;
use clap::builder::PossibleValuesParser;

use super::Ui;
use crate::config::{limits, presets};
use crate::{Error, Result};

/// Arguments of `info`.
#[derive(Args, Clone, Debug)]
#[command(allow_negative_numbers = true)]
pub struct InfoArgs {
    /// The model
    #[arg(
        long,
        value_name = "NAME",
        default_value = presets::DEFAULT,
        value_parser = PossibleValuesParser::new(presets::names())
    )]
    pub preset: String,
    /// Frames that the model sees
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = limits::whole::<u32>("frames-in"))]
    pub frames_in: u32,
    /// Sequences in a batch, for the shapes and the work
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = limits::whole::<u32>("batch-size"))]
    pub batch_size: u32,
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

/// Examples for the help.
pub const EXAMPLES: &str = "\
Examples:
  ssmv-raw info
  ssmv-raw info --preset base --frames-in 20
  ssmv-raw info --preset large --json";

/// Shows the model.
pub fn run(args: &InfoArgs, ui: &Ui) -> Result<()> {
    show(args, ui)
}

/// The work itself.
fn show(_args: &InfoArgs, _ui: &Ui) -> Result<()> {
    Err(Error::Failure("info is not built yet".to_owned()))
}
