//! Sums, means, largest magnitudes and finite checks: of a whole array, of the rows or of the columns of a matrix
//! [rows, cols]. Elements are f16 or f32, and all folding is in f32.
//!
//! There are no atomics, and the order of folding depends on the shape and the element type alone ([`RowOrder`],
//! [`ColOrder`]): every run gives the same bits. If one kernel would not occupy the GPU, a first kernel folds pieces
//! into a workspace and a second one folds these. Each kernel has two parameters: its source x and its destination y. A
//! single kernel reads the input and writes the results; the first of two writes the workspace, and the second reads
//! it.

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

/// Number of threads per block.
const BLOCK: u32 = 256;

/// A function that is applied to each element before folding.
type Lift = for<'a> fn(Reg<'a, F32>) -> Reg<'a, F32>;

/// A reduction: `lift` is applied to every element, the results are folded starting from 0, and `finish` is applied at
/// the end.
#[derive(Debug, Clone, Copy)]
pub struct Reduction {
    /// Prefix of the kernels' names.
    pub name: &'static str,
    /// Applied to each element.
    pub lift: Lift,
    /// Combines two values into one.
    pub fold: Fold,
    /// Applied to the folded value.
    pub finish: Finish,
}

/// The last step of a reduction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// Stores the value as f32.
    AsIs,
    /// Multiplies by 1/(number of terms), rounded to f32; stores f32.
    Mean,
    /// Stores u32: 1 for NaN, 0 otherwise.
    IsNan,
}

/// All reductions, for tables and tests.
pub const REDUCTIONS: [Reduction; 4] = [SUM, MEAN, MAX_ABS, NON_FINITE];

/// Σ x.
pub const SUM: Reduction = Reduction { name: "sum", lift: |x| x, fold: Fold::Sum, finish: Finish::AsIs };

/// Σ x / n; 0 for an empty array.
pub const MEAN: Reduction = Reduction { name: "mean", finish: Finish::Mean, ..SUM };

/// max |x|; NaN if any element is NaN, 0 for an empty array.
pub const MAX_ABS: Reduction =
    Reduction { name: "max_abs", lift: |x| x.abs(), fold: Fold::Max, finish: Finish::AsIs };

/// 1 if any element is infinite or NaN, 0 otherwise, as u32. 0·x is NaN for such elements and 0 for all others.
pub const NON_FINITE: Reduction =
    Reduction { name: "non_finite", lift: |x| x * 0.0, fold: Fold::Sum, finish: Finish::IsNan };

/// A reduction of a matrix [rows, cols] of fewer than 2³² elements.
#[derive(Debug, Clone, Copy)]
pub struct Reduce {
    /// The reduction of the elements.
    pub reduction: Reduction,
    /// Rows of the matrix: the product of all axes but the last.
    pub rows: u32,
    /// Columns of the matrix: the size of the last axis.
    pub cols: u32,
    /// Whether the results are folded onto the output's contents instead of replacing them: old + new for sums and
    /// means, the larger one for magnitudes, old or new for flags.
    pub onto: bool,
}

impl Reduce {
    /// Reduces each row to one number: y[r] = ⨀ x[r, c] over c, in the order of [`RowOrder`].
    pub fn over_rows<T: Real>(self, target: Target) -> Plan {
        rows::plan::<T>(self, target)
    }

    /// Reduces each column to one number: y[c] = ⨀ x[r, c] over r, in the order of [`ColOrder`].
    pub fn over_cols<T: Real>(self, target: Target) -> Plan {
        cols::plan::<T>(self, target)
    }
}

/// Reduces a whole array of n elements to one number, as a matrix of one row.
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

/// The position of a kernel in a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// From the input to the results.
    Only,
    /// From the input to the workspace.
    First,
    /// From the workspace to the results.
    Second,
}

/// A kernel of a plan: its position in the plan, and the matrix [rows, cols] that it reads.
#[derive(Clone, Copy)]
struct Step {
    whole: Reduce,
    stage: Stage,
    rows: u32,
    cols: u32,
    /// Number of terms of a mean.
    terms: u32,
}

impl Step {
    /// The kernel's name and family: `over` is rows or columns, `spelled` the element type.
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

    /// `lift` of an element; the workspace's values are lifted already.
    fn lift<'a>(self, x: Reg<'a, F32>) -> Reg<'a, F32> {
        if self.stage == Stage::Second { x } else { (self.whole.reduction.lift)(x) }
    }

    /// Applies `finish` to a folded value and stores it.
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

/// The kernels of this family at sizes of the model, and at one odd size each.
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
