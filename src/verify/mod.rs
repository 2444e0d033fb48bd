//! `ssmv-raw verify`: golden cases, PyTorch's float64 results, against this engine.
//!
//! A case is a safetensors file whose metadata names an operator (`op`) and its attributes (`params`, JSON). Its
//! tensors `in.*` and `param.*` go in, `grad_out.y` is sent back, and every `out.*`, `grad_in.*` and `grad_param.*` is
//! compared by ‖got − want‖₂ / ‖want‖₂ with the bound of its kind and dtype. PyTorch's layouts (NCHW) become the
//! engine's (NHWC) through permute operators inside the graph, so gradients come back in PyTorch's layout by themselves.

mod case;
mod compare;
mod composites;
mod graph;
mod on_device;
mod operators;
mod parameters;
mod place;
mod training;

pub(crate) use compare::{bound, relative_error};

use std::path::{Path, PathBuf};

use crate::{Error, Result};
use case::Case;
pub use place::{Place, place};
use serde::Serialize;

/// What a comparison came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The error is within the bound.
    Pass,
    /// It is not, or there is nothing to compare.
    Fail,
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
        })
    }
}

/// One tensor of one case, or a case that could not be run.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The file's name without its extension.
    pub case: String,
    /// The tensor; empty where the case as a whole failed.
    pub tensor: String,
    /// ‖got − want‖₂ / ‖want‖₂ (‖got‖₂ where `want` is all zeros); `None` where there is nothing to compare.
    pub error: Option<f64>,
    /// The largest error that passes.
    pub bound: Option<f64>,
    /// What it came to.
    pub verdict: Verdict,
    /// Why there is nothing to compare.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// The rows of all cases, in the order of the paths; a folder's cases by name.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// "f16", "f32" or "f64".
    pub dtype: &'static str,
    /// A row a tensor.
    pub rows: Vec<Row>,
}

impl Report {
    /// Whether there are rows and every one of them passed.
    pub fn passed(&self) -> bool {
        !self.rows.is_empty() && self.rows.iter().all(|row| row.verdict == Verdict::Pass)
    }

    /// The rows that failed.
    pub fn failures(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row.verdict == Verdict::Fail)
    }
}

/// Runs the cases of `paths`, files or folders of `.safetensors` files, in a place.
///
/// A case that cannot be read or run is a failing row, never an error of the whole.
///
/// # Errors
/// No path at all.
pub fn run(paths: &[PathBuf], place: &Place) -> Result<Report> {
    if paths.is_empty() {
        return Err(Error::Usage("verify needs at least one golden case or folder of them".to_owned()));
    }
    let rows = paths.iter().flat_map(|path| match files(path) {
        Ok(files) => files.iter().flat_map(|file| verify(file, Case::read(file), place)).collect(),
        Err(message) => vec![failure(path, "", message)],
    });
    Ok(Report { dtype: place.dtype().name(), rows: rows.collect() })
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

fn failure(path: &Path, tensor: &str, message: String) -> Row {
    let case = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    let (tensor, verdict, message) = (tensor.to_owned(), Verdict::Fail, Some(message));
    Row { case, tensor, error: None, bound: None, verdict, message }
}

/// Runs one case, the bytes of whose file are at hand under the name `name`.
pub fn run_bytes(name: &str, bytes: &[u8], place: &Place) -> Vec<Row> {
    let path = Path::new(name);
    verify(path, Case::parse(path, bytes), place)
}

/// The rows of one case.
fn verify(path: &Path, case: Result<Case>, place: &Place) -> Vec<Row> {
    let case = match case {
        Ok(case) => case,
        Err(e) => return vec![failure(path, "", e.to_string())],
    };
    let Some((_, operator)) = operators::TABLE.iter().find(|(name, _)| *name == case.op) else {
        let known = operators::TABLE.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        return vec![failure(path, "", format!("unknown operator {:?}; known are {known}", case.op))];
    };
    match operator(&case, place) {
        Ok(outputs) => compare::rows(&case, &outputs, place.dtype()),
        Err(e) => vec![failure(path, "", e.to_string())],
    }
}
