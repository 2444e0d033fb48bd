//! wgrad: patches of x against dy, summed over all images in a fixed order.

use std::ops::Range;

use rayon::prelude::*;

use super::{
    SCRATCH,
    bordered::{Bordered, Scratch},
};
use crate::{
    Element,
    buffer::Buffer,
    ops::conv2d::Geometry,
    products::low,
    simd::{
        native_lanes,
        tile::{Level, MAX_VECTORS, Operand, Panel, panel_width},
    },
    wide,
};

/// Weights up to this many elements have separate sums per task; larger ones share one sum.
const PRIVATE_SUMS: usize = 64 * 1024;
/// Number of tasks with separate sums: fixed, so that the order of summation is fixed.
const TASKS: usize = 16;

/// dw [cout, kh, kw, cin] (+)= the gradient of conv(x, w) with respect to w.
pub(crate) fn wgrad<T: Element>(g: &Geometry, x: &[T], dy: &[T], dw: &mut [T], add: bool) {
    if 2 * g.cout <= native_lanes::<T>() && g.cout * g.patch() <= PRIVATE_SUMS {
        wgrad_of_few(g, x, dy, dw, add);
    } else if low::<T>() {
        wgrad_with::<T::Low>(g, x, dy, dw, add);
    } else {
        wgrad_with::<T>(g, x, dy, dw, add);
    }
}

fn wgrad_with<W: Operand>(g: &Geometry, x: &[W::Sum], dy: &[W::Sum], dw: &mut [W::Sum], add: bool) {
    let (patch, width) = (g.patch(), panel_width::<W>(g.cout));
    let stride = g.cout.next_multiple_of(width);
    let images = Bordered::of_x(g);
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

/// Sums of the images, `len` long, one for each of at most [`TASKS`] ranges of images.
fn of_tasks<T: Element>(
    g: &Geometry,
    len: usize,
    task: impl Fn(Range<usize>, &mut [T]) + Sync,
) -> Vec<Buffer<T>> {
    let per_task = g.n.div_ceil(TASKS).max(1);
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
    let (images, lanes) = (Bordered::of_x(g), native_lanes::<T>());
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
        let len = (to - from) * g.output[0] * words * self.stride;
        let mut packed = if self.stride == g.cout { Buffer::uninit(len) } else { Buffer::zeros(len) };
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
