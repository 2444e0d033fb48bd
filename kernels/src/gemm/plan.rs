//! From a size to kernels: which tile, and how many parts k is split into.

use super::{Epilogue, kernel::matrix_kernel, split::reduce_kernel};
use crate::{
    Error, Kernel, Result, Target,
    tile::{Major, Matrix, SharedTile, Staging, TileCopy, TileShape},
};

/// A product: C [m, n] = f(A·B). A is stored as [m, k] ([`Major::K`]) or [k, m] ([`Major::Outer`]), B as [n, k]
/// ([`Major::K`], a linear layer's weight) or [k, n] ([`Major::Outer`]); all row-major without gaps, starting at
/// multiples of 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Gemm {
    /// Rows of C.
    pub m: u32,
    /// Columns of C.
    pub n: u32,
    /// What is summed over.
    pub k: u32,
    /// A's layout.
    pub a: Major,
    /// B's layout.
    pub b: Major,
    /// What happens to the sums.
    pub epilogue: Epilogue,
}

/// The kernels of a product, to be launched in order, all with the same arguments: A, B, the bias and the residual where
/// the epilogue has them, C, and the workspace where it is not empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// One kernel, or the split product and the reduction of its parts.
    pub kernels: Vec<Kernel>,
    /// Bytes of the workspace; 0 where k is not split.
    pub workspace: u64,
}

/// How a product is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cut {
    pub shape: TileShape,
    /// Parts of k, each summed by blocks of its own.
    pub splits: u32,
    /// Tiles along k of a part.
    pub tiles: u32,
}

/// The tiles to choose from, the most reuse first.
const SHAPES: [TileShape; 5] = [
    TileShape { m: 128, n: 256, k: 32, warps_m: 2, warps_n: 4, stages: 4 },
    TileShape { m: 128, n: 128, k: 32, warps_m: 2, warps_n: 2, stages: 4 },
    TileShape { m: 64, n: 128, k: 32, warps_m: 2, warps_n: 2, stages: 4 },
    TileShape { m: 64, n: 64, k: 64, warps_m: 2, warps_n: 2, stages: 4 },
    TileShape { m: 32, n: 64, k: 64, warps_m: 1, warps_n: 2, stages: 4 },
];

/// Multiprocessors that a cut is chosen for: an H100's 132; an A100 has 108.
const MULTIPROCESSORS: u64 = 132;

/// Shared memory of a multiprocessor that blocks can have, an A100's: 164 KiB less 1 KiB a block.
const SHARED_BYTES: u32 = 160 * 1024;

/// Multiply-accumulates a multiprocessor does in a cycle with `mma.sync` (an A100's rate; an H100 reaches twice that
/// with wgmma alone), and bytes of L2 it reads in a cycle: what a tile's time is estimated from.
const MACS_A_CYCLE: u64 = 1024;
const L2_BYTES_A_CYCLE: u64 = 48;

/// Cycles that a block takes before and after its main loop, and those of a second launch.
const BLOCK_CYCLES: u64 = 1500;
const LAUNCH_CYCLES: u64 = 4000;

/// Bytes of device memory a cycle of the whole chip.
const MEMORY_BYTES_A_CYCLE: u64 = 1600;

impl Gemm {
    /// The kernels.
    ///
    /// # Errors
    /// A size of 0, or a matrix of 2³¹ elements or more.
    pub fn plan(&self, target: Target) -> Result<Plan> {
        let Self { m, n, k, .. } = *self;
        let largest = [(m, n), (m, k), (n, k)].map(|(x, y)| u64::from(x) * u64::from(y)).into_iter().max();
        if m == 0 || n == 0 || k == 0 || largest >= Some(1 << 31) {
            let message =
                format!("m {m}, n {n}, k {k}: sizes start at 1 and matrices end below 2³¹ elements");
            return Err(Error::new("gemm", message));
        }
        let cut = self.cut();
        let workspace =
            if cut.splits > 1 { 4 * u64::from(cut.splits) * u64::from(m) * u64::from(n) } else { 0 };
        let mut kernels = vec![matrix_kernel(self, cut, target)];
        if cut.splits > 1 {
            kernels.push(reduce_kernel(self, cut.splits, target));
        }
        Ok(Plan { kernels, workspace })
    }

    pub(super) fn a_matrix(&self) -> Matrix {
        Matrix { outer: self.m, k: self.k, major: self.a }
    }

    pub(super) fn b_matrix(&self) -> Matrix {
        Matrix { outer: self.n, k: self.k, major: self.b }
    }

    /// The cut that is estimated to take the fewest cycles.
    fn cut(&self) -> Cut {
        let cuts = SHAPES.into_iter().filter(|shape| self.fits(*shape)).flat_map(|shape| {
            let tiles = self.k.div_ceil(shape.k);
            [1, 2, 3, 4, 6, 8, 12, 16, 24, 32].into_iter().map(move |parts: u32| {
                // Parts of whole tiles, none of them empty.
                let a_part = tiles.div_ceil(parts.min(tiles));
                Cut { shape, splits: tiles.div_ceil(a_part), tiles: a_part }
            })
        });
        // The last shape fits every product.
        cuts.min_by_key(|cut| self.cycles(*cut)).unwrap_or(Cut {
            shape: SHAPES[4],
            splits: 1,
            tiles: self.k.div_ceil(64),
        })
    }

    /// Whether the block's threads copy the operands' tiles in whole passes.
    fn fits(&self, shape: TileShape) -> bool {
        let tile = |major, outer| SharedTile::of(major, outer, shape.k);
        [tile(self.a, shape.m), tile(self.b, shape.n)]
            .into_iter()
            .all(|tile| tile.is_sound() && TileCopy::divides(tile, shape.threads()))
            && Staging::bytes(shape) <= shape.stages * (shape.m + shape.n) * shape.k * 2
    }

    /// An estimate of the whole product's cycles.
    fn cycles(&self, cut: Cut) -> u64 {
        let Cut { shape, splits, tiles } = cut;
        let [m, n, k] = [shape.m, shape.n, shape.k].map(u64::from);
        let stage_bytes = 2 * (shape.m + shape.n) * shape.k;
        let by_shared = SHARED_BYTES / (stage_bytes * shape.stages);
        let by_registers = 512 / shape.threads();
        let resident = u64::from(by_shared.min(by_registers).max(1));
        let blocks =
            u64::from(self.m.div_ceil(shape.m)) * u64::from(self.n.div_ceil(shape.n)) * u64::from(splits);
        let a_tile = (m * n * k).div_ceil(MACS_A_CYCLE).max(u64::from(stage_bytes) / L2_BYTES_A_CYCLE);
        // Blocks that share a multiprocessor share its rate; one alone cannot hide all its latencies.
        let waves = blocks.div_ceil(MULTIPROCESSORS * resident);
        let in_a_wave = blocks.div_ceil(MULTIPROCESSORS).min(resident);
        let alone = if in_a_wave * u64::from(shape.threads()) < 256 { 2 } else { 1 };
        let compute = waves * (u64::from(tiles) * a_tile * in_a_wave * alone + BLOCK_CYCLES);
        let [m, n, k] = [self.m, self.n, self.k].map(u64::from);
        let memory = 2 * (m * k + n * k) / MEMORY_BYTES_A_CYCLE;
        let parts = 8 * u64::from(splits) * m * n / MEMORY_BYTES_A_CYCLE + LAUNCH_CYCLES;
        compute.max(memory) + if splits > 1 { parts } else { 0 }
    }
}
