//! The approximate functions: PTX's bounds on the error with room to spare, and its tables of special values.

use proptest::prelude::*;

use crate::numerics::approx::*;
use crate::numerics::half::Half;

const INF: f32 = f32::INFINITY;
const NAN: f32 = f32::NAN;
pub(super) const ALL: [Function; 8] = {
    use Function::*;
    [Ex2, Lg2, Sin, Cos, Rcp, Rsqrt, Sqrt, Tanh]
};
/// A subnormal number of f32.
const TINY: f32 = 1e-40;

fn at(function: Function, ftz: bool, x: f32) -> f32 {
    f32::from_bits(apply(function, ftz, x.to_bits()))
}

/// One function of one half in the low bits.
fn apply_half(format: Half, function: Function, ftz: bool, bits: u32) -> u32 {
    let mut found = [0; 32];
    half_lanes(format, function, ftz, false, &[bits; 32], &mut found);
    found[0]
}

/// The function by the C library, in f64.
pub(super) fn library(function: Function, x: f64) -> f64 {
    match function {
        Function::Ex2 => x.exp2(),
        Function::Lg2 => x.log2(),
        Function::Sin => x.sin(),
        Function::Cos => x.cos(),
        Function::Rcp => 1.0 / x,
        Function::Rsqrt => 1.0 / x.sqrt(),
        Function::Sqrt => x.sqrt(),
        Function::Tanh => x.tanh(),
    }
}

/// Within a hair of half a place of the library's value; sines and cosines within 2⁻²⁵ and half a place.
fn close(function: Function, x: f32) -> Result<(), TestCaseError> {
    let (found, exact) = (at(function, false, x), library(function, x.into()));
    let near = exact as f32;
    let place = f64::from(near.abs().next_up()) - f64::from(near.abs());
    let slack = if matches!(function, Function::Sin | Function::Cos) { 2f64.powi(-40) } else { 0.0 };
    let ok = (f64::from(found) - exact).abs() <= 0.50001 * place + slack || found.to_bits() == near.to_bits();
    prop_assert!(ok, "{:?}({:e}) = {:e}, not {:e}", function, x, found, exact);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8_000))]
    #[test]
    fn are_nearly_rounded(x in -140.0f32..140.0, small in -2.0f32..2.0, any in any::<u32>().prop_map(f32::from_bits)) {
        for x in [x, small, small * 1e-3] {
            for function in [Function::Ex2, Function::Sin, Function::Cos, Function::Rcp, Function::Tanh] {
                close(function, x)?;
            }
            for function in [Function::Lg2, Function::Sqrt, Function::Rsqrt] {
                close(function, x.abs() + f32::MIN_POSITIVE)?;
            }
        }
        if any.is_finite() && any != 0.0 {
            close(Function::Rcp, any)?;
            close(Function::Tanh, any)?;
            close(Function::Lg2, any.abs())?;
            close(Function::Sqrt, any.abs())?;
            close(Function::Rsqrt, any.abs())?;
        }
    }

    #[test]
    fn quotients(a in any::<u32>(), b in any::<u32>()) {
        let exact = f32::from_bits(a) / f32::from_bits(b);
        let expected = if exact.is_nan() { 0x7fff_ffff } else { exact.to_bits() };
        prop_assert_eq!(div_full(false, a, b), expected);
        if f32::from_bits(b).abs() <= 2f32.powi(126) {
            prop_assert_eq!(div(false, a, b), expected);
        }
    }

    #[test]
    fn lanes_are_the_single_function(x in prop::array::uniform32(any::<u32>()), ftz: bool) {
        for function in ALL {
            let mut found = [0; 32];
            lanes(function, ftz, &x, &mut found);
            prop_assert_eq!(found, x.map(|x| apply(function, ftz, x)));
            for format in [Half::F16, Half::Bf16] {
                half_lanes(format, function, ftz, true, &x, &mut found);
                let flush = |h: u32| if ftz { format.flush(h & 0xffff) } else { h & 0xffff };
                let one = |h: u32| {
                    let wide = format.widen(flush(h)).to_bits();
                    flush(format.narrow(f32::from_bits(apply(function, false, wide))))
                };
                prop_assert_eq!(found, x.map(|x| one(x >> 16) << 16 | one(x)));
            }
        }
    }
}

#[test]
fn special_values() {
    use Function::*;
    let table = [
        (Ex2, false, -INF, 0.0),
        (Ex2, false, INF, INF),
        (Ex2, false, -0.0, 1.0),
        (Ex2, false, TINY, 1.0),
        (Ex2, false, -149.0, f32::from_bits(1)),
        (Ex2, true, -149.0, 0.0),
        (Ex2, false, 128.0, INF),
        (Lg2, false, 0.0, -INF),
        (Lg2, false, -0.0, -INF),
        (Lg2, false, -1.0, NAN),
        (Lg2, false, -INF, NAN),
        (Lg2, false, INF, INF),
        (Lg2, false, 1.0, 0.0),
        (Lg2, false, f32::from_bits(1), -149.0),
        (Lg2, true, TINY, -INF),
        (Lg2, true, -TINY, -INF),
        (Sin, false, -0.0, -0.0),
        (Sin, false, 0.0, 0.0),
        (Sin, false, INF, NAN),
        (Sin, false, -INF, NAN),
        (Sin, true, -TINY, -0.0),
        (Cos, false, -0.0, 1.0),
        (Cos, false, -INF, NAN),
        (Rcp, false, 0.0, INF),
        (Rcp, false, -0.0, -INF),
        (Rcp, false, -INF, -0.0),
        (Rcp, true, -TINY, -INF),
        (Rcp, true, f32::MAX, 0.0),
        (Rsqrt, false, -0.0, -INF),
        (Rsqrt, false, 0.0, INF),
        (Rsqrt, false, INF, 0.0),
        (Rsqrt, false, -1.0, NAN),
        (Rsqrt, true, -TINY, -INF),
        (Sqrt, false, -0.0, -0.0),
        (Sqrt, false, -1.0, NAN),
        (Sqrt, false, INF, INF),
        (Sqrt, true, TINY, 0.0),
        (Tanh, false, -INF, -1.0),
        (Tanh, false, INF, 1.0),
        (Tanh, false, -0.0, -0.0),
        (Tanh, false, TINY, TINY),
    ];
    for (function, ftz, x, expected) in table {
        let found = apply(function, ftz, x.to_bits());
        let expected = if expected.is_nan() { 0x7fff_ffff } else { expected.to_bits() };
        assert_eq!(found, expected, "{function:?} ftz={ftz} {x:e}");
        assert_eq!(apply(function, ftz, 0xffc0_0001), 0x7fff_ffff, "{function:?}(NaN)");
    }
}

#[test]
fn far_sines_stay_sines() {
    for x in [1e9f32, 1e20, f32::MAX, -3e15] {
        assert!(
            at(Function::Sin, false, x).abs() <= 1.0 && at(Function::Cos, false, x).abs() <= 1.0,
            "{x:e}"
        );
    }
}

#[test]
fn quotients_by_large_numbers() {
    let q = |ftz, a: f32, b: f32| div(ftz, a.to_bits(), b.to_bits());
    let large = 2f32.powi(127);
    assert_eq!(q(false, 3.0, large), 0);
    assert_eq!(q(false, -3.0, large), 1 << 31);
    assert_eq!(q(false, INF, large), 0x7fff_ffff);
    assert_eq!(q(false, INF, INF), 0x7fff_ffff);
    assert_eq!(q(false, 3.0, INF), 0);
    assert_eq!(q(true, 1.0, TINY), INF.to_bits());
    assert_eq!(div_full(false, large.to_bits(), large.to_bits()), 1f32.to_bits());
}

#[test]
fn halves() {
    let h =
        |function, ftz, x: f32| Half::F16.widen(apply_half(Half::F16, function, ftz, Half::F16.narrow(x)));
    assert_eq!(h(Function::Ex2, false, 3.0), 8.0);
    assert_eq!(h(Function::Ex2, false, -24.0), 2f32.powi(-24));
    assert_eq!(h(Function::Ex2, true, -24.0), 0.0);
    assert_eq!(h(Function::Ex2, false, 16.0), INF);
    assert_eq!(h(Function::Tanh, false, -INF), -1.0);
    assert_eq!(apply_half(Half::Bf16, Function::Ex2, true, 0x40a0), 0x4200);
    assert_eq!(apply_half(Half::Bf16, Function::Tanh, false, 0x7fff), 0x7fff);
}

#[test]
fn gross_f64() {
    let f = |function, ftz, x: f64| f64::from_bits(apply_f64(function, ftz, x.to_bits()));
    assert_eq!(f(Function::Rcp, true, 4.0), 0.25);
    assert_eq!(f(Function::Rcp, true, -0.0), f64::NEG_INFINITY);
    assert_eq!(f(Function::Rcp, true, 1e-310), f64::INFINITY);
    assert_eq!(f(Function::Rsqrt, false, 16.0), 0.25);
    assert_eq!(f(Function::Rsqrt, false, -0.0), f64::NEG_INFINITY);
    assert!(f(Function::Rsqrt, true, -4.0).is_nan());
    let third = apply_f64(Function::Rcp, true, 3f64.to_bits());
    assert_eq!(third & 0xffff_ffff, 0);
    assert!((f64::from_bits(third) * 3.0 - 1.0).abs() < 2f64.powi(-20));
}
