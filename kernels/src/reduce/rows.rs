//! Reductions of each row of a matrix to one number.

use super::{BLOCK, Reduce, Stage, Step};
use crate::{
    Kernel, Plan, Target, Work,
    ptx::{Asm, F32, Global, Reg, U32, Var},
    span::{Real, access_width},
};

/// Most vectors per lane for which one warp folds a row.
const VECTORS_A_LANE: u32 = 8;

/// Fewest vectors per thread before a row is split.
const LEAST_ROUNDS: u32 = 4;

/// Target number of blocks, enough to occupy any GPU; rows are not split further.
const MOST_BLOCKS: u32 = 1024;

/// Loads that a thread issues at once.
const UNROLL: u32 = 4;

/// The order in which a row is folded, which depends on the shape and the element type alone.
///
/// The row is extended by zeros. Piece s holds the `team·width·rounds` elements from `s·team·width·rounds` on. In it,
/// thread t of a team keeps `width` accumulators, all 0 at first; accumulator j folds elements `(i·team + t)·width + j`
/// for i = 0, 1, …, `rounds` − 1 in this order. Then a thread folds its accumulators pairwise
/// ([`Fold::pairwise`](crate::tile::reduce::Fold::pairwise)), and the team folds: lanes as in [`Asm::lanes_fold`]`(1,
/// min(team, 32))`, a team of more than a warp as in [`Asm::block_fold`]. If there are several pieces, the row of their
/// results is folded likewise, in the order `RowOrder::new(rows, splits, 4)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowOrder {
    /// Number of elements per access.
    pub width: u32,
    /// Threads that fold a piece together: a power of two up to 32, or a block of 256.
    pub team: u32,
    /// Number of pieces per row.
    pub splits: u32,
    /// Number of accesses per thread.
    pub rounds: u32,
}

impl RowOrder {
    /// The order for elements of which `vector` are 16 bytes.
    pub fn new(rows: u32, cols: u32, vector: u32) -> Self {
        // A single row may have a tail; with several rows, each must begin at an aligned address.
        let width = if rows <= 1 { vector } else { access_width(cols, vector) };
        let vectors = cols.div_ceil(width).max(1);
        let in_warp = vectors <= 32 * VECTORS_A_LANE;
        let team = if in_warp { vectors.next_power_of_two().min(32) } else { BLOCK };
        let most = if in_warp { 1 } else { (MOST_BLOCKS / rows.max(1)).max(1) };
        let splits = vectors.div_ceil(team * LEAST_ROUNDS).clamp(1, most);
        let rounds = vectors.div_ceil(splits).div_ceil(team);
        Self { width, team, splits: vectors.div_ceil(team * rounds), rounds }
    }

    /// Elements that a team reads per round.
    fn step(self) -> u32 {
        self.team * self.width
    }
}

/// The kernels for a matrix, see [`Reduce::over_rows`].
pub(super) fn plan<T: Real>(whole: Reduce, target: Target) -> Plan {
    let Reduce { rows, cols, .. } = whole;
    let order = RowOrder::new(rows, cols, T::VECTOR);
    let stage = if order.splits > 1 { Stage::First } else { Stage::Only };
    let first = Step { whole, stage, rows, cols, terms: cols };
    let second = Step { stage: Stage::Second, cols: order.splits, ..first };
    let split = order.splits > 1;
    let second = split.then(|| {
        let order = RowOrder::new(rows, order.splits, F32::VECTOR);
        kernel::<F32>(second, order, T::SPELLED, target)
    });
    Plan {
        kernels: std::iter::once(kernel::<T>(first, order, T::SPELLED, target)).chain(second).collect(),
        workspace_bytes: if split { u64::from(rows) * u64::from(order.splits) * 4 } else { 0 },
    }
}

/// y[r, s] = piece s of row r, one team each. Reads every element once, 16 bytes per access if the rows are aligned.
fn kernel<T: Real>(step: Step, order: RowOrder, spelled: &str, target: Target) -> Kernel {
    let Step { rows, cols, .. } = step;
    let RowOrder { width, team, splits, rounds } = order;
    let pieces = rows * splits;
    let teams = BLOCK / team;
    let launch =
        step.launch("rows", spelled, target).block([BLOCK, 1, 1]).grid([pieces.div_ceil(teams).max(1), 1, 1]);
    let elements = u64::from(rows) * u64::from(cols);
    let work = Work { bytes: elements * u64::from(T::BYTES) + u64::from(pieces) * 4, operations: elements };
    Asm::kernel(launch, work, "y[r] = the fold of x[r, c] over c", |asm| {
        let (x, y) = (asm.pointer::<T>("x"), asm.pointer::<F32>("y"));
        asm.step("a team of threads for each piece of a row");
        let (in_block, thread) = asm.divide(asm.thread(0), team);
        let piece = asm.block(0).mad(teams, in_block);
        let (row, split) = asm.divide(piece, splits);
        let start = split.mad(order.step() * rounds, thread * width);
        let mine = Mine { asm, step, order, thread, at: x.at(row.mad(cols, start)) };
        let sums: Vec<_> = (0..width).map(|_| asm.var::<F32>(0.0)).collect();
        let exists = piece.lt(pieces);
        asm.if_(exists, || mine.fold_piece(split, &sums));
        let sums: Vec<_> = sums.into_iter().map(Var::get).collect();
        let Some(sum) = step.fold().pairwise(&sums) else { return };
        asm.step("the team's threads to one");
        let sum = if team > 32 {
            asm.block_fold(step.fold(), sum, team)
        } else {
            asm.lanes_fold(step.fold(), sum, 1, team)
        };
        asm.if_(exists & thread.eq(0), || step.store(asm, y.at(piece), sum));
    })
}

/// A thread's part of a piece of a row.
struct Mine<'a, T: Real> {
    asm: &'a Asm,
    step: Step,
    order: RowOrder,
    /// Index of the thread in its team.
    thread: Reg<'a, U32>,
    /// Index of its first element.
    at: Global<'a, T>,
}

impl<'a, T: Real> Mine<'a, T> {
    fn fold_piece(&self, split: Reg<'a, U32>, sums: &[Var<'a, F32>]) {
        let RowOrder { splits, rounds, .. } = self.order;
        // The last piece has the remaining whole rounds, then a partial one.
        let left = self.step.cols - (splits - 1) * rounds * self.order.step();
        let (whole, part) = (left / self.order.step(), left % self.order.step());
        let last = || {
            self.rounds(whole, sums);
            self.part(whole, part, sums);
        };
        if splits > 1 && whole < rounds {
            self.asm.if_else(split.lt(splits - 1), || self.rounds(rounds, sums), last);
        } else {
            last();
        }
    }

    /// Runs `count` rounds in which every thread has its vector.
    fn rounds(&self, count: u32, sums: &[Var<'a, F32>]) {
        let step = self.order.step();
        let rounds = |at: Global<'a, T>, count: u32| {
            let vectors: Vec<_> =
                (0..count).map(|i| T::load(at.plus((i * step).into()), self.order.width)).collect();
            vectors.iter().for_each(|vector| self.fold(vector, sums));
        };
        let unrolled = count / UNROLL * UNROLL;
        if unrolled == UNROLL {
            rounds(self.at, UNROLL);
        } else if unrolled > 0 {
            self.asm.for_range(0, unrolled * step, UNROLL * step, |i| rounds(self.at.at(i), UNROLL));
        }
        if count > unrolled {
            rounds(self.at.plus((unrolled * step).into()), count - unrolled);
        }
    }

    /// Folds the `part` elements after `rounds` rounds, fewer than a round.
    fn part(&self, rounds: u32, part: u32, sums: &[Var<'a, F32>]) {
        let width = self.order.width;
        let at = self.at.plus(i64::from(rounds) * i64::from(self.order.step()));
        let (whole, tail) = (part / width, part % width);
        if whole > 0 {
            self.asm.if_(self.thread.lt(whole), || self.fold(&T::load(at, width), sums));
        }
        if tail > 0 {
            self.asm.if_(self.thread.eq(whole), || {
                let elements: Vec<_> = (0..tail).flat_map(|i| T::load(at.plus(i.into()), 1)).collect();
                self.fold(&elements, sums);
            });
        }
    }

    fn fold(&self, values: &[Reg<'a, F32>], sums: &[Var<'a, F32>]) {
        for (&x, &sum) in values.iter().zip(sums) {
            self.step.fold().onto(sum, self.step.lift(x));
        }
    }
}
