//! The reports that the ranks exchange once per step.

/// Number of values in a report.
const FIELDS: usize = 6;

/// One rank's report of its share of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Report {
    /// Mean loss of the rank's batches.
    pub loss: f64,
    /// Whether its gradients or its loss are not finite.
    pub found_inf: bool,
    /// Loss scale of the rank.
    pub scale: f32,
    /// The signal that it received; 0: none.
    pub signal: i32,
    /// Seconds of computation, without waiting for other ranks.
    pub busy: f64,
    /// Sum of squares of the reduced gradients that this rank updates.
    pub squares: f64,
}

impl Report {
    /// Encodes the report as numbers to send.
    pub fn to_numbers(self) -> [f64; FIELDS] {
        let Self { loss, found_inf, scale, signal, busy, squares } = self;
        [loss, f64::from(u8::from(found_inf)), f64::from(scale), f64::from(signal), busy, squares]
    }

    fn from_numbers([loss, found_inf, scale, signal, busy, squares]: [f64; FIELDS]) -> Self {
        Self { loss, found_inf: found_inf != 0.0, scale: scale as f32, signal: signal as i32, busy, squares }
    }

    /// Decodes the gathered reports of all ranks, rank by rank.
    pub fn all(gathered: &[f64]) -> Vec<Self> {
        gathered.as_chunks().0.iter().map(|numbers| Self::from_numbers(*numbers)).collect()
    }
}

/// The combination of all ranks' reports: the same on each rank, which combines the same numbers in the same order.
#[derive(Clone, Debug, PartialEq)]
pub struct Agreement {
    /// Mean loss over the batches of the step.
    pub loss: f64,
    /// Whether any rank's gradients or loss are not finite: all skip the step.
    pub found_inf: bool,
    /// The largest of the loss scales.
    pub scale: f32,
    /// A signal that any rank received; 0: none.
    pub signal: i32,
    /// Seconds that each rank computed.
    pub busy: Vec<f64>,
    /// Sum of squares over all shares.
    pub squares: f64,
}

impl Agreement {
    /// Combines the reports of all ranks.
    pub fn of(reports: &[Report]) -> Self {
        let sum = |value: fn(&Report) -> f64| reports.iter().map(value).sum::<f64>();
        Self {
            loss: sum(|r| r.loss) / reports.len() as f64,
            found_inf: reports.iter().any(|r| r.found_inf),
            scale: reports.iter().map(|r| r.scale).fold(f32::MIN, f32::max),
            signal: reports.iter().map(|r| r.signal).max().unwrap_or_default(),
            busy: reports.iter().map(|r| r.busy).collect(),
            squares: sum(|r| r.squares),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_arrives_as_it_left_and_the_worst_counts() {
        let good = Report { loss: 0.5, scale: 2.0, busy: 0.1, squares: 3.0, ..Report::default() };
        let bad = Report { loss: f64::NAN, found_inf: true, scale: 4.0, signal: 15, busy: 0.3, squares: 1.0 };
        let numbers: Vec<f64> = [good, bad].iter().flat_map(|r| r.to_numbers()).collect();
        let reports = Report::all(&numbers);
        assert_eq!((reports.len(), reports[0]), (2, good));
        let agreed = Agreement::of(&reports);
        assert!(agreed.loss.is_nan() && agreed.found_inf);
        assert_eq!((agreed.scale, agreed.signal, agreed.squares), (4.0, 15, 4.0));
        assert_eq!(agreed.busy, [0.1, 0.3]);
    }
}
