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

/// Up to [`BLOCK`] values from the front of a slice.
#[inline(always)]
fn load<T: Copy + Default>(from: &[T]) -> [T; BLOCK] {
    let mut lane = [T::default(); BLOCK];
    match from.first_chunk() {
        Some(full) => lane = *full,
        None => lane[..from.len()].copy_from_slice(from),
    }
    lane
}

/// The front of a lane into a slice of up to [`BLOCK`] values.
#[inline(always)]
fn store<T: Copy>(lane: &[T; BLOCK], to: &mut [T]) {
    match to.first_chunk_mut() {
        Some(full) => *full = *lane,
        None => to.copy_from_slice(&lane[..to.len()]),
    }
}

impl MaxPool2d {
    fn pool<T: Element>(&self, x: &[T], y: &mut [T]) {
        let [n, h, w, c] = self.from;
        let (Some(ho), Some(wo)) = (self.output(h), self.output(w)) else { return };
        if n * c == 0 {
            return;
        }
        y.par_chunks_mut(ho * wo * c).zip(x.par_chunks(h * w * c)).for_each(|(y, x)| {
            wide!({
                for (i, y) in y.chunks_exact_mut(c).enumerate() {
                    let ((_, iy, rows), (_, ix, cols)) = (self.window(i / wo, h), self.window(i % wo, w));
                    for (block, y) in y.chunks_mut(BLOCK).enumerate() {
                        let mut best = [T::from_f64(f64::NEG_INFINITY); BLOCK];
                        for dy in 0..rows {
                            for dx in 0..cols {
                                let x = load(&x[((iy + dy) * w + ix + dx) * c + block * BLOCK..][..y.len()]);
                                for j in 0..BLOCK {
                                    let larger = if x[j] > best[j] { x[j] } else { best[j] };
                                    best[j] = if x[j].is_nan() { x[j] } else { larger };
                                }
                            }
                        }
                        store(&best, y);
                    }
                }
            });
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
            wide!({
                for (i, (y, dy)) in y.chunks_exact(c).zip(dy.chunks_exact(c)).enumerate() {
                    let ((_, iy, rows), (_, ix, cols)) = (self.window(i / wo, h), self.window(i % wo, w));
                    for (block, (y, dy)) in y.chunks(BLOCK).zip(dy.chunks(BLOCK)).enumerate() {
                        let (best, mut left) = (load(y), load(dy));
                        for ry in 0..rows {
                            for rx in 0..cols {
                                let at = ((iy + ry) * w + ix + rx) * c + block * BLOCK;
                                let (x, dx) = (load(&x[at..][..y.len()]), &mut dx[at..][..y.len()]);
                                let mut sum = load(dx);
                                for j in 0..BLOCK {
                                    let won = if x[j] == best[j] { left[j] } else { T::ZERO };
                                    left[j] = if x[j] == best[j] { T::ZERO } else { left[j] };
                                    sum[j] += won;
                                }
                                store(&sum, dx);
                            }
                        }
                        // A NaN equals nothing, itself included.
                        for j in (0..y.len()).filter(|&j| y[j].is_nan()) {
                            let at =
                                |place| ((iy + place / cols) * w + ix + place % cols) * c + block * BLOCK + j;
                            if let Some(place) = (0..rows * cols).rev().find(|&place| x[at(place)].is_nan()) {
                                dx[at(place)] += dy[j];
                            }
                        }
                    }
                }
            });
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
