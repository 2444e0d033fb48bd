//! A tile of halves in shared memory.

use crate::ptx::{Asm, Reg, U32};

/// Halves of a 16-byte chunk, the unit of copies and of `ldmatrix` rows.
pub(crate) const CHUNK: u32 = 8;

/// Which index of an operand is contiguous.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Major {
    /// The one that is summed over: A as [m, k], B as [n, k].
    K,
    /// The other one: A as [k, m], B as [k, n].
    Outer,
}

/// The layout of a tile of halves: rows of 16-byte chunks, where chunk c of row r stands at place c XOR f(r), so that
/// eight rows' chunks of one column (what `ldmatrix` reads at once) and eight chunks of one row (what a copy writes at
/// once) both fall into eight different groups of four banks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SharedTile {
    rows: u32,
    chunks: u32,
}

impl SharedTile {
    /// Rows after which the swizzle repeats.
    pub const PERIOD: u32 = 8;

    /// `rows` rows of `columns` halves; a multiple of 8 columns, of which 8, 16, 32 or a multiple of 64.
    pub const fn new(rows: u32, columns: u32) -> Self {
        Self { rows, chunks: columns / CHUNK }
    }

    /// The tile of an operand, `outer` by `k` elements.
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

    /// Rows of the matrix: the product of all axes but the last.
    pub const fn rows(self) -> u32 {
        self.rows
    }

    /// Chunks of a row.
    pub const fn chunks(self) -> u32 {
        self.chunks
    }

    /// Bytes of a row.
    pub const fn row_bytes(self) -> u32 {
        self.chunks * CHUNK * 2
    }

    /// Bytes of the tile.
    pub const fn bytes(self) -> u32 {
        self.rows * self.row_bytes()
    }

    /// The byte at which a row's chunk starts. Rows [`SharedTile::PERIOD`] further down lie that many
    /// [`SharedTile::row_bytes`] further on.
    pub fn offset<'a>(self, _: &'a Asm, row: Reg<'a, U32>, chunk: Reg<'a, U32>) -> Reg<'a, U32> {
        // Rows narrower than 128 bytes share a line of banks, so the swizzle changes once a line.
        let width = if self.chunks < 8 { self.chunks } else { 8 };
        let place =
            if width == 1 { chunk } else { chunk ^ ((row >> (8 / width).trailing_zeros()) & (width - 1)) };
        row.mad(self.row_bytes(), place << 4)
    }
}
