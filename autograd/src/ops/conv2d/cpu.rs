//! The three passes of a convolution on the CPU, all on the register tile of [`crate::simd::tile`].
//!
//! A task takes a few images, copies them into scratch memory with their border of zeros (the only copy: about a
//! patch's size less than im2col would write), and runs tiles over them. The assignment of work to tasks never changes
//! a value.

use std::ops::Range;

use rayon::prelude::*;

use super::Geometry;
use crate::{
    DType, Element, Products, Result, Tensor,
    buffer::Buffer,
    products::products,
    simd::{
        dot::{self, Dots, Strided},
        native_lanes,
        tile::{Level, MAX_VECTORS, Operand, Panel, panel_width},
    },
    wide,
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

    /// The images with their border, as parts of a product's words, and `beyond` zeros; the source itself where that is
    /// the same.
    fn fill<'a, W: Operand>(
        &self,
        source: &'a [W::Sum],
        images: usize,
        beyond: usize,
    ) -> Scratch<'a, W::Part> {
        if W::PARTS == 1 && beyond == 0 && self.before == [0; 2] && self.size == self.source {
            return Scratch::Source(bytemuck::cast_slice(source));
        }
        let zero = <W::Part as bytemuck::Zeroable>::zeroed();
        let len = images * self.elements();
        let mut out = Buffer::uninit(len + beyond);
        out[len..].fill(zero);
        self.rows(source, &mut out[..len], |elements, row| match elements {
            Some((left, elements)) => {
                row[..left].fill(zero);
                W::convert(elements, &mut row[left..left + elements.len()]);
                row[left + elements.len()..].fill(zero);
            }
            None => row.fill(zero),
        });
        Scratch::Copy(out)
    }

    /// The images with their border as words: an element beside the one `distance` pixels to the right, or beside zero.
    fn fill_pairs<W: Operand>(&self, source: &[W::Sum], images: usize, distance: usize) -> Buffer<W::Part> {
        let mut out = Buffer::uninit(images * self.elements() * W::PARTS);
        let mut border = vec![W::Sum::ZERO; (self.size[1] + distance) * self.channels];
        let shift = distance * self.channels;
        self.rows(source, bytemuck::cast_slice_mut::<_, W>(&mut out), |elements, row| {
            border.fill(W::Sum::ZERO);
            if let Some((left, elements)) = elements {
                border[left..left + elements.len()].copy_from_slice(elements);
            }
            wide!(for (word, (&first, &second)) in row.iter_mut().zip(border.iter().zip(&border[shift..])) {
                *word = W::word([first, second]);
            });
        });
        out
    }

    /// Calls `fill` for each row of the images with their border: with the source's elements in it and where they begin,
    /// or with nothing where all of it is border.
    fn rows<T: Copy, P>(
        &self,
        source: &[T],
        out: &mut [P],
        mut fill: impl FnMut(Option<(usize, &[T])>, &mut [P]),
    ) {
        // Nothing is read if no output has a tap, as in dgrad of a 1×1 kernel whose stride skips every pixel.
        if out.is_empty() {
            return;
        }
        let [h, w] = self.size;
        let kept = self.source[1].min(w.saturating_sub(self.before[1])) * self.channels;
        let left = self.before[1].min(w) * self.channels;
        let source_row = self.source[1] * self.channels;
        for (i, row) in out.chunks_exact_mut(w * self.channels).enumerate() {
            let (image, y) = (i / h, i % h);
            let inside = y >= self.before[0] && y - self.before[0] < self.source[0];
            let from = inside.then(|| (image * self.source[0] + y - self.before[0]) * source_row);
            fill(from.map(|from| (left, &source[from..from + kept])), row);
        }
    }
}

enum Scratch<'a, P: bytemuck::Pod> {
    Source(&'a [P]),
    Copy(Buffer<P>),
}

impl<P: bytemuck::Pod> std::ops::Deref for Scratch<'_, P> {
    type Target = [P];
    fn deref(&self) -> &[P] {
        match self {
            Self::Source(s) => s,
            Self::Copy(b) => b,
        }
    }
}

/// Whether the products of this type take bf16 operands now.
fn low<T: Element>() -> bool {
    T::DTYPE == DType::F32 && products() == Products::Bf16
}

/// A correlation of bordered images with a kernel of `taps`, for the outputs `first + i·step` of a larger grid.
struct Phase<W: Operand> {
    taps: [usize; 2],
    /// Start of the first output's patch in the bordered image; `stride` is the step to the next output's patch.
    base: [usize; 2],
    stride: [usize; 2],
    outputs: [usize; 2],
    first: [usize; 2],
    step: [usize; 2],
    /// Panels of [taps·channels / parts][width], or columns of [taps·channels] for [`Dots`].
    weights: Buffer<W>,
}

/// Neighbouring outputs of a phase, along one axis, that have the same taps inside the image.
struct Span {
    outputs: Range<usize>,
    taps: Range<usize>,
}

impl<W: Operand> Phase<W> {
    /// The outputs along an axis by their taps, where the image of `size` pixels lies `shift` behind the bordered one.
    fn spans(&self, axis: usize, shift: usize, size: usize) -> Vec<Span> {
        let mut spans: Vec<Span> = Vec::new();
        for output in 0..self.outputs[axis] {
            let start = self.base[axis] + output * self.stride[axis];
            let last = (size + shift).saturating_sub(start).min(self.taps[axis]);
            let taps = shift.saturating_sub(start).min(last)..last;
            match spans.last_mut() {
                Some(span) if span.taps == taps => span.outputs.end = output + 1,
                _ => spans.push(Span { outputs: output..output + 1, taps }),
            }
        }
        spans
    }
}

/// Runs the phases over all images: dst [n, grid, cols] (+)= phases(source) + bias.
struct Correlation<'a, W: Operand> {
    images: Bordered,
    phases: Vec<Phase<W>>,
    grid: [usize; 2],
    cols: usize,
    bias: Option<&'a [W::Sum]>,
    add: bool,
}

impl<W: Operand> Correlation<'_, W> {
    fn run(&self, source: &[W::Sum], n: usize, dst: &mut [W::Sum]) {
        let [gh, gw] = self.grid;
        let (image, out) =
            (self.images.source[0] * self.images.source[1] * self.images.channels, gh * gw * self.cols);
        if n == 0 || out == 0 {
            return;
        }
        let chunk =
            (SCRATCH / self.images.elements().max(1)).clamp(1, n.div_ceil(2 * rayon::current_num_threads()));
        // Words of one part are read from the source, and the taps on its border are left out; others are copies.
        let images = match W::PARTS {
            1 => Bordered { before: [0; 2], size: self.images.source, ..self.images },
            _ => self.images,
        };
        let shift = [0, 1].map(|i| self.images.before[i] - images.before[i]);
        dst.par_chunks_mut(chunk * out).enumerate().for_each(|(i, dst)| {
            let count = dst.len() / out;
            let from = i * chunk * image;
            let source = images.fill::<W>(&source[from..from + count * image], count, W::PARTS - 1);
            self.phases.iter().for_each(|phase| self.phase(phase, &images, shift, &source, count, dst));
        });
    }

    /// A phase's outputs, those with the same taps together. `images` lie `shift` behind the bordered ones.
    fn phase(
        &self,
        phase: &Phase<W>,
        images: &Bordered,
        shift: [usize; 2],
        source: &[W::Part],
        n: usize,
        dst: &mut [W::Sum],
    ) {
        let (c, [h, w]) = (images.channels, images.size);
        let [gh, gw] = self.grid;
        let [ys, xs] = [0, 1].map(|i| phase.spans(i, shift[i], images.size[i]));
        let (mut rows, mut c_rows) = (Vec::with_capacity(ROWS), Vec::with_capacity(ROWS));
        for (y, x) in ys.iter().flat_map(|y| xs.iter().map(move |x| (y, x))) {
            let taps = [y.taps.clone(), x.taps.clone()];
            let empty = taps.iter().any(|taps| taps.is_empty());
            for (image, oy) in (0..n).flat_map(|image| y.outputs.clone().map(move |oy| (image, oy))) {
                let iy = phase.base[0] + oy * phase.stride[0] + taps[0].start;
                let iy = iy.saturating_sub(shift[0]);
                let from = (image * h + iy) * w;
                let to = (image * gh + phase.first[0] + oy * phase.step[0]) * gw + phase.first[1];
                for ox in x.outputs.clone() {
                    let ix = phase.base[1] + ox * phase.stride[1] + taps[1].start;
                    let ix = ix.saturating_sub(shift[1]);
                    rows.push(if empty { 0 } else { (from + ix) * c });
                    c_rows.push((to + ox * phase.step[1]) * self.cols);
                }
                if rows.len() + x.outputs.len() > ROWS {
                    self.products(phase, &taps, source, [w * c, c], [&rows, &c_rows], dst);
                    rows.clear();
                    c_rows.clear();
                }
            }
            self.products(phase, &taps, source, [w * c, c], [&rows, &c_rows], dst);
            rows.clear();
            c_rows.clear();
        }
    }

    /// The products of a phase's `taps` for some outputs: offsets of their patches in the source, whose rows are `step`
    /// apart, and of their columns in `dst`.
    fn products(
        &self,
        phase: &Phase<W>,
        taps: &[Range<usize>; 2],
        source: &[W::Part],
        [step, c]: [usize; 2],
        [rows, c_rows]: [&[usize]; 2],
        dst: &mut [W::Sum],
    ) {
        let (run, first) = (phase.taps[1] * c, taps[1].start * c);
        let (runs, kept) = (taps[0].len(), taps[1].len() * c);
        if by_dots::<W>(self.cols, c) {
            let (bias, add, cols, column) = (self.bias, self.add, self.cols, phase.taps[0] * run);
            let (source, weights) = (bytemuck::cast_slice(source), bytemuck::cast_slice(&phase.weights));
            let a = Strided { data: source, step };
            let b = Strided { data: &weights[(taps[0].start * run + first).min(weights.len())..], step: run };
            Dots { a, rows, b, column, runs, run: kept, cols, init: bias, add, c: dst, c_rows }.run();
            return;
        }
        let width = panel_width::<W>(self.cols);
        let words = run.div_ceil(W::PARTS);
        let depth = phase.taps[0] * words;
        let walk = if runs * kept == 0 {
            [Level { count: 0, a: 0, b: 0 }; 3]
        } else {
            [
                Level::ONCE,
                Level { count: runs, a: step, b: words * width },
                Level { count: kept.div_ceil(W::PARTS), a: W::PARTS, b: width },
            ]
        };
        let skipped = if runs * kept == 0 { 0 } else { (taps[0].start * words + first / W::PARTS) * width };
        for (panel, first) in (0..self.cols).step_by(width).enumerate() {
            Panel {
                a: source,
                rows,
                b: &phase.weights[panel * depth * width + skipped..(panel + 1) * depth * width],
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
    }
}

/// Whether products with so many columns are [`Dots`].
fn by_dots<W: Operand>(cols: usize, channels: usize) -> bool {
    W::PARTS == 1 && dot::fits::<W::Sum>(cols, channels)
}

/// Where a phase's weights lie: element [depth index][column] is at `rows[depth index] + column · distance`.
struct Weights<'a, T> {
    values: &'a [T],
    rows: Vec<usize>,
    distance: usize,
    cols: usize,
}

impl<T: Element> Weights<'_, T> {
    /// The weights as panels of words, zero past the last column and past an odd run, or as whole columns where [`Dots`]
    /// takes them; `run` elements of depth lie side by side in the image, `channels` to a pixel.
    fn pack<W: Operand<Sum = T>>(&self, run: usize, channels: usize) -> Buffer<W> {
        let depth = self.rows.len();
        if by_dots::<W>(self.cols, channels) {
            let mut out = Buffer::uninit(self.cols * depth);
            for (i, word) in out.iter_mut().enumerate() {
                *word = W::word([self.values[self.rows[i % depth] + i / depth * self.distance]; 2]);
            }
            return out;
        }
        let (width, words) = (panel_width::<W>(self.cols), run.div_ceil(W::PARTS));
        let len = depth.checked_div(run).unwrap_or(0) * words * width;
        let mut out = Buffer::zeros(self.cols.div_ceil(width) * len);
        if out.is_empty() {
            return out;
        }
        // Blocks of rows whose columns share cache lines of the source.
        const BLOCK: usize = 16;
        out.par_chunks_mut(len).enumerate().for_each(|(panel, out)| {
            let first = panel * width;
            let count = width.min(self.cols - first);
            for (block, out) in out.chunks_mut(BLOCK * width).enumerate() {
                // The source of each row's words; the second part of the last word of an odd run is zero.
                let mut from = [(0, None); BLOCK];
                for (i, from) in from.iter_mut().enumerate().take(out.len() / width) {
                    let (p, q) = ((block * BLOCK + i) / words, (block * BLOCK + i) % words * W::PARTS);
                    let row = p * run + q;
                    *from = (self.rows[row], (W::PARTS == 2 && q + 1 < run).then(|| self.rows[row + 1]));
                }
                let word = |(one, two): (usize, Option<usize>), column: usize| {
                    let at = |row: usize| self.values[row + column * self.distance];
                    W::word([at(one), two.map_or(T::ZERO, at)])
                };
                if self.distance == 1 {
                    for (row, (one, two)) in out.chunks_exact_mut(width).zip(from) {
                        let one = &self.values[one + first..][..count];
                        let two = two.map(|two| &self.values[two + first..][..count]);
                        match two {
                            Some(two) => {
                                let words = row.iter_mut().zip(one.iter().zip(two));
                                words.for_each(|(word, (&one, &two))| *word = W::word([one, two]));
                            }
                            None => row
                                .iter_mut()
                                .zip(one)
                                .for_each(|(word, &one)| *word = W::word([one, T::ZERO])),
                        }
                    }
                } else {
                    for j in 0..count {
                        for (i, &from) in from.iter().take(out.len() / width).enumerate() {
                            out[i * width + j] = word(from, first + j);
                        }
                    }
                }
            }
        });
        out
    }
}

/// y [n, output, cout] (+)= conv(x, w) + bias.
pub(crate) fn fprop<T: Element>(g: &Geometry, x: &[T], w: &[T], bias: Option<&[T]>, y: &mut [T], add: bool) {
    // Few columns would be mostly padding in panels of bf16; by dots they are cheap in full precision.
    if low::<T>() && !dot::fits::<T>(g.cout, g.cin) {
        fprop_with::<T::Low>(g, x, w, bias, y, add);
    } else {
        fprop_with::<T>(g, x, w, bias, y, add);
    }
}

fn fprop_with<W: Operand>(
    g: &Geometry,
    x: &[W::Sum],
    w: &[W::Sum],
    bias: Option<&[W::Sum]>,
    y: &mut [W::Sum],
    add: bool,
) {
    let patch = g.patch();
    let weights = Weights { values: w, rows: (0..patch).collect(), distance: patch, cols: g.cout };
    let weights = weights.pack(g.kernel[1] * g.cin, g.cin);
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
    Correlation::<W> { images, phases: vec![phase], grid: g.output, cols: g.cout, bias, add }.run(x, g.n, y);
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
    if low::<T>() {
        dgrad_with::<T::Low>(g, dy, w, bias, dx, add);
    } else {
        dgrad_with::<T>(g, dy, w, bias, dx, add);
    }
}

fn dgrad_with<W: Operand>(
    g: &Geometry,
    dy: &[W::Sum],
    w: &[W::Sum],
    bias: Option<&[W::Sum]>,
    dx: &mut [W::Sum],
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
            let row = |k: usize| {
                let (ty, tx, o) = (k / run, k % run / g.cout, k % g.cout);
                let ky = ry.residue + (taps[0] - 1 - ty) * g.stride[0];
                let kx = rx.residue + (taps[1] - 1 - tx) * g.stride[1];
                ((o * g.kernel[0] + ky) * g.kernel[1] + kx) * g.cin
            };
            let rows = (0..taps[0] * run).map(row).collect();
            let weights = Weights { values: w, rows, distance: 1, cols: g.cin }.pack(run, g.cout);
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
    Correlation::<W> { images, phases, grid: g.input, cols: g.cin, bias, add }.run(dy, g.n, dx);
}

/// dw [cout, kh, kw, cin] (+)= the gradient of conv(x, w) with respect to w.
pub(crate) fn wgrad<T: Element>(g: &Geometry, x: &[T], dy: &[T], dw: &mut [T], add: bool) {
    if 2 * g.cout <= native_lanes::<T>() {
        wgrad_of_few(g, x, dy, dw, add);
    } else if low::<T>() {
        wgrad_with::<T::Low>(g, x, dy, dw, add);
    } else {
        wgrad_with::<T>(g, x, dy, dw, add);
    }
}

/// The border that x has in wgrad.
fn patches(g: &Geometry) -> Bordered {
    Bordered {
        source: g.input,
        channels: g.cin,
        before: g.padding,
        size: std::array::from_fn(|i| (g.output[i] - 1) * g.stride[i] + g.kernel[i]),
    }
}

fn wgrad_with<W: Operand>(g: &Geometry, x: &[W::Sum], dy: &[W::Sum], dw: &mut [W::Sum], add: bool) {
    let (patch, width) = (g.patch(), panel_width::<W>(g.cout));
    let stride = g.cout.next_multiple_of(width);
    let images = patches(g);
    let pass = Wgrad { g, images, width, stride };
    let chunk = (SCRATCH / images.elements().max(1)).clamp(1, g.n.max(1));
    if patch * stride <= PRIVATE_SUMS {
        let sums = of_tasks(g, patch * stride, |range, sum| {
            for first in range.clone().step_by(chunk) {
                let (x, dy) = pass.images::<W>(x, dy, first, (first + chunk).min(range.end));
                pass.rows::<W>(&x, &dy, 0..patch, sum, first > range.start);
            }
        });
        return pass.gather(sums, dw, add);
    }
    // One sum for all images; the cores share its rows.
    let mut sum = Buffer::uninit(patch * stride);
    let rows = patch.div_ceil(4 * rayon::current_num_threads()).next_multiple_of(12);
    let chunk = (4 * chunk).min(g.n.max(1));
    for first in (0..g.n).step_by(chunk) {
        let (x, dy) = pass.images::<W>(x, dy, first, (first + chunk).min(g.n));
        sum.par_chunks_mut(rows * stride).enumerate().for_each(|(i, sum)| {
            let from = i * rows;
            pass.rows::<W>(&x, &dy, from..from + sum.len() / stride, sum, first > 0);
        });
    }
    pass.gather(vec![sum], dw, add);
}

/// Sums of the images, `len` long, one for each of at most [`WGRAD_TASKS`] ranges of images.
fn of_tasks<T: Element>(
    g: &Geometry,
    len: usize,
    task: impl Fn(Range<usize>, &mut [T]) + Sync,
) -> Vec<Buffer<T>> {
    let per_task = g.n.div_ceil(WGRAD_TASKS).max(1);
    let one = |i: usize| {
        let mut sum = Buffer::uninit(len);
        task(i * per_task..((i + 1) * per_task).min(g.n), &mut sum);
        sum
    };
    (0..g.n.div_ceil(per_task)).into_par_iter().map(one).collect()
}

/// wgrad of so few output channels that they would leave most of a register empty: x takes the lanes, dy is broadcast.
fn wgrad_of_few<T: Element>(g: &Geometry, x: &[T], dy: &[T], dw: &mut [T], add: bool) {
    let (patch, run) = (g.patch(), g.kernel[1] * g.cin);
    let (images, lanes) = (patches(g), native_lanes::<T>());
    let (image, pixels) = (g.input[0] * g.input[1] * g.cin, g.output[0] * g.output[1]);
    let (row, [_, w]) = (g.output[1] * g.cout, images.size);
    let rows: Vec<usize> = (0..g.cout).collect();
    let c_rows: Vec<usize> = rows.iter().map(|o| o * patch).collect();
    let chunk = (SCRATCH / images.elements().max(1)).clamp(1, g.n.max(1));
    let mut sums = of_tasks(g, g.cout * patch, |range, sum| {
        for first in range.clone().step_by(chunk) {
            let last = (first + chunk).min(range.end);
            // A register may reach past the last patch.
            let x = images.fill::<T>(&x[first * image..last * image], last - first, lanes * MAX_VECTORS);
            for (ky, at) in
                (0..g.kernel[0]).flat_map(|ky| (0..run).step_by(lanes * MAX_VECTORS).map(move |at| (ky, at)))
            {
                let cols = (run - at).min(lanes * MAX_VECTORS);
                Panel {
                    a: &dy[first * pixels * g.cout..last * pixels * g.cout],
                    rows: &rows,
                    b: &x[ky * w * g.cin + at..],
                    walk: [
                        Level { count: last - first, a: pixels * g.cout, b: images.elements() },
                        Level { count: g.output[0], a: row, b: g.stride[0] * w * g.cin },
                        Level { count: g.output[1], a: g.cout, b: g.stride[1] * g.cin },
                    ],
                    width: cols.next_multiple_of(lanes),
                    cols,
                    init: None,
                    add: first > range.start,
                    c: sum,
                    c_rows: &c_rows,
                    c_shift: ky * run + at,
                }
                .run();
            }
        }
    });
    let Some((total, others)) = sums.split_first_mut() else { return };
    add_up(total, others);
    dw.iter_mut().zip(&total[..]).for_each(|(dw, &sum)| *dw = if add { *dw + sum } else { sum });
}

struct Wgrad<'a> {
    g: &'a Geometry,
    images: Bordered,
    width: usize,
    /// Distance between rows of the packed dy and of the sums: cout rounded up to whole panels.
    stride: usize,
}

impl Wgrad<'_> {
    /// Images `from..to`: x with its border, whose parts are pairs of pixels where a word is, and dy as words with its
    /// channels rounded up to whole panels.
    fn images<'a, W: Operand>(
        &self,
        x: &'a [W::Sum],
        dy: &'a [W::Sum],
        from: usize,
        to: usize,
    ) -> (Scratch<'a, W::Part>, Scratch<'a, W>) {
        let g = self.g;
        let image = g.input[0] * g.input[1] * g.cin;
        let x = &x[from * image..to * image];
        let pixels = g.output[0] * g.output[1];
        let dy = &dy[from * pixels * g.cout..to * pixels * g.cout];
        if W::PARTS == 1 {
            let x = self.images.fill::<W>(x, to - from, 0);
            if self.stride == g.cout {
                return (x, Scratch::Source(bytemuck::cast_slice(dy)));
            }
            let mut packed = Buffer::zeros((to - from) * pixels * self.stride);
            for (out, row) in packed.chunks_exact_mut(self.stride).zip(dy.chunks_exact(g.cout)) {
                out.iter_mut().zip(row).for_each(|(word, &v)| *word = W::word([v; 2]));
            }
            return (x, Scratch::Copy(packed));
        }
        let x = self.images.fill_pairs::<W>(x, to - from, g.stride[1]);
        let words = g.output[1].div_ceil(W::PARTS);
        let mut packed = Buffer::zeros((to - from) * g.output[0] * words * self.stride);
        let rows = packed.chunks_exact_mut(words * self.stride).zip(dy.chunks_exact(g.output[1] * g.cout));
        wide!(for (out, row) in rows {
            for (word, pair) in out.chunks_exact_mut(self.stride).zip(row.chunks(2 * g.cout)) {
                let (first, second) = pair.split_at(g.cout);
                if second.is_empty() {
                    for (word, &a) in word.iter_mut().zip(first) {
                        *word = W::word([a, W::Sum::ZERO]);
                    }
                } else {
                    for (word, (&a, &b)) in word.iter_mut().zip(first.iter().zip(second)) {
                        *word = W::word([a, b]);
                    }
                }
            }
        });
        (Scratch::Copy(x), Scratch::Copy(packed))
    }

    /// sum [rows, stride] (+)= the patch elements `rows` of all these images against dy.
    fn rows<W: Operand>(&self, x: &[W::Part], dy: &[W], rows: Range<usize>, sum: &mut [W::Sum], add: bool) {
        let (g, [_, w]) = (self.g, self.images.size);
        let run = g.kernel[1] * g.cin;
        let row_offsets: Vec<usize> =
            rows.clone().map(|k| (k / run * w * g.cin + k % run) * W::PARTS).collect();
        let c_rows: Vec<usize> = (0..rows.len()).map(|i| i * self.stride).collect();
        let (ho, words) = (g.output[0], g.output[1].div_ceil(W::PARTS));
        let walk = [
            Level {
                count: dy.len() / (ho * words * self.stride),
                a: self.images.elements() * W::PARTS,
                b: ho * words * self.stride,
            },
            Level { count: ho, a: g.stride[0] * w * g.cin * W::PARTS, b: words * self.stride },
            // A word has as many pixels as parts, and each of them as many parts.
            Level { count: words, a: g.stride[1] * g.cin * W::PARTS * W::PARTS, b: self.stride },
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
    fn gather<T: Element>(&self, mut sums: Vec<Buffer<T>>, dw: &mut [T], add: bool) {
        let (patch, stride) = (self.g.patch(), self.stride);
        let Some((total, others)) = sums.split_first_mut() else { return };
        add_up(total, others);
        // Blocks of k, whose rows of the sum stay in the nearest cache while all outputs take from them.
        const BLOCK: usize = 64;
        let total = &total[..];
        dw.par_chunks_mut(patch * 16).enumerate().for_each(|(group, dw)| {
            for first in (0..patch).step_by(BLOCK) {
                for (o, dw) in dw.chunks_exact_mut(patch).enumerate() {
                    let column = &total[first * stride + group * 16 + o..];
                    let block = &mut dw[first..patch.min(first + BLOCK)];
                    for (dw, &value) in block.iter_mut().zip(column.iter().step_by(stride)) {
                        *dw = if add { *dw + value } else { value };
                    }
                }
            }
        });
    }
}

/// total += the others, in their order.
fn add_up<T: Element>(total: &mut [T], others: &[Buffer<T>]) {
    const PIECE: usize = 4096;
    total.par_chunks_mut(PIECE).enumerate().for_each(|(i, total)| {
        for other in others {
            wide!(for (sum, &value) in total.iter_mut().zip(&other[i * PIECE..]) {
                *sum += value;
            });
        }
    });
}
