//! Asynchronous copies, and the matrix instructions of a warp.

use super::operand::{Address, Loc, Pred, Value};
use crate::numerics::Rounding;
use crate::numerics::mma::Factor;
use crate::numerics::products::Dot;
use crate::numerics::small::Eight;

/// Asynchronous copies; each lane runs them by itself.
#[derive(Debug, Clone)]
pub(crate) enum AsyncCopy {
    /// `cp.async`: a copy of one lane.
    Copy {
        /// Destination in shared memory.
        to: Address,
        /// Source in global memory.
        from: Address,
        /// Number of bytes to write.
        bytes: u32,
        /// Bytes to read; the rest is written as zeros.
        source_bytes: Loc,
        /// If true, the copy reads nothing and writes zeros.
        ignore_source: Pred,
    },
    /// `cp.async.commit_group`: closes the current group.
    Commit,
    /// `cp.async.wait_group`: the number of newest groups that may still be pending.
    Wait(u32),
    /// `cp.async.wait_all`: waits for all copies.
    WaitAll,
}

/// Matrix instructions; the whole warp must run them together.
#[derive(Debug, Clone)]
pub(crate) enum Matrix {
    /// `ldmatrix`: loads 8×8 matrices.
    Load(Matrices),
    /// `stmatrix`: stores 8×8 matrices.
    Store(Matrices),
    /// `movmatrix`: destination and source.
    Transpose(Loc, Loc),
    /// `wmma.load`, `wmma.store`: a fragment's transfer.
    Fragment(Fragment),
    /// `mma`: a matrix product.
    Multiply(Multiply),
}

/// The operands of `ldmatrix` and `stmatrix`: matrices of 8×8 16-bit elements.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Matrices {
    /// Number of matrices: 1, 2 or 4.
    pub count: usize,
    pub transposed: bool,
    /// One register for each matrix.
    pub registers: [Loc; 4],
    /// Lane i supplies the address of row i mod 8 of matrix i / 8.
    pub address: Address,
}

/// Element types of an `mma`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Product {
    /// f16, bf16 or tf32, accumulated in f32.
    Single(Factor),
    /// f16, accumulated in f16.
    Half,
    /// 8-bit floats, accumulated in f32.
    Eights([Eight; 2]),
    /// 8-bit floats, accumulated in f16.
    EightsHalf([Eight; 2]),
    /// Integers or bits, accumulated in s32; true for `.satfinite`.
    Integers(Dot, bool),
    /// f64, accumulated in f64; the registers have 64 bits.
    Doubles(Rounding),
}

/// D = A·B + C of `mma`, with 8 or 16 rows and 8 columns.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Multiply {
    pub product: Product,
    /// Number of registers of A, of B, and of C and D.
    pub counts: [usize; 3],
    /// Registers of the result D.
    pub to: [Loc; 4],
    pub left: [Loc; 8],
    /// Registers of the factor B.
    pub right: [Loc; 4],
    /// Registers of the addend C.
    pub sum: [Loc; 4],
    /// Number of multiply-accumulates of the instruction.
    pub macs: u64,
}

/// A matrix of `wmma.load` or `wmma.store`, in memory and in registers.
/// A lane holds runs of elements. The first element of a run is at row `units[i].0 + lane / 4` and column `units[i].1 +
/// lane mod 4 · run` of the matrix in `mma`'s layout; the others are in the columns that follow.
#[derive(Debug, Clone)]
pub(crate) struct Fragment {
    /// Whether it stores to memory instead of loading.
    pub store: bool,
    /// Address of element (0, 0).
    pub address: Address,
    /// Distance between neighbouring rows (or columns) in memory, in elements.
    pub stride: Loc,
    /// Size of an element in bits.
    pub bits: u32,
    /// Whether the elements of a run are contiguous in memory; otherwise they are `stride` apart.
    pub contiguous: bool,
    /// Number of elements of a run.
    pub run: u32,
    /// Row and column of the first element of each run of lane 0.
    pub units: Vec<(u32, u32)>,
    /// The registers, run after run.
    pub registers: Vec<Value>,
}
