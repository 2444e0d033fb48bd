//! Pointwise work that differs by column: a thread keeps its columns' numbers in registers over several rows.

use crate::{
    ptx::{Asm, Launch, Reg, U32},
    span::access_width,
};

/// Threads of a block.
const BLOCK: u32 = 256;

/// Channels of a thread, an access to their numbers in f32: wider ones would leave half of each sector to the next access.
const WIDEST: u32 = 4;

/// Bytes of an array that a thread has under way, in a row or in several.
const BYTES: u32 = 64;

/// The most rows of a thread.
const MOST_ROWS: u32 = 8;

/// A matrix [rows, cols] of fewer than 2³¹ elements and 2²⁰ columns, cut into blocks of rows (along x) and of
/// columns (along y).
#[derive(Debug, Clone, Copy)]
pub(super) struct Strips {
    rows: u32,
    cols: u32,
    /// Columns of a thread: an access.
    pub width: u32,
    /// Threads side by side: a power of two up to a warp.
    across: u32,
    /// Rows of a thread.
    deep: u32,
}

impl Strips {
    /// For elements of so many bytes.
    pub fn new(rows: u32, cols: u32, bytes: u32) -> Self {
        let width = access_width(cols, WIDEST);
        let across = cols.div_ceil(width).clamp(1, 32).next_power_of_two();
        let deep = (BYTES / (width * bytes)).min(MOST_ROWS);
        Self { rows, cols, width, across, deep }
    }

    /// Rows of a round of the block.
    fn down(self) -> u32 {
        BLOCK / self.across
    }

    /// Sets blocks and threads of the launch.
    pub fn launch(self, launch: Launch) -> Launch {
        let rows = self.rows.div_ceil(self.down() * self.deep);
        let cols = self.cols.div_ceil(self.across * self.width);
        launch.block([BLOCK, 1, 1]).grid([rows, cols, 1])
    }

    /// `prepare` is given a thread's first column, and `body` what it made and where the thread's vectors start in the
    /// matrix: those of all its rows, or one at a time at the end.
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
