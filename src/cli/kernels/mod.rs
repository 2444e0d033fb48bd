//! `kernels`: lists the GPU kernels with their resources and work, writes their PTX, and checks it with `ptxas`.

mod ptxas;
mod resources;

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use rayon::prelude::*;
use serde::Serialize;
use ssmv_autograd::cuda::{Counting, DeviceInfo};
use ssmv_kernels::{Kernel, Target, catalogue, isa_tests};

use self::ptxas::{Ptxas, Usage};
use self::resources::{Resources, TABLE_PATH};
use super::files::{self, Output};
use super::{Table, Ui, thousands};
use crate::config::{TrainConfig, limits};
use crate::train::step_kernels;
use crate::{Error, Result};

/// Command-line arguments of `kernels`.
#[derive(Args, Clone, Debug)]
pub struct KernelsArgs {
    /// GPUs to write the kernels for
    #[arg(long, default_value_t, value_enum)]
    pub target: Targets,
    /// Only kernels whose family or name contains TEXT
    #[arg(long, value_name = "TEXT")]
    pub filter: Option<String>,
    /// Only the longest kernel of each family, and all tests of instructions
    #[arg(long, conflicts_with_all = ["preset", "check", "update"])]
    pub one_per_family: bool,
    /// Instead of the catalogue, the kernels that a training of this preset loads on a GPU
    #[arg(long, value_name = "NAME", conflicts_with_all = ["check", "update"])]
    pub preset: Option<String>,
    /// Sequences in a batch of that training [default: the preset's]
    #[arg(long, value_name = "N", requires = "preset", value_parser = limits::whole::<u32>("batch-size"))]
    pub batch_size: Option<u32>,
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
    /// Write the kernels' PTX into a folder, one file for each kernel
    #[arg(long, value_name = "DIR", conflicts_with_all = ["json", "ptxas"])]
    pub dump: Option<PathBuf>,
    /// Write into a folder that is not empty
    #[arg(long, requires = "dump")]
    pub force: bool,
    /// Assemble the kernels with NVIDIA's ptxas; spills and local memory are failures
    #[arg(long, value_name = "PATH")]
    pub ptxas: Option<PathBuf>,
    /// Compare the output of ptxas with the table that is built into the program
    #[arg(long, requires = "ptxas")]
    pub check: bool,
    /// Update that table (kernels/ptx/resources.tsv; run it in the repository's root) for all targets
    #[arg(long, requires = "ptxas", conflicts_with_all = ["check", "filter"])]
    pub update: bool,
}

/// Values of the option `--target`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Targets {
    /// A100 and all later GPUs
    #[default]
    #[value(name = "sm_80")]
    Sm80,
    /// H100 and H200
    #[value(name = "sm_90a")]
    Sm90a,
    /// All targets
    #[value(name = "all")]
    All,
}

impl Targets {
    fn list(self) -> &'static [Target] {
        match self {
            Self::Sm80 => &[Target::Sm80],
            Self::Sm90a => &[Target::Sm90a],
            Self::All => &Target::ALL,
        }
    }
}

/// Examples for the help.
pub const EXAMPLES: &str = "\
Registers are from the last check with ptxas (`-`: not checked). Bytes and operations are \
the minimum of a launch.

Examples:
  ssmv-raw kernels
  ssmv-raw kernels --filter silu --target sm_90a --json
  ssmv-raw kernels --preset base --batch-size 16 --target sm_90a
  ssmv-raw kernels --target all --dump ptx
  ssmv-raw kernels --target all --ptxas /usr/local/cuda/bin/ptxas --check
  ssmv-raw kernels --target all --one-per-family --ptxas /usr/local/cuda-12.8/bin/ptxas";

/// Lists, writes or checks the kernels.
pub fn run(args: &KernelsArgs, ui: &Ui) -> Result<()> {
    let targets = if args.update { Targets::All } else { args.target };
    let kernels = match &args.preset {
        Some(preset) => of_step(preset, args.batch_size, targets)?,
        None => targets.list().iter().flat_map(|&target| catalogue(target)).collect(),
    };
    let mut kernels = select(kernels, args.filter.as_deref())?;
    if args.one_per_family {
        keep_longest(&mut kernels);
    }
    match (&args.dump, &args.ptxas) {
        (Some(folder), _) => dump(&kernels, folder, args.force, ui),
        (None, Some(path)) => assemble(&kernels, &Ptxas::open(path)?, args, ui),
        (None, None) => list(&kernels, args.json, ui),
    }
}

/// The kernels of a preset's training step, for GPUs of some targets.
fn of_step(preset: &str, batch_size: Option<u32>, targets: Targets) -> Result<Vec<Kernel>> {
    let defaults = TrainConfig::preset(preset)?;
    let batch_size = batch_size.map_or(defaults.batch_size, |n| n as usize);
    let config = TrainConfig { batch_size, ..defaults };
    let mut kernels = Vec::new();
    for target in targets.list() {
        let capability = match target {
            Target::Sm80 => (8, 0),
            Target::Sm90a => (9, 0),
        };
        let device = DeviceInfo { capability, ..Counting::describe() };
        kernels.extend(step_kernels(&config, &device)?);
    }
    Ok(kernels)
}

/// The kernels whose family or name contains `filter`, sorted by target and family.
fn select(mut all: Vec<Kernel>, filter: Option<&str>) -> Result<Vec<Kernel>> {
    // The catalogue mixes some families.
    all.sort_by_key(|kernel| (kernel.target, kernel.family));
    let Some(filter) = filter else {
        return Ok(all);
    };
    let mut families: Vec<_> = all.iter().map(|kernel| kernel.family).collect();
    families.dedup();
    let found: Vec<_> = all.into_iter().filter(|kernel| matches(kernel, filter)).collect();
    if found.is_empty() {
        let families = families.join(", ");
        return Err(Error::Usage(format!(
            "--filter {filter}: no name of a kernel contains it; the families are {families}"
        )));
    }
    Ok(found)
}

/// Keeps the longest kernel of each family and target, and all tests of instructions, since each of its kernels has other
/// instructions. The kernels must be sorted by target and family.
fn keep_longest(kernels: &mut Vec<Kernel>) {
    let mut kept: Vec<Kernel> = Vec::new();
    for kernel in kernels.drain(..) {
        match kept.last_mut() {
            Some(last)
                if kernel.family != isa_tests::FAMILY
                    && (last.family, last.target) == (kernel.family, kernel.target) =>
            {
                if kernel.ptx.len() > last.ptx.len() {
                    *last = kernel;
                }
            }
            _ => kept.push(kernel),
        }
    }
    *kernels = kept;
}

fn matches(kernel: &Kernel, filter: &str) -> bool {
    kernel.family.contains(filter) || kernel.name.contains(filter)
}

/// A row of the list.
#[derive(Serialize)]
struct Row<'a> {
    name: &'a str,
    family: &'a str,
    target: &'a str,
    grid: [u32; 3],
    block: [u32; 3],
    /// Registers of a thread; `None` if the table does not have the kernel.
    registers: Option<u32>,
    /// Shared memory of a block in bytes, static and dynamic.
    shared: u32,
    bytes: u64,
    operations: u64,
    /// Operations per byte of memory traffic.
    intensity: Option<f64>,
}

impl<'a> Row<'a> {
    fn new(kernel: &'a Kernel, table: &Resources) -> Self {
        let work = kernel.work;
        Self {
            name: &kernel.name,
            family: kernel.family,
            target: kernel.target.name(),
            grid: kernel.grid,
            block: kernel.block,
            registers: table.registers(&kernel.name, kernel.target),
            shared: kernel.shared + kernel.static_shared,
            bytes: work.bytes,
            operations: work.operations,
            intensity: (work.bytes > 0).then(|| work.operations as f64 / work.bytes as f64),
        }
    }

    fn cells(&self) -> [String; 8] {
        let block: u32 = self.block.iter().product();
        let grid: Vec<_> = self.grid.iter().map(u32::to_string).collect();
        [
            format!("  {}", self.name),
            grid.join("×"),
            block.to_string(),
            self.registers.map_or("-".to_owned(), |n| n.to_string()),
            thousands(self.shared.into()),
            thousands(self.bytes),
            thousands(self.operations),
            self.intensity.map_or("-".to_owned(), |x| format!("{x:.2}")),
        ]
    }
}

const HEADINGS: [&str; 8] =
    ["kernel", "grid", "threads", "registers", "shared, B", "bytes", "operations", "operations a byte"];

fn list(kernels: &[Kernel], json: bool, ui: &Ui) -> Result<()> {
    let table = Resources::built_in();
    let rows: Vec<_> = kernels.iter().map(|kernel| Row::new(kernel, &table)).collect();
    if json {
        return ui.json(&rows);
    }
    grouped(&HEADINGS, rows.iter().map(|row| (row.family, row.target, row.cells().to_vec())), ui)
}

/// Prints rows, with a heading for each family and target.
fn grouped<'a>(
    headings: &[&str],
    rows: impl Iterator<Item = (&'a str, &'a str, Vec<String>)>,
    ui: &Ui,
) -> Result<()> {
    let mut table = Table::new(headings);
    let mut group = None;
    for (family, target, cells) in rows {
        if group.replace((family, target)) != Some((family, target)) {
            table.row([format!("{family} ({target})")]);
        }
        table.row(cells);
    }
    ui.table(&table)
}

/// Writes the kernels' PTX into a folder.
fn dump(kernels: &[Kernel], folder: &Path, force: bool, ui: &Ui) -> Result<()> {
    files::must_be_free(folder, Output::Kernels, force)?;
    std::fs::create_dir_all(folder).map_err(|e| Error::file(folder, format!("cannot be created: {e}")))?;
    for kernel in kernels {
        let path = folder.join(format!("{}.{}.ptx", kernel.name, kernel.target));
        // The name is of this program; a link or a folder under it is not.
        if path.symlink_metadata().is_ok_and(|data| !data.is_file()) {
            return Err(Error::file(path, "is not a file; remove it or choose another folder"));
        }
        files::write_whole(&path, kernel.ptx.as_bytes())?;
    }
    ui.note(&format!("wrote {} kernels into {}", kernels.len(), folder.display()));
    Ok(())
}

/// A kernel and its resources according to `ptxas`.
#[derive(Serialize)]
struct Assembled<'a> {
    name: &'a str,
    family: &'a str,
    target: &'a str,
    #[serde(flatten)]
    usage: Usage,
}

/// Assembles the kernels, prints their resources, and fails on spills, local memory and errors.
fn assemble(kernels: &[Kernel], ptxas: &Ptxas, args: &KernelsArgs, ui: &Ui) -> Result<()> {
    let results: Vec<_> = kernels.par_iter().map(|kernel| ptxas.assemble(kernel)).collect();
    let mut now = Resources::new(ptxas.version());
    let (mut rows, mut faults) = (Vec::new(), Vec::new());
    for (kernel, result) in kernels.iter().zip(results) {
        let Kernel { name, family, target, .. } = kernel;
        match result {
            Ok(usage) => {
                faults.extend(usage.fault().map(|fault| format!("{name} ({target}): {fault}")));
                now.set(name, *target, &usage);
                rows.push(Assembled { name, family, target: target.name(), usage });
            }
            Err(e) => faults.push(e.to_string()),
        }
    }
    if args.json {
        ui.json(&rows)?;
    } else {
        let cells = |Assembled { name, usage: u, .. }: &Assembled| {
            let numbers =
                [u.registers, u.barriers, u.shared, u.stack + u.local, u.spill_stores + u.spill_loads];
            std::iter::once(format!("  {name}")).chain(numbers.map(|n| thousands(n.into()))).collect()
        };
        let headings = ["kernel", "registers", "barriers", "shared, B", "local, B", "spills, B"];
        grouped(&headings, rows.iter().map(|row| (row.family, row.target, cells(row))), ui)?;
    }
    if let Some(first) = faults.first() {
        faults.iter().skip(1).for_each(|fault| ui.warn(fault));
        let (failed, all) = (faults.len(), kernels.len());
        return Err(Error::Failure(format!("{first}; {failed} of {all} kernels failed under ptxas")));
    }
    ui.note(&format!(
        "{} kernels assembled by ptxas {}; no spills, no local memory",
        kernels.len(),
        ptxas.version()
    ));
    match (args.check, args.update) {
        (true, _) => compare(&now, args, ui),
        (_, true) => update(&now, ui),
        _ => Ok(()),
    }
}

/// Fails if the built-in table differs from `now`.
fn compare(now: &Resources, args: &KernelsArgs, ui: &Ui) -> Result<()> {
    let table = Resources::built_in();
    let renew = "update it with --update";
    if table.version != now.version {
        let (old, new) = (&table.version, &now.version);
        return Err(Error::Failure(format!(
            "{TABLE_PATH} was made by ptxas {old}, this is {new}: use that version, or {renew}"
        )));
    }
    let filter = args.filter.as_deref().unwrap_or("");
    let concerns = |name: &str, target| args.target.list().contains(&target) && name.contains(filter);
    let differences = table.differences(now, concerns);
    let Some(first) = differences.first() else {
        ui.note(&format!("equal to {TABLE_PATH}"));
        return Ok(());
    };
    for other in differences.iter().skip(1) {
        ui.warn(&format!("{} ({}): {}", other.kernel, other.target, other.what));
    }
    let (kernel, target, what, n) = (&first.kernel, first.target, &first.what, differences.len());
    Err(Error::Failure(format!("{TABLE_PATH}: {kernel} ({target}): {what}; {n} rows differ; {renew}")))
}

/// Overwrites the table in the repository.
fn update(now: &Resources, ui: &Ui) -> Result<()> {
    let path = Path::new(TABLE_PATH);
    if !path.is_file() {
        return Err(Error::file(path, "is missing; run --update in the repository's root"));
    }
    ui.write_out(path, &now.to_string())
}
