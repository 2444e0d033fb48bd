//! `selftest`: checks that a GPU computes the same as the CPU.

use std::time::Instant;

use clap::Args;
use ssmv_autograd::cuda::{self, Backend, Cuda};

use super::{Table, Ui};
use crate::check::{
    Verdict,
    selftest::{self, Check, Extent, Options, Report},
};
use crate::config::Device;
use crate::text::clock;
use crate::{Error, Result, device};

/// Command-line arguments of `selftest`.
#[derive(Args, Clone, Debug)]
pub struct SelftestArgs {
    /// Device to check
    #[arg(long, default_value_t)]
    pub device: Device,
    /// Use small sizes and a training of `nano`, as on the emulator
    #[arg(long)]
    pub small: bool,
    /// Only cases whose name contains TEXT
    #[arg(long, value_name = "TEXT")]
    pub filter: Option<String>,
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
    /// Change the expected result of the case CASE, to see that it fails
    #[arg(long, value_name = "CASE", hide = true)]
    pub fault: Option<String>,
}

/// Examples for the help.
pub const EXAMPLES: &str = "\
Compares every operator and the optimiser with the CPU, the golden cases with PyTorch's results, and short trainings \
with each other and with the CPU. The emulator runs small sizes and a training of `nano`; a GPU also runs the sizes of \
`base` and a training of `tiny`. A row shows the comparison of its case that is nearest to its bound. The exit code is 1 \
if a comparison fails.

Examples:
  ssmv-raw selftest
  ssmv-raw selftest --device cuda --json
  ssmv-raw selftest --device emulator --filter conv2d";

/// Runs the selftest and prints its comparisons.
pub fn run(args: &SelftestArgs, ui: &Ui) -> Result<()> {
    let start = Instant::now();
    let cuda = open(args.device)?;
    let extent = if args.small { Extent::Small } else { Extent::of(&cuda) };
    let options = Options { extent, filter: args.filter.clone(), fault: args.fault.clone() };
    ui.note(&format!("selftest of {}", cuda.device().name));
    let report = selftest::run(&cuda, &options, &mut |line| ui.note(line))?;
    if args.json {
        ui.json(&report)?;
    } else {
        ui.table(&table(&report))?;
    }
    for Check { comparison, .. } in report.failures() {
        if let Some(message) = &comparison.message {
            ui.warn(&format!("{} {}: {message}", comparison.case, comparison.tensor));
        }
    }
    let (failed, all) = (report.failures().count(), report.checks.len());
    if !report.passed() {
        return Err(Error::Failure(format!("{failed} of {all} comparisons failed on {}", report.device)));
    }
    let time = clock(start.elapsed().as_secs_f64());
    ui.note(&format!("{all} comparisons passed on {} in {time}", report.device));
    Ok(())
}

/// The device to check.
fn open(device: Device) -> Result<Cuda> {
    let elsewhere = "use --device emulator to check the kernels without a GPU";
    match (device::open(device)?, device) {
        (Some(cuda), _) => Ok(cuda),
        (None, Device::Cpu) => Err(Error::Usage(
            "--device cpu: devices are compared with the CPU; use --device cuda or --device emulator".into(),
        )),
        (None, _) => {
            let why = match cuda::devices(Backend::Nvidia) {
                Err(error) => format!(": {error}"),
                Ok(_) => String::new(),
            };
            Err(Error::Failure(format!("no usable GPU{why}; {elsewhere}")))
        }
    }
}

/// One row for each case: the comparison that failed, or the one nearest to its bound.
fn table(report: &Report) -> Table {
    let mut table = Table::new(["case", "compared", "worst", "error", "bound", "verdict"]);
    let number = |n: Option<f64>| n.map_or("-".to_owned(), |n| format!("{n:.2e}"));
    let mut part = None;
    for case in report.checks.chunk_by(|a, b| a.part == b.part && a.comparison.case == b.comparison.case) {
        let Some(Check { part: of, comparison: worst }) =
            case.iter().max_by(|a, b| closeness(a).total_cmp(&closeness(b)))
        else {
            continue;
        };
        if part.replace(*of) != Some(*of) {
            table.row([of.to_string()]);
        }
        table.row([
            format!("  {}", worst.case),
            case.len().to_string(),
            worst.tensor.clone(),
            number(worst.error),
            number(worst.bound),
            worst.verdict.to_string(),
        ]);
    }
    table
}

/// Error of a comparison divided by its bound; infinite if it failed.
fn closeness(Check { comparison, .. }: &Check) -> f64 {
    match (comparison.verdict, comparison.error, comparison.bound) {
        (Verdict::Fail, ..) => f64::INFINITY,
        (_, Some(error), Some(bound)) if bound > 0.0 => error / bound,
        _ => 0.0,
    }
}
