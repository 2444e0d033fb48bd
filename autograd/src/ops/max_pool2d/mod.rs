//! Maximum over windows of an NHWC image.
//!
//! y[n,oy,ox,c] = max over ky, kx of x[n, oy·s + ky − p, ox·s + kx − p, c], where padding never wins; the first of equal
//! values does, and NaN always.  dx gets dy where x won.

use rayon::prelude::*;

use crate::{
    Backward, Device, Element, Error, Forward, Op, Result, Shape, Tensor, apply, buffer::Buffer, simd::wide,
};

/// The operator.
#[derive(Clone, Copy, Debug)]
pub struct MaxPool2d {
    /// Side of the window: at most 15, so that a winner's place fits a byte.
    pub kernel: usize,
    /// Distance between windows.
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
        // The output's size divides by the stride, so it comes after the check.
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
                let mut y = Buffer::<T>::stale(shape.numel());
                let mut winners = Buffer::<u8>::stale(shape.numel());
                self.pool(x.values()?, &mut y, &mut winners);
                cx.save_bytes(winners);
                Ok(Tensor::from_buffer(shape, y))
            }),
        }
    }

    fn backward(&self, cx: &mut Backward, dy: &Tensor) -> Result<()> {
        let winners = cx.saved_bytes();
        match dy.device() {
            Device::Cpu => crate::dispatch!(dy.dtype(), T => {
                let dy = dy.values::<T>()?;
                cx.accumulate(0, &self.from.into(), |dx, add| self.scatter(dy, &winners, dx, add))
            }),
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

impl MaxPool2d {
    /// Calls `visit(tap, start of the input pixel)` for each element of output pixel `i`'s window.
    #[inline(always)]
    fn taps(&self, i: usize, wo: usize, mut visit: impl FnMut(usize, usize)) {
        let [_, h, w, c] = self.from;
        let ((ky, iy, rows), (kx, ix, cols)) = (self.window(i / wo, h), self.window(i % wo, w));
        for y in 0..rows {
            for x in 0..cols {
                visit((ky + y) * self.kernel + kx + x, ((iy + y) * w + ix + x) * c);
            }
        }
    }

    fn pool<T: Element>(&self, x: &[T], y: &mut [T], winners: &mut [u8]) {
        let [n, h, w, c] = self.from;
        let (Some(ho), Some(wo)) = (self.output(h), self.output(w)) else { return };
        if n * c == 0 {
            return;
        }
        let image = ho * wo * c;
        let parts = y.par_chunks_mut(image).zip(winners.par_chunks_mut(image)).zip(x.par_chunks(h * w * c));
        parts.for_each(|((y, winners), x)| {
            wide(|| {
                for (i, (y, win)) in y.chunks_exact_mut(c).zip(winners.chunks_exact_mut(c)).enumerate() {
                    for (block, (y, win)) in y.chunks_mut(BLOCK).zip(win.chunks_mut(BLOCK)).enumerate() {
                        // The winners' places are kept in the values' own width, which vectorises.
                        let mut best: Option<([T; BLOCK], [T; BLOCK])> = None;
                        self.taps(i, wo, |tap, pixel| {
                            let x = load(&x[pixel + block * BLOCK..][..y.len()]);
                            let tap = [T::from_f64(tap as f64); BLOCK];
                            let Some((best, at)) = &mut best else {
                                best = Some((x, tap));
                                return;
                            };
                            for j in 0..BLOCK {
                                let wins = x[j] > best[j] || x[j].is_nan();
                                best[j] = if wins { x[j] } else { best[j] };
                                at[j] = if wins { tap[j] } else { at[j] };
                            }
                        });
                        if let Some((best, at)) = best {
                            y.copy_from_slice(&best[..y.len()]);
                            win.iter_mut().zip(at).for_each(|(w, at)| *w = at.to_f64() as u8);
                        }
                    }
                }
            });
        });
    }

    fn scatter<T: Element>(&self, dy: &[T], winners: &[u8], dx: &mut [T], add: bool) {
        let [n, h, w, c] = self.from;
        let (Some(ho), Some(wo)) = (self.output(h), self.output(w)) else { return };
        if n * c == 0 {
            return;
        }
        let image = ho * wo * c;
        let parts = dy.par_chunks(image).zip(winners.par_chunks(image));
        dx.par_chunks_mut(h * w * c).zip(parts).for_each(|(dx, (dy, winners))| {
            if !add {
                dx.fill(T::ZERO);
            }
            wide(|| {
                for (i, (d, win)) in dy.chunks_exact(c).zip(winners.chunks_exact(c)).enumerate() {
                    for (block, (d, win)) in d.chunks(BLOCK).zip(win.chunks(BLOCK)).enumerate() {
                        let (lane, at) = (load(d), load(win).map(u32::from));
                        self.taps(i, wo, |tap, pixel| {
                            let dx = &mut dx[pixel + block * BLOCK..][..d.len()];
                            let mut sum = load(dx);
                            for j in 0..BLOCK {
                                sum[j] += if at[j] == tap as u32 { lane[j] } else { T::ZERO };
                            }
                            dx.copy_from_slice(&sum[..d.len()]);
                        });
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
