//! Shapes of two operands, broadcast as in NumPy: they are aligned at their last axes, a missing axis has size 1, and
//! of two different sizes one must be 1. Along such an axis that operand's elements repeat.

use rayon::prelude::*;

#[cfg(feature = "cuda")]
use crate::cuda::primitives;
use crate::{Backward, Device, Element, Error, Result, Shape, Tensor, buffer::Buffer, cpu, wide};

/// An axis of the result, or several neighbours that both operands treat the same way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Axis {
    /// Its number of indices.
    pub size: usize,
    /// Whether the first operand varies along it.
    pub a: bool,
    /// Whether the second operand varies along it.
    pub b: bool,
}

/// The size of an axis of `rank` in a shape that is aligned at the end.
fn size(shape: &Shape, axis: usize, rank: usize) -> usize {
    (axis + shape.len()).checked_sub(rank).map_or(1, |axis| shape[axis])
}

/// Shape of the broadcast result.
pub(super) fn shape(op: &'static str, inputs: &[&Shape]) -> Result<Shape> {
    let [a, b] = [inputs[0], inputs[1]];
    let rank = a.len().max(b.len());
    let both = (0..rank).map(|axis| match (size(a, axis, rank), size(b, axis, rank)) {
        (m, n) if m == n || n == 1 => Ok(m),
        (1, n) => Ok(n),
        (m, n) => {
            let from_end = rank - axis;
            let message = format!("{a} and {b} do not broadcast: axis −{from_end} has {m} and {n} elements");
            Err(Error::shape(op, message))
        }
    });
    Ok(both.collect::<Result<Vec<_>>>()?.into())
}

/// The result's axes of more or less than one element, outermost first.
pub(super) fn axes(a: &Shape, b: &Shape, result: &Shape) -> Vec<Axis> {
    let mut axes: Vec<Axis> = Vec::new();
    for (axis, &len) in result.iter().enumerate().filter(|(_, len)| **len != 1) {
        let [has_a, has_b] = [a, b].map(|shape| size(shape, axis, result.len()) == len);
        match axes.last_mut() {
            Some(last) if (last.a, last.b) == (has_a, has_b) => last.size *= len,
            _ => axes.push(Axis { size: len, a: has_a, b: has_b }),
        }
    }
    axes
}

/// Whether no element of an operand repeats.
pub(super) fn is_plain(axes: &[Axis]) -> bool {
    axes.iter().all(|axis| axis.a && axis.b)
}

/// f(a, b) of broadcast operands, on the CPU.
pub(super) fn zip<T: Element>(axes: &[Axis], a: &[T], b: &[T], f: impl Fn(T, T) -> T + Sync) -> Buffer<T> {
    let Some((&last, outer)) = axes.split_last().filter(|_| !is_plain(axes)) else {
        return cpu::zip(a, b, f);
    };
    let mut y = Buffer::uninit(axes.iter().map(|axis| axis.size).product());
    if y.is_empty() {
        return y;
    }
    let start = |mut row: usize, has: fn(&Axis) -> bool| {
        let (mut start, mut stride) = (0, if has(&last) { last.size } else { 1 });
        for axis in outer.iter().rev() {
            if has(axis) {
                start += row % axis.size * stride;
                stride *= axis.size;
            }
            row /= axis.size;
        }
        start
    };
    // A long row is also split across the cores.
    let piece = last.size.min(cpu::GRAIN);
    let rows = y.par_chunks_mut(last.size).with_min_len(cpu::rows_per_piece(last.size)).enumerate();
    rows.for_each(|(row, y)| {
        let (a, b) = (&a[start(row, |axis| axis.a)..], &b[start(row, |axis| axis.b)..]);
        y.par_chunks_mut(piece).with_min_len(2).enumerate().for_each(|(i, y)| {
            let from = i * piece;
            match (last.a, last.b) {
                (true, true) => {
                    wide!(for (y, (&a, &b)) in y.iter_mut().zip(a[from..].iter().zip(&b[from..])) {
                        *y = f(a, b);
                    })
                }
                (true, false) => wide!(for (y, &a) in y.iter_mut().zip(&a[from..]) {
                    *y = f(a, b[0]);
                }),
                (false, _) => wide!(for (y, &b) in y.iter_mut().zip(&b[from..]) {
                    *y = f(a[0], b);
                }),
            }
        });
    });
    y
}

/// Gives input `i` the gradient factor·`whole`, which has the result's shape: summed over the axes along which the input
/// was repeated. On a device the sum is f32, rounded once to the input's dtype.
pub(super) fn give(cx: &mut Backward, i: usize, whole: &Tensor, factor: f64) -> Result<()> {
    if !cx.needs(i) {
        return Ok(());
    }
    let scaled = |x: &Tensor| if factor == 1.0 { Ok(x.clone()) } else { x.scale(factor) };
    let axes = axes(whole.shape(), cx.input_shape(i), whole.shape());
    if is_plain(&axes) {
        return cx.give(i, scaled(whole)?);
    }
    let repeated: Vec<usize> = (0..axes.len()).filter(|&axis| !axes[axis].b).collect();
    let merged = whole.reshape(axes.iter().map(|axis| axis.size).collect::<Vec<_>>())?;
    let sum = scaled(&merged.sum(&repeated)?)?;
    match sum.device() {
        Device::Cpu => cx.give(i, sum),
        #[cfg(feature = "cuda")]
        Device::Cuda => cx.fill_wide(i, |gradient| primitives::cast_into(&sum, gradient)),
    }
}
