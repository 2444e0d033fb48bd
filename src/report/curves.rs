//! Curves over the steps of a training in bounded memory: at most [`MOST`] points, each of one or more neighbouring steps.

/// Most points of a curve: about as many as a wide plot has pixels.
pub const MOST: usize = 1024;

/// Largest magnitude that is drawn: spans of larger numbers would overflow.
const LARGEST: f64 = 1e100;

/// Values of one quantity over the steps of a point.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// Smallest value.
    pub low: f64,
    /// Largest value.
    pub high: f64,
    sum: f64,
    count: u64,
    /// Number of values that were not finite.
    pub not_finite: u64,
}

impl Summary {
    fn of(value: Option<f64>) -> Self {
        match value.filter(|value| value.abs() <= LARGEST) {
            Some(value) => Self { low: value, high: value, sum: value, count: 1, not_finite: 0 },
            None => Self { low: f64::INFINITY, high: f64::NEG_INFINITY, sum: 0.0, count: 0, not_finite: 1 },
        }
    }

    fn add(&mut self, other: &Self) {
        self.low = self.low.min(other.low);
        self.high = self.high.max(other.high);
        self.sum += other.sum;
        self.count += other.count;
        self.not_finite += other.not_finite;
    }

    /// Mean of the finite values; `None` without one.
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }
}

/// A point of `N` curves.
#[derive(Clone, Debug, PartialEq)]
pub struct Point<const N: usize> {
    /// First and last step of the point.
    pub steps: (u64, u64),
    /// One summary for each curve.
    pub values: [Summary; N],
}

impl<const N: usize> Point<N> {
    /// The step where the point is drawn: the middle of its steps.
    pub fn step(&self) -> f64 {
        (self.steps.0 as f64 + self.steps.1 as f64) / 2.0
    }

    fn add(&mut self, other: &Self) {
        self.steps = (self.steps.0.min(other.steps.0), self.steps.1.max(other.steps.1));
        self.values.iter_mut().zip(&other.values).for_each(|(to, from)| to.add(from));
    }
}

/// `N` curves over the same steps. A point covers `stride` steps; when there are too many points, neighbours are merged and
/// the stride doubles.
#[derive(Clone, Debug)]
pub struct Curves<const N: usize> {
    stride: u64,
    points: Vec<Point<N>>,
}

impl<const N: usize> Default for Curves<N> {
    fn default() -> Self {
        Self { stride: 1, points: Vec::new() }
    }
}

impl<const N: usize> Curves<N> {
    /// Adds the values of a step; `None` is not finite. Steps may come in any order.
    pub fn add(&mut self, step: u64, values: [Option<f64>; N]) {
        let point = Point { steps: (step, step), values: values.map(Summary::of) };
        let (index, stride) = (step / self.stride, self.stride);
        // Nearly always the step follows the last one.
        let place = match self.points.last() {
            Some(last) if last.steps.0 / stride == index => Ok(self.points.len() - 1),
            Some(last) if last.steps.0 / stride > index => {
                self.points.binary_search_by_key(&index, |point| point.steps.0 / stride)
            }
            _ => Err(self.points.len()),
        };
        match place {
            Ok(at) => self.points[at].add(&point),
            Err(at) => self.points.insert(at, point),
        }
        while self.points.len() > MOST {
            self.stride *= 2;
            let stride = self.stride;
            self.points.dedup_by(|next, kept| {
                let same = next.steps.0 / stride == kept.steps.0 / stride;
                if same {
                    kept.add(next);
                }
                same
            });
        }
    }

    /// The points, by their steps.
    pub fn points(&self) -> &[Point<N>] {
        &self.points
    }

    /// True if every point is a single step.
    pub fn is_exact(&self) -> bool {
        self.points.iter().all(|point| point.steps.0 == point.steps.1)
    }

    /// Curve `n`, smoothed: at each point the mean of its neighbours with Gaussian weights; the deviation is about a
    /// hundredth of the points, so that the smoothed curve has no lag. `None` where the point has no finite value.
    pub fn smoothed(&self, n: usize) -> Vec<Option<f64>> {
        let deviation = (self.points.len() as f64 / 100.0).max(1.0);
        let reach = (3.0 * deviation).ceil() as usize;
        let weights: Vec<f64> = (0..=reach).map(|d| (-0.5 * (d as f64 / deviation).powi(2)).exp()).collect();
        let means: Vec<_> = self.points.iter().map(|point| point.values.get(n)?.mean()).collect();
        let smooth = |at: usize| {
            means[at]?;
            let (from, to) = (at.saturating_sub(reach), (at + reach + 1).min(means.len()));
            let near = means[from..to].iter().enumerate().filter_map(|(i, mean)| Some((i + from, (*mean)?)));
            let (sum, total) = near.fold((0.0, 0.0), |(sum, total), (i, mean)| {
                let weight = weights[i.abs_diff(at)];
                (sum + weight * mean, total + weight)
            });
            Some(sum / total)
        };
        (0..means.len()).map(smooth).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(values: impl IntoIterator<Item = Option<f64>>) -> Curves<1> {
        let mut curves = Curves::default();
        values.into_iter().enumerate().for_each(|(i, value)| curves.add(i as u64 + 1, [value]));
        curves
    }

    #[test]
    fn few_steps_are_kept_as_they_are() {
        let curves = line([Some(1.0), None, Some(f64::NAN), Some(1e300), Some(-4.0)]);
        let means: Vec<_> = curves.points().iter().map(|point| point.values[0].mean()).collect();
        assert_eq!(means, [Some(1.0), None, None, None, Some(-4.0)]);
        assert!(curves.is_exact());
        assert!(line([]).points().is_empty() && line([]).smoothed(0).is_empty());
        assert_eq!(line([Some(3.0)]).smoothed(0), [Some(3.0)]);
    }

    #[test]
    fn a_million_steps_become_few_points_with_the_same_extremes_and_mean() {
        let value = |i: u64| if i == 654_321 { 1e4 } else { (i % 7) as f64 };
        let curves = line((1..=1_000_000).map(|i| (i != 77).then(|| value(i))));
        let points = curves.points();
        assert!(points.len() <= MOST && points.len() > MOST / 2 - 30, "{}", points.len());
        assert!(!curves.is_exact());
        assert_eq!(points.iter().map(|point| point.values[0].low).fold(9.0, f64::min), 0.0);
        let peak = points.iter().find(|point| point.values[0].high == 1e4).unwrap();
        assert!((peak.steps.0..=peak.steps.1).contains(&654_321));
        let sum: f64 = points.iter().map(|point| point.values[0].sum).sum();
        assert_eq!(sum, (1..=1_000_000).filter(|&i| i != 77).map(value).sum::<f64>());
        assert_eq!(points.iter().map(|point| point.values[0].not_finite).sum::<u64>(), 1);
        // The points cover all steps, without overlap.
        assert_eq!((points[0].steps.0, points[points.len() - 1].steps.1), (1, 1_000_000));
        assert!(points.windows(2).all(|pair| pair[0].steps.1 + 1 == pair[1].steps.0));
    }

    #[test]
    fn steps_in_any_order_and_of_any_size_stay_within_the_bound() {
        let mut curves = Curves::<2>::default();
        for i in 0..5000u64 {
            // A bijection of 64-bit numbers.
            let step = i.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            curves.add(step, [Some(1.0), None]);
        }
        curves.add(u64::MAX, [Some(2.0), Some(1.0)]);
        assert!(curves.points().len() <= MOST);
        assert!(curves.points().windows(2).all(|pair| pair[0].steps.1 < pair[1].steps.0));
        assert_eq!(curves.points().iter().map(|point| point.values[0].count).sum::<u64>(), 5001);
    }

    #[test]
    fn smoothing_keeps_a_constant_and_gaps_and_calms_noise() {
        let curves = line((0..600).map(|i| (i % 50 != 7).then_some(2.5)));
        let smoothed = curves.smoothed(0);
        assert!(smoothed[7].is_none() && smoothed[57].is_none());
        assert!(smoothed.iter().flatten().all(|value| (value - 2.5).abs() < 1e-12));
        let noise = line((0..600).map(|i| Some(f64::from(i % 2))));
        assert!(noise.smoothed(0).iter().flatten().all(|value| (value - 0.5).abs() < 0.1));
    }
}
