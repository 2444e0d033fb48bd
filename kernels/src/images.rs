//! Channels-last images with one vector of neighbouring channels per thread, for pooling and upsampling.

use crate::{
    Result,
    ptx::{Asm, Launch, Reg, U32},
    size,
    span::{Real, access_width},
};

/// Number of threads per block.
const BLOCK: u32 = 256;

/// Most rounds of [`rounds`] that are unrolled.
const MOST_UNROLLED: u32 = 4;

/// Images [count, height, width, channels].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Images {
    /// Number of images N in the batch.
    pub count: u32,
    /// Height and width of an image.
    pub size: [u32; 2],
    /// Number of channels C, the size of the last axis.
    pub channels: u32,
}

impl Images {
    /// An error unless all elements can be indexed, see [`size::elements`].
    pub fn check(&self, family: &'static str) -> Result<()> {
        size::elements(family, &[self.count, self.size[0], self.size[1], self.channels]).map(|_| ())
    }

    /// Number of elements of all images.
    pub fn elements(&self) -> u64 {
        [self.size[0], self.size[1], self.channels].iter().fold(self.count.into(), |n, &m| n * u64::from(m))
    }

    /// Number of channels per thread.
    pub fn width<T: Real>(&self) -> u32 {
        access_width(self.channels, T::VECTOR)
    }

    /// A launch with one thread for each vector of `width` channels.
    pub fn launch(&self, launch: Launch, width: u32) -> Launch {
        launch.threads(BLOCK, self.elements() / u64::from(width))
    }

    /// This thread's vector of `width` channels: channels vary fastest, then pixels, rows, images. Threads beyond the
    /// last vector exit here.
    pub fn own<'a>(&self, asm: &'a Asm, width: u32) -> Position<'a> {
        let Self { count, size: [height, columns], channels } = *self;
        let vectors = channels / width;
        let thread = asm.global_thread();
        asm.exit_if(thread.ge(count * height * columns * vectors));
        let (pixel, vector) = asm.divide(thread, vectors);
        let (row, x) = asm.divide(pixel, columns);
        let (image, y) = asm.divide(row, height);
        Position { index: thread * width, image, y, x, channel: vector * width }
    }

    /// The index of an element, modulo 2³².
    pub fn index<'a>(
        &self,
        image: Reg<'a, U32>,
        [y, x]: [Reg<'a, U32>; 2],
        channel: Reg<'a, U32>,
    ) -> Reg<'a, U32> {
        let row = image.mad(self.size[0], y);
        row.mad(self.size[1], x).mad(self.channels, channel)
    }
}

/// A thread's vector of channels, with its position.
pub(crate) struct Position<'a> {
    /// Index of its first element.
    pub index: Reg<'a, U32>,
    /// Index of its image.
    pub image: Reg<'a, U32>,
    /// Row of the pixel, from the top.
    pub y: Reg<'a, U32>,
    /// Column of the pixel, from the left.
    pub x: Reg<'a, U32>,
    /// First channel of the vector.
    pub channel: Reg<'a, U32>,
}

/// Runs `body` with 0, 1, …, `count` − 1: unrolled if `count` is small, a loop otherwise.
pub(crate) fn rounds<'a>(asm: &'a Asm, count: u32, body: impl Fn(Reg<'a, U32>)) {
    if count <= MOST_UNROLLED {
        (0..count).for_each(|i| body(asm.value(i)));
    } else {
        asm.for_range(0, count, 1, body);
    }
}
