//! Arithmetic that PTX defines and Rust lacks: conversions with every rounding, approximate functions, f16 pairs, and
//! the tensor cores' sums.
//!
//! Values are passed as bits: `u32` per lane for types of up to 32 bits (f16 and bf16 in the low half), `u64` for f64.
//! Frequent operations are free of branches, so that a loop over a warp's lanes vectorises; those with their own loop
//! use [`wide!`](wide). Rare operations use [`soft`], exact integers.
//!
//! Results do not depend on the machine: no library call, no contraction of a·b + c, NaNs made canonical.
#![allow(
    clippy::needless_range_loop,
    reason = "loops over lanes index several arrays at once, and vectorise so"
)]

pub(crate) mod approx;
pub(crate) mod convert;
pub(crate) mod float;
pub(crate) mod fragment;
pub(crate) mod half;
pub(crate) mod mma;
pub(crate) mod products;
pub(crate) mod small;
pub(crate) mod soft;
#[cfg(test)]
mod tests;
pub(crate) mod video;
pub(crate) mod worst;

/// One 32-bit register of a warp.
pub(crate) type Lanes = [u32; 32];

/// The NaN that f32 instructions return, for any payload of their inputs.
pub(crate) const NAN_F32: u32 = 0x7fff_ffff;
/// The NaN that f16 and bf16 instructions return.
pub(crate) const NAN_16: u32 = 0x7fff;
/// The NaN of an invalid f64 operation without a NaN among its inputs.
pub(crate) const NAN_F64: u64 = 0xfff8_0000_0000_0000;

/// Direction of a rounding: `.rn`, `.rz`, `.rm`, `.rp`, and with an `i` after it those to integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Rounding {
    /// To nearest, ties to even.
    Nearest,
    /// Toward zero.
    Zero,
    /// Toward −∞.
    Down,
    /// Toward +∞.
    Up,
}

impl Rounding {
    /// All roundings, for tables and tests.
    #[cfg(test)]
    pub const ALL: [Self; 4] = [Self::Nearest, Self::Zero, Self::Down, Self::Up];
}

/// Runs an expression compiled for the machine's widest instruction set. This applies only to inlined code.
macro_rules! wide {
    ($body:expr) => {
        pulp::Arch::new().dispatch(
            #[inline(always)]
            || $body,
        )
    };
}
pub(crate) use wide;
