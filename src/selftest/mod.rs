//! `ssmv-raw selftest`: whether a device computes what the CPU does.
//!
//! | part | what runs on the device | what it is compared with |
//! | --- | --- | --- |
//! | operators | every operator and the optimiser, forward and backward, in f16 with f32 sums | the CPU in f32 on the same numbers |
//! | golden | the golden cases, which come with the program | PyTorch's float64 results |
//! | determinism | three short trainings, one of them launch by launch | each other, bit by bit |
//! | training | the same | each step's loss on the CPU in f32, within 2% |

mod draw;
mod golden;
mod operators;
mod optimiser;
mod sheet;
mod table;
mod training;

use serde::Serialize;
use ssmv_autograd::cuda::{Backend, Cuda};

use self::sheet::Sheet;
use crate::{Error, Result, verify::Verdict};

/// How much is run: what a device has the time for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Extent {
    /// Everything, with the sizes of `base` among the operators, and ten steps of `tiny`.
    #[default]
    Full,
    /// Small sizes, and a few steps of `nano`.
    Small,
}

impl Extent {
    /// What a device has the time for.
    pub fn of(cuda: &Cuda) -> Self {
        match cuda.driver().backend() {
            Backend::Real => Self::Full,
            Backend::Emulated | Backend::Counting => Self::Small,
        }
    }
}

/// What is run.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// How much.
    pub extent: Extent,
    /// Only cases whose name has this in it.
    pub filter: Option<String>,
    /// The case whose expectation is made wrong, to see it fail.
    pub fault: Option<String>,
}

/// What a comparison belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// An operator or the optimiser against the CPU.
    Operators,
    /// A golden case.
    Golden,
    /// The same bits twice.
    Determinism,
    /// The loss of a training against the CPU's.
    Training,
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Operators => "operators",
            Self::Golden => "golden",
            Self::Determinism => "determinism",
            Self::Training => "training",
        })
    }
}

/// One comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// What it belongs to.
    pub part: Part,
    /// What was compared, and what it came to.
    #[serde(flatten)]
    pub comparison: crate::verify::Row,
}

/// All comparisons, part by part.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The device's name.
    pub device: String,
    /// How much was run.
    pub extent: Extent,
    /// A row a comparison.
    pub checks: Vec<Check>,
}

impl Report {
    /// Whether there are comparisons and every one of them passed.
    pub fn passed(&self) -> bool {
        !self.checks.is_empty() && self.failures().next().is_none()
    }

    /// The comparisons that failed.
    pub fn failures(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|check| check.comparison.verdict == Verdict::Fail)
    }
}

/// Runs the cases on a device; says through `note` what it is about.
///
/// A case that cannot be run is a failing row, never an error of the whole.
///
/// # Errors
/// [`Error::Usage`] where no case has the name that was asked for.
pub fn run(cuda: &Cuda, options: &Options, note: &mut dyn FnMut(&str)) -> Result<Report> {
    let mut sheet = Sheet::new(options);
    note("operators against the CPU");
    operators::run(cuda, &mut sheet);
    optimiser::run(cuda, &mut sheet);
    note("golden cases");
    golden::run(cuda, &mut sheet);
    training::run(cuda, &mut sheet, note);
    if sheet.checks.is_empty() {
        let filter = options.filter.as_deref().unwrap_or_default();
        return Err(Error::Usage(format!("no case has {filter:?} in its name")));
    }
    match &options.fault {
        Some(fault) if !sheet.fault_met => {
            Err(Error::Usage(format!("no case that was run is named {fault:?}")))
        }
        _ => Ok(Report { device: cuda.device().name.clone(), extent: options.extent, checks: sheet.checks }),
    }
}
