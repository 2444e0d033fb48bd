//! `ssmv-raw selftest`: compares a device with the CPU.
//!
//! | part | on the device | compared with |
//! | --- | --- | --- |
//! | operators | every operator and the optimiser, forward and backward, in f16 with f32 sums | the CPU in f32, same numbers |
//! | golden | the golden cases, which are built into the program | PyTorch's float64 results |
//! | processor | on a CPU with products of bf16: both of these for the operators with products | as these |
//! | determinism | three short trainings, one of them launch by launch | each other, bit by bit |
//! | training | the same | each step's loss on the CPU in f32, within 2% |

use serde::Serialize;
use ssmv_autograd::{
    DType, bf16_available,
    cuda::{Backend, Cuda},
};

use super::{
    TargetDevice,
    case::Array,
    compare::{Comparison, Verdict, bound},
    draw::Draw,
    evaluate::evaluate,
    operators::{By, DrawnCases, Operator, WITH_BF16, operators},
    optimiser,
    results::Results,
    short_trainings, verify,
};
use crate::{Error, Result};

/// The cotangent of a scalar. It is large, so that gradients of a mean over a large tensor are not rounded to 0 in f16.
const SCALAR_COTANGENT: f64 = 1024.0;

/// Extent of a selftest.
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
    /// Everything on a GPU; small sizes on the emulator, which is slow.
    pub fn of(cuda: &Cuda) -> Self {
        match cuda.driver().backend() {
            Backend::Nvidia => Self::Full,
            Backend::Emulated | Backend::Counting => Self::Small,
        }
    }
}

/// Options of a selftest.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Sizes and cases to run.
    pub extent: Extent,
    /// Only cases whose name contains this text.
    pub filter: Option<String>,
    /// Case with a deliberate fault, to see that it fails.
    pub fault: Option<String>,
}

/// The part of the selftest that made a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// An operator or the optimiser against the CPU.
    Operators,
    /// A golden case against PyTorch's results.
    Golden,
    /// A product of bf16 on the CPU against the CPU in f32, or against PyTorch's results.
    Processor,
    /// Two trainings against each other, bit by bit.
    Determinism,
    /// The loss of a training against the CPU's.
    Training,
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Operators => "operators",
            Self::Golden => "golden",
            Self::Processor => "processor",
            Self::Determinism => "determinism",
            Self::Training => "training",
        })
    }
}

/// One comparison and the part that made it.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// Part of the selftest.
    pub part: Part,
    /// The comparison and its result.
    #[serde(flatten)]
    pub comparison: Comparison,
}

/// All comparisons, part by part.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Name of the device.
    pub device: String,
    /// Extent of the selftest.
    pub extent: Extent,
    /// Comparisons of all cases, in order.
    pub checks: Vec<Check>,
}

impl Report {
    /// True if there are comparisons and all passed.
    pub fn passed(&self) -> bool {
        !self.checks.is_empty() && self.failures().next().is_none()
    }

    /// The comparisons that failed.
    pub fn failures(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|check| check.comparison.verdict == Verdict::Fail)
    }
}

/// Runs the cases on a device; calls `note` before each part.
///
/// A case that cannot run is a failed row, not an error of the selftest.
///
/// # Errors
/// [`Error::Usage`] when no case matches the name.
pub fn run(cuda: &Cuda, options: &Options, note: &mut dyn FnMut(&str)) -> Result<Report> {
    let mut results = Results::new(options);
    note("operators against the CPU");
    let device = TargetDevice::Cuda(cuda.clone());
    drawn_cases(Part::Operators, &mut results, &device, checks(options.extent));
    optimiser::run(cuda, &mut results);
    note("golden cases");
    golden_cases(Part::Golden, &mut results, &device, operators());
    if bf16_available() {
        note("products of bf16 on the CPU");
        processor(&mut results);
    }
    short_trainings::run(cuda, &mut results, note);
    if results.checks.is_empty() {
        let filter = options.filter.as_deref().unwrap_or_default();
        return Err(Error::Usage(format!("no name of a case contains {filter:?}")));
    }
    match &options.fault {
        Some(fault) if !results.fault_met => {
            Err(Error::Usage(format!("no case with the name {fault:?} was run")))
        }
        _ => {
            Ok(Report { device: cuda.device().name.clone(), extent: options.extent, checks: results.checks })
        }
    }
}

/// The rows' checks on a device.
fn checks(extent: Extent) -> impl Iterator<Item = (&'static Operator, &'static DrawnCases)> {
    let within = move |by| by == By::Device || (by == By::Gpu && extent == Extent::Full);
    operators()
        .flat_map(|operator| operator.drawn.iter().map(move |check| (operator, check)))
        .filter(move |(_, check)| within(check.by))
}

/// Operators with products, with operands of bf16 on the CPU.
fn processor(results: &mut Results) {
    let with_bf16 = |operator: &Operator| WITH_BF16.contains(&operator.name);
    let drawn = checks(Extent::Small).filter(|(operator, _)| with_bf16(operator));
    drawn_cases(Part::Processor, results, &TargetDevice::CpuBf16, drawn);
    let golden = operators().filter(|operator| with_bf16(operator));
    golden_cases(Part::Processor, results, &TargetDevice::CpuBf16, golden);
}

/// Compares drawn cases on the device with the CPU in f32.
fn drawn_cases(
    part: Part,
    results: &mut Results,
    device: &TargetDevice,
    cases: impl Iterator<Item = (&'static Operator, &'static DrawnCases)>,
) {
    for (operator, check) in cases {
        if results.wants(check.name)
            && let Err(error) = compare(part, results, device, operator, check)
        {
            results.failed(part, check.name, &error.to_string());
        }
    }
}

/// Outputs and gradients of a case on the device and on the CPU.
fn compare(
    part: Part,
    results: &mut Results,
    device: &TargetDevice,
    operator: &Operator,
    check: &DrawnCases,
) -> Result<()> {
    let [want, got] = evaluate_on(operator, check, [TargetDevice::Cpu(DType::F32), device.clone()])?;
    let bound = bound(operator.bounds, "", device.bounds_of());
    for ((tensor, got), (_, want)) in got.iter().zip(&want) {
        results.near(part, check.name, tensor, got, want, bound);
    }
    Ok(())
}

/// Named tensors as lists of values.
type Named = Vec<(String, Vec<f64>)>;

/// Outputs and gradients of one case under one cotangent on several devices.
fn evaluate_on<const N: usize>(
    operator: &Operator,
    check: &DrawnCases,
    devices: [TargetDevice; N],
) -> Result<[Named; N]> {
    let mut draw = Draw::new(check.name, 0);
    let case = (check.draw)(&mut draw);
    let mut cotangent = None;
    let mut made = [const { Vec::new() }; N];
    for (made, device) in made.iter_mut().zip(&devices) {
        let cotangent = |shape: &[usize]| {
            let drawn = cotangent.get_or_insert_with(|| match shape.iter().product() {
                1usize => Array { shape: shape.to_vec(), values: vec![SCALAR_COTANGENT] },
                _ => draw.values(shape),
            });
            Ok(Some(drawn.clone()))
        };
        let evaluation = device.with_products(|| evaluate(operator, &case, device, None, cotangent))?;
        made.extend(evaluation.outputs.into_iter().map(|(name, array)| (name.to_owned(), array.values)));
        // A missing gradient has no values and therefore fails.
        made.extend(
            evaluation.gradients.into_iter().map(|(name, array)| {
                (format!("d{name}"), array.map(|array| array.values).unwrap_or_default())
            }),
        );
    }
    Ok(made)
}

/// Runs golden cases, which are compiled into the program, of some operators.
fn golden_cases(
    part: Part,
    results: &mut Results,
    device: &TargetDevice,
    operators: impl Iterator<Item = &'static Operator>,
) {
    let mut cases: Vec<(&str, &[u8])> = operators.flat_map(|operator| operator.golden).copied().collect();
    cases.sort_by_key(|(name, _)| (name.contains('/'), *name));
    for (name, bytes) in cases {
        if !results.wants(name) {
            continue;
        }
        let rows = match results.is_faulty(name) {
            true => verify::run_bytes(name, &with_wrong_end(bytes), device),
            false => verify::run_bytes(name, bytes, device),
        };
        for row in rows {
            results.push(part, Comparison { case: name.to_owned(), ..row });
        }
    }
}

/// A golden case with another last number.
fn with_wrong_end(bytes: &[u8]) -> Vec<u8> {
    let mut wrong = bytes.to_vec();
    if let Some(last) = wrong.last_chunk_mut() {
        *last = 1e3f64.to_le_bytes();
    }
    wrong
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use ssmv_autograd::cuda::Backend;

    use super::{super::golden::GoldenCase, *};

    #[test]
    fn names_are_unique() {
        let unique = |names: Vec<&str>| names.iter().collect::<BTreeSet<_>>().len() == names.len();
        let (drawn, fixed): (Vec<_>, Vec<_>) =
            operators().flat_map(|row| row.drawn).partition(|check| matches!(check.by, By::Gradients(_)));
        let names = |checks: Vec<&DrawnCases>| checks.iter().map(|check| check.name).collect();
        assert!(unique(names(drawn)) && unique(names(fixed)));
        assert!(unique(operators().map(|row| row.name).collect()));
    }

    #[test]
    fn products_of_bf16_are_near_those_of_f32() {
        assert!(WITH_BF16.iter().all(|name| operators().any(|operator| operator.name == *name)));
        if !bf16_available() {
            eprintln!("skipped: this processor has no products of bf16 (avx512_bf16)");
            return;
        }
        let options = Options::default();
        let mut results = Results::new(&options);
        processor(&mut results);
        for operator in operators().filter(|operator| WITH_BF16.contains(&operator.name)) {
            let drawn = operator.drawn.iter().filter(|check| check.by == By::Device).map(|check| check.name);
            for name in drawn.chain(operator.golden.iter().map(|(name, _)| *name)) {
                let mut checks =
                    results.checks.iter().filter(|check| check.comparison.case == name).peekable();
                assert!(checks.peek().is_some(), "{name}");
                checks.for_each(|check| assert!(check.comparison.verdict == Verdict::Pass, "{check:?}"));
            }
        }
    }

    /// The emulator is too slow for them. Here their kernels are built and their memory is counted.
    #[test]
    fn cases_of_gpus_can_be_launched() {
        let cuda = Cuda::open(Backend::Counting, 0).unwrap();
        for (operator, check) in checks(Extent::Full).filter(|(_, check)| check.by == By::Gpu) {
            let [made] = evaluate_on(operator, check, [TargetDevice::Cuda(cuda.clone())])
                .unwrap_or_else(|error| panic!("{}: {error}", check.name));
            assert!(
                made.iter().all(|(tensor, values)| !tensor.is_empty() && !values.is_empty()),
                "{}",
                check.name
            );
        }
    }

    #[test]
    fn every_golden_file_is_in_the_row_of_its_operator() {
        let mut files = BTreeSet::new();
        for folder in ["", "odd/"] {
            let path = format!("{}/tests/golden/{folder}", env!("CARGO_MANIFEST_DIR"));
            let paths = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
            files.extend(
                paths
                    .filter(|path| path.extension().is_some_and(|e| e == "safetensors"))
                    .map(|path| format!("{folder}{}", path.file_stem().unwrap().to_str().unwrap())),
            );
        }
        let mut listed = BTreeSet::new();
        for operator in operators() {
            for (name, bytes) in operator.golden {
                assert_eq!(GoldenCase::parse(name.as_ref(), bytes).unwrap().op, operator.name, "{name}");
                assert!(listed.insert((*name).to_owned()), "{name} is listed twice");
            }
        }
        assert_eq!(listed, files);
    }
}
