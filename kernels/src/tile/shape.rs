//! The division of a product among a block and its warps.

/// A block computes m × n outputs, with k elements of depth per stage; its warps divide m and n.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TileShape {
    /// Number of rows per block.
    pub m: u32,
    /// Number of columns per block.
    pub n: u32,
    /// Depth of a stage in elements; a multiple of 32.
    pub k: u32,
    /// Number of warps along m.
    pub warps_m: u32,
    /// Number of warps along n.
    pub warps_n: u32,
    /// Stages of the copy pipeline.
    pub stages: u32,
}

impl TileShape {
    /// Number of threads per block.
    pub const fn threads(self) -> u32 {
        self.warps_m * self.warps_n * 32
    }

    /// Number of rows per warp.
    pub const fn warp_m(self) -> u32 {
        self.m / self.warps_m
    }

    /// Number of columns per warp.
    pub const fn warp_n(self) -> u32 {
        self.n / self.warps_n
    }

    /// Number of `mma` steps through a stage's depth.
    pub const fn steps(self) -> u32 {
        self.k / 16
    }
}
