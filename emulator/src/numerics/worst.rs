//! The approximate functions at their worst: each result is the one farthest from the exact value that the PTX ISA still
//! allows, above it or below by the operands' bits ([`side`]), so that differences and quotients of neighbours show it.
//!
//! | instruction | bound on the error (PTX ISA 9.0, "Floating Point Instructions" and "Half Precision …") |
//! | --- | --- |
//! | `ex2.approx.f32` | 2 ulp from the correctly rounded result |
//! | `ex2.approx.f16`, `.bf16` | relative: 2^−9.9, 2^−7 |
//! | `lg2.approx.f32` | 2^−22: absolute in (½, 2), relative outside |
//! | `sin.approx.f32`, `cos.approx.f32` | absolute: 2^−20.5 to 2π, 2^−14.7 to 100π; beyond, none is given, here 2^−14.7 |
//! | `tanh.approx.f32` | relative: 2^−11; a subnormal is passed through |
//! | `tanh.approx.f16`, `.bf16` | absolute: 2^−10.987, 2^−8 |
//! | `rcp.approx.f32` | 1 ulp |
//! | `sqrt.approx.f32`, `rsqrt.approx.f32` | relative: 2^−23, 2^−22.9 |
//! | `div.approx.f32`, `div.full.f32` | 2 ulp |
//! | `rcp.approx.ftz.f64`, `rsqrt.approx.ftz.f64` | none is given; here a unit of the last of the 20 bits that they compute |
//! | `rsqrt.approx.f64` | none is given; here 1 ulp, as the CUDA C++ guide has it for `rsqrt`, which is compiled to it |
//!
//! The rows of the ISA's tables of special values are exact: arguments ±0, ±∞ and NaN, and results that are not finite.

use super::Lanes;
use super::approx::{self, Function, real};
use super::float::flush;
use super::half::Half;

/// +1 or −1, by the parity of the operands' ones. Among operands a power of two apart, no three in a row err to one
/// side (the sequence of Thue and Morse), also where the low bits are all zeros, as in an f16 that was widened.
#[inline(always)]
fn side(operands: u64) -> f64 {
    if operands.count_ones() % 2 == 1 { 1.0 } else { -1.0 }
}

/// A unit in f32's last place at a number.
#[inline(always)]
fn ulp(x: f64) -> f64 {
    let power = f64::from_bits(x.to_bits() & 0x7ff << 52);
    power.max(f64::from(f32::MIN_POSITIVE)) * f64::from(f32::EPSILON)
}

/// The f32 next to `centre + error` on the side of `centre`; the one nearest to `centre` where none lies between.
#[inline(always)]
fn edge(centre: f64, error: f64) -> f32 {
    let rounded = (centre + error) as f32;
    let over = (f64::from(rounded) - centre).abs() > error.abs();
    let back = if error > 0.0 { rounded.next_down() } else { rounded.next_up() };
    let result = if over { back } else { rounded };
    if (f64::from(result) - centre) * error < 0.0 { centre as f32 } else { result }
}

/// The f16 or bf16 beside another.
fn next(bits: u32, up: bool) -> u32 {
    match (bits & 0x7fff, bits >> 15 == 1) {
        (0, _) => u32::from(!up) << 15 | 1,
        (_, negative) if negative == up => bits - 1,
        _ => bits + 1,
    }
}

/// [`edge`] in f16 or bf16.
fn edge_half(format: Half, centre: f64, error: f64) -> u32 {
    let off = |bits: u32| f64::from(format.widen(bits)) - centre;
    let rounded = format.narrow_f64(centre + error);
    let over = off(rounded).abs() > error.abs();
    let result = if over { next(rounded, error < 0.0) } else { rounded };
    if off(result) * error < 0.0 { format.narrow_f64(centre) } else { result }
}

/// One function of one f32, by bits.
#[inline(always)]
pub(crate) fn apply(function: Function, ftz: bool, bits: u32) -> u32 {
    let nearest = approx::apply(function, ftz, bits);
    let bits = if ftz { flush(bits) } else { bits };
    let (value, rounded) = (f32::from_bits(bits), f32::from_bits(nearest));
    let special = value == 0.0 || !value.is_finite() || !rounded.is_finite();
    let passed = function == Function::Tanh && value.is_subnormal();
    // A result that underflowed stays 0; log₂ 1 may be off.
    let zero = rounded == 0.0 && function != Function::Lg2;
    if special || passed || zero {
        return nearest;
    }
    let x = f64::from(value);
    let exact = real(function, x);
    let magnitude = exact.abs();
    let (centre, error) = match function {
        Function::Ex2 => (f64::from(rounded), 2.0 * ulp(rounded.into())),
        Function::Lg2 if x > 0.5 && x < 2.0 => (exact, 2f64.powi(-22)),
        Function::Lg2 => (exact, 2f64.powi(-22) * magnitude),
        Function::Sin | Function::Cos if x.abs() <= std::f64::consts::TAU => (exact, SINE),
        Function::Sin | Function::Cos => (exact, FAR_SINE),
        Function::Rcp => (exact, ulp(exact)),
        Function::Rsqrt => (exact, RSQRT * magnitude),
        Function::Sqrt => (exact, 2f64.powi(-23) * magnitude),
        Function::Tanh => (exact, 2f64.powi(-11) * magnitude),
    };
    let result = edge(centre, error * side(bits.into()));
    // Two ulp below the smallest power of two would be negative.
    let result = if function == Function::Ex2 { result.max(0.0) } else { result };
    if ftz { flush(result.to_bits()) } else { result.to_bits() }
}

/// 2^−20.5.
const SINE: f64 = std::f64::consts::FRAC_1_SQRT_2 / 1_048_576.0;
/// 2^−14.7, rounded down.
const FAR_SINE: f64 = 1.231_144 / 32_768.0;
/// 2^−22.9, rounded down.
const RSQRT: f64 = 1.071_773 / 8_388_608.0;
/// 2^−9.9, rounded down.
const EX2_F16: f64 = 1.071_773 / 1_024.0;
/// 2^−10.987, rounded down.
const TANH_F16: f64 = 1.009_051 / 2_048.0;

/// [`apply`] in all lanes.
pub(crate) fn lanes(function: Function, ftz: bool, a: &Lanes, d: &mut Lanes) {
    for (d, &a) in d.iter_mut().zip(a) {
        *d = apply(function, ftz, a);
    }
}

/// `div.approx.f32` or `div.full.f32`, whose nearest results `nearest` gives, in all lanes.
pub(crate) fn quotients(
    nearest: impl Fn(bool, u32, u32) -> u32,
    ftz: bool,
    a: &Lanes,
    b: &Lanes,
    d: &mut Lanes,
) {
    for ((d, &a), &b) in d.iter_mut().zip(a).zip(b) {
        *d = quotient(nearest(ftz, a, b), ftz, a, b);
    }
}

/// A quotient whose nearest result is given.
fn quotient(nearest: u32, ftz: bool, a: u32, b: u32) -> u32 {
    let rounded = f32::from_bits(nearest);
    if rounded == 0.0 || !rounded.is_finite() {
        return nearest;
    }
    let [x, y] = [a, b].map(|bits| f64::from(f32::from_bits(bits)));
    let exact = x / y;
    let result = edge(exact, 2.0 * ulp(exact) * side(u64::from(a) << 32 | u64::from(b)));
    // Two ulp from a subnormal, the sign could change.
    let result = if result * rounded < 0.0 { 0f32.copysign(rounded) } else { result };
    if ftz { flush(result.to_bits()) } else { result.to_bits() }
}

/// One function of one f16 or bf16, by bits, whose nearest result is given.
fn half(format: Half, function: Function, ftz: bool, h: u32, nearest: u32) -> u32 {
    let h = if ftz { format.flush(h) } else { h };
    let (x, rounded) = (f64::from(format.widen(h)), format.widen(nearest));
    let exact = real(function, x);
    let error = match (function, format) {
        (Function::Ex2, Half::F16) => EX2_F16 * exact,
        (Function::Ex2, Half::Bf16) => 2f64.powi(-7) * exact,
        (Function::Tanh, Half::F16) => TANH_F16,
        (Function::Tanh, Half::Bf16) => 2f64.powi(-8),
        // PTX has no others of 16 bits.
        _ => 0.0,
    };
    if x == 0.0 || !x.is_finite() || !rounded.is_finite() || rounded == 0.0 || error == 0.0 {
        return nearest;
    }
    let result = edge_half(format, exact, error * side(h.into()));
    if ftz { format.flush(result) } else { result }
}

/// One function of f16 or bf16 in all lanes: of both halves where `pair`, else of the low one.
pub(crate) fn half_lanes(format: Half, function: Function, ftz: bool, pair: bool, a: &Lanes, d: &mut Lanes) {
    approx::half_lanes(format, function, ftz, pair, a, d);
    for (d, &a) in d.iter_mut().zip(a) {
        let low = half(format, function, ftz, a & 0xffff, *d & 0xffff);
        let high = if pair { half(format, function, ftz, a >> 16, *d >> 16) } else { 0 };
        *d = high << 16 | low;
    }
}

/// `rcp.approx.ftz.f64`, `rsqrt.approx.ftz.f64` and `rsqrt.approx.f64`.
pub(crate) fn apply_f64(function: Function, ftz: bool, bits: u64) -> u64 {
    let nearest = approx::apply_f64(function, ftz, bits);
    let (x, result) = (f64::from_bits(bits), f64::from_bits(nearest));
    if x == 0.0 || !x.is_finite() || !result.is_finite() || result == 0.0 {
        return nearest;
    }
    if ftz {
        // The nearest result was cut to its upper word: the exact one is there or above it.
        let up = side(bits >> 32) > 0.0 && nearest >> 32 & 0x7ff0_0000 < 0x7fe0_0000;
        return if up { nearest + (1 << 32) } else { nearest };
    }
    // The exact result is result·(1 + residual/2), residual = 1 − x·result².
    let scale = match x {
        x if x < 2f64.powi(-500) => 2f64.powi(300),
        x if x > 2f64.powi(500) => 2f64.powi(-300),
        _ => 1.0,
    };
    let (x, root) = (x * scale * scale, result / scale);
    let square = root * root;
    let residual = (-x).mul_add(square, 1.0) - x * root.mul_add(root, -square);
    match side(bits) {
        up if up * residual < 0.0 => nearest,
        up if up > 0.0 => nearest + 1,
        _ => nearest - 1,
    }
}
