//! The maximum over windows of channels-last images, forward and backward.
//!
//! y[n, oy, ox, c] = max over ky, kx of x[n, oy·s + ky − p, ox·s + kx − p, c]. Padding is never the maximum. Of equal
//! values the first one is taken, in the order of (ky, kx); of several NaNs the last one. dx[n, iy, ix, c] is the sum
//! of dy over the windows whose maximum was this element.
//!
//! # Layout
//! x [N, H, W, C] and y [N, H′, W′, C] with H′ = ⌊(H + 2p − k)/s⌋ + 1, of the element type, as their gradients.
//! `winners` [N, H′, W′, C] has one byte per element of y: the position ky·k + kx of its maximum. Arrays begin at
//! multiples of 16 bytes.
//!
//! # Threads
//! A thread writes up to 16 bytes of neighbouring channels of one pixel. Forward it reads its window, whose overlap
//! with the neighbours' windows comes from a cache. Backward it checks the ⌈k/s⌉² windows that can cover its pixel, so
//! that every element of dx is written once and without atomics.
//!
//! # Bytes and operations
//! Each pass moves every element of x and of y once, and one byte per element of y. Forward compares k² times per
//! element of y, backward adds once: bound by memory.
//!
//! # Order of summation
//! Windows in ascending order of (oy, ox), in f32 starting from 0, rounded once: every run gives the same bits.

use crate::{
    Error, Kernel, Result, Target, Work,
    images::{Images, rounds},
    ptx::{Asm, F16, F32, Global, Launch, Reg, U8, U16, U32},
    span::Real,
};

/// Family of these kernels: the start of their names.
const FAMILY: &str = "max_pool";

/// The largest side of a window, so that a position in it fits a byte.
const MOST_SIDE: u32 = 15;

/// Windows of `kernel`×`kernel` pixels, `stride` apart, over images with `padding` rows and columns on each side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MaxPool {
    /// Number of images N in the batch.
    pub count: u32,
    /// Height and width of x.
    pub input: [u32; 2],
    /// Number of channels C, the size of the last axis.
    pub channels: u32,
    /// Side of the window, 1 to 15.
    pub kernel: u32,
    /// Distance between neighbouring windows, in pixels.
    pub stride: u32,
    /// Rows and columns of padding on each side, at most half the window.
    pub padding: u32,
}

impl MaxPool {
    /// Height and width of y; 0 if the window is larger than the padded image.
    pub fn output(&self) -> [u32; 2] {
        let side = |side: u32| {
            let padded = u64::from(side) + 2 * u64::from(self.padding);
            let room = padded.checked_sub(self.kernel.into());
            room.map_or(0, |room| room / u64::from(self.stride.max(1)) + 1) as u32
        };
        self.input.map(side)
    }

    /// The kernel that computes y and the positions of the maxima. Parameters: x, y, winners.
    ///
    /// # Errors
    /// Empty arrays, arrays of 2³¹ elements or more, windows that do not fit.
    pub fn forward<T: Real>(&self, target: Target) -> Result<Kernel> {
        let (from, to) = self.images()?;
        let Self { kernel, stride, padding, .. } = *self;
        let width = from.width::<T>();
        let taps = u64::from(kernel * kernel);
        // The distance between windows may exceed their size.
        let covered = from.elements().min(to.elements() * taps);
        let launch = to.launch(Launch::new(FAMILY, self.name::<T>("forward"), target), width);
        let work = Work {
            bytes: (covered + to.elements()) * u64::from(T::BYTES) + to.elements(),
            operations: to.elements() * taps,
        };
        Ok(Asm::kernel(launch, work, "y = the largest x of each window, and where it stood", |asm| {
            let (x, y) = (asm.pointer::<T>("x"), asm.pointer::<T>("y"));
            let winners = asm.pointer::<U8>("winners");
            asm.step("the window's first row and column, counted in the padded image");
            let own = to.own(asm, width);
            let (first_y, first_x) = (own.y * stride, own.x * stride);
            // Coordinates outside of the image wrap to numbers past its end.
            let base = from.index(own.image, [first_y - padding, first_x - padding], own.channel);
            let [skipped_y, skipped_x] =
                [first_y, first_x].map(|first| asm.value(padding) - first.min(padding));
            let start = skipped_y.mad(kernel, skipped_x);
            let best: Vec<_> = (0..width).map(|_| asm.var::<F32>(f32::NEG_INFINITY)).collect();
            let places: Vec<_> = (0..width).map(|_| asm.var::<U32>(start)).collect();

            asm.step("its rows");
            rounds(asm, kernel, |ky| {
                let row_exists = (first_y + ky - padding).lt(from.size[0]);
                for kx in 0..kernel {
                    let exists = row_exists & (first_x + kx - padding).lt(from.size[1]);
                    let offset = ky.mad(from.size[1], kx) * from.channels;
                    let place = ky.mad(kernel, kx);
                    asm.when(exists, || {
                        let values = T::load(x.at(base + offset), width);
                        for ((x, best), at) in values.into_iter().zip(&best).zip(&places) {
                            let wins = x.gt(*best) | x.ne(x);
                            best.set(asm.select(wins, x, *best));
                            at.set(asm.select(wins, place, *at));
                        }
                    });
                }
            });
            T::store(y.at(own.index), &best.iter().map(|best| best.get()).collect::<Vec<_>>());
            store_bytes(winners.at(own.index), &places.iter().map(|at| at.get()).collect::<Vec<_>>());
        }))
    }

    /// The kernel that writes all of dx. Parameters: dy, winners, dx.
    ///
    /// # Errors
    /// As [`MaxPool::forward`].
    pub fn backward<T: Real>(&self, target: Target) -> Result<Kernel> {
        let (from, to) = self.images()?;
        let Self { kernel, stride, padding, .. } = *self;
        let width = from.width::<T>();
        let launch = from.launch(Launch::new(FAMILY, self.name::<T>("backward"), target), width);
        let work = Work {
            bytes: (from.elements() + to.elements()) * u64::from(T::BYTES) + to.elements(),
            operations: to.elements(),
        };
        Ok(Asm::kernel(launch, work, "dx = the sum of dy over the windows that x won", |asm| {
            let (dy, winners) = (asm.pointer::<T>("dy"), asm.pointer::<U8>("winners"));
            let dx = asm.pointer::<T>("dx");
            asm.step("the last window that covers the pixel, and the pixel's place in it");
            let own = from.own(asm, width);
            let (last_y, place_y) = asm.divide(own.y + padding, stride);
            let (last_x, place_x) = asm.divide(own.x + padding, stride);
            let sums: Vec<_> = (0..width).map(|_| asm.var::<F32>(0.0)).collect();

            asm.step("the windows from the first that may cover it on");
            let windows = kernel.div_ceil(stride);
            rounds(asm, windows, |i| {
                // Indices of windows before the first or after the last wrap to numbers past the end.
                let before = asm.value(windows - 1) - i;
                let (oy, ky) = (last_y - before, before.mad(stride, place_y));
                let row_exists = oy.lt(to.size[0]) & ky.lt(kernel);
                for before in (0..windows).rev() {
                    let (ox, kx) = (last_x - before, place_x + before * stride);
                    let exists = row_exists & ox.lt(to.size[1]) & kx.lt(kernel);
                    let (index, place) = (to.index(own.image, [oy, ox], own.channel), ky.mad(kernel, kx));
                    asm.when(exists, || {
                        let won = load_bytes(winners.at(index), width);
                        let dy = T::load(dy.at(index), width);
                        for ((winner, dy), sum) in won.into_iter().zip(dy).zip(&sums) {
                            sum.add(asm.select(winner.eq(place), dy, 0.0));
                        }
                    });
                }
            });
            T::store(dx.at(own.index), &sums.iter().map(|sum| sum.get()).collect::<Vec<_>>());
        }))
    }

    /// The images x and y, if their sizes are valid.
    fn images(&self) -> Result<(Images, Images)> {
        let Self { count, input, channels, kernel, stride, padding } = *self;
        let from = Images { count, size: input, channels };
        from.check(FAMILY)?;
        let fits = (1..=MOST_SIDE).contains(&kernel) && stride > 0 && padding <= kernel / 2;
        if !fits || self.output().contains(&0) {
            let message = format!(
                "kernel {kernel} (1 to {MOST_SIDE}), stride {stride} (at least 1), padding {padding} (at most half the \
                 kernel) do not fit images of {input:?}"
            );
            return Err(Error::new(FAMILY, message));
        }
        let to = Images { size: self.output(), ..from };
        to.check(FAMILY)?;
        Ok((from, to))
    }

    fn name<T: Real>(&self, pass: &str) -> String {
        let Self { count, input: [height, width], channels, kernel, stride, padding } = self;
        format!(
            "max_pool_{pass}_{}_{count}x{height}x{width}x{channels}_k{kernel}_s{stride}_p{padding}",
            T::SPELLED
        )
    }
}

/// Stores 1, 2, 4 or 8 bytes in one access.
fn store_bytes(at: Global<'_, U8>, bytes: &[Reg<'_, U32>]) {
    fn word<'a>(bytes: &[Reg<'a, U32>]) -> Reg<'a, U32> {
        bytes.iter().zip(0..).skip(1).fold(bytes[0], |word, (&byte, i)| word | (byte << (8 * i)))
    }
    match bytes.len() {
        1 => at.store(bytes[0]),
        2 => at.cast::<U16>().store(word(bytes).to::<U16>()),
        4 => at.cast::<U32>().store(word(bytes)),
        _ => at.cast::<U32>().store_vector([word(&bytes[..4]), word(&bytes[4..])]),
    }
}

/// Loads 1, 2, 4 or 8 bytes in one access.
fn load_bytes<'a>(at: Global<'a, U8>, len: u32) -> Vec<Reg<'a, U32>> {
    let words = match len {
        1 => return vec![at.load()],
        2 => vec![at.cast::<U16>().load().to::<U32>()],
        4 => vec![at.cast::<U32>().load()],
        _ => at.cast::<U32>().load_vector::<2>().to_vec(),
    };
    (0..len).map(|i| words[i as usize / 4].bit_field(i % 4 * 8, 8)).collect()
}

/// The kernels of this family: the encoders' of `base` and of the smallest preset, and odd ones.
pub fn catalogue(target: Target) -> Vec<Kernel> {
    let encoder = |count, side, channels| MaxPool {
        count,
        input: [side; 2],
        channels,
        kernel: 3,
        stride: 2,
        padding: 1,
    };
    let specs = [
        encoder(160, 32, 64),
        encoder(640, 32, 64),
        encoder(160, 16, 8),
        MaxPool { kernel: 2, padding: 0, ..encoder(4, 8, 6) },
        MaxPool { kernel: 7, stride: 1, padding: 3, ..encoder(2, 9, 5) },
        encoder(1, 1, 1),
    ];
    let both = |spec: &MaxPool| {
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
