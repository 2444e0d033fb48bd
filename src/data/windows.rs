//! Windows of clips: sequences of a fixed number of frames, `stride` frames apart.

use std::ops::Range;

/// The windows of parts of clips, numbered clip by clip.
#[derive(Debug)]
pub(super) struct Windows {
    /// A clip, and the first frame of its part.
    parts: Vec<(usize, usize)>,
    /// Number of the first window of each part, and of all windows at the end.
    first: Vec<u64>,
    stride: usize,
}

impl Windows {
    /// Windows of `frames` frames in `parts`, which are clips and ranges of their frames. `frames` and `stride` are at least 1.
    pub fn new(parts: Vec<(usize, Range<usize>)>, frames: usize, stride: usize) -> Self {
        let mut first = vec![0];
        let mut total = 0;
        for (_, range) in &parts {
            total += range.len().checked_sub(frames).map_or(0, |spare| spare / stride + 1) as u64;
            first.push(total);
        }
        let parts = parts.into_iter().map(|(clip, range)| (clip, range.start)).collect();
        Self { parts, first, stride }
    }

    /// Number of windows.
    pub fn len(&self) -> u64 {
        self.first.last().copied().unwrap_or(0)
    }

    /// Clip and first frame of a window.
    pub fn at(&self, index: u64) -> Option<(usize, usize)> {
        if index >= self.len() {
            return None;
        }
        let part = self.first.partition_point(|&first| first <= index) - 1;
        let (clip, start) = self.parts[part];
        Some((clip, start + (index - self.first[part]) as usize * self.stride))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_numbered_clip_by_clip() {
        let windows = Windows::new(vec![(0, 0..5), (1, 0..2), (2, 4..10)], 3, 2);
        let all: Vec<_> = (0..windows.len()).map(|i| windows.at(i).unwrap()).collect();
        assert_eq!(all, [(0, 0), (0, 2), (2, 4), (2, 6)]);
        assert_eq!(windows.at(4), None);
        assert_eq!(Windows::new(Vec::new(), 3, 1).at(0), None);
    }
}
