//! Pointwise work that differs by column: a thread keeps its columns' values in registers over several rows.

use crate::{
    ptx::{Asm, Launch, Reg, U32},
    span::access_width,
};

/// Number of threads per block.
const BLOCK: u32 = 256;

/// Most channels per thread. Their f32 values fill one access; with more, each access would use only half of its
/// sectors.
const WIDEST: u32 = 4;

/// Target bytes of one array that a thread loads at once, from one row or several.
const BYTES: u32 = 64;

/// Most rows per thread.
const MOST_ROWS: u32 = 8;

/// A matrix [rows, cols] of fewer than 2³¹ elements and 2²⁰ columns, cut into blocks of rows (along x) and of
/// columns (along y).
#[derive(Debug, Clone, Copy)]
pub(super) struct Strips {
    rows: u32,
    cols: u32,
    /// Columns per thread, read in one access.
    pub width: u32,
    /// Threads along the columns: a power of two up to 32.
    across: u32,
    /// Number of rows per thread.
    deep: u32,
}

impl Strips {
    /// Strips for elements of `bytes` bytes.
    pub fn new(rows: u32, cols: u32, bytes: u32) -> Self {
        let width = access_width(cols, WIDEST);
        let across = cols.div_ceil(width).clamp(1, 32).next_power_of_two();
        let deep = (BYTES / (width * bytes)).min(MOST_ROWS);
        Self { rows, cols, width, across, deep }
    }

    /// Rows that a block processes at once.
    fn down(self) -> u32 {
        BLOCK / self.across
    }

    /// Sets the grid and the block of the launch.
    pub fn launch(self, launch: Launch) -> Launch {
        let rows = self.rows.div_ceil(self.down() * self.deep);
        let cols = self.cols.div_ceil(self.across * self.width);
        launch.block([BLOCK, 1, 1]).grid([rows, cols, 1])
    }

    /// Calls `prepare` with a thread's first column, and `body` with its result and the offsets of the thread's vectors
    /// in the matrix: those of all its rows at once, or of one row at a time at the end.
    pub fn each<'a, P>(
        self,
        asm: &'a Asm,
        prepare: impl FnOnce(Reg<'a, U32>) -> P,
        body: impl Fn(&P, &[Reg<'a, U32>]),
    ) {
        let (row, lane) = asm.divide(asm.thread(0), self.across);
        let (strip, down, deep) = (asm.block(0), self.down(), self.deep);
        let col = lane.mad(self.width, asm.block(1) * (self.across * self.width));
        asm.if_(col.lt(self.cols), || {
            let prepared = prepare(col);
            let first = strip.mad(down * deep, row);
            let place = |i: u32| (first + i * down).mad(self.cols, col);
            let whole = || body(&prepared, &(0..deep).map(place).collect::<Vec<_>>());
            let (strips, tail) = (self.rows / (down * deep), self.rows % (down * deep));
            let part = || {
                for i in 0..tail.div_ceil(down) {
                    asm.if_((first + i * down).lt(self.rows), || body(&prepared, &[place(i)]));
                }
            };
            match (strips, tail) {
                (_, 0) => whole(),
                (0, _) => part(),
                _ => asm.if_else(strip.lt(strips), whole, part),
            }
        });
    }
}
