//! How a block and its warps divide a product.

/// A block computes m × n outputs, k deep a stage; its warps divide m and n between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TileShape {
    /// Rows of a block.
    pub m: u32,
    /// Columns of a block.
    pub n: u32,
    /// Depth of a stage; a multiple of 32.
    pub k: u32,
    /// Warps along m.
    pub warps_m: u32,
    /// Warps along n.
    pub warps_n: u32,
    /// Stages of the copy pipeline.
    pub stages: u32,
}

impl TileShape {
    /// Threads of a block.
    pub const fn threads(self) -> u32 {
        self.warps_m * self.warps_n * 32
    }

    /// Rows of a warp.
    pub const fn warp_m(self) -> u32 {
        self.m / self.warps_m
    }

    /// Columns of a warp.
    pub const fn warp_n(self) -> u32 {
        self.n / self.warps_n
    }

    /// Steps of `mma` through a stage's depth.
    pub const fn steps(self) -> u32 {
        self.k / 16
    }
}
