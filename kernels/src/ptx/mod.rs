//! A macro assembler for PTX: typed registers, instructions, control flow, memory, and the text at the end.
//!
//! A kernel is a closure over an [`Asm`]. Values are registers ([`Reg`]) of a type tag ([`F32`], [`U32`], …) that
//! Rust's operators combine; loops that unroll are Rust loops, loops that run are [`Asm::for_range`]. What PTX would
//! reject, or worse, accept and misread, does not compile:
//!
//! ```
//! use ssmv_kernels::{Target, Work, ptx::{Asm, F32, Launch}};
//!
//! // y[i] = 2·x[i] + 1
//! let launch = Launch::new("affine", "affine", Target::Sm80).threads(256, 1000);
//! let kernel = Asm::kernel(launch, Work { bytes: 8000, operations: 2000 }, "y = 2x + 1", |asm| {
//!     let (x, y) = (asm.pointer::<F32>("x"), asm.pointer::<F32>("y"));
//!     let i = asm.global_thread();
//!     asm.if_(i.lt(1000), || {
//!         let v = x.at(i).load();
//!         y.at(i).store(v * 2.0 + 1.0);
//!     });
//! });
//! assert!(kernel.ptx.contains("mul.rn.f32"));
//! ```
//!
//! A float and an integer do not add:
//! ```compile_fail,E0277
//! use ssmv_kernels::ptx::{Asm, F32, U32, Reg};
//! fn wrong<'a>(x: Reg<'a, F32>, i: Reg<'a, U32>) -> Reg<'a, F32> { x + i }
//! ```
//! nor do signed and unsigned integers:
//! ```compile_fail,E0277
//! use ssmv_kernels::ptx::{S32, U32, Reg};
//! fn wrong<'a>(a: Reg<'a, U32>, b: Reg<'a, S32>) -> Reg<'a, U32> { a + b }
//! ```
//! nor integers of different widths:
//! ```compile_fail,E0277
//! use ssmv_kernels::ptx::{U32, U64, Reg};
//! fn wrong<'a>(a: Reg<'a, U64>, b: Reg<'a, U32>) -> Reg<'a, U64> { a + b }
//! ```
//! a pair of halves is not a single one:
//! ```compile_fail,E0277
//! use ssmv_kernels::ptx::{F16, F16x2, Reg};
//! fn wrong<'a>(a: Reg<'a, F16x2>, b: Reg<'a, F16>) -> Reg<'a, F16x2> { a + b }
//! ```
//! bits have no arithmetic until they are converted to numbers:
//! ```compile_fail,E0369
//! use ssmv_kernels::ptx::{B32, Reg};
//! fn wrong<'a>(a: Reg<'a, B32>, b: Reg<'a, B32>) -> Reg<'a, B32> { a + b }
//! ```
//! a number is not a condition:
//! ```compile_fail,E0308
//! use ssmv_kernels::ptx::{Asm, Reg, U32};
//! fn wrong<'a>(asm: &'a Asm, a: Reg<'a, U32>) { asm.if_(a, || {}) }
//! ```
//! and neither does a store take another type than the memory's, nor `ldmatrix` an address in global memory:
//! ```compile_fail,E0308
//! use ssmv_kernels::ptx::{F16, F32, Global, Reg};
//! fn wrong<'a>(p: Global<'a, F16>, x: Reg<'a, F32>) { p.store(x) }
//! ```
//! ```compile_fail,E0308
//! use ssmv_kernels::ptx::{Asm, F16, F16x2, Global, Var};
//! fn wrong<'a>(asm: &'a Asm, to: [Var<'a, F16x2>; 4], p: Global<'a, F16>) { asm.ldmatrix_x4(to, p, false); }
//! ```

mod arith;
mod asm;
mod atomic;
mod bits;
mod control;
mod convert;
mod copy_async;
mod divide;
mod math;
mod matrix;
mod memory;
mod reg;
mod types;
mod warp;

pub use arith::Compare;
pub use asm::{Asm, Launch};
pub use atomic::AtomicOp;
pub use convert::Rounding;
pub use divide::Divisor;
pub use memory::{Global, Hint, Pointer, Shared, Space};
pub use reg::{Operand, Reg, Var};
pub use types::{
    B16, B32, B64, F16, F16x2, F32, F64, Float, InMemory, Integer, Number, Pred, S32, S64, Type, U8, U16,
    U32, U64,
};
