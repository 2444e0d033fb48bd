//! fprop and dgrad: correlations of images with packed weights. A task takes a few images, reads them where they lie, and
//! leaves out the taps outside of them; only bf16 operands are copies.

use std::ops::Range;

use rayon::prelude::*;

use super::{SCRATCH, bordered::Bordered};
use crate::{
    Element,
    buffer::Buffer,
    simd::{
        dot::{self, Dots, Strided},
        tile::{Level, Operand, Panel, panel_width},
    },
};

/// Outputs that use a panel of weights before the next panel is loaded: a multiple of every tile's height.
const ROWS: usize = 1680;

/// A correlation of bordered images with a kernel of `taps`, for the outputs `first + i·step` of a larger grid.
pub(super) struct Phase<W: Operand> {
    pub taps: [usize; 2],
    /// Start of the first output's patch in the bordered image; `stride` is the step to the next output's patch.
    pub base: [usize; 2],
    pub stride: [usize; 2],
    pub outputs: [usize; 2],
    pub first: [usize; 2],
    pub step: [usize; 2],
    /// Panels of [taps·channels / parts][width], or columns of [taps·channels] for [`Dots`].
    pub weights: Buffer<W>,
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
pub(super) struct Correlation<'a, W: Operand> {
    pub images: Bordered,
    pub phases: Vec<Phase<W>>,
    pub grid: [usize; 2],
    pub cols: usize,
    pub bias: Option<&'a [W::Sum]>,
    pub add: bool,
}

impl<W: Operand> Correlation<'_, W> {
    /// Runs all phases for `n` images.
    pub fn run(&self, source: &[W::Sum], n: usize, dst: &mut [W::Sum]) {
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
pub(super) struct Weights<'a, T> {
    pub values: &'a [T],
    pub rows: Vec<usize>,
    pub distance: usize,
    pub cols: usize,
}

impl<T: Element> Weights<'_, T> {
    /// The weights as panels of words, zero past the last column and past an odd run, or as whole columns where [`Dots`]
    /// takes them; `run` elements of depth lie side by side in the image, `channels` to a pixel.
    pub fn pack<W: Operand<Sum = T>>(&self, run: usize, channels: usize) -> Buffer<W> {
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
