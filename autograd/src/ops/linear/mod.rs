//! Matrix products.

#[cfg(feature = "cuda")]
pub(crate) mod cuda;

use rayon::prelude::*;

#[cfg(feature = "cuda")]
use crate::ops::reduce;
use crate::{
    Backward, Device, Element, Error, Forward, Op, Result, Shape, Tensor, apply,
    buffer::Buffer,
    cpu::{Matrix, column_sums, multiply},
    simd::{
        dot::{self, Dots, MAX_COLS, Strided},
        matmul::takes_low,
        tiled,
    },
};

/// Rows of a weight that a task multiplies, and elements of them at a time, of which a tile's stay in the first-level cache.
const BLOCK: [usize; 2] = [64, 1024];

/// y [rows, out] = x [rows, cin] · wᵀ + bias.
fn product<T: Element>(x: &[T], w: &[T], bias: Option<&[T]>, y: &mut [T], [rows, cin, out]: [usize; 3]) {
    let (xs, ws) = (Matrix::new(x, rows, cin), Matrix::new(w, out, cin).t());
    if takes_low::<T>([rows, cin, out]) {
        tiled::multiply::<T::Low>(xs, ws, bias, y, false);
    } else if rows * out > 0 && dot::fits::<T>(1, cin) {
        by_dots(x, w, bias, y, [rows, cin]);
    } else {
        if let Some(bias) = bias {
            y.chunks_exact_mut(out.max(1)).for_each(|row| row.copy_from_slice(bias));
        }
        multiply(xs, ws, y, bias.is_some());
    }
}

/// y [rows, out] = x [rows, cin] · wᵀ + bias by dots, which read a large weight once and copy nothing. `cin` is a multiple of
/// a register.
fn by_dots<T: Element>(x: &[T], w: &[T], bias: Option<&[T]>, y: &mut [T], [rows, cin]: [usize; 2]) {
    let out = w.len() / cin;
    let mut transposed = Buffer::<T>::uninit(rows * out);
    transposed.par_chunks_mut(BLOCK[0] * rows).zip(w.par_chunks(BLOCK[0] * cin)).for_each(|(y, w)| {
        let offsets: Vec<usize> = (0..w.len() / cin).map(|o| o * cin).collect();
        for first in (0..cin).step_by(BLOCK[1]) {
            for row in (0..rows).step_by(MAX_COLS) {
                let c_rows: Vec<usize> = (0..offsets.len()).map(|o| o * rows + row).collect();
                Dots {
                    a: Strided { data: &w[first..], step: 0 },
                    rows: &offsets,
                    b: Strided { data: &x[row * cin + first..], step: 0 },
                    column: cin,
                    runs: 1,
                    run: BLOCK[1].min(cin - first),
                    cols: MAX_COLS.min(rows - row),
                    init: None,
                    add: first > 0,
                    c: y,
                    c_rows: &c_rows,
                }
                .run();
            }
        }
    });
    y.par_chunks_mut(out).enumerate().for_each(|(row, y)| {
        for (o, y) in y.iter_mut().enumerate() {
            *y = transposed[o * rows + row] + bias.map_or(T::ZERO, |bias| bias[o]);
        }
    });
}

/// y = x·wᵀ + b with x [.., in], w [out, in], b [out] → [.., out].  dx = dy·w, dw = dyᵀ·x, db = Σ dy over the rows.
pub struct Linear;

impl Op for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn keep_f32(&self, i: usize) -> bool {
        i == 2
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        let (x, w) = (inputs[0], inputs[1]);
        let [out, cin] = w.dims("linear", "weight [out, in]")?;
        if x.last() != Some(&cin) {
            return Err(Error::shape("linear", format!("x {x} does not fit the weight {w}")));
        }
        if let Some(b) = inputs.get(2)
            && b[..] != [out]
        {
            return Err(Error::shape("linear", format!("bias {b} given where [{out}] is expected")));
        }
        Ok(x.with_last(out))
    }

    fn operations(&self, inputs: &[&Shape]) -> u64 {
        2 * (inputs[0].numel() * inputs[1][0]) as u64
    }

    fn forward(&self, cx: &mut Forward, inputs: &[&Tensor]) -> Result<Tensor> {
        let (x, w) = (inputs[0], inputs[1]);
        cx.save(x);
        cx.save(w);
        match x.device() {
            Device::Cpu => crate::dispatch!(x.dtype(), T => {
                let ((rows, cin), out) = (x.shape().rows_cols(), w.shape()[0]);
                let mut y = Buffer::<T>::uninit(rows * out);
                let bias = inputs.get(2).map(|bias| bias.values::<T>()).transpose()?;
                product(x.values()?, w.values()?, bias, &mut y, [rows, cin, out]);
                Ok(Tensor::from_buffer(x.shape().with_last(out), y))
            }),
            #[cfg(feature = "cuda")]
            Device::Cuda => cuda::forward(x, w, inputs.get(2).copied()),
        }
    }

    fn backward(&self, cx: &mut Backward, dy: &Tensor) -> Result<()> {
        let [x, w] = cx.saved()?;
        let ((rows, cin), out) = (x.shape().rows_cols(), w.shape()[0]);
        match dy.device() {
            Device::Cpu => crate::dispatch!(dy.dtype(), T => {
                let d = Matrix::new(dy.values::<T>()?, rows, out);
                let (xs, ws) = (Matrix::new(x.values()?, rows, cin), Matrix::new(w.values()?, out, cin));
                cx.accumulate(0, |dx, add| multiply(d, ws, dx, add))?;
                cx.accumulate(1, |dw, add| multiply(d.t(), xs, dw, add))?;
                if cx.needs(2) {
                    let d = dy.values::<T>()?;
                    cx.accumulate(2, |db, add| column_sums(d, out, db, add))?;
                }
                Ok(())
            }),
            #[cfg(feature = "cuda")]
            Device::Cuda => {
                cx.fill(0, |dx| cuda::input_gradient(dy, &w, dx, false))?;
                cx.fill_wide(1, |dw| cuda::weight_gradient(dy, &x, dw))?;
                if cx.needs(2) {
                    cx.fill(2, |db| reduce::cuda::column_sums(dy, db))?;
                }
                Ok(())
            }
        }
    }
}

/// y = a·b with a [M, K], b [K, N].  da = dy·bᵀ, db = aᵀ·dy.
pub struct Matmul;

impl Op for Matmul {
    fn name(&self) -> &'static str {
        "matmul"
    }

    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        let [m, k] = inputs[0].dims("matmul", "a [M, K]")?;
        let [k2, n] = inputs[1].dims("matmul", "b [K, N]")?;
        if k != k2 {
            let message = format!("{} and {} do not fit: {k} columns, {k2} rows", inputs[0], inputs[1]);
            return Err(Error::shape("matmul", message));
        }
        Ok([m, n].into())
    }

    fn operations(&self, inputs: &[&Shape]) -> u64 {
        2 * (inputs[0].numel() * inputs[1][1]) as u64
    }

    fn forward(&self, cx: &mut Forward, inputs: &[&Tensor]) -> Result<Tensor> {
        let (a, b) = (inputs[0], inputs[1]);
        cx.save(a);
        cx.save(b);
        match a.device() {
            Device::Cpu => crate::dispatch!(a.dtype(), T => {
                let mut y = Buffer::<T>::uninit(a.shape()[0] * b.shape()[1]);
                multiply(matrix(a)?, matrix::<T>(b)?, &mut y, false);
                Ok(Tensor::from_buffer([a.shape()[0], b.shape()[1]], y))
            }),
            #[cfg(feature = "cuda")]
            Device::Cuda => cuda::matmul(a, b),
        }
    }

    fn backward(&self, cx: &mut Backward, dy: &Tensor) -> Result<()> {
        let [a, b] = cx.saved()?;
        match dy.device() {
            Device::Cpu => crate::dispatch!(dy.dtype(), T => {
                let (a_, b_, d) = (matrix::<T>(&a)?, matrix::<T>(&b)?, matrix::<T>(dy)?);
                cx.accumulate(0, |da, add| multiply(d, b_.t(), da, add))?;
                cx.accumulate(1, |db, add| multiply(a_.t(), d, db, add))
            }),
            #[cfg(feature = "cuda")]
            Device::Cuda => {
                cx.fill_wide(0, |da| cuda::matmul_left_gradient(dy, &b, da))?;
                cx.fill_wide(1, |db| cuda::weight_gradient(&a, dy, db))
            }
        }
    }
}

fn matrix<T: Element>(t: &Tensor) -> Result<Matrix<'_, T>> {
    Ok(Matrix::new(t.values()?, t.shape()[0], t.shape()[1]))
}

impl Tensor {
    /// x·wᵀ + b: x [.., in], weight [out, in], bias [out] → [.., out].
    pub fn linear(&self, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        match bias {
            Some(bias) => apply(Linear, &[self, weight, bias]),
            None => apply(Linear, &[self, weight]),
        }
    }

    /// a·b: [M, K]·[K, N] → [M, N].
    pub fn matmul(&self, other: &Tensor) -> Result<Tensor> {
        apply(Matmul, &[self, other])
    }
}
