//! The cut of a product: the choice of tile, and of the number of parts of k.

use super::{Major, Product, SharedTile, Staging, TileCopy, TileShape};

/// Candidate tiles, the most reuse first.
const SHAPES: [TileShape; 5] = [
    TileShape { m: 128, n: 256, k: 32, warps_m: 2, warps_n: 4, stages: 4 },
    TileShape { m: 128, n: 128, k: 32, warps_m: 2, warps_n: 2, stages: 4 },
    TileShape { m: 64, n: 128, k: 32, warps_m: 2, warps_n: 2, stages: 4 },
    TileShape { m: 64, n: 64, k: 64, warps_m: 2, warps_n: 2, stages: 4 },
    TileShape { m: 32, n: 64, k: 64, warps_m: 1, warps_n: 2, stages: 4 },
];

/// Index of the first tile of which a warp holds at most 32×32 sums.
const FRUGAL: usize = 3;

/// Number of multiprocessors to choose for: an H100's 132; an A100 has 108.
const MULTIPROCESSORS: u64 = 132;

/// Shared memory of a multiprocessor in bytes, on an A100: 164 KiB less 1 KiB per block.
const SHARED_BYTES: u32 = 160 * 1024;

/// Multiply-accumulates per cycle of a multiprocessor with `mma.sync` (an A100's rate; an H100 reaches twice that only
/// with wgmma), and its bytes of L2 traffic per cycle: the estimate of a tile's time uses both.
const MACS_A_CYCLE: u64 = 1024;
const L2_BYTES_A_CYCLE: u64 = 48;

/// Cycles of a block before and after its main loop, and cycles of a second launch.
const BLOCK_CYCLES: u64 = 1500;
const LAUNCH_CYCLES: u64 = 4000;

/// Device memory traffic of the chip in bytes per cycle.
const MEMORY_BYTES_A_CYCLE: u64 = 1600;

/// Candidate numbers of parts of k.
const PARTS: [u32; 10] = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32];

impl Product {
    /// The cut of C [m, n] = A·B over k with the fewest estimated cycles.
    pub fn choose([m, n, k]: [u32; 3], majors: [Major; 2]) -> Self {
        Self::cheapest([m, n, k], majors, &PARTS, &SHAPES)
    }

    /// As [`Product::choose`], with k in one part.
    pub fn choose_whole([m, n, k]: [u32; 3], majors: [Major; 2]) -> Self {
        Self::cheapest([m, n, k], majors, &PARTS[..1], &SHAPES)
    }

    /// As [`Product::choose`], for copies that need many registers: only tiles of which a warp holds few sums.
    pub fn choose_frugal([m, n, k]: [u32; 3], majors: [Major; 2]) -> Self {
        Self::cheapest([m, n, k], majors, &PARTS[..1], &SHAPES[FRUGAL..])
    }

    fn cheapest([m, n, k]: [u32; 3], majors: [Major; 2], parts: &[u32], shapes: &[TileShape]) -> Self {
        let cut = |shape: TileShape, parts: u32| {
            // All parts have whole tiles, and no part is empty.
            let tiles = k.div_ceil(shape.k);
            let a_part = tiles.div_ceil(parts.min(tiles).max(1));
            let splits = if a_part == 0 { 1 } else { tiles.div_ceil(a_part) };
            Self { m, n, k, majors, shape, splits, tiles: a_part }
        };
        let cuts = shapes.iter().flat_map(|&shape| parts.iter().map(move |&parts| cut(shape, parts)));
        // The last shape fits every product.
        let last = cut(SHAPES[SHAPES.len() - 1], 1);
        cuts.filter(Self::fits).min_by_key(Self::cycles).unwrap_or(last)
    }

    /// Size of the parts' sums in bytes, f32 [splits, m, n]; 0 if k is in one part.
    pub fn workspace(&self) -> u64 {
        if self.splits > 1 { 4 * u64::from(self.splits) * u64::from(self.m) * u64::from(self.n) } else { 0 }
    }

    /// Whether the block's threads copy the operands' tiles in whole passes.
    fn fits(&self) -> bool {
        let (shape, [a, b]) = (self.shape, self.majors);
        let tile = |major, outer| SharedTile::of(major, outer, shape.k);
        [tile(a, shape.m), tile(b, shape.n)]
            .into_iter()
            .all(|tile| tile.is_sound() && TileCopy::divides(tile, shape.threads()))
            && Staging::bytes(shape) <= shape.stages * (shape.m + shape.n) * shape.k * 2
    }

    /// Estimated cycles of the whole product.
    fn cycles(&self) -> u64 {
        let Self { shape, splits, tiles, .. } = *self;
        let [m, n, k] = [shape.m, shape.n, shape.k].map(u64::from);
        let stage_bytes = 2 * (shape.m + shape.n) * shape.k;
        let by_shared = SHARED_BYTES / (stage_bytes * shape.stages);
        let by_registers = 512 / shape.threads();
        let resident = u64::from(by_shared.min(by_registers).max(1));
        let blocks =
            u64::from(self.m.div_ceil(shape.m)) * u64::from(self.n.div_ceil(shape.n)) * u64::from(splits);
        let a_tile = (m * n * k).div_ceil(MACS_A_CYCLE).max(u64::from(stage_bytes) / L2_BYTES_A_CYCLE);
        // Blocks that share a multiprocessor share its rate; a single block cannot hide all its latencies.
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
