//! The approximate functions: `ex2`, `lg2`, `sin`, `cos`, `rcp`, `rsqrt`, `sqrt`, `tanh`, `div.approx`, `div.full`.
//!
//! PTX bounds their errors and leaves the bits to the chip. Here each is computed in f64, with an error of a few 2⁻⁴⁵
//! relative (`sin` and `cos`: absolute), and rounded to the result's type: to nearest but for one case in thousands, and
//! far within PTX's bounds. A chip's last bits differ. Special values are those of the PTX ISA's tables. The module
//! [`worst`](super::worst) has the same functions at the edge of those bounds.
//!
//! `.ftz` makes subnormal inputs and results zeros of their sign. No function branches on data, so that lanes vectorise;
//! there is no library call, so that the bits are the same everywhere.

use super::float::{canonical, flush};
use super::half::Half;
use super::{Lanes, NAN_F32, wide};

/// 1.5·2⁵²: added and taken off again, it rounds to a whole number, which its low bits hold.
const WHOLE: f64 = 6_755_399_441_055_744.0;

/// Horner's rule, highest coefficient first.
#[inline(always)]
fn polynomial<const N: usize>(x: f64, coefficients: [f64; N]) -> f64 {
    let mut sum = coefficients[0];
    for coefficient in &coefficients[1..] {
        sum = sum * x + coefficient;
    }
    sum
}

/// 2^x in f64, for |x| < 1000.
#[inline(always)]
fn exp2(x: f64) -> f64 {
    let shifted = x + WHOLE;
    let y = (x - (shifted - WHOLE)) * std::f64::consts::LN_2;
    // e^y for |y| < 0.35, by Taylor: the first term left out is y¹²/12! < 10⁻¹⁴.
    let e = polynomial(
        y,
        [
            1.0 / 39_916_800.0,
            1.0 / 3_628_800.0,
            1.0 / 362_880.0,
            1.0 / 40_320.0,
            1.0 / 5_040.0,
            1.0 / 720.0,
            1.0 / 120.0,
            1.0 / 24.0,
            1.0 / 6.0,
            0.5,
            1.0,
            1.0,
        ],
    );
    e * f64::from_bits(shifted.to_bits().wrapping_add(1023) << 52)
}

/// log₂ x for finite x > 0, not subnormal as f64.
#[inline(always)]
fn log2(x: f64) -> f64 {
    // x = 2^n·m with m in [√½, √2): the bits of √½ are taken off before the exponent is read.
    let offset = std::f64::consts::FRAC_1_SQRT_2.to_bits();
    let bits = x.to_bits().wrapping_sub(offset);
    let n = (bits as i64 >> 52) as i32;
    let m = f64::from_bits((bits & ((1 << 52) - 1)).wrapping_add(offset));
    let s = (m - 1.0) / (m + 1.0);
    // ln m = 2 artanh s, |s| < 0.172: the first term left out is s²¹/21 < 10⁻¹⁷.
    let series = polynomial(
        s * s,
        [
            1.0 / 19.0,
            1.0 / 17.0,
            1.0 / 15.0,
            1.0 / 13.0,
            1.0 / 11.0,
            1.0 / 9.0,
            1.0 / 7.0,
            0.2,
            1.0 / 3.0,
            1.0,
        ],
    );
    f64::from(n) + s * series * (2.0 * std::f64::consts::LOG2_E)
}

/// sin(2π·turns).
#[inline(always)]
fn sin_turns(turns: f64) -> f64 {
    let inside = turns.abs() < 2_251_799_813_685_248.0;
    let whole = (turns + WHOLE) - WHOLE;
    let turn = if inside { turns - whole } else { 0.0 };
    // Beyond a quarter turn, the sine falls again.
    let folded = if turn.abs() > 0.25 { f64::copysign(0.5, turn) - turn } else { turn };
    let y = folded * std::f64::consts::TAU;
    // |y| ≤ π/2: the first term left out is y¹⁹/19! < 10⁻¹³.
    let series = polynomial(
        y * y,
        [
            1.0 / 355_687_428_096_000.0,
            -1.0 / 1_307_674_368_000.0,
            1.0 / 6_227_020_800.0,
            -1.0 / 39_916_800.0,
            1.0 / 362_880.0,
            -1.0 / 5_040.0,
            1.0 / 120.0,
            -1.0 / 6.0,
            1.0,
        ],
    );
    y * series
}

/// Functions of one f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Function {
    /// 2^x.
    Ex2,
    /// log₂ x; log₂ ±0 = −∞.
    Lg2,
    /// sin x; ±∞ gives NaN. Past 2⁵¹ turns it is 0.
    Sin,
    /// cos x; ±∞ gives NaN. Past 2⁵¹ turns it is 1.
    Cos,
    /// 1 ÷ x.
    Rcp,
    /// 1 ÷ √x; of ±0 it is ±∞.
    Rsqrt,
    /// √x; of −0 it is −0.
    Sqrt,
    /// tanh x.
    Tanh,
}

/// The function in f64, for finite arguments; special values are the callers'.
#[inline(always)]
pub(super) fn real(function: Function, x: f64) -> f64 {
    const TURNS: f64 = 0.5 * std::f64::consts::FRAC_1_PI;
    match function {
        Function::Ex2 => exp2(x.clamp(-200.0, 200.0)),
        Function::Lg2 => log2(x),
        Function::Sin => sin_turns(x * TURNS),
        Function::Cos => {
            // cos x = 1 − 2 sin²(x/2).
            let half = sin_turns(x * TURNS * 0.5);
            1.0 - 2.0 * half * half
        }
        Function::Rcp => 1.0 / x,
        Function::Rsqrt => 1.0 / x.sqrt(),
        Function::Sqrt => x.sqrt(),
        Function::Tanh => {
            let power = exp2((x * (2.0 * std::f64::consts::LOG2_E)).clamp(-200.0, 200.0));
            let far = (power - 1.0) / (power + 1.0);
            // Near 0 the difference would cancel: tanh x = x − x³/3 + ….
            let near = x - x * x * x * (1.0 / 3.0);
            if x.abs() < 0.000_244_140_625 { near } else { far }
        }
    }
}

/// One function of one f32, by bits.
#[inline(always)]
pub(crate) fn apply(function: Function, ftz: bool, bits: u32) -> u32 {
    let bits = if ftz { flush(bits) } else { bits };
    let value = f32::from_bits(bits);
    let rounded = real(function, f64::from(value)) as f32;
    let result = match function {
        Function::Ex2 => rounded,
        Function::Lg2 => {
            let finite = if value == f32::INFINITY { f32::INFINITY } else { rounded };
            let positive = if value == 0.0 { f32::NEG_INFINITY } else { finite };
            if value < 0.0 { f32::NAN } else { positive }
        }
        Function::Sin | Function::Cos => {
            // The folding loses the sign of −0.
            let zero = function == Function::Sin && value == 0.0;
            let finite = if zero { value } else { rounded };
            if value.is_finite() { finite } else { f32::NAN }
        }
        Function::Rcp => 1.0 / value,
        Function::Rsqrt if value == 0.0 => f32::INFINITY.copysign(value),
        Function::Rsqrt => rounded,
        Function::Sqrt => value.sqrt(),
        Function::Tanh => {
            if value == 0.0 {
                value
            } else {
                rounded
            }
        }
    };
    let result = if value.is_nan() { NAN_F32 } else { canonical(result) };
    if ftz { flush(result) } else { result }
}

/// `div.approx.f32`: a·(1/b) with PTX's exception: 0 for |b| past 2¹²⁶ (NaN where a is infinite).
#[inline(always)]
pub(crate) fn div(ftz: bool, a: u32, b: u32) -> u32 {
    let [a, b] = if ftz { [flush(a), flush(b)] } else { [a, b] };
    let magnitude = b & 0x7fff_ffff;
    let far = magnitude > 0x7e80_0000 && magnitude < 0x7f80_0000;
    let [x, y] = [a, b].map(f32::from_bits);
    let quotient = if far { x * 0f32.copysign(y) } else { x / y };
    let result = canonical(quotient);
    if ftz { flush(result) } else { result }
}

/// `div.full.f32`: a ÷ b over the full range; here rounded to nearest.
#[inline(always)]
pub(crate) fn div_full(ftz: bool, a: u32, b: u32) -> u32 {
    let [a, b] = if ftz { [flush(a), flush(b)] } else { [a, b] };
    let result = canonical(f32::from_bits(a) / f32::from_bits(b));
    if ftz { flush(result) } else { result }
}

/// `rcp.approx.ftz.f64` and `rsqrt.approx.ftz.f64`: the argument's and the result's lower words count as 0; subnormals
/// are zeros of their sign. `rsqrt.approx.f64` is the same without `ftz`: in full.
#[inline]
pub(crate) fn apply_f64(function: Function, ftz: bool, bits: u64) -> u64 {
    let clear = |bits: u64| {
        let top = bits & !0xffff_ffff;
        if top & 0x7ff0_0000_0000_0000 == 0 { top & 1 << 63 } else { top }
    };
    if f64::from_bits(bits).is_nan() {
        return if ftz { 0x7fff_ffff_0000_0000 } else { bits | 1 << 51 };
    }
    let x = f64::from_bits(if ftz { clear(bits) } else { bits });
    let result = match function {
        Function::Rcp => 1.0 / x,
        Function::Rsqrt if x == 0.0 => f64::INFINITY.copysign(x),
        _ => 1.0 / x.sqrt(),
    };
    match (result.is_nan(), ftz) {
        (true, true) => 0x7fff_ffff_0000_0000,
        (true, false) => super::NAN_F64,
        (false, true) => clear(result.to_bits()),
        (false, false) => result.to_bits(),
    }
}

/// [`apply`] in all lanes.
pub(crate) fn lanes(function: Function, ftz: bool, a: &Lanes, d: &mut Lanes) {
    macro_rules! each {
        ($($function:ident)*) => {
            match function {
                $(Function::$function => wide!(
                    for lane in 0..32 {
                        d[lane] = apply(Function::$function, ftz, a[lane]);
                    }
                ),)*
            }
        };
    }
    each!(Ex2 Lg2 Sin Cos Rcp Rsqrt Sqrt Tanh);
}

/// One function of f16 or bf16 in all lanes, computed as for f32 and rounded: of both halves where `pair`, else of the low
/// one. `ftz` is about the halves' subnormals.
pub(crate) fn half_lanes(format: Half, function: Function, ftz: bool, pair: bool, a: &Lanes, d: &mut Lanes) {
    let flush = |h: u32| if ftz { format.flush(h & 0xffff) } else { h & 0xffff };
    let (mut x, mut y) = ([0; 32], [0; 32]);
    let mut one = |shift: u32| {
        for lane in 0..32 {
            x[lane] = format.widen(flush(a[lane] >> shift)).to_bits();
        }
        lanes(function, false, &x, &mut y);
        y.map(|bits| flush(format.narrow(f32::from_bits(bits))))
    };
    *d = one(0);
    if pair {
        let high = one(16);
        for lane in 0..32 {
            d[lane] |= high[lane] << 16;
        }
    }
}
