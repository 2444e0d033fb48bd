//! How elements are cut into segments, and those into what travels at once.

use std::ops::Range;

use super::super::segment;

/// Below this many bytes a segment travels as one piece: cutting it would only add launches.
const WHOLE: usize = 256 << 10;

/// Elements `[i·count/parts, (i+1)·count/parts)` of a range that starts at `first`.
fn part(range: &Range<usize>, parts: usize, i: usize) -> Range<usize> {
    let part = segment(range.len(), parts, i);
    range.start + part.start..range.start + part.end
}

/// A range of elements in a segment a rank, each in `waves`·`width` pieces. A wave's pieces go all the way round before the
/// next wave starts.
#[derive(Debug, Clone)]
pub struct Cut {
    range: Range<usize>,
    segments: usize,
    /// How often the schedule runs.
    pub waves: usize,
    /// Pieces of a wave.
    pub width: usize,
}

impl Cut {
    /// `range` in `segments`, each in waves of up to `width` pieces of at most `most` bytes; elements have `bytes`.
    pub fn new(range: &Range<usize>, segments: usize, bytes: usize, width: usize, most: usize) -> Self {
        let whole = range.len().div_ceil(segments) * bytes;
        let width = if whole <= WHOLE.min(most) { 1 } else { width };
        // In elements, so that rounding makes no piece longer than the most.
        let wave = width * (most / bytes).max(1);
        let waves = range.len().div_ceil(segments).div_ceil(wave).max(1);
        Self { range: range.clone(), segments, waves, width }
    }

    /// The elements of piece `i` in wave `wave` of a segment.
    pub fn piece(&self, segment: usize, wave: usize, i: usize) -> Range<usize> {
        let segment = part(&self.range, self.segments, segment);
        part(&segment, self.waves * self.width, wave * self.width + i)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_the_range_in_order_and_are_no_longer_than_the_most() {
        for (range, segments, bytes, width, most) in [
            (0..0, 3, 4, 4, 1 << 20),
            (7..9, 4, 4, 4, 1 << 20),
            (5..1_000_003, 3, 4, 2, 4096),
            (64..300_064, 2, 2, 4, 65_536),
            (0..65_536, 1, 4, 3, 262_144),
        ] {
            let cut = Cut::new(&range, segments, bytes, width, most);
            let mut next = range.start;
            for segment in 0..segments {
                for wave in 0..cut.waves {
                    for i in 0..cut.width {
                        let piece = cut.piece(segment, wave, i);
                        assert!(piece.start == next && piece.len() * bytes <= most, "{range:?}: {piece:?}");
                        next = piece.end;
                    }
                }
            }
            assert_eq!(next, range.end);
        }
    }
}
