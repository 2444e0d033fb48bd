//! Reductions of each column of a matrix to one number.

use super::{BLOCK, Columns, Reduce, Stage, Step};
use crate::{
    Kernel, Plan, Target, Work,
    ptx::{Asm, F32, Var},
    span::{Real, access_width, load_each},
};

/// The widest access in elements: a thread has as many accumulators, and shared memory stays free of bank conflicts.
const WIDEST: u32 = 4;

/// Fewest rows per thread before the rows are split.
const LEAST_ROUNDS: u32 = 4;

/// Target number of blocks, enough to occupy any GPU; rows are not split further.
const MOST_BLOCKS: u32 = 512;

/// Loads that a thread issues at once.
const UNROLL: u32 = 8;

/// The order in which columns are folded, which depends on the shape alone.
///
/// The matrix is extended by rows of zeros. Piece s holds the `down·rounds` rows from `s·down·rounds` on. In it, thread
/// d of a column has an accumulator, 0 at first, that folds rows `i·down + d` for i = 0, 1, …, `rounds` − 1 in this
/// order. The `32 / across` threads d of a warp (those with the same d·across / 32) fold as lanes that agree modulo
/// `across`, [`Asm::lanes_fold`]`(across, 32)`; then the 8 warps in order, ((w₀ ∘ w₁) ∘ w₂) ∘ …. If there are several
/// pieces, their results, a matrix [splits, cols], are folded likewise in the order [`ColOrder::second`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ColOrder {
    /// Number of columns per access.
    pub width: u32,
    /// Threads along the columns: a power of two up to 32.
    pub across: u32,
    /// Threads per column, 256 / across.
    pub down: u32,
    /// Number of pieces of the rows.
    pub splits: u32,
    /// Number of rows per thread.
    pub rounds: u32,
}

impl ColOrder {
    /// The order for the matrix itself.
    pub fn new(rows: u32, cols: u32) -> Self {
        let order = Self::whole(rows, cols, 32);
        let most = (MOST_BLOCKS / order.blocks(cols)).max(1);
        let splits = rows.div_ceil(order.down * LEAST_ROUNDS).clamp(1, most);
        let rounds = rows.div_ceil(splits).div_ceil(order.down).max(1);
        Self { splits: rows.div_ceil(order.down * rounds).max(1), rounds, ..order }
    }

    /// The order for the pieces' results: fewer threads along the columns, so that more of them share the rows.
    pub fn second(splits: u32, cols: u32) -> Self {
        Self::whole(splits, cols, 8)
    }

    fn whole(rows: u32, cols: u32, most_across: u32) -> Self {
        let width = access_width(cols, WIDEST);
        let across = cols.div_ceil(width).clamp(1, most_across).next_power_of_two();
        let down = BLOCK / across;
        Self { width, across, down, splits: 1, rounds: rows.div_ceil(down) }
    }

    /// Number of blocks along the columns.
    fn blocks(self, cols: u32) -> u32 {
        cols.div_ceil(self.across * self.width).max(1)
    }
}

/// The kernels for a matrix, see [`Reduce::over_cols`].
pub(super) fn plan<T: Real>(whole: Reduce, target: Target) -> Plan {
    let Reduce { rows, cols, .. } = whole;
    let order = ColOrder::new(rows, cols);
    let split = order.splits > 1;
    let stage = if split { Stage::First } else { Stage::Only };
    let first = Step { whole, stage, rows, cols, terms: rows };
    let second = Step { stage: Stage::Second, rows: order.splits, ..first };
    let second =
        split.then(|| kernel::<F32>(second, ColOrder::second(order.splits, cols), T::SPELLED, target));
    Plan {
        kernels: std::iter::once(kernel::<T>(first, order, T::SPELLED, target)).chain(second).collect(),
        workspace_bytes: if split { u64::from(order.splits) * u64::from(cols) * 4 } else { 0 },
    }
}

/// y[s, c] = piece s of column c. Reads every element once, up to 4 of a row per access, contiguous across threads.
fn kernel<T: Real>(step: Step, order: ColOrder, spelled: &str, target: Target) -> Kernel {
    let Step { rows, cols, .. } = step;
    let columns = Columns { rows, cols, order };
    let elements = u64::from(rows) * u64::from(cols);
    let bytes = elements * u64::from(T::BYTES) + u64::from(order.splits) * u64::from(cols) * 4;
    let work = Work { bytes, operations: elements };
    let launch = columns.launch(step.launch("cols", spelled, target));
    Asm::kernel(launch, work, "y[c] = the fold of x[r, c] over r", |asm| {
        let (x, y) = (asm.pointer::<T>("x"), asm.pointer::<F32>("y"));
        asm.step("a thread for each vector of columns and each row of a round");
        let share = columns.share(asm);
        let sums = share.accumulators::<1>();
        share.each_batch(UNROLL, |rows| {
            let places: Vec<_> = rows.iter().map(|row| row.mad(cols, share.col)).collect();
            for vector in load_each(x, &places, order.width) {
                vector.into_iter().zip(&sums).for_each(|(x, [sum])| step.fold().onto(*sum, step.lift(x)));
            }
        });
        let mine = sums.iter().map(|sum| sum.map(Var::get)).collect();
        let both = |[a]: [_; 1], [b]: [_; 1]| [step.fold().of(a, b)];
        share.fold(mine, both, |col, [sum]| step.store(asm, y.at(share.piece.mad(cols, col)), sum));
    })
}
