//! A product on the tensor cores, independent of the source of its operands and the destination of its sums.

use super::{Accumulators, COLUMNS, FragmentLoads, Major, Pipeline, Role, Staging, TileShape};
use crate::ptx::{Asm, F16, F16x2, F32, Reg, Shared, U32};

/// Row tiles that follow each other before the column changes, so that blocks that run at the same time share columns
/// in L2.
const GROUP: u32 = 8;

/// The source of an operand's tiles, tile after tile along k; elements outside the operand become zeros.
pub trait Source<'a> {
    /// Starts the copy of the next tile to `slot` and advances.
    fn issue(&self, slot: Shared<'a, F16>);
}

/// A product C [m, n] = A·B over k, cut into tiles and parts of k.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Product {
    /// Number of rows of C.
    pub m: u32,
    /// Number of columns of C.
    pub n: u32,
    /// Length of the sum over k.
    pub k: u32,
    /// Layout of the tiles of A and B in shared memory.
    pub majors: [Major; 2],
    /// Sizes of a block's tile, in elements.
    pub shape: TileShape,
    /// Number of parts of k, each summed by separate blocks.
    pub splits: u32,
    /// Tiles along k per part.
    pub tiles: u32,
}

/// The part of a product that a block computes.
#[derive(Clone, Copy)]
pub struct BlockTile<'a> {
    /// First row of its tile of C.
    pub row: Reg<'a, U32>,
    /// First column of its tile of C.
    pub column: Reg<'a, U32>,
    /// Index of its part of k.
    pub part: Reg<'a, U32>,
    /// First element of k of the part.
    pub start: Reg<'a, U32>,
    /// End of k of the part, exclusive.
    pub end: Reg<'a, U32>,
    /// Index of the thread in its block.
    pub thread: Reg<'a, U32>,
}

impl Product {
    /// Number of blocks: tiles along x, parts along z.
    pub fn grid(&self) -> [u32; 3] {
        [self.m.div_ceil(self.shape.m) * self.n.div_ceil(self.shape.n), 1, self.splits]
    }

    /// The place of the current block.
    pub fn place<'a>(&self, asm: &'a Asm) -> BlockTile<'a> {
        asm.step("the block's tile of C and its part of k");
        let (rows, columns) = (self.m.div_ceil(self.shape.m), self.n.div_ceil(self.shape.n));
        let group = (1..=GROUP.min(rows)).rev().find(|g| rows.is_multiple_of(*g)).unwrap_or(1);
        let (group_number, within) = asm.divide(asm.block(0), group * columns);
        let (column, row) = asm.divide(within, group);
        let row = group_number.mad(group, row) * self.shape.m;
        let part = asm.block(2);
        let start = part * (self.tiles * self.shape.k);
        let end = (start + self.tiles * self.shape.k).min(self.k);
        BlockTile { row, column: column * self.shape.n, part, start, end, thread: asm.thread(0) }
    }

    /// Multiplies, and calls `finish(row, column, sums)` once for each element of C: with four neighbours of a row at
    /// once if the row length is a multiple of four, with one otherwise.
    ///
    /// Asynchronous copies move tiles of A and B to shared memory, several stages ahead; `ldmatrix` loads fragments to
    /// registers, one step ahead; `mma` sums their products in f32; the sums pass through shared memory to become rows.
    pub fn run<'a>(
        &self,
        asm: &'a Asm,
        place: BlockTile<'a>,
        [a, b]: [&dyn Source<'a>; 2],
        finish: impl Fn(Reg<'a, U32>, Reg<'a, U32>, &[Reg<'a, F32>]),
    ) {
        let Self { m, n, shape, majors, .. } = *self;
        asm.step("the warp's part of the tile, its fragments and sums");
        let warp = place.thread >> 5;
        let (row, column) = asm.divide(warp, shape.warps_n);
        let (row, column) = (row * shape.warp_m(), column * shape.warp_n());
        let (blocks_a, blocks_b) = (shape.warp_m() / 16, shape.warp_n() / 16);
        let a_loads = FragmentLoads::new(asm, Role::A, majors[0], [shape.m, shape.k], row, blocks_a);
        let b_loads = FragmentLoads::new(asm, Role::B, majors[1], [shape.n, shape.k], column, blocks_b);
        let registers =
            |blocks| (0..blocks).map(|_| [(); 4].map(|()| asm.register::<F16x2>())).collect::<Vec<_>>();
        let fragments = [(); 2].map(|()| (registers(blocks_a), registers(blocks_b)));
        let sums = Accumulators::new(asm, blocks_a, 2 * blocks_b);

        let a_bytes = shape.m * shape.k * 2;
        let b_at = i64::from(a_bytes);
        let pipeline = Pipeline::new(asm, shape.stages, a_bytes + shape.n * shape.k * 2);
        pipeline.run(
            self.tiles,
            shape.steps(),
            |slot| {
                a.issue(slot);
                b.issue(slot.plus_bytes(b_at));
            },
            |buffer, slot, step| {
                let (a, b) = &fragments[buffer];
                a_loads.load(a, slot, step);
                b_loads.load(b, slot.plus_bytes(b_at), step);
            },
            |buffer| sums.multiply(&fragments[buffer].0, &fragments[buffer].1),
        );

        let origin = [place.row + row, place.column + column];
        Staging::new(asm, shape, pipeline.memory()).finish(&sums, warp, origin, |row, column, values| {
            if n.is_multiple_of(COLUMNS) {
                asm.if_(row.lt(m) & column.lt(n), || finish(row, column, &values));
            } else {
                for (j, value) in (0..).zip(&values) {
                    let column = column + j;
                    asm.if_(row.lt(m) & column.lt(n), || finish(row, column, std::slice::from_ref(value)));
                }
            }
        });
    }
}
