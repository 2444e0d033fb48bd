//! Copies of an operand's tiles from global to shared memory, with the 16-byte chunks divided among the block's
//! threads.

use super::{
    Major, SharedTile,
    chunk::{copy_elements, copy_granule, granule},
    product::{BlockTile, Source},
    shared::CHUNK,
};
use crate::ptx::{Asm, F16, Global, Reg, Shared, U32, U64, Var};

/// An operand in global memory: `outer` × `k` halves, contiguous along its [`Major`].
#[derive(Debug, Clone, Copy)]
pub struct Matrix {
    /// Size along m or n in elements.
    pub outer: u32,
    /// Size along k in elements.
    pub k: u32,
    /// The axis that is contiguous.
    pub major: Major,
}

impl Matrix {
    /// Distance between neighbouring rows in elements.
    pub fn stride(self) -> u32 {
        match self.major {
            Major::K => self.k,
            Major::Outer => self.outer,
        }
    }

    /// Elements per asynchronous copy, limited by the rows' alignment: 8, 4 or 2. 1 if rows start at odd elements,
    /// where asynchronous copies are impossible.
    fn granule(self) -> u32 {
        granule(self.stride())
    }
}

/// A thread's part of the copies of one operand, tile after tile along k. Elements outside the matrix become zeros.
pub struct TileCopy<'a> {
    asm: &'a Asm,
    matrix: Matrix,
    tile: SharedTile,
    threads: u32,
    /// Length of a tile along k, in elements.
    depth: u32,
    /// Address of the thread's first chunk of the next tile.
    source: Var<'a, U64>,
    /// Index of that chunk along k.
    k: Var<'a, U32>,
    k_end: Reg<'a, U32>,
    /// Index of that chunk along the outer dimension.
    outer: Reg<'a, U32>,
    /// Bytes of each copy that lie inside the outer dimension, constant along k: for each pass if k is contiguous, for
    /// each granule of a chunk if the outer dimension is.
    bytes: Vec<Reg<'a, U32>>,
    /// Offset of the first chunk in a slot.
    target: Reg<'a, U32>,
}

impl<'a> TileCopy<'a> {
    /// Whether `threads` threads divide the tile into whole passes, each a multiple of the swizzle's period.
    pub const fn divides(tile: SharedTile, threads: u32) -> bool {
        let rows = threads / tile.chunks();
        threads.is_multiple_of(tile.chunks())
            && rows.is_multiple_of(SharedTile::PERIOD)
            && tile.rows().is_multiple_of(rows)
    }

    /// Copies tiles of `outer_tile` × `depth` elements into the slots with `threads` threads, from outer index `outer`
    /// and from the start of the place's range of k on; elements beyond the range's end count as outside.
    pub fn new(
        asm: &'a Asm,
        matrix: Matrix,
        pointer: Global<'a, F16>,
        [outer_tile, depth]: [u32; 2],
        threads: u32,
        outer: Reg<'a, U32>,
        place: &BlockTile<'a>,
    ) -> Self {
        let BlockTile { start: k, end: k_end, thread, .. } = *place;
        let tile = SharedTile::of(matrix.major, outer_tile, depth);
        let (row, chunk) = asm.divide(thread, tile.chunks());
        let target = tile.offset(asm, row, chunk);
        let (outer, k, at) = match matrix.major {
            Major::K => {
                let (outer, k) = (outer + row, chunk.mad(CHUNK, k));
                (outer, k, outer.mul_wide(matrix.stride()) + k.to::<U64>())
            }
            Major::Outer => {
                let (outer, k) = (chunk.mad(CHUNK, outer), k + row);
                (outer, k, k.mul_wide(matrix.stride()) + outer.to::<U64>())
            }
        };
        let source = pointer.at_wide(at).to_var();
        let (rows, granule) = (threads / tile.chunks(), matrix.granule());
        let along_outer = match (matrix.major, granule) {
            (_, 1) => 0..0,
            (Major::K, _) => 0..tile.rows() / rows,
            (Major::Outer, _) => 0..CHUNK / granule,
        };
        let step = if matrix.major == Major::K { rows } else { granule };
        let bytes =
            along_outer.map(|i| asm.select((outer + i * step).lt(matrix.outer), granule * 2, 0)).collect();
        Self { asm, matrix, tile, threads, depth, source, k: asm.var(k), k_end, outer, bytes, target }
    }

    fn rows_a_pass(&self) -> u32 {
        self.threads / self.tile.chunks()
    }

    /// Starts asynchronous copies; a granule lies inside or outside as a whole.
    fn copy_by_granules(&self, granule: u32, to: Shared<'a, F16>, from: Global<'a, F16>) {
        let asm = self.asm;
        let rows = self.rows_a_pass();
        let passes = self.tile.rows() / rows;
        let along_k = match self.matrix.major {
            Major::K => (0..CHUNK).step_by(granule as usize),
            Major::Outer => (0..passes * rows).step_by(rows as usize),
        };
        let inside: Vec<_> = along_k.map(|further| (self.k + further).lt(self.k_end)).collect();
        for pass in 0..passes {
            let to = to.plus_bytes((pass * rows * self.tile.row_bytes()).into());
            let from = from.plus(i64::from(pass * rows) * i64::from(self.matrix.stride()));
            for part in 0..CHUNK / granule {
                let (along_k, outer) =
                    if self.matrix.major == Major::K { (part, pass) } else { (pass, part) };
                let bytes = asm.select::<U32>(inside[along_k as usize], self.bytes[outer as usize], 0);
                let (to, from) = (to.plus((part * granule).into()), from.plus((part * granule).into()));
                copy_granule(asm, granule, to, from, bytes);
            }
        }
    }

    /// Copies rows that start at odd elements.
    fn copy_by_elements(&self, to: Shared<'a, F16>, from: Global<'a, F16>) {
        let asm = self.asm;
        asm.for_range(0, self.tile.rows(), self.rows_a_pass(), |further| {
            let from = from.at_wide(further.mul_wide(self.matrix.stride()));
            copy_elements(asm, to.at_byte(further * self.tile.row_bytes()), |j| {
                let (k, outer) = match self.matrix.major {
                    Major::K => (self.k + j, self.outer + further),
                    Major::Outer => (self.k + further, self.outer + j),
                };
                (from.plus(j.into()), k.lt(self.k_end) & outer.lt(self.matrix.outer))
            });
        });
    }
}

impl<'a> Source<'a> for TileCopy<'a> {
    fn issue(&self, slot: Shared<'a, F16>) {
        let to = slot.at_byte(self.target);
        let from = Global::follow(self.source);
        match self.matrix.granule() {
            1 => self.copy_by_elements(to, from),
            granule => self.copy_by_granules(granule, to, from),
        }
        let tile_elements = match self.matrix.major {
            Major::K => u64::from(self.depth),
            Major::Outer => u64::from(self.depth) * u64::from(self.matrix.stride()),
        };
        self.source.add(tile_elements * 2);
        self.k.add(self.depth);
    }
}
