//! A tile of f16 elements in shared memory.

use crate::ptx::{Asm, Reg, U32};

/// Halves of a 16-byte chunk, the unit of copies and of `ldmatrix` rows.
pub(crate) const CHUNK: u32 = 8;

/// The axis of an operand that is contiguous.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Major {
    /// The axis of the sum: A as [m, k], B as [n, k].
    K,
    /// The other axis: A as [k, m], B as [k, n].
    Outer,
}

/// The layout of a tile of halves: rows of 16-byte chunks, where chunk c of row r is stored at place c XOR f(r). So
/// eight rows' chunks of one column (read at once by `ldmatrix`) and eight chunks of one row (written at once by a
/// copy) both use eight different groups of four banks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SharedTile {
    rows: u32,
    chunks: u32,
}

impl SharedTile {
    /// Rows after which the swizzle repeats.
    pub const PERIOD: u32 = 8;

    /// A tile of `rows` rows of `columns` halves; 8, 16, 32 or a multiple of 64 columns.
    pub const fn new(rows: u32, columns: u32) -> Self {
        Self { rows, chunks: columns / CHUNK }
    }

    /// The tile of an operand, of `outer` by `k` elements.
    pub const fn of(major: Major, outer: u32, k: u32) -> Self {
        match major {
            Major::K => Self::new(outer, k),
            Major::Outer => Self::new(k, outer),
        }
    }

    /// Whether the swizzle stays within a row.
    pub const fn is_sound(self) -> bool {
        self.chunks > 0
            && (self.chunks.is_multiple_of(8) || (self.chunks < 8 && self.chunks.is_power_of_two()))
    }

    /// Number of rows of the tile.
    pub const fn rows(self) -> u32 {
        self.rows
    }

    /// Chunks of 16 bytes per row.
    pub const fn chunks(self) -> u32 {
        self.chunks
    }

    /// Size of a row in bytes.
    pub const fn row_bytes(self) -> u32 {
        self.chunks * CHUNK * 2
    }

    /// Size of the tile in bytes.
    pub const fn bytes(self) -> u32 {
        self.rows * self.row_bytes()
    }

    /// Offset in bytes of a row's chunk. Rows [`SharedTile::PERIOD`] further down lie that many
    /// [`SharedTile::row_bytes`] later.
    pub fn offset<'a>(self, _: &'a Asm, row: Reg<'a, U32>, chunk: Reg<'a, U32>) -> Reg<'a, U32> {
        // Rows narrower than 128 bytes share a line of banks, so the swizzle changes once a line.
        let width = if self.chunks < 8 { self.chunks } else { 8 };
        let place =
            if width == 1 { chunk } else { chunk ^ ((row >> (8 / width).trailing_zeros()) & (width - 1)) };
        row.mad(self.row_bytes(), place << 4)
    }
}
