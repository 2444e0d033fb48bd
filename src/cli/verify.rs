//! `verify`: compares this engine with golden cases.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use ssmv_autograd::{DType, bf16_available};

use super::{Table, Ui, files};
use crate::config::Device;
use crate::{
    Error, Result,
    check::{TargetDevice, verify},
    device,
};

/// Command-line arguments of `verify`.
#[derive(Args, Clone, Debug)]
pub struct VerifyArgs {
    /// Golden cases: files or folders
    #[arg(value_name = "PATH", required = true)]
    pub paths: Vec<PathBuf>,
    /// Device to compute on
    #[arg(long, default_value_t)]
    pub device: Device,
    /// Number format of the computation [default: f32 on the CPU, f16 on a GPU]
    #[arg(long, value_enum)]
    pub dtype: Option<Dtype>,
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

/// Number formats in which cases can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Dtype {
    /// 64 bits
    F64,
    /// 32 bits
    F32,
    /// 16 bits with 32-bit sums, on a GPU
    F16,
    /// f32 with products of bf16, on a CPU with avx512_bf16
    Bf16,
}

/// Examples for the help.
pub const EXAMPLES: &str = "\
The exit code is 1 if a case fails or its operator is unknown.

Examples:
  ssmv-raw verify tests/golden
  ssmv-raw verify tests/golden/conv2d_3x3.safetensors --dtype f64 --json
  ssmv-raw verify tests/golden --device emulator --dtype f16";

/// Opens the device and runs the cases.
pub fn run(args: &VerifyArgs, ui: &Ui) -> Result<()> {
    let device = target(args)?;
    args.paths.iter().try_for_each(|path| files::must_exist(path))?;
    verify(args, &device, ui)
}

/// The device and format of the computation.
fn target(args: &VerifyArgs) -> Result<TargetDevice> {
    // A format that only the CPU has selects the CPU.
    let device = match args.dtype {
        Some(Dtype::F32 | Dtype::F64 | Dtype::Bf16) if args.device == Device::Auto => None,
        _ => device::open(args.device)?,
    };
    let dtype = match args.dtype {
        Some(Dtype::F64) => Some(DType::F64),
        Some(Dtype::F32) => Some(DType::F32),
        Some(Dtype::F16) => Some(DType::F16),
        Some(Dtype::Bf16) if device.is_some() => {
            return Err(Error::Usage("--dtype bf16 needs the CPU: add --device cpu".into()));
        }
        Some(Dtype::Bf16) if bf16_available() => return Ok(TargetDevice::CpuBf16),
        Some(Dtype::Bf16) => {
            return Err(Error::Usage(
                "--dtype bf16: this processor has no products of bf16 (avx512_bf16)".into(),
            ));
        }
        None => None,
    };
    TargetDevice::new(dtype, device)
}

/// Runs the cases and prints the comparisons.
fn verify(args: &VerifyArgs, device: &TargetDevice, ui: &Ui) -> Result<()> {
    let report = verify::run(&args.paths, device)?;
    if args.json {
        ui.json(&report)?;
    } else {
        let number = |n: Option<f64>| n.map_or("-".to_owned(), |n| format!("{n:.2e}"));
        let mut table = Table::new(["case", "tensor", "error", "bound", "verdict"]);
        for row in &report.rows {
            let cells = [row.case.clone(), row.tensor.clone(), number(row.error), number(row.bound)];
            table.row(cells.into_iter().chain([row.verdict.to_string()]));
        }
        ui.table(&table)?;
    }
    for row in report.failures() {
        if let Some(message) = &row.message {
            ui.warn(&format!("{} {}: {message}", row.case, row.tensor));
        }
    }
    let (failed, all) = (report.failures().count(), report.rows.len());
    if !report.passed() {
        return Err(Error::Failure(format!("{failed} of {all} comparisons in {} failed", report.dtype)));
    }
    ui.note(&format!("{all} comparisons in {} passed", report.dtype));
    Ok(())
}
