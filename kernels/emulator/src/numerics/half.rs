//! f16 and bf16: conversions that vectorise, and arithmetic with a single rounding, alone and in pairs.
//!
//! Sums, products and fused multiply-adds are computed in f64, where products are exact (22 bits). The sum of an f16
//! product and an addend loses bits only where the product is the smaller and too far below the addend to reach the
//! midpoint of two results. A bf16 product may itself be such a midpoint, with an addend out of f64's reach below it: its
//! sum is rounded to odd.

use super::Rounding::Nearest;
use super::float::sum_to_odd;
use super::{Lanes, NAN_16, NAN_F32, wide};

/// f16 → f32, exact.
#[inline(always)]
pub(crate) fn f16_to_f32(h: u32) -> u32 {
    let magnitude = (h & 0x7fff) << 13;
    // 112 is the difference of the biases.
    let normal = magnitude + (112 << 23);
    let subnormal = (f32::from_bits(magnitude + (113 << 23)) - f32::from_bits(113 << 23)).to_bits();
    let mut bits = if magnitude < 1 << 23 { subnormal } else { normal };
    bits = if magnitude >= 31 << 23 { 0x7f80_0000 } else { bits };
    let signed = bits | (h & 0x8000) << 16;
    if magnitude > 31 << 23 { NAN_F32 } else { signed }
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

/// The two 16-bit formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Half {
    /// IEEE half precision.
    F16,
    /// The upper half of an f32.
    Bf16,
}

impl Half {
    /// The value.
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

    /// Zero with the same sign for a subnormal.
    #[inline(always)]
    pub fn flush(self, h: u32) -> u32 {
        let exponent = if self == Self::F16 { 0x7c00 } else { 0x7f80 };
        if h & exponent == 0 { h & 0x8000 } else { h }
    }
}

/// Operations on halves.
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
    /// The larger, likewise.
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

/// What stands after an operation's name.
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

/// One operation on one half in the low bits of each argument; unused arguments are not looked at.
#[inline(always)]
pub(crate) fn apply(format: Half, op: HalfOp, flags: HalfFlags, a: u32, b: u32, c: u32) -> u32 {
    let flush = |h: u32| if flags.ftz { format.flush(h & 0xffff) } else { h & 0xffff };
    let (a, b, c) = (flush(a), flush(b), flush(c));
    let (x, y) = (f64::from(format.widen(a)), f64::from(format.widen(b)));
    let result = match op {
        HalfOp::Add => format.narrow_f64(x + y),
        HalfOp::Sub => format.narrow_f64(x - y),
        HalfOp::Mul => format.narrow_f64(x * y),
        HalfOp::Fma => {
            let (product, c) = (x * y, f64::from(format.widen(c)));
            format.narrow_f64(if format == Half::F16 { product + c } else { sum_to_odd(product, c, Nearest) })
        }
        HalfOp::Neg => a ^ 0x8000,
        HalfOp::Abs => a & 0x7fff,
        HalfOp::Min | HalfOp::Max | HalfOp::MinNan | HalfOp::MaxNan => {
            let keep = if flags.xorsign { 0x7fff } else { 0xffff };
            let larger = matches!(op, HalfOp::Max | HalfOp::MaxNan);
            let strict = matches!(op, HalfOp::MinNan | HalfOp::MaxNan);
            let sign = if flags.xorsign { (a ^ b) & 0x8000 } else { 0 };
            let (nan_a, nan_b) = (x.is_nan(), y.is_nan());
            let (a, b) = (a & keep, b & keep);
            // Sign and magnitude as a number that orders like the value, −0 below +0.
            let order = |h: u32| (h as i32 ^ if h & 0x8000 != 0 { 0x7fff } else { 0 }) << 16 >> 16;
            let first = if (order(a) < order(b)) != larger { a } else { b };
            let number = if nan_a {
                b
            } else if nan_b {
                a
            } else {
                first
            };
            let nan = (nan_a && nan_b) || (strict && (nan_a || nan_b));
            if nan { NAN_16 } else { number | sign }
        }
    };
    let mut result = flush(result);
    let magnitude_is_nan = format.widen(result).is_nan();
    if flags.relu {
        result = if !magnitude_is_nan && result & 0x8000 != 0 { 0 } else { result };
    }
    if flags.sat {
        let one = if format == Half::F16 { 0x3c00 } else { 0x3f80 };
        result = if magnitude_is_nan || result & 0x8000 != 0 { 0 } else { result.min(one) };
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
    /// The loop, for operation and format known when it is compiled.
    #[inline(always)]
    fn run(f: impl Fn(u32, u32, u32) -> u32, a: &Lanes, b: &Lanes, c: &Lanes, d: &mut Lanes) {
        for lane in 0..32 {
            d[lane] = f(a[lane], b[lane], c[lane]);
        }
    }
    macro_rules! quick {
        ($($format:ident $op:ident),*) => {
            match (format, op) {
                $((Half::$format, HalfOp::$op) if pair && flags == HalfFlags::default() => wide!(run(
                    #[inline(always)]
                    |a, b, c| apply_pair(Half::$format, HalfOp::$op, HalfFlags::default(), a, b, c),
                    a, b, c, d
                )),)*
                _ if pair => run(|a, b, c| apply_pair(format, op, flags, a, b, c), a, b, c, d),
                _ => run(|a, b, c| apply(format, op, flags, a, b, c), a, b, c, d),
            }
        };
    }
    quick!(F16 Add, F16 Sub, F16 Mul, F16 Fma, F16 Max, Bf16 Add, Bf16 Mul, Bf16 Fma);
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
