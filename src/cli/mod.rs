//! The command line: one module for each command. Results go to stdout, messages to stderr.

pub mod bench;
mod clip_args;
pub mod completions;
pub mod data;
pub mod doctor;
pub mod eval;
mod files;
pub mod info;
pub mod kernels;
pub mod launch;
pub mod predict;
mod progress;
mod ranks;
pub mod report;
pub mod selftest;
mod table;
pub mod train;
mod ui;
pub mod verify;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

pub use progress::Progress;
pub use table::Table;
pub use ui::Ui;

pub use crate::text::thousands;

use crate::{Error, Result};

/// Signal number of a write to a pipe that has no reader.
const SIGPIPE: i32 = 13;

/// Train, evaluate and run a video predictor: the next 2 frames from the last 10
#[derive(Debug, Parser)]
#[command(name = "ssmv-raw", version, max_term_width = 110, propagate_version = true, after_help = EXAMPLES)]
pub struct Cli {
    /// Print errors and results only: no progress bar, no notes
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Command to run
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  ssmv-raw train                       train `tiny`, a few minutes on a CPU
  ssmv-raw eval --checkpoint runs/R    compare its errors with the baselines
  ssmv-raw info --preset base          parameters and operations of each part
  ssmv-raw predict --checkpoint runs/R --input test.npy --output next.gif";

/// Commands of the program, one for each module.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a model, or continue a training
    #[command(after_help = train::after_help())]
    Train(Box<train::TrainArgs>),
    /// Run a command as several ranks, on one machine or on many, and supervise them
    #[command(after_help = launch::EXAMPLES)]
    Launch(launch::LaunchArgs),
    /// Evaluate a checkpoint and compare it with the baselines
    #[command(after_help = eval::EXAMPLES)]
    Eval(eval::EvalArgs),
    /// Predict the next frames of a sequence
    #[command(after_help = predict::EXAMPLES)]
    Predict(predict::PredictArgs),
    /// Write a report of runs to look at: curves, errors, predictions, configuration, as one HTML file
    #[command(after_help = report::EXAMPLES)]
    Report(report::ReportArgs),
    /// Generate and show sequences of moving digits
    #[command(subcommand)]
    Data(data::DataCommand),
    /// Show a model's parts: shapes, parameters, multiply-accumulates
    #[command(after_help = info::EXAMPLES)]
    Info(info::InfoArgs),
    /// Compare the operators with reference results (golden cases), value by value
    #[command(after_help = verify::EXAMPLES)]
    Verify(verify::VerifyArgs),
    /// Measure a training step, phase by phase, and compare it with the device's limits
    #[command(after_help = bench::EXAMPLES)]
    Bench(bench::BenchArgs),
    /// List, write or check the GPU kernels
    #[command(after_help = kernels::EXAMPLES)]
    Kernels(kernels::KernelsArgs),
    /// Show this machine's hardware and drivers, and which of them are used
    #[command(after_help = doctor::EXAMPLES)]
    Doctor(doctor::DoctorArgs),
    /// Check that a GPU computes the same as the CPU: every operator, the golden cases, short trainings
    #[command(after_help = selftest::EXAMPLES)]
    Selftest(selftest::SelftestArgs),
    /// Print the completion script of a shell
    #[command(after_help = completions::EXAMPLES)]
    Completions(completions::CompletionsArgs),
}

/// The whole program: reads the arguments, runs the command, and gives the exit code: 0, 2 for wrong usage, 1
/// for any other failure, 128 + n after signal n.
pub fn main() -> ExitCode {
    if let Err(e) = crate::launch::watch_parent() {
        Ui::new(true).error(&e.to_string());
        return ExitCode::from(e.exit_code());
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => return report_usage(&e),
    };
    let ui = Ui::new(cli.quiet);
    match run(&cli.command, &ui) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            // The reader closed the pipe: it has read enough.
            if !matches!(e, Error::Interrupted(SIGPIPE)) {
                ui.error(&e.to_string());
            }
            ExitCode::from(e.exit_code())
        }
    }
}

/// Runs a command with its parsed arguments.
pub fn run(command: &Command, ui: &Ui) -> Result<()> {
    match command {
        Command::Train(args) => train::run(args, ui),
        Command::Launch(args) => launch::run(args, ui),
        Command::Eval(args) => eval::run(args, ui),
        Command::Predict(args) => predict::run(args, ui),
        Command::Report(args) => report::run(args, ui),
        Command::Data(command) => data::run(command, ui),
        Command::Info(args) => info::run(args, ui),
        Command::Verify(args) => verify::run(args, ui),
        Command::Bench(args) => bench::run(args, ui),
        Command::Kernels(args) => kernels::run(args, ui),
        Command::Doctor(args) => doctor::run(args, ui),
        Command::Selftest(args) => selftest::run(args, ui),
        Command::Completions(args) => completions::run(args, ui),
    }
}

/// Prints the result of the argument parser: help and version as they are, an error as one line on stderr.
fn report_usage(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // `--help | head` closes the pipe early, which is not a failure.
            let _ = error.print();
            ExitCode::SUCCESS
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            ExitCode::from(2)
        }
        _ => {
            Ui::new(false).error(&one_line(&error.render().to_string()));
            ExitCode::from(2)
        }
    }
}

/// The parser's error without its heading, its usage summary and its line breaks.
pub(super) fn one_line(rendered: &str) -> String {
    let lines = rendered.lines().map(str::trim).filter(|line| !line.is_empty());
    let kept =
        lines.take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"));
    let mut text = String::new();
    for line in kept {
        match line {
            _ if text.is_empty() => text.push_str(line.trim_start_matches("error: ")),
            _ if line.starts_with("tip:") => text.extend(["; ", line]),
            _ => text.extend([" ", line]),
        }
    }
    text + "; try --help"
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }

    #[test]
    fn errors_of_the_parser_fit_on_a_line() {
        for (arguments, expected) in [
            (
                "train --batchsize 3",
                "unexpected argument '--batchsize' found; tip: a similar argument exists: '--batch-size'; try --help",
            ),
            (
                "train --rule x",
                "invalid value 'x' for '--rule <RULE>' [possible values: standard, ssm-video]; try --help",
            ),
            ("eval", "the following required arguments were not provided: --checkpoint <DIR>; try --help"),
            (
                "eval --checkpoint c --batch-size 0",
                "invalid value '0' for '--batch-size <N>': 0 is not in 1..=65536; try --help",
            ),
            (
                "train --epochs 1 --steps 2",
                "the argument '--epochs <N>' cannot be used with '--steps <N>'; try --help",
            ),
            (
                "tarin",
                "unrecognized subcommand 'tarin'; tip: a similar subcommand exists: 'train'; try --help",
            ),
        ] {
            let words = std::iter::once("ssmv-raw").chain(arguments.split(' '));
            let error = super::Cli::try_parse_from(words).unwrap_err();
            assert_eq!(super::one_line(&error.render().to_string()), expected, "{arguments}");
        }
    }
}
