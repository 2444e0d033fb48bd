//! Comparisons: the error of a tensor, its bound, and the verdict.

use std::collections::BTreeMap;

use serde::Serialize;
use ssmv_autograd::DType;

use super::{case::Array, golden::GoldenCase, operators::Bounds};

/// Outputs and gradients by the names that a golden case has for them.
pub(super) type Outputs = BTreeMap<String, Array>;

/// Tensors whose name begins with one of these are references.
const REFERENCES: [&str; 5] = ["out.", "grad_in.", "grad_param.", "out_state.", "grad."];

/// The result of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The error is within the bound.
    Pass,
    /// The error is too large, or a comparison was not possible.
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
pub struct Comparison {
    /// Name of the case.
    pub case: String,
    /// Name of the tensor; empty if the whole case failed.
    pub tensor: String,
    /// ‖got − want‖₂ / ‖want‖₂ (‖got‖₂ where `want` is all zeros); `None` if a comparison was not possible.
    pub error: Option<f64>,
    /// The largest error that passes.
    pub bound: Option<f64>,
    /// Verdict: passed or failed.
    pub verdict: Verdict,
    /// Reason why a comparison was not possible.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl Comparison {
    /// A tensor that could not be compared; if `tensor` is empty, a whole case.
    pub(super) fn failure(case: &str, tensor: &str, message: String) -> Self {
        let (case, tensor, message) = (case.to_owned(), tensor.to_owned(), Some(message));
        Self { case, tensor, error: None, bound: None, verdict: Verdict::Fail, message }
    }

    /// Two lists of values by their relative error.
    pub(super) fn near(case: &str, tensor: &str, got: &[f64], want: &[f64], bound: f64) -> Self {
        Self::new(case, tensor, [got, want], relative_error(got, want), bound)
    }

    /// Two lists of values whose error is known. Values that are not finite fail.
    pub(super) fn new(case: &str, tensor: &str, [got, want]: [&[f64]; 2], error: f64, bound: f64) -> Self {
        let broken = |values: &[f64]| values.iter().filter(|v| !v.is_finite()).count();
        let message = match (broken(got), broken(want)) {
            _ if want.is_empty() => Some("the reference has 0 values".to_owned()),
            _ if got.len() != want.len() => Some(format!("{} values instead of {}", got.len(), want.len())),
            (0, 0) => None,
            (0, n) => Some(format!("{n} of {} reference values are not finite", want.len())),
            (n, _) => Some(format!("{n} of {} values are not finite", got.len())),
        };
        // NaN is never within a bound.
        let verdict = if message.is_none() && error <= bound { Verdict::Pass } else { Verdict::Fail };
        let (case, tensor, error) =
            (case.to_owned(), tensor.to_owned(), Some(error).filter(|e| e.is_finite()));
        Self { case, tensor, error, bound: Some(bound), verdict, message }
    }
}

/// The largest error of a tensor that passes.
pub(super) fn bound(bounds: Bounds, tensor: &str, dtype: DType) -> f64 {
    let own = bounds.iter().find(|(name, _)| *name == tensor).or(bounds.last());
    let [f64_bound, f32_bound, f16_bound] = own.map_or([0.0; 3], |(_, errors)| *errors);
    match dtype {
        DType::F64 => f64_bound,
        DType::F32 => f32_bound,
        DType::F16 => f16_bound,
    }
}

/// Name of all gradients of a whole model. They are compared as one vector, since a sign that rounding flips in ReLU or L1
/// weighs much in a small gradient.
pub(super) const ALL_GRADIENTS: &str = "grad.*";

/// ‖got − want‖₂ / ‖want‖₂, ‖got‖₂ where `want` is all zeros; NaN where their numbers differ.
fn relative_error(got: &[f64], want: &[f64]) -> f64 {
    if got.len() != want.len() {
        return f64::NAN;
    }
    let difference: f64 = got.iter().zip(want).map(|(g, w)| (g - w) * (g - w)).sum();
    let size: f64 = want.iter().map(|w| w * w).sum();
    if size == 0.0 { difference.sqrt() } else { (difference / size).sqrt() }
}

/// Compares the outputs with every reference of the case, in the order of the references.
pub(super) fn compare(case: &GoldenCase, outputs: &Outputs, bounds: Bounds, dtype: DType) -> Vec<Comparison> {
    let mut values: BTreeMap<String, [Vec<f64>; 2]> = BTreeMap::new();
    let mut rows = Vec::new();
    for prefix in REFERENCES {
        for (rest, want) in case.with_prefix(prefix) {
            let name = format!("{prefix}{rest}");
            let message = match outputs.get(&name) {
                Some(got) if got.shape == want.shape => {
                    let group = if prefix == "grad." { ALL_GRADIENTS.to_owned() } else { name };
                    let both = values.entry(group).or_default();
                    both[0].extend(&got.values);
                    both[1].extend(&want.values);
                    continue;
                }
                Some(got) => format!("has the shape {:?} instead of {:?}", got.shape, want.shape),
                None => "is not an output of this operator".to_owned(),
            };
            let bound = Some(bound(bounds, &name, dtype));
            rows.push(Comparison { bound, ..Comparison::failure(&case.name, &name, message) });
        }
    }
    for (tensor, [got, want]) in &values {
        rows.push(Comparison::near(&case.name, tensor, got, want, bound(bounds, tensor, dtype)));
    }
    if rows.is_empty() {
        let message = "the case has no reference values".to_owned();
        rows.push(Comparison::failure(&case.name, "", message));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::relative_error as error;

    #[test]
    fn errors_are_relative_absolute_for_zeros_and_nan_for_nan() {
        assert_eq!(error(&[3.0, 4.0], &[3.0, 4.0]), 0.0);
        approx::assert_abs_diff_eq!(error(&[3.0, 4.5], &[3.0, 4.0]), 0.1, epsilon = 1e-15);
        assert_eq!(error(&[0.5, 0.0], &[0.0, 0.0]), 0.5);
        assert!(error(&[f64::NAN], &[1.0]).is_nan());
        assert!(error(&[f64::NAN], &[f64::NAN]).is_nan());
        assert!(error(&[1.0], &[1.0, 0.0]).is_nan());
    }
}
