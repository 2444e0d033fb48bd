//! Column reductions by blocks, in the order of a [`ColOrder`], for kernels that fold several numbers per column or
//! compute the folded values.

use super::{BLOCK, ColOrder};
use crate::{
    ptx::{Asm, F32, Global, Launch, Reg, U32, Var},
    span::Real,
};

/// Results of pieces that a thread loads at once.
const BATCH: u32 = 8;

/// Number of warps per block.
const WARPS: u32 = BLOCK / 32;

/// A matrix [rows, cols] of fewer than 2³² elements, and its division among blocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Columns {
    pub rows: u32,
    pub cols: u32,
    pub order: ColOrder,
}

impl Columns {
    /// The matrix itself, in pieces of rows.
    pub fn new(rows: u32, cols: u32) -> Self {
        Self { rows, cols, order: ColOrder::new(rows, cols) }
    }

    /// The results of the pieces: one row each.
    pub fn results(self) -> Self {
        Self { rows: self.order.splits, order: ColOrder::second(self.order.splits, self.cols), ..self }
    }

    /// A launch with blocks for columns along x, for pieces along y.
    pub fn launch(self, launch: Launch) -> Launch {
        let columns = self.order.across * self.order.width;
        launch.block([BLOCK, 1, 1]).grid([self.cols.div_ceil(columns).max(1), self.order.splits, 1])
    }

    /// This thread's part of the matrix.
    pub fn share(self, asm: &Asm) -> Share<'_> {
        let ColOrder { width, across, down, rounds, .. } = self.order;
        let (row, lane) = asm.divide(asm.thread(0), across);
        let piece = asm.block(1);
        let col = lane.mad(width, asm.block(0) * (across * width));
        Share { asm, matrix: self, row, lane, piece, col, first: piece.mad(down * rounds, row) }
    }
}

/// A thread's part of a piece: `width` neighbouring columns, and every `down`-th row.
pub(crate) struct Share<'a> {
    asm: &'a Asm,
    matrix: Columns,
    /// Row of the thread in a round.
    row: Reg<'a, U32>,
    /// Index of the thread along the columns.
    lane: Reg<'a, U32>,
    /// Index of the piece of rows.
    pub piece: Reg<'a, U32>,
    /// First column of the thread.
    pub col: Reg<'a, U32>,
    /// First row of the thread in the matrix.
    first: Reg<'a, U32>,
}

impl<'a> Share<'a> {
    /// Calls `body` with the indices of the thread's rows in ascending order, at most `batch` of them at a time. Does
    /// nothing in threads without columns.
    pub fn each_batch(&self, batch: u32, body: impl Fn(&[Reg<'a, U32>])) {
        self.asm.if_(self.col.lt(self.matrix.cols), || self.piece_rows(batch, &body));
    }

    fn piece_rows(&self, batch: u32, body: &impl Fn(&[Reg<'a, U32>])) {
        let ColOrder { down, splits, rounds, .. } = self.matrix.order;
        // The last piece has the remaining whole rounds, then a partial one.
        let left = self.matrix.rows - (splits - 1) * rounds * down;
        let (whole, part) = (left / down, left % down);
        let last = || {
            self.rounds(whole, batch, body);
            if part > 0 {
                self.asm.if_(self.row.lt(part), || body(&[self.first + whole * down]));
            }
        };
        if splits > 1 && whole < rounds {
            self.asm.if_else(self.piece.lt(splits - 1), || self.rounds(rounds, batch, body), last);
        } else {
            last();
        }
    }

    /// Runs `count` rounds in which every thread has its row.
    fn rounds(&self, count: u32, batch: u32, body: &impl Fn(&[Reg<'a, U32>])) {
        let down = self.matrix.order.down;
        let rows = |row: Reg<'a, U32>, count: u32| {
            let rows: Vec<_> = (0..count).map(|i| row + i * down).collect();
            body(&rows);
        };
        let in_batches = count / batch * batch;
        if in_batches == batch {
            rows(self.first, batch);
        } else if in_batches > 0 {
            self.asm.for_range(0, in_batches * down, batch * down, |r| rows(self.first + r, batch));
        }
        if count > in_batches {
            rows(self.first + in_batches * down, count - in_batches);
        }
    }

    /// Loads the K numbers of each of the thread's columns from row `row` of results [pieces, K, cols].
    pub fn results<const K: usize>(
        &self,
        from: Global<'a, F32>,
        row: Reg<'a, U32>,
    ) -> [Vec<Reg<'a, F32>>; K] {
        let (cols, width) = (self.matrix.cols, self.matrix.order.width);
        let at = from.at(row.mad(K as u32 * cols, self.col));
        std::array::from_fn(|j| F32::load(at.plus(j as i64 * i64::from(cols)), width))
    }

    /// Stores the K numbers of a column for this piece in results [pieces, K, cols].
    pub fn store_result<const K: usize>(
        &self,
        to: Global<'a, F32>,
        col: Reg<'a, U32>,
        values: [Reg<'a, F32>; K],
    ) {
        let cols = self.matrix.cols;
        let at = to.at(self.piece.mad(K as u32 * cols, col));
        values.into_iter().zip(0..).for_each(|(x, j)| at.plus(j * i64::from(cols)).store(x));
    }

    /// Variables for K sums of each of the thread's columns, initially 0.
    pub fn accumulators<const K: usize>(&self) -> Vec<[Var<'a, F32>; K]> {
        (0..self.matrix.order.width).map(|_| [(); K].map(|()| self.asm.var(0.0))).collect()
    }

    /// [`Share::fold`] with sums as values.
    pub fn fold_sums<const K: usize>(
        &self,
        sums: &[[Var<'a, F32>; K]],
        done: impl FnOnce(Reg<'a, U32>, [Reg<'a, F32>; K]),
    ) {
        let mine = sums.iter().map(|sums| sums.map(Var::get)).collect();
        self.fold(mine, |a, b| std::array::from_fn(|j| a[j] + b[j]), done);
    }

    /// Sums results [pieces, K, cols], for a share of [`Columns::results`], in the order of the matrix.
    pub fn sum_results<const K: usize>(
        &self,
        from: Global<'a, F32>,
        done: impl FnOnce(Reg<'a, U32>, [Reg<'a, F32>; K]),
    ) {
        let sums = self.accumulators::<K>();
        self.each_batch(BATCH, |rows| {
            let loaded: Vec<_> = rows.iter().map(|&row| self.results::<K>(from, row)).collect();
            for piece in &loaded {
                for (i, sums) in sums.iter().enumerate() {
                    sums.iter().zip(piece).for_each(|(sum, piece)| sum.add(piece[i]));
                }
            }
        });
        self.fold_sums(&sums, done);
    }

    /// Folds the values of the block's threads, K numbers for each of a thread's columns: first the threads of a warp,
    /// then the warps in order. One thread per column passes its K numbers to `done`. All threads of the block must run
    /// it, once per kernel.
    pub fn fold<const K: usize>(
        &self,
        mine: Vec<[Reg<'a, F32>; K]>,
        merge: impl Fn([Reg<'a, F32>; K], [Reg<'a, F32>; K]) -> [Reg<'a, F32>; K],
        done: impl FnOnce(Reg<'a, U32>, [Reg<'a, F32>; K]),
    ) {
        let (asm, ColOrder { width, across, .. }) = (self.asm, self.matrix.order);
        let columns = across * width;
        asm.step("the rows of a warp, then the warps");
        let over_lanes = |mut x: [Reg<'a, F32>; K]| {
            let mut mask = 16;
            while mask >= across {
                x = merge(x, x.map(|x| x.shuffle_xor(mask)));
                mask /= 2;
            }
            x
        };
        let folded: Vec<_> = mine.into_iter().map(over_lanes).collect();
        let thread = asm.thread(0);
        let slots: [_; K] = std::array::from_fn(|_| asm.shared::<F32>(WARPS * columns));
        let slot = (thread >> 5).mad(columns, self.lane * width);
        asm.if_(asm.lane().lt(across), || {
            for (j, slots) in slots.iter().enumerate() {
                match folded[..] {
                    [a, b, c, d] => slots.at(slot).store_vector([a[j], b[j], c[j], d[j]]),
                    [a, b] => slots.at(slot).store_vector([a[j], b[j]]),
                    _ => slots.at(slot).store(folded[0][j]),
                }
            }
        });
        asm.barrier();
        let col = asm.block(0).mad(columns, thread);
        asm.if_(thread.lt(columns) & col.lt(self.matrix.cols), || {
            let at = slots.map(|slots| slots.at(thread));
            let warps = (0..WARPS).map(|w| at.map(|at| at.plus((w * columns).into()).load()));
            if let Some(result) = warps.reduce(merge) {
                done(col, result);
            }
        });
    }
}
