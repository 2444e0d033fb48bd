//! From accumulators to rows: fragments spread a row over lanes, so they pass through shared memory, and each lane gets
//! four neighbours of a row to finish and store.

use super::{Accumulators, TileShape};
use crate::ptx::{Asm, F16, F32, Reg, Shared, U32};

/// Consecutive columns per lane.
pub const COLUMNS: u32 = 4;

/// A warp's strip of 16 rows in shared memory.
pub struct Staging<'a> {
    asm: &'a Asm,
    shape: TileShape,
    memory: Shared<'a, F32>,
}

impl<'a> Staging<'a> {
    /// Bytes of a row: padded by 32, so that the four rows a half-warp writes at once fall into different banks.
    const fn pitch(shape: TileShape) -> u32 {
        shape.warp_n() * 4 + 32
    }

    /// Size of a block's strips in bytes.
    pub const fn bytes(shape: TileShape) -> u32 {
        16 * Self::pitch(shape) * shape.warps_m * shape.warps_n
    }

    /// Strips in `memory`, which must have [`Staging::bytes`] free bytes.
    pub fn new(asm: &'a Asm, shape: TileShape, memory: Shared<'a, F16>) -> Self {
        Self { asm, shape, memory: memory.cast() }
    }

    /// Calls `finish(row, column, values)` once for each four neighbours of the sums of warp `warp`; the coordinates
    /// passed to it are offset by the warp's origin (`row`, `column`).
    pub fn finish(
        &self,
        sums: &Accumulators<'a>,
        warp: Reg<'a, U32>,
        [row, column]: [Reg<'a, U32>; 2],
        finish: impl Fn(Reg<'a, U32>, Reg<'a, U32>, [Reg<'a, F32>; 4]),
    ) {
        let asm = self.asm;
        let pitch = Self::pitch(self.shape);
        let strip = self.memory.at_byte(warp * (16 * pitch));
        let lane = asm.lane();
        let (group, member) = (lane >> 2, lane & 3);
        let write = strip.at_byte(group.mad(pitch, member << 3));
        let lanes_a_row = self.shape.warp_n() / COLUMNS;
        let (lane_row, lane_column) = asm.divide(lane, lanes_a_row);
        let read = strip.at_byte(lane_row.mad(pitch, lane_column << 4));
        let column = lane_column.mad(COLUMNS, column);
        let rows_a_pass = 32 / lanes_a_row;
        for block in 0..self.shape.warp_m() / 16 {
            asm.step(&format!(
                "rows {} to {} of the warp, through shared memory",
                block * 16,
                block * 16 + 15
            ));
            for (j, sums) in (0i64..).zip(sums.row(block)) {
                write.plus(j * 8).store_vector([sums[0].get(), sums[1].get()]);
                write
                    .plus_bytes(i64::from(8 * pitch))
                    .plus(j * 8)
                    .store_vector([sums[2].get(), sums[3].get()]);
            }
            asm.warp_barrier();
            for pass in 0..16 / rows_a_pass {
                let values = read.plus_bytes((pass * rows_a_pass * pitch).into()).load_vector::<4>();
                finish(row + lane_row + (block * 16 + pass * rows_a_pass), column, values);
            }
            asm.warp_barrier();
        }
    }
}
