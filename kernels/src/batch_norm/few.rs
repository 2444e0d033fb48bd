//! The gradient of x for few rows, in f64 from the statistics on.

use super::gradient::{InputGradient, Parameters};
use crate::{
    ptx::{Asm, F64, Global, Launch, Reg},
    span::Real,
};

/// Up to this many rows, cancellation makes f32 too inaccurate for dx.
pub(super) const ROWS: u32 = 32;

/// Threads per block, a whole number of warps.
const BLOCK: u32 = 128;

/// One thread per channel.
pub(super) fn launch(cols: u32, launch: Launch) -> Launch {
    launch.threads(BLOCK, cols.into())
}

/// A thread keeps all rows of its channel in registers. It recomputes the other kernels' results (mean, inverse,
/// dgamma, dbeta) in f64.
pub(super) fn body<'a, T: Real>(asm: &'a Asm, spec: InputGradient, p: Parameters<'a, T>) {
    let Some(x) = p.x else { return };
    let col = asm.global_thread();
    asm.if_(col.lt(spec.cols), || {
        let places: Vec<_> = (0..spec.rows).map(|row| col + row * spec.cols).collect();
        let load =
            |array: Global<'a, T>| places.iter().map(|&at| T::load(array.at(at), 1)[0]).collect::<Vec<_>>();
        let (xs, dys) = (load(x), load(p.dy));
        let gs = p.y.map_or_else(|| dys.clone(), |y| super::masked(asm, &dys, &load(y)));

        asm.step("means, squared distances and products, exact but for f64's rounding");
        let share = 1.0 / f64::from(spec.rows);
        let sum = |terms: &mut dyn FnMut(usize) -> Reg<'a, F64>| {
            let sum = asm.var::<F64>(0.0);
            (0..places.len()).for_each(|i| sum.add(terms(i)));
            sum.get() * share
        };
        let mean = sum(&mut |i| xs[i].to());
        let g_mean = sum(&mut |i| gs[i].to());
        let far = |i: usize| xs[i].to::<F64>() - mean;
        let variance = sum(&mut |i| far(i) * far(i));
        let product = sum(&mut |i| gs[i].to::<F64>() * far(i));

        let spread = variance + p.eps.to::<F64>();
        let slope = product / spread;
        let scale = p.gamma.at(col).load().to::<F64>() / spread.sqrt();
        for (i, &at) in places.iter().enumerate() {
            let value = (gs[i].to::<F64>() - g_mean - far(i) * slope) * scale;
            T::store(p.dx.at(at), &[value.to()]);
            if let Some(dresidual) = p.dresidual {
                T::store(dresidual.at(at), &[gs[i]]);
            }
        }
    });
}
