//! `data make` and `data show`: generate sequences of moving digits, and draw them.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};

use super::Ui;
use super::clip_args::ClipArgs;
use super::files::{self, Output};
use crate::clips::ClipOptions;
use crate::config::{Rule, limits};
use crate::data::{self, DataSource, DataSpec, Dataset, MakeOptions};
use crate::media::{self, Style};
use crate::train::interrupt::Interrupt;
use crate::{Error, Result};

/// Subcommands of `data`.
#[derive(Clone, Debug, Subcommand)]
pub enum DataCommand {
    /// Generate sequences and write them to an .npy file (uint8; frame, sequence, height, width)
    #[command(after_help = MAKE_EXAMPLES)]
    Make(MakeArgs),
    /// Draw a file's sequences as a GIF or a PNG strip
    #[command(after_help = SHOW_EXAMPLES)]
    Show(ShowArgs),
}

/// Command-line arguments of `data make`.
#[derive(Args, Clone, Debug)]
#[command(allow_negative_numbers = true)]
pub struct MakeArgs {
    /// File to write, ending in .npy
    #[arg(long, value_name = "FILE.npy")]
    pub out: PathBuf,
    /// `digits` (built in), or a folder with MNIST's IDX files
    #[arg(long, value_name = "digits|DIR", default_value = "digits")]
    pub data: String,
    /// Motion of the digits
    #[arg(long, default_value_t)]
    pub rule: Rule,
    /// Digits in a sequence
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = limits::whole::<u32>("digits"))]
    pub digits: u32,
    /// Side of a frame in pixels
    #[arg(long, value_name = "PIXELS", default_value_t = 64, value_parser = limits::whole::<u32>("canvas"))]
    pub canvas: u32,
    /// Side of a digit in pixels, at most the canvas
    #[arg(
        long,
        value_name = "PIXELS",
        default_value_t = 28,
        value_parser = limits::whole::<u32>("digit-size")
    )]
    pub digit_size: u32,
    /// Frames in a sequence
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = limits::whole::<u32>("frames"))]
    pub frames: u32,
    /// Number of sequences
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = limits::whole::<u32>("sequences"))]
    pub sequences: u32,
    /// Seed: the same seed gives the same file
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = limits::whole::<u64>("seed"))]
    pub seed: u64,
    /// Set of digits
    #[arg(long, default_value_t, value_enum)]
    pub split: Split,
    /// Overwrite an existing .npy file of sequences
    #[arg(long)]
    pub force: bool,
}

/// Command-line arguments of `data show`.
#[derive(Args, Clone, Debug)]
#[command(allow_negative_numbers = true)]
pub struct ShowArgs {
    /// Clips: an .npy or .npz array, a GIF, an animated PNG, a video, or a folder of them or of frames
    pub file: PathBuf,
    /// Picture to write: an animated .gif or a .png strip [default: FILE with .gif]
    #[arg(long, value_name = "FILE.gif|.png")]
    pub out: Option<PathBuf>,
    /// Number of sequences to draw, one below the other
    #[arg(long, value_name = "K", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub sequences: u32,
    /// How the clips are read
    #[command(flatten)]
    pub clips: ClipArgs,
    /// Overwrite an existing picture
    #[arg(long)]
    pub force: bool,
}

/// The two sets of digits, which have no digit in common.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Split {
    /// Digits for training
    #[default]
    Train,
    /// Digits for tests
    Test,
}

const MAKE_EXAMPLES: &str = "\
Examples:
  ssmv-raw data make --out train.npy --sequences 1000
  ssmv-raw data make --out three.npy --digits 3 --rule ssm-video --split test --seed 7";

const SHOW_EXAMPLES: &str = "\
Examples:
  ssmv-raw data show train.npy
  ssmv-raw data show mnist_test_seq.npy --sequences 8 --out strip.png";

/// Generates or draws sequences.
pub fn run(command: &DataCommand, ui: &Ui) -> Result<()> {
    match command {
        DataCommand::Make(args) => {
            files::must_end_in("--out", &args.out, &["npy"])?;
            if args.digit_size > args.canvas {
                let (digit, canvas) = (args.digit_size, args.canvas);
                return Err(Error::Usage(format!(
                    "--digit-size is {digit}, and must be at most --canvas, {canvas}"
                )));
            }
            files::must_be_free(&args.out, Output::Sequences, args.force)?;
            make(args, ui)
        }
        DataCommand::Show(args) => {
            files::must_exist(&args.file)?;
            let out = args.out.clone().unwrap_or_else(|| args.file.with_extension("gif"));
            files::must_end_in("--out", &out, &["gif", "png"])?;
            files::must_not_be_read("--out", &out, &[&args.file], None)?;
            files::must_be_free(&out, Output::picture(&out), args.force)?;
            show(args, &out, ui)
        }
    }
}

impl From<Split> for data::Split {
    fn from(split: Split) -> Self {
        match split {
            Split::Train => Self::Train,
            Split::Test => Self::Test,
        }
    }
}

/// Runs the command `data make`.
fn make(args: &MakeArgs, ui: &Ui) -> Result<()> {
    let source = DataSource::from_name(&args.data, ClipOptions::default())?;
    if let DataSource::Clips { path, .. } = source {
        return Err(Error::Usage(format!(
            "--data {}: must be `digits` or a folder with MNIST's files",
            path.display()
        )));
    }
    let dataset = Dataset::open(&DataSpec {
        source,
        rule: args.rule,
        digits: args.digits as usize,
        canvas: args.canvas as usize,
        digit_size: args.digit_size as usize,
        frames: args.frames as usize,
        seed: args.seed,
        sequences: u64::from(args.sequences),
        ..DataSpec::default()
    })?;
    dataset.notes().iter().for_each(|note| ui.note(note));
    let options = MakeOptions { overwrite: args.force };
    // A signal removes the unfinished file.
    let interrupt = Interrupt::install()?;
    let count = u64::from(args.sequences);
    data::make(&dataset, args.split.into(), count, &args.out, options, &mut || interrupt.check())?;
    let (frames, side) = (args.frames, args.canvas);
    ui.note(&format!("wrote {}: uint8 [{frames}, {}, {side}, {side}]", args.out.display(), args.sequences));
    Ok(())
}

/// Runs the command `data show`.
fn show(args: &ShowArgs, out: &Path, ui: &Ui) -> Result<()> {
    let options = args.clips.options(&args.file, None)?;
    media::show(&args.file, &options, args.sequences as usize, out, Style::default())?;
    ui.note(&format!("wrote {}", out.display()));
    Ok(())
}
