//! Tiles of an operand that is a matrix only in thought: the patches of images, each read where it lies.

use super::{
    Major, SharedTile, TileCopy,
    chunk::{copy_elements, copy_granule, granule},
    product::{BlockTile, Source},
    shared::CHUNK,
};
use crate::ptx::{Asm, F16, Global, Pred, Reg, S32, Shared, U32, Var};

/// What one of an operand's two indices says of where an element lies. An element's offset is the sum of both indices'
/// parts, and so are its coordinates in the image.
#[derive(Clone, Copy)]
pub struct Part<'a> {
    /// Elements from the operand's first.
    pub offset: Reg<'a, S32>,
    /// Row and column of the image, which may lie outside of it; none where there is no border.
    pub at: Option<[Reg<'a, S32>; 2]>,
    /// Whether the index is inside its range.
    pub inside: Reg<'a, Pred>,
}

/// An operand whose elements are found by arithmetic on its indices.
pub trait Gather<'a> {
    /// Which index is contiguous, for runs of [`Gather::run`] elements.
    fn major(&self) -> Major;
    /// Elements along the contiguous index that lie side by side, inside or outside as a whole: a multiple of what a copy
    /// takes at once, starting at multiples of it.
    fn run(&self) -> u32;
    /// Height and width of the image that coordinates are in.
    fn image(&self) -> [u32; 2];
    /// What the outer index (along m or n) says.
    fn outer(&self, asm: &'a Asm, index: Reg<'a, U32>) -> Part<'a>;
    /// What the index along k says; whether it is inside is for the copy to say.
    fn depth(&self, asm: &'a Asm, index: Reg<'a, U32>) -> Part<'a>;
}

/// A thread's share in copying tiles of a gathered operand.
pub struct GatherCopy<'a, G> {
    asm: &'a Asm,
    gather: G,
    pointer: Global<'a, F16>,
    tile: SharedTile,
    threads: u32,
    depth: u32,
    /// The thread's index along k in the next tile.
    k: Var<'a, U32>,
    k_end: Reg<'a, U32>,
    /// The thread's first outer index.
    outer: Reg<'a, U32>,
    /// What the outer index says, which never changes: for each pass where k is contiguous, for each granule of a chunk
    /// where the outer index is.
    parts: Vec<Part<'a>>,
    /// Where the thread's first chunk goes in a slot.
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

    /// Elements of one asynchronous copy: 8, 4 or 2; 1 where none can.
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

    /// Where two parts meet: the element's address and whether it exists.
    fn element(&self, outer: Part<'a>, depth: Part<'a>) -> (Global<'a, F16>, Reg<'a, Pred>) {
        let mut inside = outer.inside & depth.inside;
        if let (Some(a), Some(b)) = (outer.at, depth.at) {
            for ((a, b), size) in a.into_iter().zip(b).zip(self.gather.image()) {
                // A negative coordinate is a large number without its sign.
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
