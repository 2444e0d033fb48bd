//! dγ and dβ: sums over the rows of pieces, and then over the pieces if there are several.

use super::{FAMILY, LayerNorm, Parameters};
use crate::{
    Kernel, Target, Work,
    ptx::{Asm, F32, Launch, Reg, U32},
    reduce::Columns,
    span::{Real, load_each},
};

/// Rows that a thread loads at once.
const BATCH: u32 = 4;

/// Elements of the workspace for the pieces' results, [pieces, 2, cols].
pub(super) fn workspace(spec: LayerNorm) -> u64 {
    let splits = columns(spec).order.splits;
    if splits > 1 { u64::from(splits) * 2 * u64::from(spec.cols) } else { 0 }
}

fn columns(spec: LayerNorm) -> Columns {
    Columns::new(spec.rows, spec.cols)
}

/// One kernel for the pieces, and one for the sum of their results.
pub(super) fn kernels<T: Real>(spec: LayerNorm, target: Target) -> impl Iterator<Item = Kernel> {
    let split = columns(spec).order.splits > 1;
    std::iter::once(pieces::<T>(spec, target)).chain(split.then(|| finish::<T>(spec, target)))
}

/// Σdy and Σdy·x̂ of each column of a piece.
fn pieces<T: Real>(spec: LayerNorm, target: Target) -> Kernel {
    let LayerNorm { rows, cols } = spec;
    let columns = columns(spec);
    let work = Work {
        bytes: spec.elements() * 2 * u64::from(T::BYTES)
            + 8 * u64::from(rows)
            + 8 * u64::from(columns.order.splits) * u64::from(cols),
        operations: spec.elements() * 5,
    };
    let launch = columns.launch(Launch::new(FAMILY, spec.name::<T>("sums"), target));
    Asm::kernel(launch, work, "dbeta = sum dy and dgamma = sum dy*xhat, or pieces of them", |asm| {
        let p = Parameters::<T>::declare(asm);
        let (share, width) = (columns.share(asm), columns.order.width);
        let sums = share.accumulators::<2>();
        share.each_batch(BATCH, |rows| {
            let places: Vec<_> = rows.iter().map(|row| row.mad(cols, share.col)).collect();
            let (xs, dys) = (load_each(p.x, &places, width), load_each(p.dy, &places, width));
            let statistics: Vec<_> =
                rows.iter().map(|&row| p.workspace.at(row * 2).load_vector::<2>()).collect();
            for ((x, dy), [mean, inverse]) in xs.into_iter().zip(dys).zip(statistics) {
                for ([sum, product], (x, dy)) in sums.iter().zip(x.into_iter().zip(dy)) {
                    sum.add(dy);
                    product.add_product(dy, (x - mean) * inverse);
                }
            }
        });
        share.fold_sums(&sums, |col, pair| {
            if columns.order.splits > 1 {
                share.store_result(p.workspace.plus(spec.statistics() as i64), col, pair);
            } else {
                p.done(col, pair);
            }
        });
    })
}

/// The sum of the pieces' results.
fn finish<T: Real>(spec: LayerNorm, target: Target) -> Kernel {
    let columns = columns(spec).results();
    let read = u64::from(columns.rows) * 2 * u64::from(spec.cols);
    let work = Work { bytes: 4 * read + 8 * u64::from(spec.cols), operations: read };
    let launch = columns.launch(Launch::new(FAMILY, spec.name::<T>("sums_finish"), target));
    Asm::kernel(launch, work, "dbeta and dgamma: their pieces added up", |asm| {
        let p = Parameters::<T>::declare(asm);
        let from = p.workspace.plus(spec.statistics() as i64);
        columns.share(asm).sum_results(from, |col, pair| p.done(col, pair));
    })
}

impl<'a, T: Real> Parameters<'a, T> {
    /// Writes the sums of a column.
    fn done(&self, col: Reg<'a, U32>, [sum, product]: [Reg<'a, F32>; 2]) {
        self.dbeta.at(col).store(sum);
        self.dgamma.at(col).store(product);
    }
}
