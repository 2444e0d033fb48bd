//! Detects the rank that all others wait for.

/// Weight of a step in the smoothed times.
const SHARE: f64 = 0.2;
/// Steps in a row in which a rank must be the slowest; shorter delays are ignored.
const ROW: u64 = 16;
/// Least number of steps between two warnings.
const QUIET: u64 = 200;
/// A rank is slow when it takes this many times as long as the median rank.
const FACTOR: f64 = 1.5;
/// Least difference to the median in seconds that is reported.
const LEAST: f64 = 0.005;

/// Smoothed computing times of the ranks.
#[derive(Clone, Debug)]
pub struct Stragglers {
    smoothed: Vec<f64>,
    steps: u64,
    /// The rank that is slow now, and the number of steps for which it has been.
    slow: (usize, u64),
    said: Option<u64>,
}

impl Stragglers {
    /// A detector for `size` ranks.
    pub fn new(size: usize) -> Self {
        Self { smoothed: vec![0.0; size], steps: 0, slow: (0, 0), said: None }
    }

    /// Adds a step's seconds, rank by rank; returns a warning if one rank is slow and the last warning is old enough.
    pub fn observe(&mut self, busy: &[f64]) -> Option<String> {
        self.steps += 1;
        let share = (1.0 / self.steps as f64).max(SHARE);
        self.smoothed.iter_mut().zip(busy).for_each(|(s, b)| *s += share * (b - *s));
        let mut sorted = self.smoothed.clone();
        sorted.sort_by(f64::total_cmp);
        // The lower median: with two ranks, the other rank's time.
        let median = *sorted.get((sorted.len().saturating_sub(1)) / 2)?;
        let (rank, &slowest) = self.smoothed.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1))?;
        let is_slow = slowest >= FACTOR * median && slowest >= median + LEAST;
        let row = if rank == self.slow.0 { self.slow.1 } else { 0 };
        self.slow = (rank, if is_slow { row + 1 } else { 0 });
        let quiet = self.said.is_some_and(|said| self.steps < said + QUIET);
        if quiet || self.slow.1 < ROW {
            return None;
        }
        self.said = Some(self.steps);
        Some(format!(
            "rank {rank} is slow: it computes {slowest:.3} s a step where the median rank takes {median:.3} s, and all wait for it"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slow_rank_is_named_now_and_then() {
        let mut watch = Stragglers::new(3);
        let lines: Vec<_> = (0..300).filter_map(|_| watch.observe(&[0.1, 0.11, 0.4])).collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].starts_with("rank 2 is slow: it computes 0.400 s"), "{}", lines[0]);
        let mut pair = Stragglers::new(2);
        assert!((0..40).filter_map(|_| pair.observe(&[0.5, 0.1])).next().unwrap().starts_with("rank 0"));
    }

    #[test]
    fn ranks_that_are_about_equal_and_single_slow_steps_are_no_news() {
        let mut watch = Stragglers::new(2);
        for step in 0..500 {
            let hiccup = if step == 50 { 0.12 } else { 0.0 };
            assert_eq!(watch.observe(&[0.1 + hiccup, 0.12]), None);
        }
        assert_eq!(Stragglers::new(1).observe(&[1.0]), None);
    }
}
