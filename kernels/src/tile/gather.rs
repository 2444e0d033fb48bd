//! Tiles of an operand that is not stored as a matrix: patches of images, gathered from the images.

use super::{
    Major, SharedTile, TileCopy,
    chunk::{copy_elements, copy_granule, granule},
    product::{BlockTile, Source},
    shared::CHUNK,
};
use crate::ptx::{Asm, F16, Global, Pred, Reg, S32, Shared, U32, Var};

/// The contribution of one of an operand's two indices to an element's position. The offset of an element is the sum of
/// both contributions, and so are its coordinates in the image.
#[derive(Clone, Copy)]
pub struct Part<'a> {
    /// Offset from the operand's first element, in elements.
    pub offset: Reg<'a, S32>,
    /// Row and column of the image, which may lie outside of it; `None` if there is no border.
    pub at: Option<[Reg<'a, S32>; 2]>,
    /// Whether the index is inside its range.
    pub inside: Reg<'a, Pred>,
}

/// An operand whose element positions are computed from its indices.
pub trait Gather<'a> {
    /// The index that is contiguous, in runs of [`Gather::run`] elements.
    fn major(&self) -> Major;
    /// Length of contiguous runs, which lie inside or outside as a whole: a multiple of a copy's elements, starting at
    /// a multiple of it.
    fn run(&self) -> u32;
    /// Height and width of the image that the coordinates refer to.
    fn image(&self) -> [u32; 2];
    /// The contribution of the outer index (along m or n).
    fn outer(&self, asm: &'a Asm, index: Reg<'a, U32>) -> Part<'a>;
    /// The contribution of the index along k; the copy itself checks whether that index is inside.
    fn depth(&self, asm: &'a Asm, index: Reg<'a, U32>) -> Part<'a>;
}

/// A thread's part of the copies of a gathered operand's tiles.
pub struct GatherCopy<'a, G> {
    asm: &'a Asm,
    gather: G,
    pointer: Global<'a, F16>,
    tile: SharedTile,
    threads: u32,
    depth: u32,
    /// Index along k in the next tile.
    k: Var<'a, U32>,
    k_end: Reg<'a, U32>,
    /// First outer index of the thread.
    outer: Reg<'a, U32>,
    /// Contributions of the outer index, constant along k: for each pass if k is contiguous, for each granule of a
    /// chunk if the outer index is.
    parts: Vec<Part<'a>>,
    /// Offset of the thread's first chunk in a slot.
    target: Reg<'a, U32>,
}

impl<'a, G: Gather<'a>> GatherCopy<'a, G> {
    /// Copies tiles of `outer_tile` × `depth` elements, as [`TileCopy::new`].
    pub fn new(
        asm: &'a Asm,
        gather: G,
        pointer: Global<'a, F16>,
        [outer_tile, depth]: [u32; 2],
        threads: u32,
        outer: Reg<'a, U32>,
        place: &BlockTile<'a>,
    ) -> Self {
        let tile = SharedTile::of(gather.major(), outer_tile, depth);
        debug_assert!(TileCopy::divides(tile, threads));
        let (row, chunk) = asm.divide(place.thread, tile.chunks());
        let target = tile.offset(asm, row, chunk);
        let (outer, k) = match gather.major() {
            Major::K => (outer + row, chunk.mad(CHUNK, place.start)),
            Major::Outer => (chunk.mad(CHUNK, outer), place.start + row),
        };
        let mut copy = Self {
            asm,
            gather,
            pointer,
            tile,
            threads,
            depth,
            k: asm.var(k),
            k_end: place.end,
            outer,
            parts: Vec::new(),
            target,
        };
        copy.parts = copy.along_outer().map(|i| copy.gather.outer(asm, outer + i)).collect();
        copy
    }

    /// Elements per asynchronous copy: 8, 4 or 2; 1 if none is possible.
    fn granule(&self) -> u32 {
        granule(self.gather.run())
    }

    fn rows_a_pass(&self) -> u32 {
        self.threads / self.tile.chunks()
    }

    /// The steps of the outer index in a tile.
    fn along_outer(&self) -> impl Iterator<Item = u32> + use<'a, G> {
        let (end, step) = match (self.gather.major(), self.granule()) {
            (_, 1) => (0, 1),
            (Major::K, _) => (self.tile.rows(), self.rows_a_pass()),
            (Major::Outer, granule) => (CHUNK, granule),
        };
        (0..end).step_by(step as usize)
    }

    /// The steps of the index along k in a tile.
    fn along_k(&self) -> impl Iterator<Item = u32> + use<'a, G> {
        let (end, step) = match self.gather.major() {
            Major::K => (CHUNK, self.granule()),
            Major::Outer => (self.tile.rows(), self.rows_a_pass()),
        };
        (0..end).step_by(step as usize)
    }

    /// Combines two contributions: the element's address and whether it exists.
    fn element(&self, outer: Part<'a>, depth: Part<'a>) -> (Global<'a, F16>, Reg<'a, Pred>) {
        let mut inside = outer.inside & depth.inside;
        if let (Some(a), Some(b)) = (outer.at, depth.at) {
            for ((a, b), size) in a.into_iter().zip(b).zip(self.gather.image()) {
                // As an unsigned number, a negative coordinate is large.
                inside = inside & (a + b).bits_as::<U32>().lt(size);
            }
        }
        (self.pointer.at_signed(outer.offset + depth.offset), inside)
    }

    fn depth_part(&self, index: Reg<'a, U32>) -> Part<'a> {
        let part = self.gather.depth(self.asm, index);
        Part { inside: part.inside & index.lt(self.k_end), ..part }
    }

    fn copy_by_granules(&self, granule: u32, to: Shared<'a, F16>) {
        let asm = self.asm;
        let depths: Vec<_> = self.along_k().map(|further| self.depth_part(self.k + further)).collect();
        let rows = self.rows_a_pass();
        for pass in 0..self.tile.rows() / rows {
            let to = to.plus_bytes((pass * rows * self.tile.row_bytes()).into());
            for part in 0..CHUNK / granule {
                let (outer, depth) = match self.gather.major() {
                    Major::K => (pass, part),
                    Major::Outer => (part, pass),
                };
                let (from, inside) = self.element(self.parts[outer as usize], depths[depth as usize]);
                let bytes = asm.select::<U32>(inside, granule * 2, 0);
                let to = to.plus((part * granule).into());
                copy_granule(asm, granule, to, from, bytes);
            }
        }
    }

    fn copy_by_elements(&self, to: Shared<'a, F16>) {
        let asm = self.asm;
        asm.for_range(0, self.tile.rows(), self.rows_a_pass(), |further| {
            copy_elements(asm, to.at_byte(further * self.tile.row_bytes()), |j| {
                let (outer, depth) = match self.gather.major() {
                    Major::K => (self.outer + further, self.k + j),
                    Major::Outer => (self.outer + j, self.k + further),
                };
                self.element(self.gather.outer(asm, outer), self.depth_part(depth))
            });
        });
    }
}

impl<'a, G: Gather<'a>> Source<'a> for GatherCopy<'a, G> {
    fn issue(&self, slot: Shared<'a, F16>) {
        let to = slot.at_byte(self.target);
        match self.granule() {
            1 => self.copy_by_elements(to),
            granule => self.copy_by_granules(granule, to),
        }
        self.k.add(self.depth);
    }
}
