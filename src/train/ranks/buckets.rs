//! The gradient arena cut into buckets that are reduced as soon as they are complete.

use std::{ops::Range, sync::Arc};

use ssmv_autograd::ArenaLayout;

/// Size of the first bucket in bytes: small, so that communication starts early.
const FIRST: usize = 1 << 20;

/// The cuts of the arena. The last parameters are first, because a backward pass reaches them first (Li et al. 2020,
/// "PyTorch Distributed"); the cuts depend on the layout alone, so they are the same on every rank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Buckets {
    ranges: Vec<Range<usize>>,
    /// The buckets that have a part of each parameter.
    of: Arc<[Range<usize>]>,
    /// Number of parameters that have a part in each bucket.
    counts: Vec<usize>,
    multiple: usize,
}

impl Buckets {
    /// Buckets of at least `bytes` of gradients in f32, the first of at least 1 MiB, cut between parameters, or shortly
    /// after such a place if their lengths must be multiples of `multiple` elements. The arena's first elements may
    /// form a bucket that is too short for that.
    pub fn new(layout: &ArenaLayout, bytes: usize, multiple: usize) -> Self {
        let (mut ranges, mut end) = (Vec::<Range<usize>>::new(), layout.len());
        for (index, range) in layout.ranges().iter().enumerate().rev() {
            let least = if ranges.is_empty() { FIRST.min(bytes) } else { bytes };
            // The first parameter's bucket ends the arena's cut, whatever its size.
            let start = if index == 0 { 0 } else { range.start };
            let length = (end - start) / multiple * multiple;
            if length > 0 && (length * size_of::<f32>() >= least || index == 0) {
                ranges.push(end - length..end);
                end -= length;
            }
        }
        if end > 0 {
            ranges.push(0..end);
        }
        let overlap = |a: &Range<usize>, b: &Range<usize>| a.start < b.end && b.start < a.end;
        let of = layout.ranges().iter().map(|parameter| {
            let first = ranges.iter().position(|bucket| overlap(bucket, parameter)).unwrap_or(0);
            first..first + ranges[first..].iter().take_while(|bucket| overlap(bucket, parameter)).count()
        });
        let of: Arc<[_]> = of.collect();
        let counts = (0..ranges.len()).map(|i| of.iter().filter(|of| of.contains(&i)).count()).collect();
        Self { ranges, of, counts, multiple }
    }

    /// Range of each bucket in the arena, in the order of reduction.
    pub fn ranges(&self) -> &[Range<usize>] {
        &self.ranges
    }

    /// Whether a bucket is too short to be divided among the ranks.
    pub fn is_short(&self, bucket: usize) -> bool {
        !self.ranges[bucket].len().is_multiple_of(self.multiple)
    }

    /// The state at the start of a backward pass.
    pub fn progress(&self) -> Progress {
        Progress { of: Arc::clone(&self.of), left: self.counts.clone(), next: 0 }
    }
}

/// Which buckets a backward pass has completed.
pub struct Progress {
    /// The buckets that have a part of each parameter.
    of: Arc<[Range<usize>]>,
    /// Parameters without a complete gradient in each bucket.
    left: Vec<usize>,
    next: usize,
}

impl Progress {
    /// Records that a parameter's gradient is complete; returns the buckets that can be sent now. They are sent in
    /// order, so one that is complete early waits for those before it.
    pub fn complete(&mut self, parameter: usize) -> Range<usize> {
        for bucket in self.of.get(parameter).cloned().unwrap_or_default() {
            self.left[bucket] = self.left[bucket].saturating_sub(1);
        }
        let from = self.next;
        while self.left.get(self.next) == Some(&0) {
            self.next += 1;
        }
        from..self.next
    }

    /// The buckets that are not sent yet: those that a pass did not complete.
    pub fn rest(&self) -> Range<usize> {
        self.next..self.left.len()
    }
}

#[cfg(test)]
mod tests {
    use ssmv_autograd::Shape;

    use super::*;

    fn layout(sizes: &[usize]) -> ArenaLayout {
        ArenaLayout::new(sizes.iter().map(|&n| Shape::from(&[n]))).unwrap()
    }

    #[test]
    fn the_arena_is_cut_once_from_its_end() {
        // In elements of 4 bytes; the arena pads each to 64.
        let layout = layout(&[10, 300_000, 64, 1 << 20, 128, 262_144]);
        let buckets = Buckets::new(&layout, 4 << 20, 1);
        let end = layout.len();
        assert_eq!(buckets.ranges()[0], layout.ranges()[5].start..end, "1 MiB is enough for the first");
        assert_eq!(buckets.ranges()[1], layout.ranges()[3].start..layout.ranges()[5].start);
        assert_eq!(buckets.ranges()[2], 0..layout.ranges()[3].start);
        assert_eq!(
            (buckets.of.to_vec(), buckets.counts.clone()),
            (vec![2..3, 2..3, 2..3, 1..2, 1..2, 0..1], vec![1, 2, 3])
        );
        assert_eq!(Buckets::new(&layout, usize::MAX, 1).ranges().len(), 2);
        assert_eq!(Buckets::new(&layout, 1, 1).ranges().len(), 6);
        assert!(Buckets::new(&self::layout(&[]), 1, 1).ranges().is_empty());
    }

    #[test]
    fn buckets_go_in_their_order_whatever_is_complete_first() {
        let layout = layout(&[64; 5]);
        let buckets = Buckets::new(&layout, 2 * 64 * 4, 1);
        assert_eq!(buckets.counts, [2, 2, 1]);
        let mut progress = buckets.progress();
        assert_eq!(progress.complete(0), 0..0);
        assert_eq!(progress.complete(4), 0..0);
        assert_eq!(progress.complete(3), 0..1);
        assert_eq!((progress.complete(2), progress.rest()), (1..1, 1..3));
        assert_eq!((progress.complete(1), progress.rest()), (1..3, 3..3));
        assert_eq!(progress.complete(99), 3..3);
    }

    #[test]
    fn buckets_of_a_multiple_share_parameters() {
        let layout = layout(&[128, 64 * 5, 64 * 4, 64 * 3]);
        let buckets = Buckets::new(&layout, 64 * 3 * 4, 128);
        // From the end of 14·64 elements: 2·64 of parameter 3's are too few, with parameter 2's it is 6·64.
        assert_eq!(buckets.ranges(), [64 * 8..64 * 14, 64 * 2..64 * 8, 0..64 * 2]);
        assert_eq!(
            (buckets.of.to_vec(), buckets.counts.clone()),
            (vec![2..3, 1..2, 0..2, 0..1], vec![2, 2, 1])
        );
        assert!((0..3).all(|i| !buckets.is_short(i)));
        let mut progress = buckets.progress();
        assert_eq!((progress.complete(3), progress.complete(2), progress.complete(1)), (0..0, 0..1, 1..2));
        let odd = Buckets::new(&layout, 1, 64 * 4);
        assert_eq!(odd.ranges().last(), Some(&(0..64 * 2)));
        assert!(odd.is_short(odd.ranges().len() - 1) && !odd.is_short(0));
    }
}
