//! f32 and f64 against exact numbers: every result is compared with the exact sum, product or quotient and its
//! neighbours; f64 with a directed rounding against exact errors.

use proptest::prelude::*;

use super::{Exact, is_rounded};
use crate::numerics::Rounding::{self, Down, Nearest, Up, Zero};
use crate::numerics::float::*;
use crate::numerics::soft;

const PLAIN: Flags = Flags { ftz: false, sat: false, xorsign: false };

fn any_f32() -> impl Strategy<Value = u32> {
    prop_oneof![
        4 => any::<u32>(),
        // Near one another, so that sums cancel and ties happen.
        4 => (0x3f00_0000..0x4080_0000u32, any::<bool>()).prop_map(|(x, n)| (x & 0xffff_f00f) | u32::from(n) << 31),
        1 => 0..0x0100_0000u32,
        1 => prop::sample::select(vec![0, 1, 0x007f_ffff, 0x0080_0000, 0x7f7f_ffff, 0x7f80_0000, 0x7fc0_0000, 0x7fff_0001])
            .prop_flat_map(|x| prop_oneof![Just(x), Just(x | 1 << 31)]),
    ]
}

fn any_f64() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => any::<u64>(),
        4 => (0x3fe0_0000_0000_0000..0x4010_0000_0000_0000u64, any::<bool>())
            .prop_map(|(x, n)| (x & !0xff_ffff_0000) | u64::from(n) << 63),
        1 => 0..1u64 << 53,
        1 => prop::sample::select(vec![0, 1, 0x000f_ffff_ffff_ffff, 0x7fef_ffff_ffff_ffff, 0x7ff0_0000_0000_0000])
            .prop_flat_map(|x| prop_oneof![Just(x), Just(x | 1 << 63)]),
    ]
}

/// a·b + c, where its terms lie near enough for an i128.
fn exact_sum(a: f32, b: f32, c: f32) -> Option<Exact> {
    let (p, z) = (f64::from(a) * f64::from(b), f64::from(c));
    let (x, y) = (Exact::new(p), Exact::new(z));
    if x.m == 0 || y.m == 0 {
        return Some(if x.m == 0 { y } else { x });
    }
    let distance = (x.e - y.e).unsigned_abs();
    (distance < 66).then(|| {
        let e = x.e.min(y.e);
        Exact { m: (x.m << (x.e - e)) + (y.m << (y.e - e)), e }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8_000))]

    #[test]
    fn f32_is_exact_sums_rounded(a in any_f32(), b in any_f32(), c in any_f32()) {
        let [x, y, z] = [a, b, c].map(f32::from_bits);
        if !(x.is_finite() && y.is_finite() && z.is_finite()) {
            return Ok(());
        }
        for rounding in Rounding::ALL {
            let cases = [
                (Op::Add, exact_sum(x, 1.0, y)),
                (Op::Sub, exact_sum(x, 1.0, -y)),
                (Op::Mul, exact_sum(x, y, 0.0)),
                (Op::Fma, exact_sum(x, y, z)),
            ];
            for (op, exact) in cases {
                let found = f32::from_bits(f32(op, rounding, PLAIN, a, b, c));
                if let Some(exact) = exact {
                    let ok = is_rounded(exact, found, rounding);
                    prop_assert!(ok, "{:?} {:?} {:e} {:e} {:e}: {:e}", op, rounding, x, y, z, found);
                }
            }
        }
    }

    /// The quick paths and the integers agree on everything, special values and far exponents included.
    #[test]
    fn f32_is_what_the_integers_say(a in any_f32(), b in any_f32(), c in any_f32()) {
        let (x, y, z) = (u64::from(a), u64::from(b), u64::from(c));
        let f = soft::F32;
        for rounding in Rounding::ALL {
            let cases = [
                (Op::Add, soft::add(f, x, y, rounding)),
                (Op::Sub, soft::add(f, x, y ^ 1 << 31, rounding)),
                (Op::Mul, soft::mul(f, x, y, rounding)),
                (Op::Fma, soft::fma(f, x, y, z, rounding)),
                (Op::Div, soft::div(f, x, y, rounding)),
                (Op::Rcp, soft::div(f, 0x3f80_0000, x, rounding)),
                (Op::Sqrt, soft::sqrt(f, x, rounding)),
            ];
            for (op, expected) in cases {
                let found = f32(op, rounding, PLAIN, a, b, c);
                prop_assert_eq!(u64::from(found), expected, "{:?} {:?} {:#x} {:#x} {:#x}", op, rounding, a, b, c);
                let mut lanes = [0; 32];
                f32_lanes(op, rounding, PLAIN, [&[a; 32], &[b; 32], &[c; 32]], &mut lanes);
                prop_assert_eq!(lanes, [found; 32]);
            }
        }
    }

    /// f64 to nearest is the processor's; the directed ones enclose the exact value between neighbours.
    #[test]
    fn f64_roundings(a in any_f64(), b in any_f64(), c in any_f64()) {
        let [x, y, z] = [a, b, c].map(f64::from_bits);
        if x.is_nan() || y.is_nan() || z.is_nan() {
            return Ok(());
        }
        let f = soft::F64;
        let native = [
            (Op::Add, x + y, soft::add(f, a, b, Nearest)),
            (Op::Mul, x * y, soft::mul(f, a, b, Nearest)),
            (Op::Fma, x.mul_add(y, z), soft::fma(f, a, b, c, Nearest)),
            (Op::Div, x / y, soft::div(f, a, b, Nearest)),
            (Op::Sqrt, x.sqrt(), soft::sqrt(f, a, Nearest)),
        ];
        for (op, native, integers) in native {
            let expected = if native.is_nan() { 0xfff8_0000_0000_0000 } else { native.to_bits() };
            prop_assert_eq!(f64(op, Nearest, a, b, c), expected, "{:?}", op);
            prop_assert_eq!(integers, expected, "{:?} by integers", op);
            if native.is_nan() { continue; }
            let [down, up, zero] = [Down, Up, Zero].map(|r| f64::from_bits(f64(op, r, a, b, c)));
            prop_assert!(down <= native && native <= up, "{:?} {:e} {:e} {:e}", op, down, native, up);
            prop_assert!(down == up || down.next_up() == up, "{:?} {:e} {:e}", op, down, up);
            prop_assert_eq!(zero, if up <= 0.0 { up } else { down }, "{:?}", op);
            // If the error of the nearest result can be computed, its sign shows on which side the exact result lies.
            let error = match op {
                Op::Add => { let p = native - x; (x - (native - p)) + (y - p) }
                Op::Mul => x.mul_add(y, -native),
                _ => continue,
            };
            let normal = |v: f64| v.abs() > 1e-200 && v.abs() < 1e200;
            if [x, y, native].into_iter().all(normal) {
                prop_assert_eq!(error == 0.0, down == up, "{:?} {:e} {:e}", op, x, y);
                prop_assert_eq!(error > 0.0, native == down && down != up, "{:?} {:e} {:e}", op, x, y);
            }
        }
    }
}

#[test]
fn signs_of_zero() {
    let (plus, minus, one) = (0, 1 << 31, 0x3f80_0000);
    for rounding in Rounding::ALL {
        let cancelled = if rounding == Down { minus } else { plus };
        assert_eq!(f32(Op::Sub, rounding, PLAIN, one, one, 0), cancelled, "{rounding:?}");
        assert_eq!(f32(Op::Fma, rounding, PLAIN, one, one, one | minus), cancelled, "{rounding:?}");
        assert_eq!(f32(Op::Add, rounding, PLAIN, plus, minus, 0), cancelled, "{rounding:?}");
        assert_eq!(f32(Op::Add, rounding, PLAIN, plus, plus, 0), plus, "{rounding:?}");
        assert_eq!(f32(Op::Add, rounding, PLAIN, minus, minus, 0), minus, "{rounding:?}");
        let wide = f64(Op::Sub, rounding, 1f64.to_bits(), 1f64.to_bits(), 0);
        assert_eq!(wide, if rounding == Down { 1 << 63 } else { 0 });
    }
}

#[test]
fn nan_is_canonical_in_f32_and_kept_in_f64() {
    let nan = 0xffa5_0001;
    for op in [Op::Add, Op::Sub, Op::Mul, Op::Fma, Op::Div, Op::Rcp, Op::Sqrt, Op::MinNan] {
        for rounding in Rounding::ALL {
            assert_eq!(f32(op, rounding, PLAIN, nan, 0x3f80_0000, 0), 0x7fff_ffff, "{op:?}");
            assert_eq!(f64(op, rounding, 0x7ff0_0000_0000_1234, 0, 0), 0x7ff8_0000_0000_1234, "{op:?}");
        }
    }
    assert_eq!(f32(Op::Sqrt, Nearest, PLAIN, (-1f32).to_bits(), 0, 0), 0x7fff_ffff);
    assert_eq!(f64(Op::Sqrt, Nearest, (-1f64).to_bits(), 0, 0), 0xfff8_0000_0000_0000);
}

#[test]
fn extremes() {
    let bits = |x: f32| x.to_bits();
    for (op, a, b, expected) in [
        (Op::Min, 1.0, 2.0, 1.0),
        (Op::Max, 1.0, 2.0, 2.0),
        (Op::Min, -1.0, 2.0, -1.0),
        (Op::Min, -1.0, -2.0, -2.0),
        (Op::Min, 0.0, -0.0, -0.0),
        (Op::Min, -0.0, 0.0, -0.0),
        (Op::Max, -0.0, 0.0, 0.0),
        (Op::Max, 0.0, -0.0, 0.0),
        (Op::Min, f32::NAN, 2.0, 2.0),
        (Op::Max, 2.0, f32::NAN, 2.0),
        (Op::Max, f32::NEG_INFINITY, f32::NAN, f32::NEG_INFINITY),
        (Op::MaxNan, 1.0, 3.0, 3.0),
    ] {
        assert_eq!(f32(op, Nearest, PLAIN, bits(a), bits(b), 0), bits(expected), "{op:?} {a} {b}");
        let wide = f64(op, Nearest, f64::from(a).to_bits(), f64::from(b).to_bits(), 0);
        assert_eq!(wide, f64::from(expected).to_bits(), "{op:?} {a} {b} in f64");
    }
    assert_eq!(f32(Op::Min, Nearest, PLAIN, bits(f32::NAN), bits(f32::NAN), 0), 0x7fff_ffff);
    assert_eq!(f32(Op::MinNan, Nearest, PLAIN, bits(1.0), bits(f32::NAN), 0), 0x7fff_ffff);
    let xorsign = Flags { xorsign: true, ..PLAIN };
    assert_eq!(f32(Op::Min, Nearest, xorsign, bits(-3.0), bits(2.0), 0), bits(-2.0));
    assert_eq!(f32(Op::Max, Nearest, xorsign, bits(-3.0), bits(-2.0), 0), bits(3.0));
    let ftz = Flags { ftz: true, ..PLAIN };
    assert_eq!(f32(Op::Max, Nearest, ftz, 1, 2, 0), 0);
}

#[test]
fn flushes_and_saturates() {
    let (ftz, sat) = (Flags { ftz: true, ..PLAIN }, Flags { sat: true, ..PLAIN });
    let bits = |x: f32| x.to_bits();
    let small = 0x0080_0000;
    assert_eq!(f32(Op::Mul, Nearest, ftz, small | 1 << 31, bits(0.5), 0), 1 << 31);
    assert_eq!(f32(Op::Mul, Nearest, PLAIN, small, bits(0.5), 0), small / 2);
    assert_eq!(f32(Op::Add, Nearest, ftz, 0x807f_ffff, 0, 0), 0);
    assert_eq!(f32(Op::Rcp, Nearest, ftz, 1, 0, 0), 0x7f80_0000);
    assert_eq!(f32(Op::Neg, Nearest, ftz, 1, 0, 0), 1 << 31);
    for (x, expected) in
        [(2.0, 1.0), (0.25, 0.25), (-1.0, 0.0), (-0.0, 0.0), (f32::NAN, 0.0), (f32::INFINITY, 1.0)]
    {
        assert_eq!(f32(Op::Mul, Nearest, sat, bits(x), bits(1.0), 0), bits(expected), "{x}");
    }
}
