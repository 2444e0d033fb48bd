//! The three passes of a convolution on the CPU, all on the register tile of [`crate::simd::tile`].
//!
//! A task takes a few images, copies them into scratch memory with their border of zeros (the only copy: about a
//! patch's size less than im2col would write), and runs tiles over them. The assignment of work to tasks never changes
//! a value.

use rayon::prelude::*;

use super::Geometry;
use crate::{
    Element, Result, Tensor,
    buffer::Buffer,
    simd::tile::{Level, Panel, panel_width},
};

/// Target size of a task's scratch memory in elements: half of a common second-level cache in f32.
const SCRATCH: usize = 128 * 1024;
/// Outputs that use a panel of weights before the next panel is loaded: a multiple of every tile's height.
const ROWS: usize = 1680;
/// In wgrad, weights up to this many elements have separate sums per task; larger ones share one sum.
const PRIVATE_SUMS: usize = 64 * 1024;
/// Number of wgrad tasks with separate sums: fixed, so that the order of summation is fixed.
const WGRAD_TASKS: usize = 16;

/// y = conv(x, w) + bias.
pub(crate) fn forward(g: &Geometry, x: &Tensor, w: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    crate::dispatch!(x.dtype(), T => {
        let mut y = Buffer::<T>::uninit(g.n * g.output[0] * g.output[1] * g.cout);
        let bias = bias.map(|b| b.values::<T>()).transpose()?;
        fprop(g, x.values()?, w.values()?, bias, &mut y, false);
        Ok(Tensor::from_buffer([g.n, g.output[0], g.output[1], g.cout], y))
    })
}

/// Images with a border of zeros: the sizes, and the position of the source.
#[derive(Clone, Copy)]
struct Bordered {
    source: [usize; 2],
    channels: usize,
    /// Number of zeros before the first row and column.
    before: [usize; 2],
    size: [usize; 2],
}

impl Bordered {
    fn elements(&self) -> usize {
        self.size[0] * self.size[1] * self.channels
    }

    /// Copies the images with their border; returns the source itself if it needs no border.
    fn fill<'a, T: Element>(&self, source: &'a [T], images: usize) -> Scratch<'a, T> {
        if self.before == [0; 2] && self.size == self.source {
            return Scratch::Source(source);
        }
        let [h, w] = self.size;
        let mut out = Buffer::uninit(images * self.elements());
        // The copy is empty if no output has a tap, as in dgrad of a 1×1 kernel whose stride skips every pixel.
        if out.is_empty() {
            return Scratch::Copy(out);
        }
        let kept = self.source[1].min(w.saturating_sub(self.before[1])) * self.channels;
        let left = self.before[1].min(w) * self.channels;
        let source_row = self.source[1] * self.channels;
        for (i, row) in out.chunks_exact_mut(w * self.channels).enumerate() {
            let (image, y) = (i / h, i % h);
            if y < self.before[0] || y - self.before[0] >= self.source[0] {
                row.fill(T::ZERO);
                continue;
            }
            let from = (image * self.source[0] + y - self.before[0]) * source_row;
            row[..left].fill(T::ZERO);
            row[left..left + kept].copy_from_slice(&source[from..from + kept]);
            row[left + kept..].fill(T::ZERO);
        }
        Scratch::Copy(out)
    }
}

enum Scratch<'a, T: Element> {
    Source(&'a [T]),
    Copy(Buffer<T>),
}

impl<T: Element> std::ops::Deref for Scratch<'_, T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        match self {
            Self::Source(s) => s,
            Self::Copy(b) => b,
        }
    }
}

/// A correlation of bordered images with a kernel of `taps`, for the outputs `first + i·step` of a larger grid.
struct Phase<T: Element> {
    taps: [usize; 2],
    /// Start of the first output's patch in the bordered image; `stride` is the step to the next output's patch.
    base: [usize; 2],
    stride: [usize; 2],
    outputs: [usize; 2],
    first: [usize; 2],
    step: [usize; 2],
    /// Weights as panels of [taps·channels][width].
    weights: Buffer<T>,
}

/// Runs the phases over all images: dst [n, grid, cols] (+)= phases(source) + bias.
struct Correlation<'a, T: Element> {
    images: Bordered,
    phases: Vec<Phase<T>>,
    grid: [usize; 2],
    cols: usize,
    bias: Option<&'a [T]>,
    add: bool,
}

impl<T: Element> Correlation<'_, T> {
    fn run(&self, source: &[T], n: usize, dst: &mut [T]) {
        let [gh, gw] = self.grid;
        let (image, out) =
            (self.images.source[0] * self.images.source[1] * self.images.channels, gh * gw * self.cols);
        if n == 0 || out == 0 {
            return;
        }
        let chunk =
            (SCRATCH / self.images.elements().max(1)).clamp(1, n.div_ceil(2 * rayon::current_num_threads()));
        dst.par_chunks_mut(chunk * out).enumerate().for_each(|(i, dst)| {
            let count = dst.len() / out;
            let from = i * chunk * image;
            let bordered = self.images.fill(&source[from..from + count * image], count);
            self.phases.iter().for_each(|phase| self.phase(phase, &bordered, count, dst));
        });
    }

    fn phase(&self, phase: &Phase<T>, source: &[T], images: usize, dst: &mut [T]) {
        let (c, [h, w]) = (self.images.channels, self.images.size);
        let [gh, gw] = self.grid;
        let empty = phase.taps.contains(&0);
        let width = panel_width::<T>(self.cols);
        let run = phase.taps[1] * c;
        let depth = phase.taps[0] * run;
        let walk = if empty {
            [Level { count: 0, a: 0, b: 0 }; 3]
        } else {
            [
                Level::ONCE,
                Level { count: phase.taps[0], a: w * c, b: run * width },
                Level { count: run, a: 1, b: width },
            ]
        };
        let mut panels = |rows: &[usize], c_rows: &[usize]| {
            for (panel, first) in (0..self.cols).step_by(width).enumerate() {
                Panel {
                    a: source,
                    rows,
                    b: &phase.weights[panel * depth * width..(panel + 1) * depth * width],
                    walk,
                    width,
                    cols: width.min(self.cols - first),
                    init: self.bias.map(|b| &b[first..]),
                    add: self.add,
                    c: dst,
                    c_rows,
                    c_shift: first,
                }
                .run();
            }
        };
        let (mut rows, mut c_rows) = (Vec::with_capacity(ROWS), Vec::with_capacity(ROWS));
        for (n, y) in (0..images).flat_map(|n| (0..phase.outputs[0]).map(move |y| (n, y))) {
            let from = (n * h + phase.base[0] + y * phase.stride[0]) * w + phase.base[1];
            let to = (n * gh + phase.first[0] + y * phase.step[0]) * gw + phase.first[1];
            for x in 0..phase.outputs[1] {
                rows.push(if empty { 0 } else { (from + x * phase.stride[1]) * c });
                c_rows.push((to + x * phase.step[1]) * self.cols);
                if rows.len() == ROWS {
                    panels(&rows, &c_rows);
                    rows.clear();
                    c_rows.clear();
                }
            }
        }
        panels(&rows, &c_rows);
    }
}

/// Panels of [depth][width] from `value(depth index, column)`, zero past the last column.
fn pack<T: Element>(depth: usize, cols: usize, fill: impl Fn(usize, usize, &mut [T]) + Sync) -> Buffer<T> {
    let width = panel_width::<T>(cols);
    let mut out = Buffer::zeros(cols.div_ceil(width) * depth * width);
    if depth > 0 {
        out.par_chunks_mut(depth * width).enumerate().for_each(|(panel, out)| {
            let first = panel * width;
            let count = width.min(cols - first);
            out.chunks_exact_mut(width).enumerate().for_each(|(k, row)| fill(k, first, &mut row[..count]));
        });
    }
    out
}

/// y [n, output, cout] (+)= conv(x, w) + bias.
pub(crate) fn fprop<T: Element>(g: &Geometry, x: &[T], w: &[T], bias: Option<&[T]>, y: &mut [T], add: bool) {
    let patch = g.patch();
    let weights = pack(patch, g.cout, |k, first, row| {
        row.iter_mut().enumerate().for_each(|(j, v)| *v = w[(first + j) * patch + k]);
    });
    let size = std::array::from_fn(|i| (g.output[i] - 1) * g.stride[i] + g.kernel[i]);
    let phase = Phase {
        taps: g.kernel,
        base: [0; 2],
        stride: g.stride,
        outputs: g.output,
        first: [0; 2],
        step: [1; 2],
        weights,
    };
    let images = Bordered { source: g.input, channels: g.cin, before: g.padding, size };
    Correlation { images, phases: vec![phase], grid: g.output, cols: g.cout, bias, add }.run(x, g.n, y);
}

/// One direction of one phase of dgrad: inputs whose coordinate plus the padding is `residue` modulo the stride.
struct Residue {
    residue: usize,
    taps: usize,
    first: usize,
    outputs: usize,
    /// The largest output coordinate that the first input reads.
    newest: usize,
}

fn residues(input: usize, kernel: usize, stride: usize, padding: usize) -> Vec<Residue> {
    // A stride longer than the image has residues that contain no input.
    (0..stride.min(input))
        .map(|first| {
            let residue = (first + padding) % stride;
            Residue {
                residue,
                taps: kernel.saturating_sub(residue).div_ceil(stride),
                first,
                outputs: input.saturating_sub(first).div_ceil(stride),
                newest: (first + padding - residue) / stride,
            }
        })
        .collect()
}

/// dx [n, input, cin] (+)= the gradient of conv(x, w) with respect to x; also the forward pass of a transposed
/// convolution, which adds the bias.
pub(crate) fn dgrad<T: Element>(
    g: &Geometry,
    dy: &[T],
    w: &[T],
    bias: Option<&[T]>,
    dx: &mut [T],
    add: bool,
) {
    let directions: [Vec<Residue>; 2] =
        std::array::from_fn(|i| residues(g.input[i], g.kernel[i], g.stride[i], g.padding[i]));
    let used = |r: &&Residue| r.outputs > 0 && r.taps > 0;
    let before: [usize; 2] = std::array::from_fn(|i| {
        let need = directions[i].iter().filter(used).map(|r| (r.taps - 1).saturating_sub(r.newest));
        need.max().unwrap_or(0)
    });
    let size: [usize; 2] = std::array::from_fn(|i| {
        let need = directions[i].iter().filter(used).map(|r| r.newest + r.outputs + before[i]);
        need.max().unwrap_or(0)
    });
    let mut phases = Vec::new();
    for ry in &directions[0] {
        for rx in &directions[1] {
            if ry.outputs == 0 || rx.outputs == 0 {
                continue;
            }
            let taps = if ry.taps == 0 || rx.taps == 0 { [0; 2] } else { [ry.taps, rx.taps] };
            let run = taps[1] * g.cout;
            // Output coordinates ascend along the walk, so kernel coordinates descend by the stride.
            let weights = pack(taps[0] * run, g.cin, |k, first, row| {
                let (ty, tx, o) = (k / run, k % run / g.cout, k % g.cout);
                let ky = ry.residue + (taps[0] - 1 - ty) * g.stride[0];
                let kx = rx.residue + (taps[1] - 1 - tx) * g.stride[1];
                let from = ((o * g.kernel[0] + ky) * g.kernel[1] + kx) * g.cin + first;
                row.copy_from_slice(&w[from..from + row.len()]);
            });
            let base = if taps[0] == 0 {
                [0; 2]
            } else {
                [ry.newest + before[0] + 1 - ry.taps, rx.newest + before[1] + 1 - rx.taps]
            };
            phases.push(Phase {
                taps,
                base,
                stride: [1; 2],
                outputs: [ry.outputs, rx.outputs],
                first: [ry.first, rx.first],
                step: g.stride,
                weights,
            });
        }
    }
    let images = Bordered { source: g.output, channels: g.cout, before, size };
    Correlation { images, phases, grid: g.input, cols: g.cin, bias, add }.run(dy, g.n, dx);
}

/// dw [cout, kh, kw, cin] (+)= the gradient of conv(x, w) with respect to w.
pub(crate) fn wgrad<T: Element>(g: &Geometry, x: &[T], dy: &[T], dw: &mut [T], add: bool) {
    let (patch, width) = (g.patch(), panel_width::<T>(g.cout));
    let stride = g.cout.next_multiple_of(width);
    let images = Bordered {
        source: g.input,
        channels: g.cin,
        before: g.padding,
        size: std::array::from_fn(|i| (g.output[i] - 1) * g.stride[i] + g.kernel[i]),
    };
    let pass = Wgrad { g, images, width, stride };
    let chunk = (SCRATCH / images.elements().max(1)).clamp(1, g.n.max(1));
    if patch * stride <= PRIVATE_SUMS {
        let per_task = g.n.div_ceil(WGRAD_TASKS).max(1);
        let sums: Vec<Buffer<T>> = (0..g.n.div_ceil(per_task))
            .into_par_iter()
            .map(|task| {
                let (from, to) = (task * per_task, ((task + 1) * per_task).min(g.n));
                let mut sum = Buffer::uninit(patch * stride);
                for first in (from..to).step_by(chunk) {
                    let (x, dy) = pass.images(x, dy, first, (first + chunk).min(to));
                    pass.rows(&x, &dy, 0..patch, &mut sum, first > from);
                }
                sum
            })
            .collect();
        return pass.gather(&sums, dw, add);
    }
    // One sum for all images; the cores share its rows.
    let mut sum = Buffer::uninit(patch * stride);
    let rows = patch.div_ceil(4 * rayon::current_num_threads()).next_multiple_of(12);
    let chunk = (4 * chunk).min(g.n.max(1));
    for first in (0..g.n).step_by(chunk) {
        let (x, dy) = pass.images(x, dy, first, (first + chunk).min(g.n));
        sum.par_chunks_mut(rows * stride).enumerate().for_each(|(i, sum)| {
            let from = i * rows;
            pass.rows(&x, &dy, from..from + sum.len() / stride, sum, first > 0);
        });
    }
    pass.gather(&[sum], dw, add);
}

struct Wgrad<'a> {
    g: &'a Geometry,
    images: Bordered,
    width: usize,
    /// Distance between rows of the packed dy and of the sums: cout rounded up to whole panels.
    stride: usize,
}

impl Wgrad<'_> {
    /// Images `from..to` of x with their border, and of dy with its channels rounded up to whole panels.
    fn images<'a, T: Element>(
        &self,
        x: &'a [T],
        dy: &'a [T],
        from: usize,
        to: usize,
    ) -> (Scratch<'a, T>, Scratch<'a, T>) {
        let image = self.g.input[0] * self.g.input[1] * self.g.cin;
        let x = self.images.fill(&x[from * image..to * image], to - from);
        let pixels = self.g.output[0] * self.g.output[1];
        let dy = &dy[from * pixels * self.g.cout..to * pixels * self.g.cout];
        if self.stride == self.g.cout {
            return (x, Scratch::Source(dy));
        }
        let mut packed = Buffer::zeros((to - from) * pixels * self.stride);
        for (out, row) in packed.chunks_exact_mut(self.stride).zip(dy.chunks_exact(self.g.cout)) {
            out[..self.g.cout].copy_from_slice(row);
        }
        (x, Scratch::Copy(packed))
    }

    /// sum [rows, stride] (+)= the patch elements `rows` of all these images against dy.
    fn rows<T: Element>(&self, x: &[T], dy: &[T], rows: std::ops::Range<usize>, sum: &mut [T], add: bool) {
        let (g, [_, w]) = (self.g, self.images.size);
        let run = g.kernel[1] * g.cin;
        let row_offsets: Vec<usize> = rows.clone().map(|k| k / run * w * g.cin + k % run).collect();
        let c_rows: Vec<usize> = (0..rows.len()).map(|i| i * self.stride).collect();
        let [ho, wo] = g.output;
        let walk = [
            Level {
                count: dy.len() / (ho * wo * self.stride),
                a: self.images.elements(),
                b: ho * wo * self.stride,
            },
            Level { count: ho, a: g.stride[0] * w * g.cin, b: wo * self.stride },
            Level { count: wo, a: g.stride[1] * g.cin, b: self.stride },
        ];
        for first in (0..self.stride).step_by(self.width) {
            Panel {
                a: x,
                rows: &row_offsets,
                b: &dy[first..],
                walk,
                width: self.width,
                cols: self.width,
                init: None,
                add,
                c: sum,
                c_rows: &c_rows,
                c_shift: first,
            }
            .run();
        }
    }

    /// dw[o][k] (+)= Σ over tasks, in order, of sum[k][o].
    fn gather<T: Element>(&self, sums: &[Buffer<T>], dw: &mut [T], add: bool) {
        let patch = self.g.patch();
        dw.par_chunks_mut(patch).enumerate().for_each(|(o, dw)| {
            for (k, dw) in dw.iter_mut().enumerate() {
                let total = sums.iter().fold(T::ZERO, |t, s| t + s[k * self.stride + o]);
                *dw = if add { *dw + total } else { total };
            }
        });
    }
}
