//! The worst approximations stay within PTX's bounds, and reach them on both sides.

use proptest::prelude::*;

use super::approx::{ALL, library};
use crate::numerics::approx::{self, Function};
use crate::numerics::half::Half;
use crate::numerics::worst::*;

/// f64's own error in the exact values.
const SLACK: f64 = 1e-9;

/// A unit in the last place of a format with so many bits of fraction and this least exponent.
fn ulp(x: f64, fraction: i32, least: i32) -> f64 {
    let exponent = if x == 0.0 { least } else { (x.abs().log2().floor() as i32).max(least) };
    2f64.powi(exponent - fraction)
}

/// PTX's bound on the error of a function of f32 around the exact value.
fn bound(function: Function, x: f64, exact: f64) -> f64 {
    match function {
        // From the rounded result, which is half a unit off.
        Function::Ex2 => 2.5 * ulp((exact as f32).into(), 23, -126),
        Function::Lg2 if x > 0.5 && x < 2.0 => 2f64.powi(-22),
        Function::Lg2 => 2f64.powi(-22) * exact.abs(),
        Function::Sin | Function::Cos if x.abs() <= std::f64::consts::TAU => 2f64.powf(-20.5),
        Function::Sin | Function::Cos => 2f64.powf(-14.7),
        Function::Rcp => ulp(exact, 23, -126),
        Function::Rsqrt => 2f64.powf(-22.9) * exact.abs(),
        Function::Sqrt => 2f64.powi(-23) * exact.abs(),
        Function::Tanh => 2f64.powi(-11) * exact.abs(),
    }
}

/// How many results were low and high by more than `most` of their bound, of how many.
#[derive(Default)]
struct Tally {
    low: usize,
    high: usize,
    all: usize,
}

impl Tally {
    fn add(&mut self, what: &dyn Fn() -> String, found: f64, exact: f64, bound: f64, most: f64) {
        let error = found - exact;
        assert!(
            error.abs() <= bound * (1.0 + SLACK),
            "{}: {found:e} is off by {error:e} from {exact:e}, more than {bound:e}",
            what()
        );
        self.all += 1;
        self.low += usize::from(error < -most * bound);
        self.high += usize::from(error > most * bound);
    }

    /// Of ten results, two or more are far below and two far above: with a bound of one unit, each distance up to that is
    /// as frequent as any other.
    fn assert_spread(&self, what: &str) {
        let least = self.all / 5;
        assert!(
            self.low >= least && self.high >= least,
            "{what}: {} low, {} high of {}",
            self.low,
            self.high,
            self.all
        );
    }
}

/// Numbers of many sizes whose low bits are all used, and some with 13 zeros at the end, as halves are.
fn numbers(from: f32, to: f32) -> impl Iterator<Item = f32> {
    (0..20_000u32).map(move |i| {
        let x = from + (to - from) * (f64::from(i) * 0.618_033_988_749).fract() as f32;
        if i % 3 == 0 { f32::from_bits(x.to_bits() & !0x1fff) } else { x }
    })
}

#[test]
fn results_come_to_the_edge_of_the_bounds() {
    for (function, ranges) in [
        (Function::Ex2, vec![(-125.0, 125.0), (-1.0, 1.0)]),
        (Function::Lg2, vec![(0.51, 1.99), (2.0, 1e9), (0.999, 1.001)]),
        (Function::Sin, vec![(-6.0, 6.0), (7.0, 300.0)]),
        (Function::Cos, vec![(-6.0, 6.0), (7.0, 300.0)]),
        (Function::Rcp, vec![(0.01, 100.0), (-4.0, -1.0)]),
        (Function::Rsqrt, vec![(0.01, 100.0), (1e-30, 1e-29)]),
        (Function::Sqrt, vec![(0.01, 100.0), (1e30, 1e31)]),
        (Function::Tanh, vec![(-9.0, 9.0), (-0.01, 0.01)]),
    ] {
        for (from, to) in ranges {
            let mut tally = Tally::default();
            for x in numbers(from, to) {
                let exact = library(function, x.into());
                let found = f32::from_bits(apply(function, false, x.to_bits()));
                let bound = bound(function, x.into(), exact);
                tally.add(&|| format!("{function:?}({x:e})"), found.into(), exact, bound, 0.45);
            }
            tally.assert_spread(&format!("{function:?} in {from}..{to}"));
        }
    }
}

#[test]
fn neighbours_err_to_both_sides() {
    // Steps of one f32 and of one f16: three in a row never err to the same side.
    for step in [1, 0x2000] {
        let sides: Vec<bool> = (0..1000u32)
            .map(|i| {
                let bits = 1.25f32.to_bits() + i * step;
                f64::from(f32::from_bits(apply(Function::Lg2, false, bits)))
                    > f64::from(f32::from_bits(bits)).log2()
            })
            .collect();
        assert!(sides.windows(3).all(|three| three.contains(&true) && three.contains(&false)));
    }
}

#[test]
fn quotients_come_to_the_edge() {
    for nearest in [approx::div, approx::div_full] {
        let mut tally = Tally::default();
        for (a, b) in numbers(-50.0, 50.0).zip(numbers(0.1, 90.0).skip(7)) {
            let mut found = [0; 32];
            quotients(nearest, false, &[a.to_bits(); 32], &[b.to_bits(); 32], &mut found);
            let exact = f64::from(a) / f64::from(b);
            let found = f32::from_bits(found[0]).into();
            tally.add(&|| format!("{a:e}/{b:e}"), found, exact, 2.0 * ulp(exact, 23, -126), 0.45);
        }
        tally.assert_spread("quotients");
    }
}

#[test]
fn halves_come_to_the_edge() {
    for (format, function, from, to, relative, bound) in [
        (Half::F16, Function::Ex2, -13.0, 15.0, true, 2f64.powf(-9.9)),
        (Half::Bf16, Function::Ex2, -100.0, 100.0, true, 2f64.powi(-7)),
        (Half::F16, Function::Tanh, -4.0, 4.0, false, 2f64.powf(-10.987)),
        (Half::Bf16, Function::Tanh, -4.0, 4.0, false, 2f64.powi(-8)),
    ] {
        let mut tally = Tally::default();
        for x in numbers(from, to) {
            let h = format.narrow(x);
            let mut found = [0; 32];
            half_lanes(format, function, false, true, &[h | h << 16; 32], &mut found);
            assert_eq!(found[0] >> 16, found[0] & 0xffff);
            if format.widen(h) == 0.0 {
                continue;
            }
            let exact = library(function, format.widen(h).into());
            let bound = if relative { bound * exact } else { bound };
            let found = format.widen(found[0] & 0xffff);
            tally.add(&|| format!("{format:?} {function:?}({x:e})"), found.into(), exact, bound, 0.3);
        }
        // A unit of f16 is up to 0.93 of the bound: if no value lies between, the nearest one is used.
        let least = tally.all / 4;
        assert!(
            tally.low >= least && tally.high >= least,
            "{format:?} {function:?}: {}, {}",
            tally.low,
            tally.high
        );
    }
}

#[test]
fn gross_and_full_f64() {
    let mut tallies = [Tally::default(), Tally::default(), Tally::default()];
    for x in numbers(1.0, 1000.0).map(|x| f64::from(x) * 1.000_000_1) {
        let cut = f64::from_bits(x.to_bits() & !0xffff_ffff);
        let cases = [(Function::Rcp, true, cut), (Function::Rsqrt, true, cut), (Function::Rsqrt, false, x)];
        for (tally, (function, ftz, from)) in tallies.iter_mut().zip(cases) {
            let exact = library(function, from);
            let found = apply_f64(function, ftz, x.to_bits());
            assert!(!ftz || found & 0xffff_ffff == 0);
            // The exact value of the last is itself good to a unit.
            let bound = if ftz { ulp(exact, 20, -1022) } else { 2.0 * ulp(exact, 52, -1022) };
            tally.add(&|| format!("{function:?}({x:e})"), f64::from_bits(found), exact, bound, 0.0);
        }
    }
    for tally in tallies {
        assert!(tally.low > tally.all / 10 && tally.high > tally.all / 10, "{} {}", tally.low, tally.high);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]
    #[test]
    fn all_operands_keep_the_bounds(bits: u32, b: u32, ftz: bool) {
        for function in ALL {
            let nearest = f32::from_bits(approx::apply(function, ftz, bits));
            let found = f32::from_bits(apply(function, ftz, bits));
            prop_assert_eq!(nearest.is_nan(), found.is_nan());
            prop_assert_eq!(nearest.is_infinite(), found.is_infinite());
            let x = f32::from_bits(bits);
            let x = if ftz && x.is_subnormal() { 0f32.copysign(x) } else { x };
            // The ISA states no bound beyond 100π.
            let far = matches!(function, Function::Sin | Function::Cos) && x.abs() > 100.0 * std::f32::consts::PI;
            if x != 0.0 && nearest.is_finite() && !far && (!ftz || nearest.is_normal() && found.is_normal()) {
                let exact = library(function, x.into());
                let bound = bound(function, x.into(), exact).max(2f64.powi(-150));
                let error = f64::from(found) - exact;
                prop_assert!(error.abs() <= bound * (1.0 + 1e-6), "{:?}({:e}) = {:e}", function, x, found);
            }
            if ftz {
                prop_assert!(!found.is_subnormal());
            }
        }
        let mut found = [0; 32];
        for nearest in [approx::div, approx::div_full] {
            quotients(nearest, ftz, &[bits; 32], &[b; 32], &mut found);
            let [near, found] = [nearest(ftz, bits, b), found[0]].map(f32::from_bits);
            prop_assert_eq!(near.is_nan(), found.is_nan());
            prop_assert_eq!(near.is_infinite(), found.is_infinite());
            if near.is_finite() && !near.is_subnormal() && !found.is_subnormal() {
                let off = (f64::from(near) - f64::from(found)).abs();
                prop_assert!(off <= 2.51 * ulp(near.into(), 23, -126), "{:x} / {:x}", bits, b);
            }
        }
    }
}

#[test]
fn special_values_are_exact() {
    use Function::*;
    const INF: f32 = f32::INFINITY;
    for (function, x, expected) in [
        (Ex2, 0.0, 1.0),
        (Ex2, -0.0, 1.0),
        (Ex2, -INF, 0.0),
        (Ex2, 128.0, INF),
        (Lg2, -0.0, -INF),
        (Lg2, INF, INF),
        (Sin, -0.0, -0.0),
        (Cos, -0.0, 1.0),
        (Rcp, -INF, -0.0),
        (Rcp, -0.0, -INF),
        (Rsqrt, 0.0, INF),
        (Rsqrt, INF, 0.0),
        (Sqrt, -0.0, -0.0),
        (Sqrt, INF, INF),
        (Tanh, -INF, -1.0),
        (Tanh, -0.0, -0.0),
        (Tanh, 1e-40, 1e-40),
    ] {
        assert_eq!(apply(function, false, f32::to_bits(x)), f32::to_bits(expected), "{function:?}({x:e})");
    }
    for function in ALL {
        assert_eq!(apply(function, false, f32::NAN.to_bits()), 0x7fff_ffff, "{function:?}(NaN)");
    }
    for function in [Lg2, Rsqrt, Sqrt] {
        assert_eq!(apply(function, false, f32::to_bits(-1.0)), 0x7fff_ffff, "{function:?}(-1)");
    }
}
