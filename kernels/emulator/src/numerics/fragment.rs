//! Where the elements of a matrix lie in a warp's registers (PTX ISA, "Matrix fragments for mma.m16n8k16" and
//! "mma.m16n8k8", "ldmatrix").
//!
//! All are made of 8×8 tiles: lane `l` holds row l / 4, columns 2·(l mod 4) and the next. A 16-bit tile is one register
//! (the low half is the lower column); an f32 tile is two.

/// Row and column, within an 8×8 tile, of the element that lane `lane` holds in half `half` of its register (or, for f32,
/// in register `half` of the tile's two). `ldmatrix` loads tiles so; with `.trans`, row and column change places.
#[inline(always)]
pub(crate) const fn in_tile(lane: usize, half: usize) -> (usize, usize) {
    (lane / 4, lane % 4 * 2 + half)
}

/// Row (of 16) and column k of A's element in half `half` of register `register`. k = 16 has four registers, k = 8 two.
#[inline(always)]
pub(crate) const fn a(lane: usize, register: usize, half: usize) -> (usize, usize) {
    let (row, column) = in_tile(lane, half);
    (row + register % 2 * 8, column + register / 2 * 8)
}

/// Row k and column (of 8) of B's element in half `half` of register `register`. k = 16 has two registers, k = 8 one.
#[inline(always)]
pub(crate) const fn b(lane: usize, register: usize, half: usize) -> (usize, usize) {
    let (column, row) = in_tile(lane, half);
    (row + register * 8, column)
}

/// Row (of 16) and column (of 8) of the accumulator in f32 register `register` of four; or, for f16, in half
/// `register % 2` of register `register / 2`.
#[inline(always)]
pub(crate) const fn accumulator(lane: usize, register: usize) -> (usize, usize) {
    let (row, column) = in_tile(lane, register % 2);
    (row + register / 2 * 8, column)
}
