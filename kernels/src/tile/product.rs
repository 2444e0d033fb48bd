//! A product on the tensor cores, whatever its operands are gathered from and wherever its sums go.

use super::{Accumulators, COLUMNS, FragmentLoads, Major, Pipeline, Role, Staging, TileShape};
use crate::ptx::{Asm, F16, F16x2, F32, Reg, Shared, U32};

/// Row tiles that follow each other before the column changes, so that the blocks which run at once share columns in L2.
const GROUP: u32 = 8;

/// What fills an operand's tiles, tile after tile along k; elements outside the operand become zeros.
pub trait Source<'a> {
    /// Starts the copy of the next tile to `slot` and moves on.
    fn issue(&self, slot: Shared<'a, F16>);
}

/// A product C [m, n] = A·B over k, cut into tiles and parts of k.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Product {
    /// Rows of C.
    pub m: u32,
    /// Columns of C.
    pub n: u32,
    /// What is summed over.
    pub k: u32,
    /// How tiles of A and B lie in shared memory.
    pub majors: [Major; 2],
    /// Sizes of a block's tile, in elements.
    pub shape: TileShape,
    /// Parts of k, each summed by blocks of its own.
    pub splits: u32,
    /// Tiles along k of a part.
    pub tiles: u32,
}

/// A block's place in a product.
#[derive(Clone, Copy)]
pub struct BlockTile<'a> {
    /// The first row of its tile of C.
    pub row: Reg<'a, U32>,
    /// The first column.
    pub column: Reg<'a, U32>,
    /// Its part of k.
    pub part: Reg<'a, U32>,
    /// First element of k of the part.
    pub start: Reg<'a, U32>,
    /// End of k of the part, exclusive.
    pub end: Reg<'a, U32>,
    /// The thread in its block.
    pub thread: Reg<'a, U32>,
}

impl Product {
    /// The grid: tiles along x, parts along z.
    pub fn grid(&self) -> [u32; 3] {
        [self.m.div_ceil(self.shape.m) * self.n.div_ceil(self.shape.n), 1, self.splits]
    }

    /// The place of the block that runs.
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

    /// Multiplies, and calls `finish(row, column, sums)` once for each element of C inside it: four neighbours of a row at
    /// once where rows are a multiple of four long, one otherwise.
    ///
    /// Asynchronous copies bring tiles of A and B, some stages ahead, into shared memory; `ldmatrix` brings fragments into
    /// registers, one step ahead; `mma` adds their products up in f32; sums return through shared memory as rows.
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
