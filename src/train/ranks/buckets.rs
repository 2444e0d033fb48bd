//! The gradient arena cut into buckets that are reduced as soon as they are whole.

use std::ops::Range;

use ssmv_autograd::ArenaLayout;

/// Bytes of the first bucket: small, so that the wire is busy early.
const FIRST: usize = 1 << 20;

/// Where the arena is cut. The last parameters come first, for a backward pass reaches them first (Li et al. 2020,
/// "PyTorch Distributed"); the cut depends on the layout alone, and so is the same on every rank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Buckets {
    ranges: Vec<Range<usize>>,
    /// The bucket of each parameter.
    of: Vec<usize>,
    /// How many parameters each bucket has.
    counts: Vec<usize>,
}

impl Buckets {
    /// Buckets of at least `bytes` of gradients in f32, the first of at least 1 MiB, cut between parameters.
    pub fn new(layout: &ArenaLayout, bytes: usize) -> Self {
        let (mut ranges, mut of, mut counts) = (Vec::new(), vec![0; layout.ranges().len()], Vec::new());
        let (mut end, mut held) = (layout.len(), 0);
        for (index, range) in layout.ranges().iter().enumerate().rev() {
            of[index] = ranges.len();
            held += 1;
            let least = if ranges.is_empty() { FIRST.min(bytes) } else { bytes };
            // The first parameter's bucket ends the arena's cut, whatever its size.
            if (end - range.start) * size_of::<f32>() >= least || index == 0 {
                ranges.push(range.start..end);
                counts.push(held);
                (end, held) = (range.start, 0);
            }
        }
        Self { ranges, of, counts }
    }

    /// Each bucket's elements of the arena, in the order of reduction.
    pub fn ranges(&self) -> &[Range<usize>] {
        &self.ranges
    }

    /// Nothing of a pass has come yet.
    pub fn progress(&self) -> Progress<'_> {
        Progress { buckets: self, left: self.counts.clone(), next: 0 }
    }
}

/// How much of a backward pass has come.
pub struct Progress<'a> {
    buckets: &'a Buckets,
    left: Vec<usize>,
    next: usize,
}

impl Progress<'_> {
    /// Notes that a parameter's gradient is whole; gives the buckets that can go now. They go in their order, so one that
    /// is whole early waits for those before it.
    pub fn whole(&mut self, parameter: usize) -> Range<usize> {
        if let Some(left) = self.buckets.of.get(parameter).and_then(|&bucket| self.left.get_mut(bucket)) {
            *left = left.saturating_sub(1);
        }
        let from = self.next;
        while self.left.get(self.next) == Some(&0) {
            self.next += 1;
        }
        from..self.next
    }

    /// The buckets that have not gone: those that a pass did not make whole.
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
        let buckets = Buckets::new(&layout, 4 << 20);
        let end = layout.len();
        assert_eq!(buckets.ranges()[0], layout.ranges()[5].start..end, "1 MiB is enough for the first");
        assert_eq!(buckets.ranges()[1], layout.ranges()[3].start..layout.ranges()[5].start);
        assert_eq!(buckets.ranges()[2], 0..layout.ranges()[3].start);
        assert_eq!((buckets.of.clone(), buckets.counts.clone()), (vec![2, 2, 2, 1, 1, 0], vec![1, 2, 3]));
        assert_eq!(Buckets::new(&layout, usize::MAX).ranges().len(), 2);
        assert_eq!(Buckets::new(&layout, 1).ranges().len(), 6);
        assert!(Buckets::new(&self::layout(&[]), 1).ranges().is_empty());
    }

    #[test]
    fn buckets_go_in_their_order_whatever_is_whole_first() {
        let layout = layout(&[64; 5]);
        let buckets = Buckets::new(&layout, 2 * 64 * 4);
        assert_eq!(buckets.counts, [2, 2, 1]);
        let mut progress = buckets.progress();
        assert_eq!(progress.whole(0), 0..0);
        assert_eq!(progress.whole(4), 0..0);
        assert_eq!(progress.whole(3), 0..1);
        assert_eq!((progress.whole(2), progress.rest()), (1..1, 1..3));
        assert_eq!((progress.whole(1), progress.rest()), (1..3, 3..3));
        assert_eq!(progress.whole(99), 3..3);
    }
}
