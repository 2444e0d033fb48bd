//! Maximum over windows of an NHWC image.
//!
//! y[n,oy,ox,c] = max over ky, kx of x[n, oy·s + ky − p, ox·s + kx − p, c]. Padding is never the maximum; of equal
//! values the first is taken, and NaN wins over any number.  dx gets dy at the index of the maximum.

#[cfg(feature = "cuda")]
mod cuda;

use rayon::prelude::*;

use crate::{
    Backward, Device, Element, Error, Forward, Op, Result, Shape, Tensor, apply, buffer::Buffer, wide,
};

/// Max-pooling with its attributes.
#[derive(Clone, Copy, Debug)]
pub struct MaxPool2d {
    /// Side of the window: at most 15, so that a position in it fits a byte.
    pub kernel: usize,
    /// Distance between neighbouring windows, in rows and columns.
    pub stride: usize,
    /// Rows and columns of padding on each side: at most half the window.
    pub padding: usize,
    /// Shape of x, for the backward pass.
    from: [usize; 4],
}

impl MaxPool2d {
    fn output(&self, side: usize) -> Option<usize> {
        Some((side.checked_add(2 * self.padding)?.checked_sub(self.kernel)?) / self.stride + 1)
    }

    /// The window's part of an axis that lies inside the image: window index and image index of its first element,
    /// and the number of elements.
    fn window(&self, out: usize, side: usize) -> (usize, usize, usize) {
        let start = out * self.stride;
        let skipped = self.padding.saturating_sub(start);
        let first = (start + skipped) - self.padding;
        (skipped, first, (self.kernel - skipped).min(side.saturating_sub(first)))
    }
}

impl Op for MaxPool2d {
    fn name(&self) -> &'static str {
        "max_pool2d"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        let [n, h, w, c] = inputs[0].dims("max_pool2d", "x [N,H,W,C]")?;
        let fits = (1..=15).contains(&self.kernel) && self.stride > 0 && self.padding <= self.kernel / 2;
        let fits = fits && inputs[0].numel() > 0;
        // The output's size divides by the stride, so this follows the check.
        match fits.then(|| self.output(h).zip(self.output(w))).flatten() {
            Some((h, w)) => Ok([n, h, w, c].into()),
            None => Err(Error::shape(
                "max_pool2d",
                format!(
                    "kernel {} (1 to 15), stride {}, padding {} (at most half the kernel) do not fit x {}",
                    self.kernel, self.stride, self.padding, inputs[0]
                ),
            )),
        }
    }

    fn forward(&self, cx: &mut Forward, inputs: &[&Tensor]) -> Result<Tensor> {
        let x = inputs[0];
        let shape = self.shape(&[x.shape()])?;
        match x.device() {
            Device::Cpu => crate::dispatch!(x.dtype(), T => {
                let mut y = Buffer::<T>::uninit(shape.numel());
                self.pool(x.values()?, &mut y);
                let y = Tensor::from_buffer(shape, y);
                cx.save(x);
                cx.save(&y);
                Ok(y)
            }),
            #[cfg(feature = "cuda")]
            Device::Cuda => self.forward_cuda(cx, x, shape),
        }
    }

    fn backward(&self, cx: &mut Backward, dy: &Tensor) -> Result<()> {
        match dy.device() {
            Device::Cpu => crate::dispatch!(dy.dtype(), T => {
                let [x, y] = cx.saved()?;
                let (x, y, dy) = (x.values::<T>()?, y.values::<T>()?, dy.values::<T>()?);
                cx.accumulate(0, |dx, add| self.scatter([x, y, dy], dx, add))
            }),
            #[cfg(feature = "cuda")]
            Device::Cuda => self.backward_cuda(cx, dy),
        }
    }
}

/// Channels that stay in registers over a window.
const BLOCK: usize = 16;

/// Up to [`BLOCK`] values. Inlined with a constant `count`, it is a load of registers.
#[inline(always)]
fn load<T: Copy + Default>(from: &[T], count: usize) -> [T; BLOCK] {
    let mut lane = [T::default(); BLOCK];
    lane[..count].copy_from_slice(&from[..count]);
    lane
}

/// A window's part inside the image: the offset of its first element, its rows and columns, and the distance between rows
/// and between columns.
#[derive(Clone, Copy)]
struct Window {
    at: usize,
    sides: [usize; 2],
    steps: [usize; 2],
}

impl Window {
    /// Offsets of its elements, row by row.
    #[inline(always)]
    fn offsets(self) -> impl DoubleEndedIterator<Item = usize> {
        let Self { at, sides: [rows, cols], steps } = self;
        (0..rows).flat_map(move |y| (0..cols).map(move |x| at + y * steps[0] + x * steps[1]))
    }

    /// The maximum of up to [`BLOCK`] channels.
    #[inline(always)]
    fn largest<T: Element>(self, x: &[T], y: &mut [T], count: usize) {
        let mut best = [T::from_f64(f64::NEG_INFINITY); BLOCK];
        for at in self.offsets() {
            let x = load(&x[at..], count);
            for j in 0..BLOCK {
                let larger = if x[j] > best[j] { x[j] } else { best[j] };
                best[j] = if x[j].is_nan() { x[j] } else { larger };
            }
        }
        y[..count].copy_from_slice(&best[..count]);
    }

    /// dx += dy where x is the maximum y, for up to [`BLOCK`] channels.
    #[inline(always)]
    fn scatter<T: Element>(self, [x, y, dy]: [&[T]; 3], dx: &mut [T], count: usize) {
        let (best, mut left) = (load(y, count), load(dy, count));
        let mut nan = false;
        for value in best {
            nan |= value.is_nan();
        }
        for at in self.offsets() {
            let x = load(&x[at..], count);
            let dx = &mut dx[at..at + count];
            let mut sum = load(dx, count);
            for j in 0..BLOCK {
                let won = if x[j] == best[j] { left[j] } else { T::ZERO };
                left[j] = if x[j] == best[j] { T::ZERO } else { left[j] };
                sum[j] += won;
            }
            dx.copy_from_slice(&sum[..count]);
        }
        // A NaN equals nothing, itself included.
        if nan {
            for j in (0..count).filter(|&j| y[j].is_nan()) {
                if let Some(at) = self.offsets().rev().find(|at| x[at + j].is_nan()) {
                    dx[at + j] += dy[j];
                }
            }
        }
    }
}

impl MaxPool2d {
    /// Calls `run` with each window of an image [h, w, c], its channels' offset in y [ho, wo, c] and their number: first
    /// with blocks of [`BLOCK`] channels, last with the rest.
    #[inline(always)]
    fn windows(&self, [ho, wo]: [usize; 2], mut run: impl FnMut(Window, usize, usize)) {
        let [_, h, w, c] = self.from;
        for (oy, ox) in (0..ho).flat_map(|oy| (0..wo).map(move |ox| (oy, ox))) {
            let ((_, iy, rows), (_, ix, cols)) = (self.window(oy, h), self.window(ox, w));
            for first in (0..c).step_by(BLOCK) {
                let window = Window { at: (iy * w + ix) * c + first, sides: [rows, cols], steps: [w * c, c] };
                run(window, (oy * wo + ox) * c + first, BLOCK.min(c - first));
            }
        }
    }

    fn pool<T: Element>(&self, x: &[T], y: &mut [T]) {
        let [n, h, w, c] = self.from;
        let (Some(ho), Some(wo)) = (self.output(h), self.output(w)) else { return };
        if n * c == 0 {
            return;
        }
        y.par_chunks_mut(ho * wo * c).zip(x.par_chunks(h * w * c)).for_each(|(y, x)| {
            wide!(self.windows([ho, wo], |window, at, count| match count {
                BLOCK => window.largest(x, &mut y[at..], BLOCK),
                count => window.largest(x, &mut y[at..], count),
            }));
        });
    }

    /// dx (+)= dy where x is the maximum y of the window: the first of equal values, the last NaN.
    fn scatter<T: Element>(&self, [x, y, dy]: [&[T]; 3], dx: &mut [T], add: bool) {
        let [n, h, w, c] = self.from;
        let (Some(ho), Some(wo)) = (self.output(h), self.output(w)) else { return };
        if n * c == 0 {
            return;
        }
        let parts = x.par_chunks(h * w * c).zip(y.par_chunks(ho * wo * c).zip(dy.par_chunks(ho * wo * c)));
        dx.par_chunks_mut(h * w * c).zip(parts).for_each(|(dx, (x, (y, dy)))| {
            if !add {
                dx.fill(T::ZERO);
            }
            wide!(self.windows([ho, wo], |window, at, count| match count {
                BLOCK => window.scatter([x, &y[at..], &dy[at..]], dx, BLOCK),
                count => window.scatter([x, &y[at..], &dy[at..]], dx, count),
            }));
        });
    }
}

impl Tensor {
    /// The maximum of each window: x [N,H,W,C] → [N,H',W',C].
    pub fn max_pool2d(&self, kernel: usize, stride: usize, padding: usize) -> Result<Tensor> {
        let from = self.shape().dims("max_pool2d", "x [N,H,W,C]")?;
        apply(MaxPool2d { kernel, stride, padding, from }, &[self])
    }
}
