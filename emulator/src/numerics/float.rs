//! f32 and f64 arithmetic: add, sub, mul, fma, div, rcp, sqrt with the four roundings, `.ftz` and `.sat`; min, max,
//! negation and absolute value.
//!
//! f32 with a directed rounding goes through f64. Products are exact there. A sum is rounded to odd, which leaves the
//! second rounding right (Boldo and Melquiond 2008); its error comes from TwoSum (Knuth). Quotients and square roots of
//! f32 that are not f32 lie further from each f32 than f64's error. f64 with a directed rounding takes the exact integers
//! of [`soft`].
//!
//! A NaN result of f32 is always 0x7fffffff. f64 keeps the payload of the first NaN among its inputs, made
//! quiet. `.ftz` makes subnormal inputs and results zeros of their sign; a result counts as subnormal after its rounding.

use super::{Lanes, NAN_F32, NAN_F64, Rounding, soft, wide};

/// Operations on one, two or three floats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Op {
    /// a + b.
    Add,
    /// a − b.
    Sub,
    /// a·b.
    Mul,
    /// a·b + c, rounded once.
    Fma,
    /// a ÷ b.
    Div,
    /// 1 ÷ a.
    Rcp,
    /// √a.
    Sqrt,
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
pub(crate) struct Flags {
    /// Whether `.ftz` is given.
    pub ftz: bool,
    /// `.sat`: the result is clamped to [0, 1], NaN to +0.
    pub sat: bool,
    /// `.xorsign.abs` (of `min` and `max`): by magnitude, with the sign of a·b.
    pub xorsign: bool,
}

/// Zero with the same sign for a subnormal f32.
#[inline(always)]
pub(crate) fn flush(x: u32) -> u32 {
    if x & 0x7f80_0000 == 0 { x & 0x8000_0000 } else { x }
}

/// The canonical NaN for any NaN.
#[inline(always)]
pub(crate) fn canonical(x: f32) -> u32 {
    if x.is_nan() { NAN_F32 } else { x.to_bits() }
}

/// Clamped to [0, 1]; NaN and −0 become +0.
#[inline(always)]
pub(crate) fn saturate(x: u32) -> u32 {
    let (value, one) = (f32::from_bits(x), 1f32.to_bits());
    if value > 0.0 { x.min(one) } else { 0 }
}

/// The neighbour of `x` toward zero where `inward`, else the one away from it; `x` itself unless `step`.
#[inline(always)]
fn toward(x: f32, step: bool, inward: bool) -> f32 {
    let bits = x.to_bits();
    let moved = if inward { bits.wrapping_sub(1) } else { bits.wrapping_add(1) };
    f32::from_bits(if step { moved } else { bits })
}

/// f64 → f32, rounded as asked.
#[inline(always)]
pub(crate) fn narrow(x: f64, rounding: Rounding) -> f32 {
    let near = x as f32;
    let back = f64::from(near);
    match rounding {
        Rounding::Nearest => near,
        Rounding::Zero => f32::from_bits(near.to_bits() - u32::from(back.abs() > x.abs())),
        Rounding::Down => toward(near, back > x, near > 0.0),
        Rounding::Up => toward(near, back < x, near < 0.0),
    }
}

/// x + y in f64, rounded to odd. Zero sums have the sign that `rounding` requires.
#[inline(always)]
pub(crate) fn sum_to_odd(x: f64, y: f64, rounding: Rounding) -> f64 {
    let sum = x + y;
    let part = sum - x;
    let error = (x - (sum - part)) + (y - part);
    let bits = sum.to_bits();
    let outward = (error > 0.0) == (sum > 0.0);
    let moved = if outward { bits.wrapping_add(1) } else { bits.wrapping_sub(1) };
    let inexact = (error > 0.0) | (error < 0.0);
    let sum = f64::from_bits(if (bits & 1 == 0) & inexact { moved } else { bits });
    // Only two negative zeros have a negative sum to nearest; downward, one is enough.
    let negative = x.is_sign_negative() | y.is_sign_negative();
    if (rounding == Rounding::Down) & (sum == 0.0) & negative { -0.0 } else { sum }
}

/// Smaller or larger of two f32. See [`Op::Min`] to [`Op::MaxNan`].
#[inline(always)]
fn extreme(larger: bool, strict: bool, xorsign: bool, a: u32, b: u32) -> u32 {
    /// A whole number that orders like the float, −0 below +0.
    #[inline(always)]
    fn order(x: u32) -> i32 {
        (x ^ (x as i32 >> 31) as u32 >> 1) as i32
    }
    let (nan_a, nan_b) = (f32::from_bits(a).is_nan(), f32::from_bits(b).is_nan());
    let sign = if xorsign { (a ^ b) & 0x8000_0000 } else { 0 };
    let keep = if xorsign { 0x7fff_ffff } else { u32::MAX };
    let (a, b) = (a & keep, b & keep);
    let a_first = (order(a) < order(b)) != larger;
    let first = if (a_first | nan_b) & !nan_a { a } else { b } | sign;
    let nan = (nan_a & nan_b) | (strict & (nan_a | nan_b));
    if nan { NAN_F32 } else { first }
}

/// One f32 operation; unused arguments are ignored.
#[inline(always)]
pub(crate) fn f32(op: Op, rounding: Rounding, flags: Flags, a: u32, b: u32, c: u32) -> u32 {
    let [a, b, c] = if flags.ftz { [flush(a), flush(b), flush(c)] } else { [a, b, c] };
    let [x, y, z] = [a, b, c].map(f32::from_bits);
    let near = rounding == Rounding::Nearest;
    let [wide_x, wide_y, wide_z] = [f64::from(x), f64::from(y), f64::from(z)];
    let result = match op {
        Op::Add if near => canonical(x + y),
        Op::Sub if near => canonical(x - y),
        Op::Mul if near => canonical(x * y),
        Op::Fma if near => canonical(x.mul_add(y, z)),
        Op::Div if near => canonical(x / y),
        Op::Rcp if near => canonical(1.0 / x),
        Op::Sqrt if near => canonical(x.sqrt()),
        Op::Add => canonical(narrow(sum_to_odd(wide_x, wide_y, rounding), rounding)),
        Op::Sub => canonical(narrow(sum_to_odd(wide_x, -wide_y, rounding), rounding)),
        Op::Mul => canonical(narrow(wide_x * wide_y, rounding)),
        Op::Fma => canonical(narrow(sum_to_odd(wide_x * wide_y, wide_z, rounding), rounding)),
        Op::Div => canonical(narrow(wide_x / wide_y, rounding)),
        Op::Rcp => canonical(narrow(1.0 / wide_x, rounding)),
        Op::Sqrt => canonical(narrow(wide_x.sqrt(), rounding)),
        Op::Min => extreme(false, false, flags.xorsign, a, b),
        Op::Max => extreme(true, false, flags.xorsign, a, b),
        Op::MinNan => extreme(false, true, flags.xorsign, a, b),
        Op::MaxNan => extreme(true, true, flags.xorsign, a, b),
        Op::Neg => a ^ 0x8000_0000,
        Op::Abs => a & 0x7fff_ffff,
    };
    let result = if flags.ftz { flush(result) } else { result };
    if flags.sat { saturate(result) } else { result }
}

/// One f64 operation; arguments that it does not have must be 0.
#[inline]
pub(crate) fn f64(op: Op, rounding: Rounding, a: u64, b: u64, c: u64) -> u64 {
    let [x, y, z] = [a, b, c].map(f64::from_bits);
    if let Op::Neg | Op::Abs = op {
        return if op == Op::Neg { a ^ 1 << 63 } else { a & !(1 << 63) };
    }
    if let Op::Min | Op::Max | Op::MinNan | Op::MaxNan = op {
        let order = |bits: u64| bits as i64 ^ ((bits as i64 >> 63) as u64 >> 1) as i64;
        let a_first = (order(a) < order(b)) != matches!(op, Op::Max | Op::MaxNan);
        let strict = matches!(op, Op::MinNan | Op::MaxNan);
        return match (x.is_nan(), y.is_nan()) {
            (true, true) => quiet(a),
            (true, false) => {
                if strict {
                    quiet(a)
                } else {
                    b
                }
            }
            (false, true) => {
                if strict {
                    quiet(b)
                } else {
                    a
                }
            }
            _ => {
                if a_first {
                    a
                } else {
                    b
                }
            }
        };
    }
    if let Some(nan) = [a, b, c].into_iter().find(|&bits| f64::from_bits(bits).is_nan()) {
        return quiet(nan);
    }
    if rounding != Rounding::Nearest {
        let one = 1f64.to_bits();
        return match op {
            Op::Add => soft::add(soft::F64, a, b, rounding),
            Op::Sub => soft::add(soft::F64, a, b ^ 1 << 63, rounding),
            Op::Mul => soft::mul(soft::F64, a, b, rounding),
            Op::Fma => soft::fma(soft::F64, a, b, c, rounding),
            Op::Div => soft::div(soft::F64, a, b, rounding),
            Op::Rcp => soft::div(soft::F64, one, a, rounding),
            _ => soft::sqrt(soft::F64, a, rounding),
        };
    }
    let result = match op {
        Op::Add => x + y,
        Op::Sub => x - y,
        Op::Mul => x * y,
        Op::Fma => x.mul_add(y, z),
        Op::Div => x / y,
        Op::Rcp => 1.0 / x,
        _ => x.sqrt(),
    };
    if result.is_nan() { NAN_F64 } else { result.to_bits() }
}

/// The NaN with its quiet bit set.
fn quiet(nan: u64) -> u64 {
    nan | 1 << 51
}

/// [`f32`] in all lanes.
pub(crate) fn f32_lanes(op: Op, rounding: Rounding, flags: Flags, [a, b, c]: [&Lanes; 3], d: &mut Lanes) {
    macro_rules! quick {
        ($($op:ident $ftz:literal),*) => {
            match (op, rounding, flags) {
                $((Op::$op, Rounding::Nearest, Flags { ftz: $ftz, sat: false, xorsign: false }) => wide!(
                    for lane in 0..32 {
                        const FLAGS: Flags = Flags { ftz: $ftz, sat: false, xorsign: false };
                        d[lane] = f32(Op::$op, Rounding::Nearest, FLAGS, a[lane], b[lane], c[lane]);
                    }
                ),)*
                _ => wide!(
                    for lane in 0..32 {
                        d[lane] = f32(op, rounding, flags, a[lane], b[lane], c[lane]);
                    }
                ),
            }
        };
    }
    quick!(
        Add false, Sub false, Mul false, Fma false, Div false, Sqrt false, Rcp false, Min false, Max false, Neg false,
        Abs false, Add true, Sub true, Mul true, Fma true, Div true
    );
}
