//! Nearest-neighbour upsampling of channels-last images by a whole factor, forward and backward.
//!
//! y[n, oy, ox, c] = x[n, ⌊oy/f⌋, ⌊ox/f⌋, c]. dx[n, iy, ix, c] is the sum of dy over the f×f pixels that x became.
//!
//! # Layout
//! x [N, H, W, C] and y [N, f·H, f·W, C] of the element type, as their gradients; they begin at multiples of 16 bytes.
//!
//! # Threads
//! A thread writes up to 16 bytes of neighbouring channels of one pixel: the writes of a warp are contiguous, and of
//! the forward pass's f² reads of an element, all but one come from a cache.
//!
//! # Bytes and operations
//! Each pass moves every element of x and of y once; backward adds once per element of y: bound by memory.
//!
//! # Order of summation
//! The f rows in order, in each its f pixels, in f32 starting from 0, rounded once: every run gives the same bits.

use crate::{
    Error, Kernel, Result, Target, Work,
    images::{Images, rounds},
    layout::Raw,
    ptx::{Asm, F16, F32, Launch},
    span::Real,
};

/// Family of these kernels: the start of their names.
const FAMILY: &str = "upsample";

/// Specification: each pixel becomes a square of `factor`×`factor` pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Nearest {
    /// Number of images N in the batch.
    pub count: u32,
    /// Height and width of x.
    pub input: [u32; 2],
    /// Number of channels C, the size of the last axis.
    pub channels: u32,
    /// Side of the square in pixels.
    pub factor: u32,
}

impl Nearest {
    /// The kernel that computes y. Parameters: x, y. Elements keep their bits.
    ///
    /// # Errors
    /// A factor of 0, empty arrays, arrays of 2³¹ elements or more.
    pub fn forward<T: Real>(&self, target: Target) -> Result<Kernel> {
        let (from, to) = self.images()?;
        let (width, factor) = (from.width::<T>(), self.factor);
        let launch = to.launch(Launch::new(FAMILY, self.name::<T>("forward"), target), width);
        let work = Work { bytes: bytes::<T>(&from, &to), operations: 0 };
        Ok(Asm::kernel(launch, work, "y[oy, ox] = x[oy / f, ox / f]", |asm| {
            let (x, y) = (asm.pointer::<T>("x"), asm.pointer::<T>("y"));
            let own = to.own(asm, width);
            let source = [own.y, own.x].map(|i| asm.divide(i, factor).0);
            let index = from.index(own.image, source, own.channel);
            Raw::load(x.at(index), width).store(y.at(own.index));
        }))
    }

    /// The kernel that computes dx. Parameters: dy, dx.
    ///
    /// # Errors
    /// As [`Nearest::forward`].
    pub fn backward<T: Real>(&self, target: Target) -> Result<Kernel> {
        let (from, to) = self.images()?;
        let (width, factor) = (from.width::<T>(), self.factor);
        let launch = from.launch(Launch::new(FAMILY, self.name::<T>("backward"), target), width);
        let work = Work { bytes: bytes::<T>(&from, &to), operations: to.elements() };
        Ok(Asm::kernel(launch, work, "dx[iy, ix] = the sum of dy over its square", |asm| {
            let (dy, dx) = (asm.pointer::<T>("dy"), asm.pointer::<T>("dx"));
            let own = from.own(asm, width);
            let corner = to.index(own.image, [own.y * factor, own.x * factor], own.channel);
            let sums: Vec<_> = (0..width).map(|_| asm.var::<F32>(0.0)).collect();
            rounds(asm, factor, |row| {
                let row = row.mad(to.size[1] * to.channels, corner);
                rounds(asm, factor, |column| {
                    let pixel = T::load(dy.at(column.mad(to.channels, row)), width);
                    sums.iter().zip(pixel).for_each(|(sum, dy)| sum.add(dy));
                });
            });
            T::store(dx.at(own.index), &sums.iter().map(|sum| sum.get()).collect::<Vec<_>>());
        }))
    }

    /// The images x and y, if their sizes are valid.
    fn images(&self) -> Result<(Images, Images)> {
        let Self { count, input, channels, factor } = *self;
        let from = Images { count, size: input, channels };
        from.check(FAMILY)?;
        let too_large = || Error::new(FAMILY, format!("factor {factor} of images of {input:?} is too large"));
        let [height, width] = input.map(|side| side.checked_mul(factor).ok_or_else(too_large));
        let to = Images { size: [height?, width?], ..from };
        to.check(FAMILY)?;
        Ok((from, to))
    }

    fn name<T: Real>(&self, pass: &str) -> String {
        let Self { count, input: [height, width], channels, factor } = self;
        format!("upsample_{pass}_{}_{count}x{height}x{width}x{channels}_by{factor}", T::SPELLED)
    }
}

/// Memory traffic of either pass in bytes.
fn bytes<T: Real>(from: &Images, to: &Images) -> u64 {
    (from.elements() + to.elements()) * u64::from(T::BYTES)
}

/// The kernels of this family: the decoders' of `base` and of the smallest preset, and odd ones.
pub fn catalogue(target: Target) -> Vec<Kernel> {
    let square = |count, side, channels| Nearest { count, input: [side; 2], channels, factor: 2 };
    let specs = [
        square(16, 4, 1024),
        square(16, 8, 512),
        square(16, 32, 64),
        square(16, 4, 8),
        Nearest { factor: 5, ..square(2, 3, 5) },
        Nearest { factor: 1, ..square(1, 1, 1) },
    ];
    let both = |spec: &Nearest| {
        let kernels = [
            spec.forward::<F16>(target),
            spec.backward::<F16>(target),
            spec.forward::<F32>(target),
            spec.backward::<F32>(target),
        ];
        kernels.into_iter().flatten()
    };
    specs.iter().flat_map(both).collect()
}
