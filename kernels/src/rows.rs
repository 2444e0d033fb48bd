//! Rows of a matrix and the threads of each row, for kernels that normalise over the last axis.

use crate::{
    ptx::{Asm, F32, F64, Launch, Pred, Reg, U32},
    span::access_width,
    tile::reduce::Fold,
};

/// Elements of a row that a thread keeps in registers.
const HELD: u32 = 32;

/// Threads per block for rows that take a warp or less.
const BLOCK: u32 = 128;

/// Most threads per row.
const MOST_LANES: u32 = 512;

/// The division of a matrix's rows among threads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows {
    rows: u32,
    cols: u32,
    /// Columns per vector, read in one access.
    pub width: u32,
    /// Threads per row: a power of two.
    lanes: u32,
}

impl Rows {
    /// A division with accesses of up to `widest` elements.
    pub fn new(rows: u32, cols: u32, widest: u32) -> Self {
        let width = access_width(cols, widest);
        let lanes = if cols <= 32 * HELD {
            (cols / width).min(32).next_power_of_two()
        } else {
            cols.div_ceil(HELD).min(MOST_LANES).next_power_of_two()
        };
        Self { rows, cols, width, lanes }
    }

    /// Rows per block: a row that takes more than a warp has the block, its barriers and its shared memory to itself.
    fn per_block(self) -> u32 {
        if self.lanes > 32 { 1 } else { BLOCK / self.lanes }
    }

    /// Sets the grid and the block of the launch.
    pub fn launch(self, launch: Launch) -> Launch {
        let block = self.lanes * self.per_block();
        launch.block([block, 1, 1]).grid([self.rows.div_ceil(self.per_block()), 1, 1])
    }

    /// This thread's row. If the rows end inside of a block, the remaining threads repeat the last row without storing,
    /// because lane exchanges need them.
    pub fn row(self, asm: &Asm) -> Row<'_> {
        let per_block = self.per_block();
        let (row, lane) = asm.divide(asm.thread(0), self.lanes);
        let mut number = asm.block(0).mad(per_block, row);
        let mut there = None;
        if !self.rows.is_multiple_of(per_block) {
            there = Some(number.lt(self.rows));
            number = number.min(self.rows - 1);
        }
        let mut row = Row { asm, shape: self, number, there, lane, vectors: Vec::new() };
        let vectors = self.cols / self.width;
        let count = vectors.div_ceil(self.lanes);
        if count * self.width <= HELD {
            row.vectors = (0..count).map(|i| row.vector(i, vectors)).collect();
        }
        row
    }
}

/// A thread's row, with its part of it.
pub(crate) struct Row<'a> {
    asm: &'a Asm,
    shape: Rows,
    /// Index of the row.
    pub number: Reg<'a, U32>,
    /// Whether the thread stores its row; `None` if all do.
    there: Option<Reg<'a, Pred>>,
    /// Index of the thread among those of the row.
    lane: Reg<'a, U32>,
    /// The thread's vectors, if registers hold them.
    vectors: Vec<Vector<'a>>,
}

/// Neighbouring columns that a thread processes together.
#[derive(Clone, Copy)]
pub(crate) struct Vector<'a> {
    /// Index of the first column.
    pub col: Reg<'a, U32>,
    /// Whether the vector lies inside the row; `None` if it does in every thread. If not, the row's last vector
    /// replaces it.
    inside: Option<Reg<'a, Pred>>,
    /// Index among the thread's vectors, if registers hold them.
    held: Option<usize>,
}

/// Values computed from columns: once if registers hold them, otherwise at each use.
pub(crate) struct Kept<'a, M> {
    held: Vec<Vec<Reg<'a, F32>>>,
    make: M,
}

impl<'a, M: Fn(Reg<'a, U32>) -> Vec<Reg<'a, F32>>> Kept<'a, M> {
    /// The same values with `f` applied to each.
    pub fn map(
        self,
        f: impl Fn(Reg<'a, F32>) -> Reg<'a, F32>,
    ) -> Kept<'a, impl Fn(Reg<'a, U32>) -> Vec<Reg<'a, F32>>> {
        let Self { held, make } = self;
        let each = move |numbers: Vec<_>| numbers.into_iter().map(&f).collect::<Vec<_>>();
        Kept { held: held.into_iter().map(&each).collect(), make: move |col| each(make(col)) }
    }

    /// The values of a vector.
    pub fn of(&self, vector: &Vector<'a>) -> Vec<Reg<'a, F32>> {
        match vector.held.and_then(|i| self.held.get(i)) {
            Some(held) => held.clone(),
            None => (self.make)(vector.col),
        }
    }
}

impl<'a> Row<'a> {
    /// The i-th vector of the thread, in a row of `vectors` vectors.
    fn vector(&self, i: u32, vectors: u32) -> Vector<'a> {
        let Rows { width, lanes, cols, .. } = self.shape;
        let number = self.lane + i * lanes;
        let held = Some(i as usize);
        if (i + 1) * lanes <= vectors {
            return Vector { col: number * width, inside: None, held };
        }
        Vector { col: (number * width).min(cols - width), inside: Some(number.lt(vectors)), held }
    }

    /// Calls `body` with each of the thread's vectors, in ascending order.
    pub fn each(&self, body: impl Fn(&Vector<'a>)) {
        let Rows { width, lanes, cols, .. } = self.shape;
        if self.vectors.is_empty() {
            let step = lanes * width;
            let vector = |col| Vector { col, inside: None, held: None };
            self.asm.for_range(self.lane * width, cols, step, |col| body(&vector(col)));
        }
        self.vectors.iter().for_each(body);
    }

    /// Applies `make` to the first column of each of the thread's vectors.
    pub fn keep<M: Fn(Reg<'a, U32>) -> Vec<Reg<'a, F32>>>(&self, make: M) -> Kept<'a, M> {
        Kept { held: self.vectors.iter().map(|vector| make(vector.col)).collect(), make }
    }

    /// N sums over the row, available in all of its threads.
    pub fn sums<const N: usize>(
        &self,
        terms: impl Fn(&Vector<'a>) -> [Vec<Reg<'a, F32>>; N],
    ) -> [Reg<'a, F32>; N] {
        let (asm, lanes) = (self.asm, self.shape.lanes);
        let sums = [(); N].map(|()| asm.var::<F32>(0.0));
        self.each(|vector| {
            for (sum, terms) in sums.iter().zip(terms(vector)) {
                if let Some(part) = Fold::Sum.pairwise(&terms) {
                    sum.add(vector.inside.map_or(part, |inside| asm.select(inside, part, 0.0)));
                }
            }
        });
        sums.map(|sum| match lanes {
            ..=32 => asm.lanes_fold(Fold::Sum, sum.get(), 1, lanes),
            _ => asm.block_sum(sum.get(), lanes),
        })
    }

    /// The largest number of the row, NaN if there is one, available in all of its threads.
    pub fn max(&self, numbers: impl Fn(&Vector<'a>) -> Vec<Reg<'a, F32>>) -> Reg<'a, F32> {
        let (asm, lanes) = (self.asm, self.shape.lanes);
        let largest = asm.var::<F32>(f32::NEG_INFINITY);
        // A vector outside of the row repeats the row's last vector, which does not change the maximum.
        self.each(|vector| {
            if let Some(part) = Fold::Max.pairwise(&numbers(vector)) {
                largest.max_nan(part);
            }
        });
        match lanes {
            ..=32 => asm.lanes_fold(Fold::Max, largest.get(), 1, lanes),
            _ => asm.block_max(largest.get(), lanes),
        }
    }

    /// The sum over a row of one number per thread.
    pub fn sum_f64(&self, vector: &Vector<'a>, x: Reg<'a, F64>) -> Reg<'a, F64> {
        let mut sum = vector.inside.map_or(x, |inside| self.asm.select(inside, x, 0.0));
        let mut mask = self.shape.lanes / 2;
        while mask > 0 {
            sum = sum + sum.shuffle_xor(mask);
            mask /= 2;
        }
        sum
    }

    /// Calls `body`, which stores, with each vector that this thread must store.
    pub fn each_own(&self, body: impl Fn(&Vector<'a>)) {
        self.each(|vector| self.if_own(vector, || body(vector)));
    }

    /// Runs `body`, which stores, if this thread must store the vector.
    pub fn if_own(&self, vector: &Vector<'a>, body: impl FnOnce()) {
        match (self.there, vector.inside) {
            (None, None) => body(),
            (Some(p), None) | (None, Some(p)) => self.asm.if_(p, body),
            (Some(p), Some(q)) => self.asm.if_(p & q, body),
        }
    }

    /// Runs `body` in one thread of the row.
    pub fn once(&self, body: impl FnOnce()) {
        let first = self.lane.eq(0);
        self.asm.if_(self.there.map_or(first, |there| there & first), body);
    }
}
