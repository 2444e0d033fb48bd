//! The order of an array's axes: given, or found by its shape and by which neighbouring frames are alike.

use crate::config::choices;

choices! {
    /// Order of the axes of an array of clips: N clips, T frames, H rows, W columns, C colours.
    Layout {
        /// By the number of axes, an axis of 1 or 3 colours, and the axis along which neighbouring frames are most alike.
        Auto = "auto",
        /// [T, H, W]: one clip.
        Thw = "thw",
        /// [T, H, W, C]: one clip.
        Thwc = "thwc",
        /// [T, C, H, W]: one clip.
        Tchw = "tchw",
        /// [T, N, H, W], as in the standard test set `mnist_test_seq.npy`.
        Tnhw = "tnhw",
        /// [N, T, H, W].
        Nthw = "nthw",
        /// [N, T, H, W, C].
        Nthwc = "nthwc",
        /// [N, T, C, H, W].
        Ntchw = "ntchw",
        /// [T, N, H, W, C].
        Tnhwc = "tnhwc",
        /// [T, N, C, H, W].
        Tnchw = "tnchw",
    }
}

/// Numbers of colours that a frame can have.
const COLOURS: [usize; 2] = [1, 3];

/// The sizes of an array by a layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Clips.
    pub clips: usize,
    /// Frames of a clip.
    pub frames: usize,
    /// Rows of a frame.
    pub height: usize,
    /// Columns of a frame.
    pub width: usize,
    /// Colours of a pixel: 1 or 3.
    pub channels: usize,
    /// Whether the frames of a clip are neighbours; else the clips of a frame are.
    pub clip_first: bool,
    /// Whether a frame is one plane a colour; else a pixel's colours are neighbours.
    pub planes: bool,
}

impl Sizes {
    /// Number in the array of frame `t` of clip `n`.
    pub fn frame(&self, n: usize, t: usize) -> usize {
        if self.clip_first { n * self.frames + t } else { t * self.clips + n }
    }

    /// Elements of a frame.
    pub fn elements(&self) -> usize {
        self.height * self.width * self.channels
    }
}

impl Layout {
    /// The sizes of an array of `shape`, if the shape has these axes and 1 or 3 colours.
    pub fn sizes(self, shape: &[usize]) -> Option<Sizes> {
        let letters = self.to_string();
        let axis = |letter: char| letters.find(letter);
        let size = |letter: char| axis(letter).map_or(1, |axis| shape[axis]);
        if self == Self::Auto || letters.len() != shape.len() {
            return None;
        }
        let (clips, frames, channels) = (size('n'), size('t'), size('c'));
        let (height, width) = (size('h'), size('w'));
        let clip_first = axis('n') < axis('t');
        let planes = axis('c') < axis('h') && channels > 1 && axis('c').is_some();
        COLOURS.contains(&channels).then_some(Sizes {
            clips,
            frames,
            height,
            width,
            channels,
            clip_first,
            planes,
        })
    }

    /// The layout with clips and frames exchanged.
    pub fn exchanged(self) -> Option<Self> {
        let of = |a, b| if self == a { Some(b) } else { (self == b).then_some(a) };
        of(Self::Nthw, Self::Tnhw).or(of(Self::Nthwc, Self::Tnhwc)).or(of(Self::Ntchw, Self::Tnchw))
    }

    /// The layout of an array of `shape` as far as the shape decides; of clips and frames, clips are taken to be first.
    pub fn of_shape(shape: &[usize]) -> Option<Self> {
        let colours = |axis: usize| COLOURS.contains(&shape[axis]);
        match shape.len() {
            3 => Some(Self::Thw),
            4 if colours(3) => Some(Self::Thwc),
            4 if colours(1) && shape[1] < shape[2].min(shape[3]) => Some(Self::Tchw),
            4 => Some(Self::Nthw),
            5 if colours(4) => Some(Self::Nthwc),
            5 if colours(2) => Some(Self::Ntchw),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_follow_the_letters() {
        let sizes = Layout::Tnchw.sizes(&[7, 5, 3, 8, 9]).unwrap();
        assert_eq!((sizes.clips, sizes.frames, sizes.height, sizes.width), (5, 7, 8, 9));
        assert!(!sizes.clip_first && sizes.planes);
        assert_eq!((sizes.frame(2, 3), sizes.elements()), (17, 216));
        let one = Layout::Thw.sizes(&[7, 8, 9]).unwrap();
        assert_eq!((one.clips, one.frames, one.channels, one.planes), (1, 7, 1, false));
        assert!(!Layout::Tchw.sizes(&[7, 1, 8, 9]).unwrap().planes);
        assert_eq!(Layout::Nthw.sizes(&[7, 8, 9]), None);
        assert_eq!(Layout::Nthwc.sizes(&[7, 8, 9, 9, 2]), None);
        assert_eq!(Layout::Auto.sizes(&[7, 8, 9]), None);
    }

    #[test]
    fn the_shape_decides_what_it_can() {
        for (shape, layout) in [
            (&[20, 64, 64][..], Some(Layout::Thw)),
            (&[20, 64, 64, 3], Some(Layout::Thwc)),
            (&[20, 3, 64, 64], Some(Layout::Tchw)),
            (&[20, 10_000, 64, 64], Some(Layout::Nthw)),
            (&[40, 12, 64, 64, 3], Some(Layout::Nthwc)),
            (&[40, 12, 1, 64, 64], Some(Layout::Ntchw)),
            (&[40, 12, 2, 64, 64], None),
            (&[64, 64], None),
        ] {
            assert_eq!(Layout::of_shape(shape), layout, "{shape:?}");
        }
    }

    #[test]
    fn every_layout_has_its_word() {
        for layout in ["thw", "thwc", "tchw", "tnhw", "nthw", "nthwc", "ntchw", "tnhwc", "tnchw"] {
            let parsed: Layout = layout.parse().unwrap();
            assert_eq!(parsed.to_string(), layout);
            if let Some(other) = parsed.exchanged() {
                assert_eq!(other.exchanged(), Some(parsed));
            }
        }
        assert!("hwtn".parse::<Layout>().is_err());
    }
}
