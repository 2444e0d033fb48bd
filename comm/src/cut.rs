//! Cuts of elements into segments, and of segments into pieces.

use std::ops::Range;

/// The elements of `rank`'s segment in a buffer of `count`: `[rank·count/size, (rank+1)·count/size)`.
///
/// # Panics
/// If `size` is 0.
pub fn segment(count: usize, size: usize, rank: usize) -> Range<usize> {
    // 128 bits, because count·size may not fit in 64.
    let cut = |i: usize| (count as u128 * i as u128 / size as u128) as usize;
    cut(rank)..cut(rank + 1)
}

/// `rank`'s [`segment`] of the elements `range`, as indices in the same numbering.
///
/// # Panics
/// If `size` is 0.
pub fn segment_of(range: &Range<usize>, size: usize, rank: usize) -> Range<usize> {
    let own = segment(range.len(), size, rank);
    range.start + own.start..range.start + own.end
}

/// Numbers and sizes of a transport's pieces.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pieces {
    /// Number of pieces that a rank has in flight.
    pub width: usize,
    /// Size limit of a piece in bytes.
    pub most: usize,
    /// A segment of at most this many bytes is one piece: more pieces would only add latency.
    pub uncut: usize,
}

/// A range of elements in segments, each of `waves`·`width` pieces. A wave travels round the ring before the next wave
/// starts, so a rank has `width` pieces in flight for any size of buffer.
#[derive(Debug, Clone)]
pub(crate) struct Cut {
    range: Range<usize>,
    segments: usize,
    /// Number of waves; the schedule runs once per wave.
    pub waves: usize,
    /// Number of pieces per wave.
    pub width: usize,
}

impl Cut {
    /// Cuts `range` into `segments`; an element has `bytes`.
    pub fn new(range: &Range<usize>, segments: usize, bytes: usize, pieces: Pieces) -> Self {
        let Pieces { width, most, uncut } = pieces;
        let longest = range.len().div_ceil(segments);
        let width = if longest.saturating_mul(bytes) <= uncut.min(most) { 1 } else { width };
        // In elements, so that rounding makes no piece longer than the limit.
        let wave = width * (most / bytes).max(1);
        let waves = longest.div_ceil(wave).max(1);
        Self { range: range.clone(), segments, waves, width }
    }

    /// The elements of piece `i` in wave `wave` of a segment.
    pub fn piece(&self, segment: usize, wave: usize, i: usize) -> Range<usize> {
        let segment = segment_of(&self.range, self.segments, segment);
        segment_of(&segment, self.waves * self.width, wave * self.width + i)
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
            let cut = Cut::new(&range, segments, bytes, Pieces { width, most, uncut: 1 << 18 });
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
