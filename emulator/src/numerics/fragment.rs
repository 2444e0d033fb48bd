//! Layout of matrix elements in a warp's registers (PTX ISA, "Matrix fragments for mma.m16n8k16" and similar sections,
//! "ldmatrix").
//!
//! All are made of tiles of 8 rows whose rows fill 4 registers: lane `l` holds of row l / 4 the part l mod 4. A register has
//! `per` elements (2 of 16 bits, 4 of 8, 1 of 32; a 64-bit register has 1 f64), the lowest bits first. An f32 accumulator
//! tile has 8 columns, and so two registers a lane.

/// Row and column, within an 8×8 tile, of the element in half `half` of the register of lane `lane` (or, for f32, in
/// register `half` of the tile's two). `ldmatrix` loads tiles in this layout; `.trans` exchanges row and column.
#[inline(always)]
pub(crate) const fn in_tile(lane: usize, half: usize) -> (usize, usize) {
    (lane / 4, lane % 4 * 2 + half)
}

/// Row (of 16) and column k of A's element in part `part` of register `register`. Registers alternate between the upper and
/// the lower 8 rows.
#[inline(always)]
pub(crate) const fn a(per: usize, lane: usize, register: usize, part: usize) -> (usize, usize) {
    (lane / 4 + register % 2 * 8, (lane % 4 + register / 2 * 4) * per + part)
}

/// Row k and column (of 8) of B's element in part `part` of register `register`.
#[inline(always)]
pub(crate) const fn b(per: usize, lane: usize, register: usize, part: usize) -> (usize, usize) {
    ((lane % 4 + register * 4) * per + part, lane / 4)
}

/// Row (of 16) and column (of 8) of the accumulator in f32 register `register` of four; or, for f16, in half
/// `register % 2` of register `register / 2`.
#[inline(always)]
pub(crate) const fn accumulator(lane: usize, register: usize) -> (usize, usize) {
    let (row, column) = in_tile(lane, register % 2);
    (row + register / 2 * 8, column)
}
