//! How near is near: the error of a tensor and the bound it must keep.

use std::collections::BTreeMap;

use ssmv_autograd::DType;

use super::{
    Row, Verdict,
    case::{Array, Case},
};

/// What an operator made, by the name that the reference has.
pub(super) type Outputs = BTreeMap<String, Array>;

/// Names that begin with one of these are references.
const REFERENCES: [&str; 5] = ["out.", "grad_in.", "grad_param.", "out_state.", "grad."];

/// The largest relative error that passes. A composite adds its operators' errors up; a whole model, those of its layers.
pub(crate) fn bound(op: &str, tensor: &str, dtype: DType) -> f64 {
    let [f64_bound, f32_bound, f16_bound] = match (op, tensor) {
        ("predictor", "out.loss") => [1e-9, 1e-5, 1e-3],
        ("predictor", ALL_GRADIENTS) => [1e-8, 1e-3, 4e-2],
        ("predictor", _) => [1e-9, 1e-4, 1e-2],
        ("mamba_mixer", _) => [1e-10, 5e-5, 1e-2],
        _ => [1e-10, 2e-5, 4e-3],
    };
    match dtype {
        DType::F64 => f64_bound,
        DType::F32 => f32_bound,
        DType::F16 => f16_bound,
    }
}

/// The row that a whole model's gradients share: they are compared as one vector, since a sign that rounding flips in
/// ReLU or L1 weighs much in a small gradient.
const ALL_GRADIENTS: &str = "grad.*";

/// Sums of squares of one row's tensors.
#[derive(Default)]
struct Distance {
    difference: f64,
    want: f64,
}

impl Distance {
    fn add(&mut self, got: &[f64], want: &[f64]) {
        self.difference += got.iter().zip(want).map(|(g, w)| (g - w) * (g - w)).sum::<f64>();
        self.want += want.iter().map(|w| w * w).sum::<f64>();
    }

    fn error(&self) -> f64 {
        if self.want == 0.0 { self.difference.sqrt() } else { (self.difference / self.want).sqrt() }
    }
}

/// ‖got − want‖₂ / ‖want‖₂, ‖got‖₂ where `want` is all zeros; NaN where their numbers differ.
pub(crate) fn relative_error(got: &[f64], want: &[f64]) -> f64 {
    if got.len() != want.len() {
        return f64::NAN;
    }
    let mut distance = Distance::default();
    distance.add(got, want);
    distance.error()
}

/// Every reference of the case against what was made, in the references' order.
pub(super) fn rows(case: &Case, outputs: &Outputs, dtype: DType) -> Vec<Row> {
    let mut distances: BTreeMap<String, Distance> = BTreeMap::new();
    let mut rows = Vec::new();
    let row = |tensor: &str| Row {
        case: case.name.clone(),
        tensor: tensor.to_owned(),
        error: None,
        bound: Some(bound(&case.op, tensor, dtype)),
        verdict: Verdict::Fail,
        message: None,
    };
    for prefix in REFERENCES {
        for (rest, want) in case.with_prefix(prefix) {
            let name = format!("{prefix}{rest}");
            let group = if prefix == "grad." { ALL_GRADIENTS } else { &name };
            let message = match outputs.get(&name) {
                Some(got) if got.shape == want.shape => {
                    distances.entry(group.to_owned()).or_default().add(&got.values, &want.values);
                    continue;
                }
                Some(got) => format!("has the shape {:?}; {:?} is expected", got.shape, want.shape),
                None => "is not made by this operator".to_owned(),
            };
            rows.push(Row { message: Some(message), ..row(&name) });
        }
    }
    for (tensor, distance) in &distances {
        let (error, row) = (distance.error(), row(tensor));
        // A NaN is not within any bound.
        let passed = row.bound.is_some_and(|bound| error <= bound);
        let verdict = if passed { Verdict::Pass } else { Verdict::Fail };
        rows.push(Row { error: Some(error), verdict, ..row });
    }
    if rows.is_empty() {
        let message = Some("the case has no reference to compare with".to_owned());
        rows.push(Row { bound: None, message, ..row("") });
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::relative_error as error;

    #[test]
    fn errors_are_relative_absolute_for_zeros_and_nan_for_nan() {
        assert_eq!(error(&[3.0, 4.0], &[3.0, 4.0]), 0.0);
        assert!((error(&[3.0, 4.5], &[3.0, 4.0]) - 0.1).abs() < 1e-15);
        assert_eq!(error(&[0.5, 0.0], &[0.0, 0.0]), 0.5);
        assert!(error(&[f64::NAN], &[1.0]).is_nan());
        assert!(error(&[f64::NAN], &[f64::NAN]).is_nan());
        assert!(error(&[1.0], &[1.0, 0.0]).is_nan());
    }
}
