//! dx of short rows, in f64: the terms of a gradient over two or three columns nearly cancel (for two, only ε's share
//! is left), and f32 rounding would exceed the remainder.

use super::{LayerNorm, Parameters};
use crate::{
    ptx::{Asm, F64, Reg},
    rows::Rows,
    span::Real,
};

/// Up to this many columns, f32 is too inaccurate for dx.
pub(super) const COLUMNS: u32 = 32;

/// One lane per column.
pub(super) fn body<'a, T: Real>(asm: &'a Asm, spec: LayerNorm, shape: Rows, p: Parameters<'a, T>) {
    let row = shape.row(asm);
    let start = row.number * spec.cols;
    row.each(|vector| {
        let at = start + vector.col;
        let [x, dy] = [p.x, p.dy].map(|array| T::load(array.at(at), 1)[0].to::<F64>());
        let g = dy * p.gamma.at(vector.col).load().to::<F64>();
        let mean = |x: Reg<'a, F64>| row.sum_f64(vector, x) * (1.0 / f64::from(spec.cols));
        let mu = mean(x);
        let far = x - mu;
        let spread = mean(far * far) + p.eps.to::<F64>();
        let slope = mean(g * far) / spread;
        let inverse = spread.sqrt().reciprocal();
        let value = (g - mean(g) - far * slope) * inverse;
        row.if_own(vector, || T::store(p.dx.at(at), &[value.to()]));
        row.once(|| p.workspace.at(row.number * 2).store_vector([mu.to(), inverse.to()]));
    });
}
