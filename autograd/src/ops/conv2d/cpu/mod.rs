//! The three passes of a convolution on the CPU, all on the register tile of [`crate::simd::tile`] and, for few output
//! channels, on the dots of [`crate::simd::dot`]. The assignment of work to tasks never changes a value.

mod bordered;
mod correlation;
mod wgrad;

pub(crate) use wgrad::wgrad;

use super::Geometry;
use crate::{
    Element, Result, Tensor,
    buffer::Buffer,
    products::low,
    simd::{dot, tile::Operand},
};
use bordered::Bordered;
use correlation::{Correlation, Phase, Weights};

/// Target size of a task's images in elements: half of a common second-level cache in f32.
const SCRATCH: usize = 128 * 1024;

/// y = conv(x, w) + bias.
pub(crate) fn forward(g: &Geometry, x: &Tensor, w: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    crate::dispatch!(x.dtype(), T => {
        let mut y = Buffer::<T>::uninit(g.n * g.output[0] * g.output[1] * g.cout);
        let bias = bias.map(|b| b.values::<T>()).transpose()?;
        fprop(g, x.values()?, w.values()?, bias, &mut y, false);
        Ok(Tensor::from_buffer([g.n, g.output[0], g.output[1], g.cout], y))
    })
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
    let phase = Phase {
        taps: g.kernel,
        base: [0; 2],
        stride: g.stride,
        outputs: g.output,
        first: [0; 2],
        step: [1; 2],
        weights,
    };
    let images = Bordered::of_x(g);
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
