//! Sums, means, largest magnitudes and finite checks: of a whole array, of the rows and of the columns of a matrix
//! [rows, cols]. Elements are f16 or f32, everything is folded in f32.
//!
//! There are no atomics, and the order of folding follows from the shape and the element type alone: the same bits on
//! every run. It is stated at [`RowOrder`] and [`ColOrder`]. Where one kernel would leave the machine idle, a first one
//! folds pieces into a workspace and a second one folds those. Each kernel has two parameters: where it reads, x, and where
//! it writes, y. A kernel that is alone reads the input and writes the results; the first of two writes the workspace,
//! which the second reads.

mod cols;
mod rows;
mod walk;

pub use cols::ColOrder;
pub use rows::RowOrder;
pub(crate) use walk::Columns;

use crate::{
    Kernel, Plan, Target,
    ptx::{Asm, F16, F32, Global, Launch, Reg, U32},
    span::Real,
    tile::reduce::Fold,
};

/// Family of these kernels: the start of their names.
const FAMILY: &str = "reduce";

/// Threads of a block.
const BLOCK: u32 = 256;

/// What becomes of a number on its way into a reduction.
type Lift = for<'a> fn(Reg<'a, F32>) -> Reg<'a, F32>;

/// A reduction: every element is lifted, the lifted ones are folded from 0 on, and the end is finished.
#[derive(Debug, Clone, Copy)]
pub struct Reduction {
    /// Name that starts the kernels' names.
    pub name: &'static str,
    /// What an element becomes.
    pub lift: Lift,
    /// How two become one.
    pub fold: Fold,
    /// What the last one becomes.
    pub finish: Finish,
}

/// What becomes of the folded value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// Written as f32.
    AsIs,
    /// Multiplied by 1/(number of terms), rounded to f32; written as f32.
    Mean,
    /// Written as u32: 1 for NaN, 0 for anything else.
    IsNan,
}

/// Every reduction.
pub const REDUCTIONS: [Reduction; 4] = [SUM, MEAN, MAX_ABS, NON_FINITE];

/// Σ x.
pub const SUM: Reduction = Reduction { name: "sum", lift: |x| x, fold: Fold::Sum, finish: Finish::AsIs };

/// Σ x / n; 0 of nothing.
pub const MEAN: Reduction = Reduction { name: "mean", finish: Finish::Mean, ..SUM };

/// max |x|; NaN where there is one, 0 of nothing.
pub const MAX_ABS: Reduction =
    Reduction { name: "max_abs", lift: |x| x.abs(), fold: Fold::Max, finish: Finish::AsIs };

/// 1 where any element is infinite or NaN, 0 otherwise, as u32. 0·x is NaN for those and 0 for all others.
pub const NON_FINITE: Reduction =
    Reduction { name: "non_finite", lift: |x| x * 0.0, fold: Fold::Sum, finish: Finish::IsNan };

/// What is reduced: a matrix [rows, cols] of fewer than 2³² elements.
#[derive(Debug, Clone, Copy)]
pub struct Reduce {
    /// Operation that folds the elements.
    pub reduction: Reduction,
    /// Rows of the matrix: the product of all axes but the last.
    pub rows: u32,
    /// Columns of the matrix: the size of the last axis.
    pub cols: u32,
    /// Whether the results are folded onto what the output holds, instead of replacing it: old + new of sums and means,
    /// the larger one of magnitudes, old or new of flags.
    pub onto: bool,
}

impl Reduce {
    /// Each row to one number: y[r] = ⨀ x[r, c] over c, in the order of [`RowOrder`].
    pub fn over_rows<T: Real>(self, target: Target) -> Plan {
        rows::plan::<T>(self, target)
    }

    /// Each column to one number: y[c] = ⨀ x[r, c] over r, in the order of [`ColOrder`].
    pub fn over_cols<T: Real>(self, target: Target) -> Plan {
        cols::plan::<T>(self, target)
    }
}

/// A whole array of n elements to one number, as a matrix of one row.
pub fn whole<T: Real>(reduction: Reduction, n: u32, target: Target) -> Plan {
    Reduce { reduction, rows: 1, cols: n, onto: false }.over_rows::<T>(target)
}

/// Σ of each row of [rows, cols].
pub fn row_sums<T: Real>(rows: u32, cols: u32, target: Target) -> Plan {
    Reduce { reduction: SUM, rows, cols, onto: false }.over_rows::<T>(target)
}

/// Σ of each column of [rows, cols]: the derivative of a bias.
pub fn col_sums<T: Real>(rows: u32, cols: u32, target: Target) -> Plan {
    Reduce { reduction: SUM, rows, cols, onto: false }.over_cols::<T>(target)
}

/// Which part of a plan a kernel is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// From the input to the results.
    Only,
    /// From the input to the workspace.
    First,
    /// From the workspace to the results.
    Second,
}

/// A kernel of a plan: its part of the whole, and the matrix [rows, cols] that it reads itself.
#[derive(Clone, Copy)]
struct Step {
    whole: Reduce,
    stage: Stage,
    rows: u32,
    cols: u32,
    /// Terms of a mean.
    terms: u32,
}

impl Step {
    /// The kernel's name and family: `over` what, for elements `spelled` so.
    fn launch(self, over: &str, spelled: &str, target: Target) -> Launch {
        let Reduce { reduction, rows, cols, onto } = self.whole;
        let onto = if onto { "_onto" } else { "" };
        let stage = match self.stage {
            Stage::Only => "",
            Stage::First => "_first",
            Stage::Second => "_second",
        };
        let name = format!("{}_{over}_{}_{rows}x{cols}{onto}{stage}", reduction.name, spelled);
        Launch::new(FAMILY, name, target)
    }

    fn fold(self) -> Fold {
        self.whole.reduction.fold
    }

    /// What an element becomes; the workspace's have been lifted.
    fn lift<'a>(self, x: Reg<'a, F32>) -> Reg<'a, F32> {
        if self.stage == Stage::Second { x } else { (self.whole.reduction.lift)(x) }
    }

    /// Writes a folded value.
    fn store<'a>(self, asm: &'a Asm, at: Global<'a, F32>, value: Reg<'a, F32>) {
        if self.stage == Stage::First {
            return at.store(value);
        }
        let onto = self.whole.onto;
        let joined = |value| if onto { self.fold().of(at.load(), value) } else { value };
        match self.whole.reduction.finish {
            Finish::AsIs => at.store(joined(value)),
            Finish::Mean => at.store(joined(value * (1.0 / self.terms.max(1) as f32))),
            Finish::IsNan => {
                let at = at.cast::<U32>();
                let flag = asm.select::<U32>(value.ne(value), 1, 0);
                at.store(if onto { at.load() | flag } else { flag });
            }
        }
    }
}

/// The kernels of this family at sizes that the model has, and at an odd one each.
pub fn catalogue(target: Target) -> Vec<Kernel> {
    let mut plans = Vec::new();
    // The first feature maps of `base`, its parameters, a size with a tail.
    for n in [160 * 64 * 64 * 64, 230_000_000, 1003] {
        for reduction in REDUCTIONS {
            plans.extend([whole::<F16>(reduction, n, target), whole::<F32>(reduction, n, target)]);
        }
    }
    // Latents, the Mamba layers' sequences, feature maps by channel, an odd matrix.
    for (rows, cols) in [(160, 16_384), (1600, 1024), (160 * 64 * 64, 64), (7, 33)] {
        plans.extend([row_sums::<F16>(rows, cols, target), row_sums::<F32>(rows, cols, target)]);
        plans.extend([col_sums::<F16>(rows, cols, target), col_sums::<F32>(rows, cols, target)]);
        let onto = Reduce { reduction: SUM, rows, cols, onto: true };
        plans.push(onto.over_cols::<F16>(target));
    }
    plans.into_iter().flat_map(|plan| plan.kernels).collect()
}
