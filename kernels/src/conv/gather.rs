//! How convolutions gather their operands.

use crate::{
    ptx::{Asm, Pred, Reg, S32, U32},
    tile::{Gather, Major, Part},
};

/// A grid of pixels, each with the patch of an image that it reads: pixel (a, b) and tap (i, j) meet at row
/// a·stride + origin ± i, column b·stride + origin ± j. One index of the operand counts pixels [n, height, width], the other
/// taps and channels [taps, taps, channels].
#[derive(Debug, Clone, Copy)]
pub struct Patches {
    /// Height and width of the image.
    pub image: [u32; 2],
    /// Number of channels of the image.
    pub channels: u32,
    /// Number of images N in the batch.
    pub count: u32,
    /// Height and width of the grid of pixels.
    pub pixels: [u32; 2],
    /// Distance between neighbouring pixels' patches, in rows and columns of the image.
    pub stride: [u32; 2],
    /// Row and column of the image at which pixel (0, 0) reads tap (0, 0).
    pub origin: [i32; 2],
    /// Number of taps along both axes.
    pub taps: [u32; 2],
    /// Whether later taps lie further up and left instead of down and right.
    pub backward: bool,
    /// Whether the product sums over pixels, as in wgrad.
    pub pixels_are_depth: bool,
}

impl Patches {
    /// Number of pixels of all images.
    pub fn pixel_count(&self) -> u32 {
        self.count * self.pixels[0] * self.pixels[1]
    }

    /// Elements per patch: taps times channels.
    pub fn patch(&self) -> u32 {
        self.taps[0] * self.taps[1] * self.channels
    }

    /// The pixel with this `index`, as image and coordinates.
    pub fn pixel<'a>(&self, asm: &'a Asm, index: Reg<'a, U32>) -> [Reg<'a, U32>; 3] {
        let (row, b) = asm.divide(index, self.pixels[1]);
        let (n, a) = asm.divide(row, self.pixels[0]);
        [n, a, b]
    }

    fn pixel_part<'a>(&self, asm: &'a Asm, index: Reg<'a, U32>) -> Part<'a> {
        let [n, a, b] = self.pixel(asm, index);
        let along =
            |x: Reg<'a, U32>, axis: usize| (x * self.stride[axis]).bits_as::<S32>() + self.origin[axis];
        let (y, x) = (along(a, 0), along(b, 1));
        let [height, width] = self.image.map(|size| size as i32);
        let row = n.bits_as::<S32>().mad(height, y);
        let offset = row.mad(width, x) * self.channels as i32;
        Part { offset, at: Some([y, x]), inside: index.lt(self.pixel_count()) }
    }

    fn tap_part<'a>(&self, asm: &'a Asm, index: Reg<'a, U32>) -> Part<'a> {
        let (tap, channel) = asm.divide(index, self.channels);
        let (i, j) = asm.divide(tap, self.taps[1].max(1));
        let (i, j) = (i.bits_as::<S32>(), j.bits_as::<S32>());
        let (i, j) = if self.backward { (-i, -j) } else { (i, j) };
        let channels = self.channels as i32;
        let offset = i.mad(self.image[1] as i32 * channels, j.mad(channels, channel.bits_as::<S32>()));
        Part { offset, at: Some([i, j]), inside: index.lt(self.patch()) }
    }
}

impl<'a> Gather<'a> for Patches {
    fn major(&self) -> Major {
        if self.pixels_are_depth { Major::Outer } else { Major::K }
    }

    fn run(&self) -> u32 {
        self.channels
    }

    fn image(&self) -> [u32; 2] {
        self.image
    }

    fn outer(&self, asm: &'a Asm, index: Reg<'a, U32>) -> Part<'a> {
        if self.pixels_are_depth { self.tap_part(asm, index) } else { self.pixel_part(asm, index) }
    }

    fn depth(&self, asm: &'a Asm, index: Reg<'a, U32>) -> Part<'a> {
        if self.pixels_are_depth { self.pixel_part(asm, index) } else { self.tap_part(asm, index) }
    }
}

/// The weights [out, kh, kw, in] of a dgrad, as the matrix of [taps of a phase, out] by [in].
#[derive(Debug, Clone, Copy)]
pub struct PhaseWeights {
    /// Output channels of the convolution.
    pub out: u32,
    /// Input channels of the convolution.
    pub channels: u32,
    /// Height and width of the convolution's kernel.
    pub kernel: [u32; 2],
    /// The first tap of the phase along both axes.
    pub first: [u32; 2],
    /// Distance between neighbouring taps of the phase.
    pub step: [u32; 2],
    /// Number of taps of the phase along both axes.
    pub taps: [u32; 2],
}

impl<'a> Gather<'a> for PhaseWeights {
    fn major(&self) -> Major {
        Major::Outer
    }

    fn run(&self) -> u32 {
        self.channels
    }

    fn image(&self) -> [u32; 2] {
        self.kernel
    }

    fn outer(&self, _: &'a Asm, index: Reg<'a, U32>) -> Part<'a> {
        Part { offset: index.bits_as(), at: None, inside: index.lt(self.channels) }
    }

    fn depth(&self, asm: &'a Asm, index: Reg<'a, U32>) -> Part<'a> {
        let (tap, out) = asm.divide(index, self.out);
        let (i, j) = asm.divide(tap, self.taps[1].max(1));
        let (y, x) = (i * self.step[0] + self.first[0], j * self.step[1] + self.first[1]);
        let row = out.mad(self.kernel[0], y).mad(self.kernel[1], x);
        let inside: Reg<'a, Pred> = index.lt(self.out * self.taps[0] * self.taps[1]);
        Part { offset: (row * self.channels).bits_as(), at: None, inside }
    }
}
