//! f16 and bf16: conversions that vectorise, and arithmetic with a single rounding, alone and in pairs.
//!
//! Sums of both, and products of f16, are computed in f32: it has more than twice their bits, and then rounding twice is
//! rounding once (Figueroa 1995). Products of bf16 reach below f32's normal numbers and take f64. Fused multiply-adds have
//! an exact product (f16 in f32, bf16 in f64) and a sum that is rounded to odd before it is rounded to the result.

use super::Rounding::Nearest;
use super::float::sum_to_odd;
use super::{Lanes, NAN_16, NAN_F32, wide};

/// f16 → f32, exact.
#[inline(always)]
pub(crate) fn f16_to_f32(h: u32) -> u32 {
    let magnitude = (h & 0x7fff) << 13;
    // The product with 2 to the difference of the biases, 112, is exact, and makes subnormals normal.
    let finite = (f32::from_bits(magnitude) * f32::from_bits((127 + 112) << 23)).to_bits();
    let bits = if magnitude >= 31 << 23 { magnitude | 0x7f80_0000 } else { finite };
    let bits = bits | (h & 0x8000) << 16;
    if magnitude > 31 << 23 { NAN_F32 } else { bits }
}

/// f32 → f16, to nearest even.
#[inline(always)]
pub(crate) fn f32_to_f16(x: u32) -> u32 {
    let magnitude = x & 0x7fff_ffff;
    // Bit 13 is the last that is kept: a tie rounds up only where it is set.
    let normal = magnitude.wrapping_sub(112 << 23).wrapping_add(0xfff + (magnitude >> 13 & 1)) >> 13;
    // Adding ½ leaves the value in units of 2⁻²⁴ in the fraction, rounded by the addition.
    let subnormal = (f32::from_bits(magnitude) + 0.5).to_bits().wrapping_sub(0.5f32.to_bits());
    let mut bits = if magnitude < 113 << 23 { subnormal } else { normal };
    bits = if magnitude >= 143 << 23 { 0x7c00 } else { bits };
    let signed = bits | (x >> 16 & 0x8000);
    if magnitude > 0x7f80_0000 { NAN_16 } else { signed }
}

/// bf16 → f32, exact.
#[inline(always)]
pub(crate) fn bf16_to_f32(h: u32) -> u32 {
    if h & 0x7fff > 0x7f80 { NAN_F32 } else { h << 16 }
}

/// f32 → bf16, to nearest even.
#[inline(always)]
pub(crate) fn f32_to_bf16(x: u32) -> u32 {
    let rounded = x.wrapping_add(0x7fff + (x >> 16 & 1)) >> 16;
    if x & 0x7fff_ffff > 0x7f80_0000 { NAN_16 } else { rounded }
}

/// f64 → f32, rounded to odd: an inexact result is the neighbour whose last bit is set. Rounding that once more to 22 bits
/// or fewer gives what rounding the f64 would.
#[inline(always)]
pub(crate) fn f64_to_f32_odd(x: f64) -> f32 {
    let near = x as f32;
    let bits = near.to_bits();
    let (magnitude, back) = (x.abs(), f64::from(near).abs());
    let even = 1 - (bits & 1);
    let moved = bits.wrapping_add(if back < magnitude { even } else { 0 });
    f32::from_bits(moved.wrapping_sub(if back > magnitude { even } else { 0 }))
}

/// x + y in f32, rounded to odd (see [`f64_to_f32_odd`]); the error comes from TwoSum.
#[inline(always)]
fn sum_to_odd_f32(x: f32, y: f32) -> f32 {
    let sum = x + y;
    let part = sum - x;
    let error = (x - (sum - part)) + (y - part);
    let bits = sum.to_bits();
    let outward = (error > 0.0) == (sum > 0.0);
    let moved = if outward { bits.wrapping_add(1) } else { bits.wrapping_sub(1) };
    let move_it = (bits & 1 == 0) & ((error > 0.0) | (error < 0.0));
    f32::from_bits(if move_it { moved } else { bits })
}

/// The two 16-bit formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Half {
    /// IEEE half precision.
    F16,
    /// The upper half of an f32.
    Bf16,
}

impl Half {
    /// The value as f32, exactly.
    #[inline(always)]
    pub fn widen(self, h: u32) -> f32 {
        f32::from_bits(match self {
            Self::F16 => f16_to_f32(h & 0xffff),
            Self::Bf16 => bf16_to_f32(h & 0xffff),
        })
    }

    /// The nearest half, ties to even.
    #[inline(always)]
    pub fn narrow(self, x: f32) -> u32 {
        match self {
            Self::F16 => f32_to_f16(x.to_bits()),
            Self::Bf16 => f32_to_bf16(x.to_bits()),
        }
    }

    /// The half nearest to an f64, ties to even.
    #[inline(always)]
    pub fn narrow_f64(self, x: f64) -> u32 {
        self.narrow(f64_to_f32_odd(x))
    }

    /// Whether it is a NaN.
    #[inline(always)]
    pub fn is_nan(self, h: u32) -> bool {
        h & 0x7fff > if self == Self::F16 { 0x7c00 } else { 0x7f80 }
    }

    /// Zero with the same sign for a subnormal.
    #[inline(always)]
    pub fn flush(self, h: u32) -> u32 {
        let exponent = if self == Self::F16 { 0x7c00 } else { 0x7f80 };
        if h & exponent == 0 { h & 0x8000 } else { h }
    }
}

/// Operations on f16 and bf16 values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum HalfOp {
    /// a + b.
    Add,
    /// a − b.
    Sub,
    /// a·b.
    Mul,
    /// a·b + c, rounded once.
    Fma,
    /// The smaller; a NaN loses against a number; −0 < +0.
    Min,
    /// The larger, with the same rule for NaN.
    Max,
    /// The smaller, NaN where either is.
    MinNan,
    /// The larger, NaN where either is.
    MaxNan,
    /// −a.
    Neg,
    /// |a|.
    Abs,
}

/// Modifiers of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct HalfFlags {
    /// `.ftz`: subnormal inputs and results become zeros of their sign (after rounding).
    pub ftz: bool,
    /// `.sat`: the result is clamped to [0, 1], NaN to +0.
    pub sat: bool,
    /// `.relu` (of `fma`): negative results become +0, NaN stays NaN.
    pub relu: bool,
    /// `.xorsign.abs` (of `min` and `max`): by magnitude, with the sign of a·b.
    pub xorsign: bool,
}

/// One operation on one half in the low bits of each argument; unused arguments are ignored.
#[inline(always)]
pub(crate) fn apply(format: Half, op: HalfOp, flags: HalfFlags, a: u32, b: u32, c: u32) -> u32 {
    let flush = |h: u32| if flags.ftz { format.flush(h & 0xffff) } else { h & 0xffff };
    let (a, b, c) = (flush(a), flush(b), flush(c));
    let (x, y) = (format.widen(a), format.widen(b));
    let result = match (op, format) {
        (HalfOp::Add, _) => format.narrow(x + y),
        (HalfOp::Sub, _) => format.narrow(x - y),
        (HalfOp::Mul, Half::F16) => format.narrow(x * y),
        (HalfOp::Mul, Half::Bf16) => format.narrow_f64(f64::from(x) * f64::from(y)),
        (HalfOp::Fma, Half::F16) => format.narrow(sum_to_odd_f32(x * y, format.widen(c))),
        (HalfOp::Fma, Half::Bf16) => {
            let product = f64::from(x) * f64::from(y);
            format.narrow_f64(sum_to_odd(product, f64::from(format.widen(c)), Nearest))
        }
        (HalfOp::Neg, _) => a ^ 0x8000,
        (HalfOp::Abs, _) => a & 0x7fff,
        (HalfOp::Min | HalfOp::Max | HalfOp::MinNan | HalfOp::MaxNan, _) => {
            let keep = if flags.xorsign { 0x7fff } else { 0xffff };
            let larger = matches!(op, HalfOp::Max | HalfOp::MaxNan);
            let strict = matches!(op, HalfOp::MinNan | HalfOp::MaxNan);
            let sign = if flags.xorsign { (a ^ b) & 0x8000 } else { 0 };
            let (nan_a, nan_b) = (format.is_nan(a), format.is_nan(b));
            let (a, b) = (a & keep, b & keep);
            // Sign and magnitude as a number that orders like the value, −0 below +0.
            let order = |h: u32| (h as i32 ^ if h & 0x8000 != 0 { 0x7fff } else { 0 }) << 16 >> 16;
            let a_first = (order(a) < order(b)) != larger;
            let number = if (a_first | nan_b) & !nan_a { a } else { b };
            let nan = (nan_a & nan_b) | (strict & (nan_a | nan_b));
            if nan { NAN_16 } else { number | sign }
        }
    };
    let mut result = flush(result);
    let nan = format.is_nan(result);
    if flags.relu {
        result = if !nan && result & 0x8000 != 0 { 0 } else { result };
    }
    if flags.sat {
        let one = if format == Half::F16 { 0x3c00 } else { 0x3f80 };
        result = if nan || result & 0x8000 != 0 { 0 } else { result.min(one) };
    }
    result
}

/// [`apply`] to both halves of each argument: `f16x2`, `bf16x2`.
#[inline(always)]
pub(crate) fn apply_pair(format: Half, op: HalfOp, flags: HalfFlags, a: u32, b: u32, c: u32) -> u32 {
    apply(format, op, flags, a, b, c) | apply(format, op, flags, a >> 16, b >> 16, c >> 16) << 16
}

/// [`apply`], or [`apply_pair`] where `pair`, to all lanes.
pub(crate) fn apply_lanes(
    format: Half,
    op: HalfOp,
    flags: HalfFlags,
    pair: bool,
    [a, b, c]: [&Lanes; 3],
    d: &mut Lanes,
) {
    let plain = pair && flags == HalfFlags::default();
    macro_rules! quick {
        ($($format:ident $op:ident),*) => {
            match (op, format) {
                $((HalfOp::$op, Half::$format) if plain => wide!(
                    for lane in 0..32 {
                        const FLAGS: HalfFlags = HalfFlags { ftz: false, sat: false, relu: false, xorsign: false };
                        d[lane] = apply_pair(Half::$format, HalfOp::$op, FLAGS, a[lane], b[lane], c[lane]);
                    }
                ),)*
                _ if pair => {
                    for lane in 0..32 {
                        d[lane] = apply_pair(format, op, flags, a[lane], b[lane], c[lane]);
                    }
                }
                _ => {
                    for lane in 0..32 {
                        d[lane] = apply(format, op, flags, a[lane], b[lane], c[lane]);
                    }
                }
            }
        };
    }
    quick!(
        F16 Add, F16 Sub, F16 Mul, F16 Fma, F16 Max, F16 Min, F16 Neg, F16 Abs,
        Bf16 Add, Bf16 Sub, Bf16 Mul, Bf16 Fma, Bf16 Max, Bf16 Min
    );
}

/// f16 → f32 in all lanes.
pub(crate) fn f16_to_f32_lanes(h: &Lanes, d: &mut Lanes) {
    wide!(for lane in 0..32 {
        d[lane] = f16_to_f32(h[lane] & 0xffff);
    });
}

/// f32 → f16 in all lanes, to nearest even.
pub(crate) fn f32_to_f16_lanes(x: &Lanes, d: &mut Lanes) {
    wide!(for lane in 0..32 {
        d[lane] = f32_to_f16(x[lane]);
    });
}
