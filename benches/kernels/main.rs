//! Measures the GPU kernels one by one at the shapes of `base`.
//!
//!     cargo bench --bench kernels -- [--device auto|cuda|emulator] [--filter TEXT] [--quick] [--out FILE.md]
//!
//! On a GPU: the median of 30 runs (`--quick`: 7) by CUDA events, after a warm-up, with random data and the L2 cache
//! flushed before each run. The roofline is the larger of the bytes over the bandwidth of a 1 GiB copy, measured in the same
//! run, and, for matrix products, the operations over the tensor cores' peak as the maker declares it.
//!
//! On the emulator: what a launch counts, on small shapes. The emulator's time says nothing about a GPU and is not shown.

mod cases;
mod device;
mod images;
mod norms;
mod sequences;

use std::{fmt::Write, process::ExitCode, sync::Arc};

use cases::{Case, Size, cases};
use device::{Flush, Ready, copy_bandwidth};
use ssmv_autograd::{
    Error,
    cuda::{Backend, Cuda, Emulated, EmulatorOptions, devices, is_usable},
};
use ssmv_emulator::Checks;
use ssmv_kernels::Target;

/// Dense f16 with f32 accumulation, in FLOP/s, of the chips whose names start so (NVIDIA's data sheets).
const TENSOR_PEAKS: [(&str, f64); 5] = [
    ("NVIDIA H100 PCIe", 756e12),
    ("NVIDIA H100 NVL", 835e12),
    ("NVIDIA H100", 989e12),
    ("NVIDIA H200", 989e12),
    ("NVIDIA A100", 312e12),
];

struct Options {
    device: String,
    filter: String,
    quick: bool,
    out: Option<String>,
}

/// The words after `--`; cargo adds `--bench`.
fn options() -> Result<Options, String> {
    let mut options = Options { device: "auto".into(), filter: String::new(), quick: false, out: None };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} wants a value"));
        match word.as_str() {
            "--bench" => {}
            "--quick" => options.quick = true,
            "--device" => options.device = value()?,
            "--filter" => options.filter = value()?,
            "--out" => options.out = Some(value()?),
            _ => return Err(format!("unknown option {word}: --device, --filter, --quick, --out")),
        }
    }
    Ok(options)
}

fn main() -> ExitCode {
    match options().and_then(|options| run(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), String> {
    let emulate = match options.device.as_str() {
        "cuda" => false,
        "emulator" => true,
        "auto" => !devices(Backend::Nvidia).is_ok_and(|all| all.first().is_some_and(is_usable)),
        other => return Err(format!("--device {other} is not one of auto, cuda, emulator")),
    };
    let table = if emulate { emulated(options) } else { measured(options) }.map_err(|e| e.to_string())?;
    print!("{table}");
    match &options.out {
        None => Ok(()),
        Some(path) => std::fs::write(path, table).map_err(|e| format!("{path}: cannot be written: {e}")),
    }
}

/// The cases whose family or name has the filter in it.
fn chosen(options: &Options, size: Size, target: Target) -> Vec<Case> {
    let mut all = cases(size, target);
    all.retain(|case| case.family.contains(&options.filter) || case.what.contains(&options.filter));
    all
}

/// Times on a GPU.
fn measured(options: &Options) -> Result<String, Error> {
    let cuda = Cuda::open(Backend::Nvidia, 0)?;
    let device = cuda.device();
    let runs = if options.quick { 7 } else { 30 };
    let mut flush = Flush::new(&cuda)?;
    let bandwidth = copy_bandwidth(&cuda, &mut flush, runs)?;
    cuda.trim()?;
    let peak = TENSOR_PEAKS.iter().find(|(start, _)| device.name.starts_with(start)).map(|(_, peak)| *peak);
    let said = peak.map_or("none known, so no share for matrix products".to_owned(), |peak| {
        format!("{:.0} TFLOP/s as the maker declares it (dense, f16, f32 sums)", peak / 1e12)
    });
    let mut table = format!(
        "Kernels on {}, driver for CUDA {}.{}; {} code. Median of {runs} runs by CUDA events, L2 flushed, random data.\n\
         Roofline: {:.0} GB/s, a copy of 1 GiB in this run (bytes read and written); tensor cores: {said}.\n\n\
         | kernel | shape | time, µs | GB/s | TFLOP/s | of the roofline |\n| --- | --- | --- | --- | --- | --- |\n",
        device.name,
        device.driver.0,
        device.driver.1,
        cuda.target(),
        bandwidth / 1e9
    );
    for case in chosen(options, Size::Full, cuda.target()) {
        let seconds = Ready::new(&cuda, &case)?.seconds(&cuda, &mut flush, runs)?;
        // The next case's buffers are of other sizes.
        cuda.trim()?;
        let (bytes, operations) = (case.work.bytes as f64, case.work.operations as f64);
        let bound = match (case.tensor, peak) {
            (false, _) => Some(bytes / bandwidth),
            (true, Some(peak)) => Some((bytes / bandwidth).max(operations / peak)),
            (true, None) => None,
        };
        let share = bound.map_or("-".to_owned(), |bound| format!("{:.0}%", 100.0 * bound / seconds));
        let Case { what, shape, .. } = &case;
        let (rate, speed) = (bytes / seconds / 1e9, operations / seconds / 1e12);
        let _ =
            writeln!(table, "| {what} | {shape} | {:.1} | {rate:.0} | {speed:.2} | {share} |", seconds * 1e6);
        eprintln!("{what} {shape}: {:.1} µs", seconds * 1e6);
    }
    Ok(table)
}

/// Counts on the emulator.
fn emulated(options: &Options) -> Result<String, Error> {
    let checks = Checks { traffic: true, ..Checks::NONE };
    let emulator = Emulated::new(&EmulatorOptions { checks, ..EmulatorOptions::default() });
    let cuda = Cuda::over(Arc::new(emulator))?;
    let mut table = String::from(
        "Kernels on the emulator, sm_80 code, small shapes: counts, no times. Sectors are of 32 bytes; the ideal is what \
         the same bytes take when each warp's are contiguous and aligned.\n\n\
         | kernel | shape | instructions of a warp | tensor MACs | sectors | of the ideal | shared passes | bank conflicts |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for case in chosen(options, Size::Small, Target::Sm80) {
        let counts = Ready::new(&cuda, &case)?.counts(&cuda)?;
        let excess = counts.global_sectors as f64 / counts.global_sectors_ideal.max(1) as f64;
        let _ = writeln!(
            table,
            "| {} | {} | {} | {} | {} | {excess:.2} | {} | {} |",
            case.what,
            case.shape,
            counts.warp_instructions,
            counts.tensor_macs,
            counts.global_sectors,
            counts.shared_passes,
            counts.bank_conflicts
        );
    }
    Ok(table)
}
