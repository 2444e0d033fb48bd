//! The command line: one module a command. What a machine reads goes to stdout, all else to stderr.

pub mod bench;
pub mod completions;
pub mod data;
mod device;
pub mod doctor;
pub mod eval;
mod files;
pub mod info;
mod inputs;
pub mod kernels;
pub mod launch;
pub mod predict;
mod progress;
mod ranks;
pub mod selftest;
mod table;
pub mod threads;
pub mod train;
mod ui;
mod usage;
pub mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use progress::Progress;
pub use table::{Table, thousands};
pub use ui::Ui;

use crate::{Error, Result};

/// The signal for a pipe without a reader.
const SIGPIPE: i32 = 13;

/// Train, evaluate and run a video predictor: the next 2 frames from the last 10
#[derive(Debug, Parser)]
#[command(name = "ssmv-raw", version, max_term_width = 110, propagate_version = true, after_help = EXAMPLES)]
pub struct Cli {
    /// Print errors and results only: no bar, no notes
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  ssmv-raw train                                       train `tiny` on moving digits, a few minutes on a CPU
  ssmv-raw eval --checkpoint runs/R                    its errors beside the baselines
  ssmv-raw predict --checkpoint runs/R --input test.npy --output next.gif
  ssmv-raw info --preset base                          parameters and work, part by part";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a model, or go on training it
    #[command(after_help = train::after_help())]
    Train(Box<train::TrainArgs>),
    /// Run a command as several ranks, on this machine or on many, and watch over them
    #[command(after_help = launch::EXAMPLES)]
    Launch(launch::LaunchArgs),
    /// Measure a checkpoint's predictions beside the baselines
    #[command(after_help = eval::EXAMPLES)]
    Eval(eval::EvalArgs),
    /// Predict the frames that follow
    #[command(after_help = predict::EXAMPLES)]
    Predict(predict::PredictArgs),
    /// Make and show sequences of moving digits
    #[command(subcommand)]
    Data(data::DataCommand),
    /// Show a model's parts: shapes, parameters, multiply-accumulates
    #[command(after_help = info::EXAMPLES)]
    Info(info::InfoArgs),
    /// Run golden cases and compare every value
    #[command(after_help = verify::EXAMPLES)]
    Verify(verify::VerifyArgs),
    /// Time a training step by its phases, beside the least that it could take
    #[command(after_help = bench::EXAMPLES)]
    Bench(bench::BenchArgs),
    /// List, write or check the GPU kernels
    #[command(after_help = kernels::EXAMPLES)]
    Kernels(kernels::KernelsArgs),
    /// Say what this machine has, and what of it is used
    #[command(after_help = doctor::EXAMPLES)]
    Doctor(doctor::DoctorArgs),
    /// Check that a GPU computes what the CPU does: every operator, the golden cases, short trainings
    #[command(after_help = selftest::EXAMPLES)]
    Selftest(selftest::SelftestArgs),
    /// Print a shell's completion script
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
        Err(e) => return usage::report(&e),
    };
    let ui = Ui::new(cli.quiet);
    match run(&cli.command, &ui) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            // The reader closed the pipe because it has read enough.
            if !matches!(e, Error::Interrupted(SIGPIPE)) {
                ui.error(&e.to_string());
            }
            ExitCode::from(e.exit_code())
        }
    }
}

/// Runs one command.
pub fn run(command: &Command, ui: &Ui) -> Result<()> {
    match command {
        Command::Train(args) => train::run(args, ui),
        Command::Launch(args) => launch::run(args, ui),
        Command::Eval(args) => eval::run(args, ui),
        Command::Predict(args) => predict::run(args, ui),
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
