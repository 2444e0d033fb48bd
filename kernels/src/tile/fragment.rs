//! Fragments: the registers in which a warp holds its part of a product (PTX ISA, "Matrix fragments for
//! mma.m16n8k16").

use super::{Major, SharedTile};
use crate::ptx::{Asm, F16, F16x2, F32, Reg, Shared, U32, Var};

/// The side of an operand in the product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A: 16 rows per fragment.
    A,
    /// B: two fragments of 8 columns per block.
    B,
}

/// A warp's loads of one operand: blocks of 16 (outer) × 16 (k) halves, four registers each.
pub struct FragmentLoads<'a> {
    asm: &'a Asm,
    tile: SharedTile,
    major: Major,
    /// The lane's address of each column of blocks, as an offset in a slot; blocks below are whole rows later.
    offsets: Vec<Reg<'a, U32>>,
}

impl<'a> FragmentLoads<'a> {
    /// Loads from a tile of `outer_tile` × `depth` elements, where the warp's part starts at `outer` and has `blocks`
    /// blocks along the outer dimension.
    pub fn new(
        asm: &'a Asm,
        role: Role,
        major: Major,
        [outer_tile, depth]: [u32; 2],
        outer: Reg<'a, U32>,
        blocks: u32,
    ) -> Self {
        let tile = SharedTile::of(major, outer_tile, depth);
        // Lane l supplies row l mod 8 of matrix l / 8. A's four registers go down its rows first, B's along k first.
        let lane = asm.lane();
        let (within, low, high) = (lane & 7, (lane >> 3) & 1, lane >> 4);
        let (outer_half, k_half) = match role {
            Role::A => (low, high),
            Role::B => (high, low),
        };
        let (row, chunk, columns) = match major {
            Major::K => (outer + outer_half.mad(8, within), k_half, depth / 16),
            Major::Outer => (k_half.mad(8, within), (outer >> 3) + outer_half, blocks),
        };
        let offsets = (0..columns).map(|c| tile.offset(asm, row, chunk + 2 * c)).collect();
        Self { asm, tile, major, offsets }
    }

    /// Loads the fragments of one step along k from the tile at `slot`, four registers per block. For [`Role::A`] the
    /// four are one fragment; for [`Role::B`] the first two and the last two are one each.
    pub fn load(&self, to: &[[Var<'a, F16x2>; 4]], slot: Shared<'a, F16>, step: u32) {
        let below = 16 * self.tile.row_bytes();
        let transpose = self.major == Major::Outer;
        let at_step = (self.major == Major::K).then(|| slot.at_byte(self.offsets[step as usize]));
        for (block, &to) in (0..).zip(to) {
            let at = match at_step {
                Some(at) => at.plus_bytes((block * below).into()),
                None => slot.at_byte(self.offsets[block as usize]).plus_bytes((step * below).into()),
            };
            self.asm.ldmatrix_x4(to, at, transpose);
        }
    }
}

/// A warp's sums: `rows` × `columns` fragments of 16×8.
pub struct Accumulators<'a> {
    asm: &'a Asm,
    columns: u32,
    sums: Vec<[Var<'a, F32>; 4]>,
}

impl<'a> Accumulators<'a> {
    /// Sums that start at zero.
    pub fn new(asm: &'a Asm, rows: u32, columns: u32) -> Self {
        let sums = (0..rows * columns).map(|_| [(); 4].map(|()| asm.var::<F32>(0.0))).collect();
        Self { asm, columns, sums }
    }

    /// Adds the products of A's fragments with B's pairs of fragments.
    pub fn multiply(&self, a: &[[Var<'a, F16x2>; 4]], b: &[[Var<'a, F16x2>; 4]]) {
        for (i, &a) in a.iter().enumerate() {
            for (j, pair) in b.iter().enumerate() {
                let column = (i as u32 * self.columns) as usize + 2 * j;
                self.asm.mma_m16n8k16(self.sums[column], a, [pair[0], pair[1]]);
                self.asm.mma_m16n8k16(self.sums[column + 1], a, [pair[2], pair[3]]);
            }
        }
    }

    /// The fragments of row `i`, from left to right.
    pub fn row(&self, i: u32) -> &[[Var<'a, F32>; 4]] {
        &self.sums[(i * self.columns) as usize..][..self.columns as usize]
    }
}
