//! Pointwise work that differs by column: a thread keeps its columns' numbers in registers over several rows.

use crate::{
    ptx::{Asm, Launch, Reg, U32},
    span::access_width,
};

/// Threads of a block.
const BLOCK: u32 = 256;

/// Rows of a thread: as many as keep enough loads under way.
const ROWS: u32 = 4;

/// A matrix [rows, cols] of fewer than 2³² elements, cut into blocks of rows (along x) and of columns (along y).
#[derive(Debug, Clone, Copy)]
pub(super) struct Strips {
    rows: u32,
    cols: u32,
    /// Columns of a thread: an access.
    pub width: u32,
    /// Threads side by side: a power of two up to a warp.
    across: u32,
}

impl Strips {
    /// With accesses of up to `widest` elements.
    pub fn new(rows: u32, cols: u32, widest: u32) -> Self {
        let width = access_width(cols, widest);
        let across = cols.div_ceil(width).max(1).next_power_of_two().min(32);
        Self { rows, cols, width, across }
    }

    /// Rows of a round of the block.
    fn down(self) -> u32 {
        BLOCK / self.across
    }

    /// The blocks.
    pub fn launch(self, launch: Launch) -> Launch {
        let rows = self.rows.div_ceil(self.down() * ROWS).max(1);
        let cols = self.cols.div_ceil(self.across * self.width).max(1);
        launch.block([BLOCK, 1, 1]).grid([rows, cols, 1])
    }

    /// `prepare` is given a thread's first column, and `body` what it made and where the thread's vectors start in the
    /// matrix: those of all its rows, or one at a time at the end.
    pub fn each<'k, P>(
        self,
        k: &'k Asm,
        prepare: impl FnOnce(Reg<'k, U32>) -> P,
        body: impl Fn(&P, &[Reg<'k, U32>]),
    ) {
        let (row, lane) = k.divide(k.thread(0), self.across);
        let (strip, down) = (k.block(0), self.down());
        let col = lane.mad(self.width, k.block(1) * (self.across * self.width));
        k.if_(col.lt(self.cols), || {
            let prepared = prepare(col);
            let first = strip.mad(down * ROWS, row);
            let place = |i: u32| (first + i * down).mad(self.cols, col);
            let whole = || body(&prepared, &(0..ROWS).map(place).collect::<Vec<_>>());
            let (strips, tail) = (self.rows / (down * ROWS), self.rows % (down * ROWS));
            let part = || {
                for i in 0..tail.div_ceil(down) {
                    k.if_((first + i * down).lt(self.rows), || body(&prepared, &[place(i)]));
                }
            };
            match (strips, tail) {
                (_, 0) => whole(),
                (0, _) => part(),
                _ => k.if_else(strip.lt(strips), whole, part),
            }
        });
    }
}
