//! `bench`: time of a training step, phase by phase.

use clap::Args;
use clap::builder::PossibleValuesParser;

use super::info::short;
use super::{Table, Ui};
use crate::config::{self, Device, Precision, TrainConfig, limits};
use crate::train::bench::{BenchSpec, Measured, PhaseTime, bench};
use crate::{Error, Result, device};

/// Command-line arguments of `bench`.
#[derive(Args, Clone, Debug)]
#[command(allow_negative_numbers = true)]
pub struct BenchArgs {
    /// Name of the model
    #[arg(
        long,
        value_name = "NAME",
        default_value = config::DEFAULT_PRESET,
        value_parser = PossibleValuesParser::new(config::PRESETS)
    )]
    pub preset: String,
    /// Device to train on
    #[arg(long, default_value_t)]
    pub device: Device,
    /// Number format of activations and matrix products
    #[arg(long, default_value_t)]
    pub precision: Precision,
    /// Batch sizes in sequences, one measurement for each [default: the preset's]
    #[arg(
        long,
        value_name = "N,…",
        value_delimiter = ',',
        value_parser = limits::whole::<u32>("batch-size")
    )]
    pub batch_size: Vec<u32>,
    /// Input frames of the model
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = limits::whole::<u32>("frames-in"))]
    pub frames_in: u32,
    /// Frames that one pass predicts
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = limits::whole::<u32>("frames-out"))]
    pub frames_out: u32,
    /// Side of a frame in pixels, a multiple of 16 [default: the preset's]
    #[arg(long, value_name = "PIXELS", value_parser = limits::whole::<u32>("size"))]
    pub size: Option<u32>,
    /// Steps in a round [default: 20 on a GPU, 5 on the CPU, 1 on the emulator]
    #[arg(long, value_name = "N", value_parser = limits::whole::<u32>("steps"))]
    pub steps: Option<u32>,
    /// One round of one step, and small sizes for the device's rates: a quick check that everything runs
    #[arg(long)]
    pub small: bool,
    /// CPU threads [default: one per core]
    #[arg(long, value_name = "N", value_parser = limits::whole::<u32>("threads"))]
    pub threads: Option<u32>,
    /// Print JSON, one line for each batch size, instead of tables
    #[arg(long)]
    pub json: bool,
}

/// Examples for the help.
pub const EXAMPLES: &str = "\
Examples:
  ssmv-raw bench --device cuda --preset base --batch-size 16,64
  ssmv-raw bench --device cpu --preset tiny --steps 10
  ssmv-raw bench --device cpu --precision bf16
  ssmv-raw bench --device emulator --preset nano --batch-size 2 --json";

/// Measures and prints the results.
pub fn run(args: &BenchArgs, ui: &Ui) -> Result<()> {
    device::use_threads(args.threads.map(|n| n as usize))?;
    let mut batch_sizes: Vec<usize> = args.batch_size.iter().map(|&n| n as usize).collect();
    if batch_sizes.is_empty() {
        batch_sizes.push(TrainConfig::preset(&args.preset)?.batch_size);
    }
    let spec = BenchSpec {
        preset: args.preset.clone(),
        device: args.device,
        precision: args.precision,
        batch_sizes,
        frames_in: args.frames_in as usize,
        frames_out: args.frames_out as usize,
        size: args.size.map(|size| size as usize),
        steps: args.steps.map(|n| n as usize),
        small: args.small,
    };
    bench(&spec, &mut |measured| {
        if measured.driver == "emulator" {
            ui.warn("these times are the emulator's on this CPU; they do not predict the speed of a GPU");
        }
        if measured.skipped > 0 {
            ui.warn(&format!("{} steps overflowed, so the optimiser did less work", measured.skipped));
        }
        match args.json {
            true => ui.print(&line(measured)?),
            false => ui.print(&format!(
                "{}\n{}{}{}\n",
                heading(measured),
                table(measured),
                operators(measured),
                footing(measured)
            )),
        }
    })
}

/// The measurement as one line of JSON.
fn line(measured: &Measured) -> Result<String> {
    let mut json = serde_json::to_value(measured)
        .map_err(|e| Error::Failure(format!("the result does not fit JSON: {e}")))?;
    json["floor_seconds"] = measured.floor_seconds().into();
    json["share_of_matrix_rate"] = measured.share_of_matrix_rate().into();
    Ok(format!("{json}\n"))
}

/// Time and memory of the step as a training runs it.
fn heading(measured: &Measured) -> String {
    let Measured { preset, batch_size, size, frames_in, frames_out, .. } = measured;
    let Measured { precision, device, driver, rounds, steps, .. } = measured;
    let (how, driver) = match measured.device_bytes {
        Some(_) => ("a captured step", format!(" ({driver})")),
        None => ("a step", String::new()),
    };
    let bytes = |bytes: u64| short(bytes as f64, "B");
    let mut text = format!(
        "{preset}, batch {batch_size}, {frames_in} + {frames_out} frames of {size}×{size}, {precision}, on {device}{driver}\n\
         {how}: {} ms, {:.1} samples/s (median of {rounds} × {steps})\nmemory at its peak: {}",
        milliseconds(measured.seconds),
        measured.samples_per_second,
        bytes(measured.peak_bytes)
    );
    if let (Some(device), Some(predicted)) = (measured.device_bytes, measured.predicted_bytes) {
        text += &format!(" in the pool, {} of the device, {} predicted", bytes(device), bytes(predicted));
    }
    text + "\n"
}

/// One row for each phase, their sum, and the step itself.
fn table(measured: &Measured) -> Table {
    let Measured { phases, rates, .. } = measured;
    let headings = ["phase", "ms", "launches", "to move", "to do", "floor, ms", "of the floor"];
    let mut table = Table::new(&headings[..if rates.is_some() { headings.len() } else { 2 }]);
    let mut row = |part: &PhaseTime| {
        let mut cells = vec![part.name.to_owned(), milliseconds(part.seconds)];
        if let Some(floor) = part.floor_seconds {
            cells.extend([
                part.launches.to_string(),
                short(part.bytes as f64, "B"),
                short(part.operations as f64, "FLOP"),
                milliseconds(floor),
                format!("{:.0}%", 100.0 * floor / part.seconds.max(1e-12)),
            ]);
        }
        table.row(cells);
    };
    phases.iter().for_each(&mut row);
    let sum = PhaseTime {
        name: "all of them",
        seconds: phases.iter().map(|phase| phase.seconds).sum(),
        launches: phases.iter().map(|phase| phase.launches).sum(),
        bytes: phases.iter().map(|phase| phase.bytes).sum(),
        operations: phases.iter().map(|phase| phase.operations).sum(),
        floor_seconds: measured.floor_seconds(),
    };
    row(&sum);
    row(&PhaseTime { name: "the step", seconds: measured.seconds, ..sum });
    table
}

/// One row for each operator and shape on the CPU, and the processor's measured rates.
fn operators(measured: &Measured) -> String {
    let Some(rates) = measured.processor else { return String::new() };
    let mut table = Table::new(["operator", "pass", "inputs", "passes", "ms", "GFLOP/s", "GB/s"]);
    let rate = |amount: f64, seconds: f64| match amount > 0.0 {
        true => format!("{:.1}", amount / seconds.max(1e-9) / 1e9),
        false => "–".to_owned(),
    };
    for one in &measured.operators {
        table.row(vec![
            one.name.to_owned(),
            one.direction.to_owned(),
            one.shapes.clone(),
            one.passes.to_string(),
            milliseconds(one.seconds),
            rate(one.operations as f64, one.seconds),
            rate(one.bytes as f64, one.seconds),
        ]);
    }
    let bf16 = rates.bf16_operations.map_or("no bf16 products".to_owned(), |r| short(r, "FLOP/s of bf16"));
    format!(
        "\n{table}the processor's rates, measured: {}, {bf16}, {}\n",
        short(rates.f32_operations, "FLOP/s of f32"),
        short(rates.memory_bytes, "B/s of memory, read and written")
    )
}

/// Explanation of the floor, below the table.
fn footing(measured: &Measured) -> String {
    let (Some(rates), Some(share)) = (measured.rates, measured.share_of_matrix_rate()) else {
        return String::new();
    };
    format!(
        "The phases were launched kernel by kernel; the step is the captured one, and does its operations at {:.1}% of the \
         matrix rate.\nFloor: what each kernel must move at {} (a large copy) or do at {} (our own large product), \
         whichever takes longer;\nboth rates measured in this run.\n",
        100.0 * share,
        short(rates.bytes_per_second, "B/s"),
        short(rates.operations_per_second, "FLOP/s")
    )
}

fn milliseconds(seconds: f64) -> String {
    format!("{:.3}", seconds * 1e3)
}
