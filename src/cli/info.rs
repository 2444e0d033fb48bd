//! `info`: the parts of a model, and the device memory of its training.

use clap::Args;
use clap::builder::PossibleValuesParser;
use serde::Serialize;

use super::{Table, Ui, thousands};
use crate::config::{self, Device, TrainConfig, limits};
use crate::model::Preset;
use crate::model::info::{Info, Part, info};
use crate::train::{StepMemory, step_memory};
use crate::{Error, Result, device};

/// Command-line arguments of `info`.
#[derive(Args, Clone, Debug)]
#[command(allow_negative_numbers = true)]
pub struct InfoArgs {
    /// Name of the model
    #[arg(
        long,
        value_name = "NAME",
        default_value = config::DEFAULT_PRESET,
        value_parser = PossibleValuesParser::new(config::PRESETS)
    )]
    pub preset: String,
    /// Input frames of the model
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = limits::whole::<u32>("frames-in"))]
    pub frames_in: u32,
    /// Frames that one pass predicts
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = limits::whole::<u32>("frames-out"))]
    pub frames_out: u32,
    /// Side of a frame in pixels, a multiple of 16 [default: the preset's]
    #[arg(long, value_name = "PIXELS", value_parser = limits::whole::<u32>("size"))]
    pub size: Option<u32>,
    /// Sequences in a batch, for shapes, operations and memory [default: 1; with --device: the preset's training batch]
    #[arg(long, value_name = "N", value_parser = limits::whole::<u32>("batch-size"))]
    pub batch_size: Option<u32>,
    /// Also count the memory of a training step on this device: `cuda` (no GPU needed) or `emulator`
    #[arg(long)]
    pub device: Option<Device>,
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

/// Examples for the help.
pub const EXAMPLES: &str = "\
Examples:
  ssmv-raw info
  ssmv-raw info --preset base --frames-in 20
  ssmv-raw info --size 128 --frames-out 10
  ssmv-raw info --preset base --device cuda --batch-size 16
  ssmv-raw info --preset large --json";

/// The model and, with `--device`, the memory of its training.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    info: Info,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<StepMemory>,
}

/// Prints the parts of the model.
pub fn run(args: &InfoArgs, ui: &Ui) -> Result<()> {
    let preset = Preset::find(&args.preset)
        .ok_or_else(|| Error::Usage(format!("--preset: unknown preset `{}`", args.preset)))?;
    let size = args.size.map_or(preset.size, |size| size as usize);
    let preset = &preset.with(size, args.frames_out as usize)?;
    let training = args.device.map(|device| training(args, preset, device)).transpose()?;
    let of_training = training.as_ref().map(|(config, _)| config.batch_size);
    let batch = args.batch_size.map(|n| n as usize).or(of_training).unwrap_or(1);
    let info = info(preset, args.frames_in as usize, batch)?;
    let memory = training.as_ref().map(|(config, device)| step_memory(config, device.clone())).transpose()?;
    if args.json {
        return ui.json(&Shown { info, memory });
    }
    ui.print(&format!("{}\n{}", table(&info), summary(&info)))?;
    match &memory {
        Some(memory) => ui.print(&format!("\n{}\n{}", memory_table(memory), memory_summary(memory))),
        None => Ok(()),
    }
}

/// The configuration to count, and a device of its kind with unlimited memory, so that no size fails.
fn training(
    args: &InfoArgs,
    preset: &Preset,
    device: Device,
) -> Result<(TrainConfig, ssmv_autograd::cuda::DeviceInfo)> {
    let mut config = TrainConfig::of(preset)?;
    config.frames_in = args.frames_in as usize;
    config.batch_size = args.batch_size.map_or(config.batch_size, |n| n as usize);
    let mut device = device::describe(device)?.ok_or_else(|| {
        Error::Usage("--device cpu: memory is counted only for cuda and emulator; omit --device".into())
    })?;
    device.memory = u64::MAX / 4;
    Ok((config, device))
}

/// One row for each part of the memory.
fn memory_table(memory: &StepMemory) -> Table {
    let heading = format!("memory of a training step, batch {}", memory.batch_size);
    let mut table = Table::new([heading.as_str(), "bytes", ""]);
    let row = |name: &str, bytes: u64| [name.to_owned(), thousands(bytes), short(bytes as f64, "B")];
    memory.parts.iter().for_each(|part| {
        table.row(row(part.name, part.bytes));
    });
    table.line();
    table.row(row("at the peak", memory.peak_bytes));
    table
}

/// Explains which memory was counted.
fn memory_summary(memory: &StepMemory) -> String {
    let StepMemory { device, kernels, launches, evaluation_peak_bytes, .. } = memory;
    format!(
        "Counted for {device}, without running it: {launches} launches a step, {kernels} kernels. With an evaluation \
         between steps: {}.\nNot counted: the kernels' code and the driver's own context, together some 0.5 GB.\n",
        short(*evaluation_peak_bytes as f64, "B")
    )
}

/// One row for each part, under one row for each group.
fn table(info: &Info) -> Table {
    let mut table = Table::new([info.preset.as_str(), "output", "parameters", "MACs a sample"]);
    let row = |name: String, part: &Part| {
        let sizes: Vec<String> = part.output.iter().map(usize::to_string).collect();
        [name, sizes.join("×"), thousands(part.parameters), thousands(part.macs)]
    };
    for group in &info.groups {
        table.row(row(group.name.clone(), group));
        for part in &info.parts {
            if let Some(name) = part.name.strip_prefix(&group.name) {
                table.row(row(format!("  {}", name.trim_start_matches('.')), part));
            }
        }
        table.line();
    }
    table.row(["total", "", &thousands(info.parameters), &thousands(info.macs)]);
    table
}

/// The totals in the units of papers, and what they include.
fn summary(info: &Info) -> String {
    let Info { size, frames_in, frames_out, batch_size, parameters, macs, .. } = info;
    let batch = match batch_size {
        1 => String::new(),
        n => format!(", {} a batch of {n}", short(*macs as f64 * *n as f64, "MACs")),
    };
    format!(
        "{} ({} in f32), {} a sample of {frames_in} + {frames_out} frames of {size}×{size}{batch}\n\
         Outputs are frames×height×width×channels or sequences×steps×width. MACs: convolutions and linear layers.\n",
        short(*parameters as f64, "parameters"),
        short(*parameters as f64 * 4.0, "B"),
        short(*macs as f64, "MACs")
    )
}

/// A count with a prefix that leaves three digits or more: `230.0 M parameters`, `4.66 GMACs`.
pub(super) fn short(count: f64, unit: &str) -> String {
    let (scaled, prefix) = match count {
        1e12.. => (count / 1e12, "T"),
        1e9.. => (count / 1e9, "G"),
        1e6.. => (count / 1e6, "M"),
        _ => (count / 1e3, "k"),
    };
    let decimals = if scaled < 10.0 { 2 } else { 1 };
    let space = if unit == "parameters" { " " } else { "" };
    format!("{scaled:.decimals$} {prefix}{space}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_in_the_words_of_papers() {
        let base = info(Preset::find("base").unwrap(), 10, 16).unwrap();
        let text = summary(&base);
        assert!(
            text.starts_with(
                "230.0 M parameters (920.2 MB in f32), 4.66 GMACs a sample of 10 + 2 frames of 64×64, 74.5 GMACs"
            ),
            "{text}"
        );
        let nano = summary(&info(Preset::find("nano").unwrap(), 10, 1).unwrap());
        assert!(nano.starts_with("75.9 k parameters (303.8 kB in f32), 6.21 MMACs a sample"), "{nano}");
    }
}
