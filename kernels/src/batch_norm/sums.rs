//! The gradients of γ and β; the gradient of x needs the same sums.

use super::{FAMILY, Mode, check, fused, masked};
use crate::{
    Kernel, Result, Target, Work,
    ptx::{Asm, F32, Launch},
    reduce::Columns,
    span::{Real, load_all, load_each},
};

/// Rows that are loaded together.
const BATCH: u32 = 4;

/// dβ = Σg and dγ = Σg·x̂ of each channel of a matrix [rows, cols].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sums {
    /// Number of rows, N·H·W.
    pub rows: u32,
    /// Number of channels C, the size of the last axis.
    pub cols: u32,
    /// Whether max(·, 0) followed: g is dy where y > 0.
    pub relu: bool,
}

impl Sums {
    fn columns(self) -> Columns {
        Columns::new(self.rows, self.cols)
    }

    /// Size of the workspace between the two kernels in bytes; 0 for unsupported sizes.
    pub fn workspace_bytes(self) -> u64 {
        check(self.rows, self.cols)
            .map_or(0, |()| u64::from(self.columns().order.splits) * 2 * u64::from(self.cols) * 4)
    }

    /// sums[s, :, c] = (Σg, Σg·(x − μ)) of piece s of channel c. Parameters: dy; x; y with a ReLU; mean, sums (f32;
    /// sums is the workspace). Reads dy, x and y once, with 4 operations per element: bound by memory.
    ///
    /// # Errors
    /// No rows, no channels, more than 2²⁰ channels, 2³¹ elements or more.
    pub fn partials<T: Real>(self, target: Target) -> Result<Kernel> {
        let Self { rows, cols, relu } = self;
        check(rows, cols)?;
        let columns = self.columns();
        let name = format!("batch_norm_sums{}_{}_{rows}x{cols}", fused(relu, false), T::SPELLED);
        let elements = u64::from(rows) * u64::from(cols);
        let work = Work {
            bytes: elements * (2 + u64::from(relu)) * u64::from(T::BYTES)
                + 4 * u64::from(cols)
                + self.workspace_bytes(),
            operations: 4 * elements,
        };
        let launch = columns.launch(Launch::new(FAMILY, name, target));
        Ok(Asm::kernel(launch, work, "(sum g, sum g*(x - mean)) of pieces", |asm| {
            let (dy, x) = (asm.pointer::<T>("dy"), asm.pointer::<T>("x"));
            let y = relu.then(|| asm.pointer::<T>("y"));
            let (mean, sums) = (asm.pointer::<F32>("mean"), asm.pointer::<F32>("sums"));
            let (share, width) = (columns.share(asm), columns.order.width);
            let found = share.accumulators::<2>();
            let means: Vec<_> = (0..width).map(|_| asm.var::<F32>(0.0)).collect();
            asm.if_(share.col.lt(cols), || {
                let loaded = load_all(mean.at(share.col), width);
                means.iter().zip(loaded).for_each(|(to, mean)| to.set(mean));
            });
            share.each_batch(BATCH, |rows| {
                let places: Vec<_> = rows.iter().map(|row| row.mad(cols, share.col)).collect();
                let load = |array| load_each::<T>(array, &places, width);
                let (dys, xs) = (load(dy), load(x));
                let ys = y.map(load).unwrap_or_default();
                for (i, (dy, x)) in dys.into_iter().zip(xs).enumerate() {
                    let g = ys.get(i).map_or_else(|| dy.clone(), |y| masked(asm, &dy, y));
                    for (j, ([sum, product], mean)) in found.iter().zip(&means).enumerate() {
                        sum.add(g[j]);
                        product.add_product(g[j], x[j] - *mean);
                    }
                }
            });
            share.fold_sums(&found, |col, pair| share.store_result(sums, col, pair));
        }))
    }

    /// From the sums: dγ[c] = Σg·(x − μ)/√(σ² + ε), dβ[c] = Σg. Parameters: sums, and inverse (1/√(σ² + ε)) in training
    /// or variance (σ²) in evaluation, dgamma, dbeta (all f32), eps (f32, at the launch). The kernel is the same with
    /// and without a ReLU.
    ///
    /// # Errors
    /// As [`Sums::partials`].
    pub fn finish(self, mode: Mode, target: Target) -> Result<Kernel> {
        let Self { rows, cols, .. } = self;
        check(rows, cols)?;
        let columns = self.columns().results();
        let name = format!("batch_norm_sums_finish_{}_{rows}x{cols}", mode.name());
        let work = Work {
            bytes: self.workspace_bytes() + 12 * u64::from(cols),
            operations: 2 * u64::from(columns.rows) * u64::from(cols),
        };
        let launch = columns.launch(Launch::new(FAMILY, name, target));
        Ok(Asm::kernel(launch, work, "the gradients of gamma and beta", |asm| {
            let (sums, spread) = (asm.pointer::<F32>("sums"), mode.spread(asm));
            let [dgamma, dbeta] = ["dgamma", "dbeta"].map(|name| asm.pointer::<F32>(name));
            let eps = asm.parameter_f32("eps");
            columns.share(asm).sum_results(sums, |col, [sum, product]| {
                dbeta.at(col).store(sum);
                dgamma.at(col).store(product * mode.inverse(spread.at(col).load(), eps));
            });
        }))
    }
}
