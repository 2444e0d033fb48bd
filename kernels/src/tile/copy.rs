//! Copies of an operand's tiles from global to shared memory, 16-byte chunks dealt out to the block's threads.

use super::{Major, SharedTile, shared::CHUNK};
use crate::ptx::{Asm, F16, F16x2, Global, Operand, Pred, Reg, Shared, U16, U32, U64, Var};

/// An operand in global memory: `outer` × `k` halves, contiguous along its [`Major`].
#[derive(Debug, Clone, Copy)]
pub struct Matrix {
    /// Size along m or n.
    pub outer: u32,
    /// Size along k.
    pub k: u32,
    /// Which of them is contiguous.
    pub major: Major,
}

impl Matrix {
    /// Elements from one row to the next.
    pub fn stride(self) -> u32 {
        match self.major {
            Major::K => self.k,
            Major::Outer => self.outer,
        }
    }

    /// Elements of one asynchronous copy, as the rows' alignment allows: 8, 4 or 2. 1 where a row starts at an odd
    /// element, which no asynchronous copy can.
    fn granule(self) -> u32 {
        1 << self.stride().trailing_zeros().min(3)
    }
}

/// A thread's share in copying one operand, tile after tile along k. Elements outside the matrix become zeros.
pub struct TileCopy<'k> {
    asm: &'k Asm,
    matrix: Matrix,
    tile: SharedTile,
    threads: u32,
    /// Elements along k from one tile to the next.
    depth: u32,
    /// The thread's first chunk of the next tile.
    source: Var<'k, U64>,
    /// Its index along k.
    k: Var<'k, U32>,
    k_end: Reg<'k, U32>,
    /// Its index along the outer dimension.
    outer: Reg<'k, U32>,
    /// Where it goes in a slot.
    target: Reg<'k, U32>,
}

impl<'k> TileCopy<'k> {
    /// Whether `threads` threads divide the tile into whole passes, each a multiple of the swizzle's period.
    pub const fn divides(tile: SharedTile, threads: u32) -> bool {
        let rows = threads / tile.chunks();
        threads.is_multiple_of(tile.chunks())
            && rows.is_multiple_of(SharedTile::PERIOD)
            && tile.rows().is_multiple_of(rows)
    }

    /// Copies tiles of `outer_tile` × `depth` elements, the first at (`outer`, `k`), of which elements from `k_end` on
    /// count as outside.
    #[expect(clippy::too_many_arguments, reason = "a tile has two sizes, two origins and an end")]
    pub fn new(
        asm: &'k Asm,
        matrix: Matrix,
        pointer: Global<'k, F16>,
        [outer_tile, depth]: [u32; 2],
        threads: u32,
        thread: Reg<'k, U32>,
        [outer, k, k_end]: [Reg<'k, U32>; 3],
    ) -> Self {
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
        Self { asm, matrix, tile, threads, depth, source, k: asm.var(k), k_end, outer, target }
    }

    /// Bytes of a slot that the tile takes.
    pub fn bytes(&self) -> u32 {
        self.tile.bytes()
    }

    /// Starts the copy of the next tile to `slot` and moves on.
    pub fn issue(&self, slot: Shared<'k, F16>) {
        let (asm, stride) = (self.asm, self.matrix.stride());
        let rows = self.threads / self.tile.chunks();
        let to = slot.at_byte(self.target);
        let from = Global::follow(self.source);
        match self.matrix.granule() {
            1 => asm.for_range(0, self.tile.rows(), rows, |further| {
                let at = from.at_wide(further.mul_wide(stride));
                self.chunk_by_elements(to.at_byte(further * self.tile.row_bytes()), at, further);
            }),
            granule => {
                for further in (0..self.tile.rows()).step_by(rows as usize) {
                    let to = to.plus_bytes((further * self.tile.row_bytes()).into());
                    self.chunk(granule, to, from.plus(i64::from(further) * i64::from(stride)), further);
                }
            }
        }
        let tile_elements = match self.matrix.major {
            Major::K => u64::from(self.depth),
            Major::Outer => u64::from(self.depth) * u64::from(stride),
        };
        self.source.add(tile_elements * 2);
        self.k.add(self.depth);
    }

    /// Whether element `j` of the chunk `further` rows below the thread's first lies inside.
    fn inside(&self, j: u32, further: impl Operand<'k, U32>) -> Reg<'k, Pred> {
        let (k, outer) = match self.matrix.major {
            Major::K => (self.k + j, self.outer + further),
            Major::Outer => (self.k + further, self.outer + j),
        };
        k.lt(self.k_end) & outer.lt(self.matrix.outer)
    }

    /// Starts the copies of one chunk, `further` rows below the thread's first: granules are inside or outside as a whole.
    fn chunk(&self, granule: u32, to: Shared<'k, F16>, from: Global<'k, F16>, further: u32) {
        for j in (0..CHUNK).step_by(granule as usize) {
            let bytes = self.asm.select::<U32>(self.inside(j, further), granule * 2, 0);
            let (to, from) = (to.plus(j.into()), from.plus(j.into()));
            match granule {
                CHUNK => self.asm.copy_async_16_zero_fill(to, from, bytes),
                _ => self.asm.copy_async_small(to, from, granule * 2, bytes),
            }
        }
    }

    /// Copies a chunk whose elements no asynchronous copy can take.
    fn chunk_by_elements(&self, to: Shared<'k, F16>, from: Global<'k, F16>, further: Reg<'k, U32>) {
        let asm = self.asm;
        let halves = std::array::from_fn::<_, { CHUNK as usize }, _>(|j| {
            let half = asm.var::<U16>(0u16);
            asm.when(self.inside(j as u32, further), || half.set(from.cast::<U16>().plus(j as i64).load()));
            half.get().bits_as::<F16>()
        });
        let pair = |i: usize| asm.pair([halves[2 * i], halves[2 * i + 1]]);
        to.cast::<F16x2>().store_vector([pair(0), pair(1), pair(2), pair(3)]);
    }
}
