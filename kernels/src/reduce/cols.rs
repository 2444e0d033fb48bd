//! Each column of a matrix to one number.

use super::{BLOCK, Plan, Reduce, Stage, Step};
use crate::{
    Kernel, Target, Work,
    ptx::{Asm, F32, Global, Reg, U32, Var},
    span::{Real, access_width},
};

/// Warps of a block.
const WARPS: u32 = BLOCK / 32;

/// The widest access: a thread has as many accumulators, and the block's shared memory stays free of bank conflicts.
const WIDEST: u32 = 4;

/// The fewest rows a thread for which the rows are split.
const LEAST_ROUNDS: u32 = 4;

/// Blocks that keep any machine busy; the rows are not split further.
const MOST_BLOCKS: u32 = 512;

/// Loads that a thread has under way at once.
const UNROLL: u32 = 8;

/// The order in which columns are folded, from the shape alone.
///
/// The matrix is as if rows of zeros followed it. Piece s holds the `down·rounds` rows from `s·down·rounds` on. In it,
/// thread d of a column has an accumulator, 0 at first, that folds rows `i·down + d` for i = 0, 1, …, `rounds` − 1 in this
/// order. The `32 / across` threads d of a warp (those with the same d·across / 32) fold as lanes that agree modulo
/// `across`, [`Asm::lanes_fold`]`(across, 32)`; then the 8 warps in order, ((w₀ ∘ w₁) ∘ w₂) ∘ …. With more than one piece
/// their results, a matrix [splits, cols], are folded likewise in the order [`ColOrder::second`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ColOrder {
    /// Columns of an access.
    pub width: u32,
    /// Threads side by side: a power of two up to 32.
    pub across: u32,
    /// Threads of a column, 256 / across.
    pub down: u32,
    /// Pieces of the rows.
    pub splits: u32,
    /// Rows of a thread.
    pub rounds: u32,
}

impl ColOrder {
    /// For the matrix itself.
    pub fn new(rows: u32, cols: u32) -> Self {
        let order = Self::whole(rows, cols, 32);
        let most = (MOST_BLOCKS / order.blocks(cols)).max(1);
        let splits = rows.div_ceil(order.down * LEAST_ROUNDS).clamp(1, most);
        let rounds = rows.div_ceil(splits).div_ceil(order.down).max(1);
        Self { splits: rows.div_ceil(order.down * rounds).max(1), rounds, ..order }
    }

    /// For the results of its pieces: fewer threads side by side, so that more of them share the rows.
    pub fn second(splits: u32, cols: u32) -> Self {
        Self::whole(splits, cols, 8)
    }

    fn whole(rows: u32, cols: u32, most_across: u32) -> Self {
        let width = access_width(cols, WIDEST);
        let across = cols.div_ceil(width).clamp(1, most_across).next_power_of_two();
        let down = BLOCK / across;
        Self { width, across, down, splits: 1, rounds: rows.div_ceil(down) }
    }

    /// Blocks side by side.
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
    Plan {
        first: kernel::<T>(first, order, T::SPELLED, target),
        second: split
            .then(|| kernel::<F32>(second, ColOrder::second(order.splits, cols), T::SPELLED, target)),
        workspace_bytes: if split { u64::from(order.splits) * u64::from(cols) * 4 } else { 0 },
    }
}

/// y[s, c] = piece s of column c. Reads every element once, up to 4 of a row an access, side by side.
fn kernel<T: Real>(step: Step, order: ColOrder, spelled: &str, target: Target) -> Kernel {
    let Step { rows, cols, .. } = step;
    let ColOrder { width, across, down, splits, rounds } = order;
    let columns = across * width;
    let launch =
        step.launch("cols", spelled, target).block([BLOCK, 1, 1]).grid([order.blocks(cols), splits, 1]);
    let elements = u64::from(rows) * u64::from(cols);
    let bytes = elements * u64::from(T::BYTES) + u64::from(splits) * u64::from(cols) * 4;
    Asm::kernel(launch, Work { bytes, operations: elements }, "y[c] = the fold of x[r, c] over r", |k| {
        let (x, y) = (k.pointer::<T>("x"), k.pointer::<F32>("y"));
        k.step("a thread for each vector of columns and each row of a round");
        let thread = k.thread(0);
        let (row, lane) = k.divide(thread, across);
        let first_col = k.block(0) * columns;
        let (split, col) = (k.block(1), lane.mad(width, first_col));
        let mine = Mine { k, step, order, row, first: split.mad(down * rounds, row), at: x.at(col) };
        let sums: Vec<_> = (0..width).map(|_| k.var::<F32>(0.0)).collect();
        k.if_(col.lt(cols), || mine.fold_piece(split, &sums));

        k.step("the rows of a warp, then the warps");
        let folded = sums.iter().map(|sum| k.lanes_fold(step.fold(), sum.get(), across, 32));
        let folded: Vec<_> = folded.collect();
        let slots = k.shared::<F32>(WARPS * columns);
        let slot = (thread >> 5).mad(columns, lane * width);
        k.if_(k.lane().lt(across), || match folded[..] {
            [a, b, c, d] => slots.at(slot).store_vector([a, b, c, d]),
            [a, b] => slots.at(slot).store_vector([a, b]),
            _ => slots.at(slot).store(folded[0]),
        });
        k.barrier();
        let col = first_col + thread;
        k.if_(thread.lt(columns) & col.lt(cols), || {
            let at = slots.at(thread);
            let warps = (0..WARPS).map(|w| at.plus((w * columns).into()).load());
            if let Some(sum) = warps.reduce(|a, b| step.fold().of(a, b)) {
                step.store(k, y.at(split.mad(cols, col)), sum);
            }
        });
    })
}

/// A thread's part of a piece.
struct Mine<'k, T: Real> {
    k: &'k Asm,
    step: Step,
    order: ColOrder,
    /// Its row of a round.
    row: Reg<'k, U32>,
    /// Its first row of the matrix.
    first: Reg<'k, U32>,
    /// Its columns in the first row of the matrix.
    at: Global<'k, T>,
}

impl<'k, T: Real> Mine<'k, T> {
    fn fold_piece(&self, split: Reg<'k, U32>, sums: &[Var<'k, F32>]) {
        let ColOrder { down, splits, rounds, .. } = self.order;
        // What is left for the last piece: whole rounds, then a part of one.
        let left = self.step.rows - (splits - 1) * rounds * down;
        let (whole, part) = (left / down, left % down);
        let last = || {
            self.rounds(whole, sums);
            if part > 0 {
                self.k.if_(self.row.lt(part), || self.fold(self.first + whole * down, 1, sums));
            }
        };
        if splits > 1 && whole < rounds {
            self.k.if_else(split.lt(splits - 1), || self.rounds(rounds, sums), last);
        } else {
            last();
        }
    }

    /// `count` rounds in which every thread has its row.
    fn rounds(&self, count: u32, sums: &[Var<'k, F32>]) {
        let down = self.order.down;
        let unrolled = count / UNROLL * UNROLL;
        if unrolled == UNROLL {
            self.fold(self.first, UNROLL, sums);
        } else if unrolled > 0 {
            self.k.for_range(0, unrolled * down, UNROLL * down, |r| self.fold(self.first + r, UNROLL, sums));
        }
        if count > unrolled {
            self.fold(self.first + unrolled * down, count - unrolled, sums);
        }
    }

    /// `count` of the thread's rows from `row` on.
    fn fold(&self, row: Reg<'k, U32>, count: u32, sums: &[Var<'k, F32>]) {
        let ColOrder { width, down, .. } = self.order;
        let vector = |i| T::load(self.at.at((row + i * down) * self.step.cols), width);
        let vectors: Vec<_> = (0..count).map(vector).collect();
        for (&x, &sum) in vectors.iter().flat_map(|vector| vector.iter().zip(sums)) {
            self.step.fold().onto(sum, self.step.lift(x));
        }
    }
}
