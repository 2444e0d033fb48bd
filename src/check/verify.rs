//! `ssmv-raw verify`: golden cases, PyTorch's float64 results, against this engine.
//!
//! A golden case is a safetensors file whose metadata names an operator (`op`) and its attributes (`params`, JSON). Its
//! tensors `in.*` and `param.*` go in, `grad_out.y` is sent back, and every `out.*`, `grad_in.*` and `grad_param.*` is
//! compared by ‖got − want‖₂ / ‖want‖₂ with the bound of its operator, tensor and dtype.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{
    TargetDevice,
    compare::{Comparison, Verdict, compare},
    evaluate::evaluate_golden,
    golden::GoldenCase,
    operators::operators,
};
use crate::{Error, Result};

/// The rows of all cases, in the order of the paths; a folder's cases by name.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// "f16", "bf16", "f32" or "f64".
    pub dtype: &'static str,
    /// A row a tensor.
    pub rows: Vec<Comparison>,
}

impl Report {
    /// True if there are rows and all passed.
    pub fn passed(&self) -> bool {
        !self.rows.is_empty() && self.rows.iter().all(|row| row.verdict == Verdict::Pass)
    }

    /// The rows that failed.
    pub fn failures(&self) -> impl Iterator<Item = &Comparison> {
        self.rows.iter().filter(|row| row.verdict == Verdict::Fail)
    }
}

/// Runs the cases of `paths`, files or folders of `.safetensors` files, on a device.
///
/// A case that cannot be read or run is a failing row, never an error of the whole.
///
/// # Errors
/// [`Error::Usage`] if there are no paths.
pub fn run(paths: &[PathBuf], device: &TargetDevice) -> Result<Report> {
    if paths.is_empty() {
        return Err(Error::Usage("verify needs at least one golden case or folder of them".to_owned()));
    }
    let rows = paths.iter().flat_map(|path| match files(path) {
        Ok(files) => files.iter().flat_map(|file| verify(file, GoldenCase::read(file), device)).collect(),
        Err(message) => vec![failure(path, message)],
    });
    Ok(Report { dtype: device.format(), rows: rows.collect() })
}

/// The case files that a path stands for: itself, or the cases in the folder, sorted.
fn files(path: &Path) -> Result<Vec<PathBuf>, String> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let unreadable = |e| format!("cannot read the folder {}: {e}", path.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(unreadable)? {
        let file = entry.map_err(unreadable)?.path();
        if file.extension().is_some_and(|e| e == "safetensors") {
            files.push(file);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(format!("{} holds no .safetensors file", path.display()));
    }
    Ok(files)
}

fn failure(path: &Path, message: String) -> Comparison {
    let case = path.file_stem().unwrap_or(path.as_os_str());
    Comparison::failure(&case.to_string_lossy(), "", message)
}

/// Runs one case from the bytes of its file. `name` is its name in messages.
pub(super) fn run_bytes(name: &str, bytes: &[u8], device: &TargetDevice) -> Vec<Comparison> {
    let path = Path::new(name);
    verify(path, GoldenCase::parse(path, bytes), device)
}

/// The rows of one case.
fn verify(path: &Path, case: Result<GoldenCase>, device: &TargetDevice) -> Vec<Comparison> {
    let case = match case {
        Ok(case) => case,
        Err(e) => return vec![failure(path, e.to_string())],
    };
    let Some(operator) = operators().find(|operator| operator.name == case.op) else {
        let known = operators().map(|operator| operator.name).collect::<Vec<_>>().join(", ");
        return vec![failure(path, format!("unknown operator {:?}; known are {known}", case.op))];
    };
    match device.with_products(|| evaluate_golden(operator, &case, device)) {
        Ok(outputs) => compare(&case, &outputs, operator.bounds, device.bounds_of()),
        Err(e) => vec![failure(path, e.to_string())],
    }
}
