//! dx of each row, and its statistics, which the sums over the rows use.

use super::{
    FAMILY, LayerNorm, Parameters, few,
    forward::{Moments, WIDEST},
};
use crate::{
    Kernel, Target, Work,
    ptx::{Asm, Launch},
    rows::Rows,
    span::{Real, load_all, store_all},
};

/// The first kernel of the backward pass.
pub(super) fn kernel<T: Real>(spec: LayerNorm, target: Target) -> Kernel {
    let LayerNorm { rows, cols } = spec;
    let few = cols <= few::COLUMNS;
    let shape = Rows::new(rows, cols, if few { 1 } else { WIDEST });
    let launch = shape.launch(Launch::new(FAMILY, spec.name::<T>("backward"), target));
    let work = Work {
        bytes: spec.elements() * 3 * u64::from(T::BYTES) + 4 * u64::from(cols) + 8 * u64::from(rows),
        operations: spec.elements() * 20,
    };
    Asm::kernel(
        launch,
        work,
        "dx = (g - mean(g) - xhat*mean(g*xhat))/sqrt(variance + eps), g = dy*gamma",
        |asm| {
            let parameters = Parameters::<T>::declare(asm);
            let body = if few { few::body } else { body };
            body(asm, spec, shape, parameters);
        },
    )
}

fn body<'a, T: Real>(asm: &'a Asm, spec: LayerNorm, shape: Rows, p: Parameters<'a, T>) {
    let (row, width) = (shape.row(asm), shape.width);
    let start = row.number * spec.cols;
    let x = row.keep(|col| load_all(p.x.at(start + col), width));
    let g = row.keep(|col| {
        let (dy, gamma) = (load_all(p.dy.at(start + col), width), load_all(p.gamma.at(col), width));
        dy.into_iter().zip(gamma).map(|(dy, gamma)| dy * gamma).collect()
    });
    let moments = Moments::of(&row, &x, spec.cols, p.eps);
    row.once(|| p.workspace.at(row.number * 2).store_vector([moments.mean(), moments.inverse]));

    asm.step("mean(g) and mean(g*xhat)");
    let share = 1.0 / spec.cols as f32;
    let means = row.sums(|vector| {
        let g = g.of(vector);
        let products = x.of(vector).into_iter().zip(&g).map(|(x, &g)| moments.normal(x) * g).collect();
        [g, products]
    });
    let [mean, slope] = means.map(|sum| sum * share);

    asm.step("dx");
    row.each_own(|vector| {
        let values = x.of(vector).into_iter().zip(g.of(vector));
        let values = values.map(|(x, g)| (-moments.normal(x)).mad(slope, g - mean) * moments.inverse);
        store_all(p.dx.at(start + vector.col), &values.collect::<Vec<_>>());
    });
}
