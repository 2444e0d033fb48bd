//! The forward pass, and the statistics that both passes compute.

use super::{FAMILY, LayerNorm};
use crate::{
    Kernel, Target, Work,
    ptx::{Asm, F32, Launch, Reg, U32},
    rows::{Kept, Row, Rows},
    span::{Real, load_all, store_all},
};

/// The widest vector in elements: an access to γ in f32.
pub(super) const WIDEST: u32 = 4;

/// Mean and spread of a row.
#[derive(Clone, Copy)]
pub(super) struct Moments<'a> {
    /// The mean, rounded to f32.
    near: Reg<'a, F32>,
    /// The rounding error of `near`: μ = near + rest.
    rest: Reg<'a, F32>,
    /// 1/√(σ² + ε) of the row.
    pub inverse: Reg<'a, F32>,
}

impl<'a> Moments<'a> {
    /// Computes them in two passes over a row of `cols` columns.
    pub fn of<M: Fn(Reg<'a, U32>) -> Vec<Reg<'a, F32>>>(
        row: &Row<'a>,
        x: &Kept<'a, M>,
        cols: u32,
        eps: Reg<'a, F32>,
    ) -> Self {
        let share = 1.0 / cols as f32;
        let [sum] = row.sums(|vector| [x.of(vector)]);
        let near = sum * share;
        let [sum, squares] = row.sums(|vector| {
            let far: Vec<_> = x.of(vector).into_iter().map(|x| x - near).collect();
            let squares = far.iter().map(|&d| d * d).collect();
            [far, squares]
        });
        let rest = sum * share;
        let variance = ((-rest).mad(sum, squares) * share).max_nan(0.0);
        Self { near, rest, inverse: (variance + eps).sqrt().reciprocal() }
    }

    /// x̂ = (x − μ)/√(σ² + ε).
    pub fn normal(self, x: Reg<'a, F32>) -> Reg<'a, F32> {
        (x - self.near - self.rest) * self.inverse
    }

    /// The mean μ in f32.
    pub fn mean(self) -> Reg<'a, F32> {
        self.near + self.rest
    }
}

/// The kernel that computes y.
pub(super) fn kernel<T: Real>(spec: LayerNorm, target: Target) -> Kernel {
    let LayerNorm { rows, cols } = spec;
    let shape = Rows::new(rows, cols, WIDEST);
    let launch = shape.launch(Launch::new(FAMILY, spec.name::<T>("forward"), target));
    let work = Work {
        bytes: spec.elements() * 2 * u64::from(T::BYTES) + 8 * u64::from(cols),
        operations: spec.elements() * 10,
    };
    Asm::kernel(launch, work, "y = gamma*(x - mean)/sqrt(variance + eps) + beta of each row", |asm| {
        let (x, gamma, beta) =
            (asm.pointer::<T>("x"), asm.pointer::<F32>("gamma"), asm.pointer::<F32>("beta"));
        let (y, eps) = (asm.pointer::<T>("y"), asm.parameter_f32("eps"));
        let (row, width) = (shape.row(asm), shape.width);
        let start = row.number * cols;
        let x = row.keep(|col| load_all(x.at(start + col), width));
        let moments = Moments::of(&row, &x, cols, eps);
        asm.step("y");
        row.each_own(|vector| {
            let [gamma, beta] = [gamma, beta].map(|array| load_all(array.at(vector.col), width));
            let x = x.of(vector).into_iter();
            let values = x.zip(gamma.into_iter().zip(beta)).map(|(x, (g, b))| moments.normal(x).mad(g, b));
            store_all(y.at(start + vector.col), &values.collect::<Vec<_>>());
        });
    })
}
