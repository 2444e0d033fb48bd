//! The comparisons of a selftest while it runs.

use super::{
    compare::Comparison,
    selftest::{Check, Options, Part},
};

/// Results of all comparisons so far.
pub(super) struct Results<'a> {
    options: &'a Options,
    /// Comparisons in their order.
    pub checks: Vec<Check>,
    /// True if the case with the deliberate fault was run.
    pub fault_met: bool,
}

impl<'a> Results<'a> {
    /// Starts a selftest without comparisons.
    pub fn new(options: &'a Options) -> Self {
        Self { options, checks: Vec::new(), fault_met: false }
    }

    /// The options of the selftest.
    pub fn options(&self) -> &'a Options {
        self.options
    }

    /// True if a case is selected.
    pub fn wants(&self, case: &str) -> bool {
        self.options.filter.as_ref().is_none_or(|part| case.contains(part.as_str()))
    }

    /// True if this case has the deliberate fault.
    pub fn is_faulty(&mut self, case: &str) -> bool {
        let faulty = self.options.fault.as_deref() == Some(case);
        self.fault_met |= faulty;
        faulty
    }

    /// Compares by the relative L2 error.
    pub fn near(&mut self, part: Part, case: &str, tensor: &str, got: &[f64], want: &[f64], bound: f64) {
        let mut want = want.to_vec();
        if self.is_faulty(case) {
            let size = want.iter().map(|w| w * w).sum::<f64>().sqrt();
            want.iter_mut().for_each(|w| *w += size + 1.0);
        }
        self.push(part, Comparison::near(case, tensor, got, &want, bound));
    }

    /// Compares bits; the error is the share of the values that differ.
    pub fn same(&mut self, part: Part, case: &str, tensor: &str, got: &[f64], want: &[f64]) {
        let one = u64::from(self.is_faulty(case));
        let different = got.iter().zip(want).filter(|(g, w)| g.to_bits() != w.to_bits() ^ one).count();
        let error = different as f64 / got.len().max(1) as f64;
        self.push(part, Comparison::new(case, tensor, [got, want], error, 0.0));
    }

    /// A case that could not be run.
    pub fn failed(&mut self, part: Part, case: &str, message: &str) {
        self.push(part, Comparison::failure(case, "", message.to_owned()));
    }

    /// Adds a finished comparison.
    pub fn push(&mut self, part: Part, comparison: Comparison) {
        self.checks.push(Check { part, comparison });
    }
}

#[cfg(test)]
mod tests {
    use super::{super::compare::Verdict, *};

    fn verdicts(fault: Option<&str>, got: &[f64], want: &[f64]) -> [bool; 2] {
        let options = Options { fault: fault.map(str::to_owned), ..Options::default() };
        let mut results = Results::new(&options);
        results.near(Part::Operators, "case", "near", got, want, 1e-3);
        results.same(Part::Operators, "case", "same", got, want);
        assert_eq!(results.fault_met, fault == Some("case"));
        [0, 1].map(|i: usize| results.checks[i].comparison.verdict == Verdict::Pass)
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
