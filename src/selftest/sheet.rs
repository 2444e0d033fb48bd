//! What was compared, and what it came to.

use super::{Check, Options, Part};
use crate::verify::{self, Row, Verdict, relative_error};

/// Comparisons on their way into the report.
pub(super) struct Sheet<'a> {
    options: &'a Options,
    /// So far.
    pub checks: Vec<Check>,
    /// Whether the case that was to be made wrong came by.
    pub fault_met: bool,
}

impl<'a> Sheet<'a> {
    /// Without comparisons.
    pub fn new(options: &'a Options) -> Self {
        Self { options, checks: Vec::new(), fault_met: false }
    }

    /// How much is run.
    pub fn options(&self) -> &'a Options {
        self.options
    }

    /// Whether a case is to be run.
    pub fn wants(&self, case: &str) -> bool {
        self.options.filter.as_ref().is_none_or(|part| case.contains(part.as_str()))
    }

    /// Whether the expectation of this case is to be made wrong.
    pub fn is_faulty(&mut self, case: &str) -> bool {
        let faulty = self.options.fault.as_deref() == Some(case);
        self.fault_met |= faulty;
        faulty
    }

    /// Compares by the relative L2 error.
    pub fn near(&mut self, part: Part, case: &str, tensor: &str, got: &[f64], want: &[f64], bound: f64) {
        if self.is_faulty(case) {
            let size = want.iter().map(|w| w * w).sum::<f64>().sqrt();
            let wrong: Vec<f64> = want.iter().map(|w| w + size + 1.0).collect();
            return self.judge(part, case, tensor, [got, &wrong], relative_error(got, &wrong), bound);
        }
        self.judge(part, case, tensor, [got, want], relative_error(got, want), bound);
    }

    /// Compares bits; the error is the share of the values that differ.
    pub fn same(&mut self, part: Part, case: &str, tensor: &str, got: &[f64], want: &[f64]) {
        let one = u64::from(self.is_faulty(case));
        let different = got.iter().zip(want).filter(|(g, w)| g.to_bits() != w.to_bits() ^ one).count();
        let error =
            if got.len() == want.len() { different as f64 / got.len().max(1) as f64 } else { f64::NAN };
        self.judge(part, case, tensor, [got, want], error, 0.0);
    }

    fn judge(
        &mut self,
        part: Part,
        case: &str,
        tensor: &str,
        [got, want]: [&[f64]; 2],
        error: f64,
        bound: f64,
    ) {
        let broken = |values: &[f64]| values.iter().filter(|v| !v.is_finite()).count();
        let message = match (broken(got), broken(want)) {
            _ if want.is_empty() => Some("there is nothing to compare with".to_owned()),
            _ if got.len() != want.len() => {
                Some(format!("{} values where {} are expected", got.len(), want.len()))
            }
            (0, 0) => None,
            (0, n) => Some(format!("{n} of {} reference values are not finite", want.len())),
            (n, _) => Some(format!("{n} of {} values are not finite", got.len())),
        };
        // A NaN is not within any bound.
        let passed = message.is_none() && error <= bound;
        let verdict = if passed { Verdict::Pass } else { Verdict::Fail };
        self.push(
            part,
            Row {
                case: case.to_owned(),
                tensor: tensor.to_owned(),
                error: Some(error).filter(|e| e.is_finite()),
                bound: Some(bound),
                verdict,
                message,
            },
        );
    }

    /// A case that could not be run.
    pub fn failed(&mut self, part: Part, case: &str, message: &str) {
        let message = Some(message.to_owned());
        let (case, tensor, verdict) = (case.to_owned(), String::new(), Verdict::Fail);
        self.push(part, Row { case, tensor, error: None, bound: None, verdict, message });
    }

    /// A comparison that was made elsewhere.
    pub fn push(&mut self, part: Part, comparison: verify::Row) {
        self.checks.push(Check { part, comparison });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(fault: Option<&str>, got: &[f64], want: &[f64]) -> [bool; 2] {
        let options = Options { fault: fault.map(str::to_owned), ..Options::default() };
        let mut sheet = Sheet::new(&options);
        sheet.near(Part::Operators, "case", "near", got, want, 1e-3);
        sheet.same(Part::Operators, "case", "same", got, want);
        assert_eq!(sheet.fault_met, fault == Some("case"));
        [0, 1].map(|i: usize| sheet.checks[i].comparison.verdict == Verdict::Pass)
    }

    #[test]
    fn only_what_is_near_and_finite_passes() {
        for (got, want, expected) in [
            (&[1.0, 2.0][..], &[1.0, 2.0][..], [true, true]),
            (&[1.0, 2.0001], &[1.0, 2.0], [true, false]),
            (&[1.0, 2.1], &[1.0, 2.0], [false, false]),
            (&[0.0], &[-0.0], [true, false]),
            (&[1.0, f64::NAN], &[1.0, f64::NAN], [false, false]),
            (&[1.0, f64::INFINITY], &[1.0, f64::INFINITY], [false, false]),
            (&[1.0, 2.0], &[1.0, f64::INFINITY], [false, false]),
            (&[1.0], &[1.0, 2.0], [false, false]),
            (&[], &[], [false, false]),
        ] {
            assert_eq!(verdicts(None, got, want), expected, "{got:?} {want:?}");
            assert_eq!(verdicts(Some("other"), got, want), expected, "{got:?} {want:?}");
            assert_eq!(verdicts(Some("case"), got, want), [false, false], "{got:?} {want:?}");
        }
    }
}
