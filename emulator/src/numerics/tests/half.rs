//! f16 and bf16: conversions exhaustively, arithmetic against exact sums.

use proptest::prelude::*;

use crate::numerics::Rounding::Nearest;
use crate::numerics::half::*;
use crate::numerics::soft;

fn formats() -> [(Half, soft::Format); 2] {
    [(Half::F16, soft::F16), (Half::Bf16, soft::BF16)]
}

#[test]
fn every_f16_widens_exactly_and_comes_back() {
    for h in 0..=0xffffu32 {
        let (field, fraction) = ((h >> 10 & 31) as i32, f64::from(h & 0x3ff));
        let magnitude = match field {
            0 => fraction * 2f64.powi(-24),
            31 if fraction == 0.0 => f64::INFINITY,
            31 => f64::NAN,
            _ => (1024.0 + fraction) * 2f64.powi(field - 25),
        };
        let expected = if h & 0x8000 != 0 { -magnitude } else { magnitude };
        let found = f16_to_f32(h);
        if magnitude.is_nan() {
            assert_eq!(found, 0x7fff_ffff, "{h:#x}");
            assert_eq!(f32_to_f16(found), 0x7fff);
        } else {
            assert_eq!(f64::from(f32::from_bits(found)).to_bits(), expected.to_bits(), "{h:#x}");
            assert_eq!(f32_to_f16(found), h, "{h:#x}");
            assert_eq!(bf16_to_f32(h), h << 16);
        }
    }
}

/// Between every two neighbours: just below the midpoint, the midpoint, just above it.
#[test]
fn f32_rounds_to_the_nearest_half() {
    for (format, top) in [(Half::F16, 0x7c00), (Half::Bf16, 0x7f80)] {
        for h in 0..top {
            let (low, high) = (f64::from(format.widen(h)), f64::from(format.widen(h + 1)));
            let high =
                if high.is_infinite() { 2f64.powi(if format == Half::F16 { 16 } else { 128 }) } else { high };
            let middle = ((low + high) / 2.0) as f32;
            let even = h + (h & 1);
            for (x, expected) in [(middle.next_down(), h), (middle, even), (middle.next_up(), h + 1)] {
                assert_eq!(format.narrow(x), expected, "{format:?} {h:#x} {x:e}");
                assert_eq!(format.narrow(-x), expected | 0x8000, "{format:?} {h:#x} {x:e}");
            }
            let middle = (low + high) / 2.0;
            for (x, expected) in [(middle.next_down(), h), (middle, even), (middle.next_up(), h + 1)] {
                assert_eq!(format.narrow_f64(x), expected, "{format:?} {h:#x} {x:e}");
                assert_eq!(format.narrow_f64(-x), expected | 0x8000, "{format:?} {h:#x} {x:e}");
            }
        }
    }
}

#[test]
fn far_values_narrow_to_zero_and_infinity() {
    for (format, infinity) in [(Half::F16, 0x7c00), (Half::Bf16, 0x7f80)] {
        assert_eq!(format.narrow(f32::INFINITY), infinity);
        assert_eq!(format.narrow(-f32::MAX), infinity | 0x8000);
        assert_eq!(format.narrow(f32::NAN), 0x7fff);
        assert_eq!(format.narrow(-f32::NAN), 0x7fff);
        assert_eq!(format.narrow(-0.0), 0x8000);
        assert_eq!(format.narrow(f32::from_bits(1)), 0);
        assert_eq!(format.narrow_f64(1e300), infinity);
        assert_eq!(format.narrow_f64(-1e-300), 0x8000);
    }
}

/// A case where rounding a·b + c to f32 first gives another f16: the sum lies just above a midpoint.
#[test]
fn fma_is_rounded_once() {
    let (a, b, c) = (0x2416, 0x27d5, 0x3c00);
    let exact = f64::from(Half::F16.widen(a)) * f64::from(Half::F16.widen(b)) + 1.0;
    assert_eq!(exact, 1.0 + 2f64.powi(-11) * (1.0 + 78.0 * 2f64.powi(-21)));
    assert_eq!(Half::F16.narrow(exact as f32), 0x3c00);
    assert_eq!(apply(Half::F16, HalfOp::Fma, HalfFlags::default(), a, b, c), 0x3c01);
    // A bf16 product that is a midpoint, with the least addend above and below it.
    for (c, expected) in [(0, 0x3f90), (1, 0x3f91), (0x8001, 0x3f90)] {
        assert_eq!(apply(Half::Bf16, HalfOp::Fma, HalfFlags::default(), 0x3f88, 0x3f88, c), expected);
    }
}

fn any_half() -> impl Strategy<Value = u32> {
    prop_oneof![
        4 => any::<u16>().prop_map(u32::from),
        4 => 0x3000..0x4800u32,
        1 => 0..0x500u32,
        1 => prop::sample::select(vec![0, 1, 0x7f, 0x80, 0x3ff, 0x400, 0x7c00, 0x7e00, 0x7f80, 0x7fff])
            .prop_flat_map(|x| prop_oneof![Just(x), Just(x | 0x8000)]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8_000))]
    #[test]
    fn arithmetic_is_rounded_once(a in any_half(), b in any_half(), c in any_half()) {
        for (half, format) in formats() {
            let flags = HalfFlags::default();
            let (x, y, z) = (a.into(), b.into(), c.into());
            let cases = [
                (HalfOp::Add, soft::add(format, x, y, Nearest)),
                (HalfOp::Sub, soft::add(format, x, y ^ 0x8000, Nearest)),
                (HalfOp::Mul, soft::mul(format, x, y, Nearest)),
                (HalfOp::Fma, soft::fma(format, x, y, z, Nearest)),
            ];
            for (op, expected) in cases {
                let found = apply(half, op, flags, a, b, c);
                prop_assert_eq!(u64::from(found), expected, "{:?} {:?} {:#x} {:#x} {:#x}", half, op, a, b, c);
                let pair = apply_pair(half, op, flags, a << 16 | b, b << 16 | a, c << 16 | c);
                prop_assert_eq!(pair >> 16, found);
                let mut lanes = [0; 32];
                let spread = |v: u32| [v << 16 | v; 32];
                apply_lanes(half, op, flags, true, [&spread(a), &spread(b), &spread(c)], &mut lanes);
                prop_assert_eq!(lanes, [found << 16 | found; 32]);
            }
        }
    }
}

#[test]
fn extremes_flush_saturate() {
    let f = |op, flags, a, b| apply(Half::F16, op, flags, a, b, 0);
    let none = HalfFlags::default();
    let (one, two, nan, minus) = (0x3c00, 0x4000, 0x7e01, 0xbc00);
    for (op, a, b, expected) in [
        (HalfOp::Min, one, two, one),
        (HalfOp::Max, one, two, two),
        (HalfOp::Max, minus, one, one),
        (HalfOp::Min, minus, 0xc000, 0xc000),
        (HalfOp::Min, 0, 0x8000, 0x8000),
        (HalfOp::Max, 0x8000, 0, 0),
        (HalfOp::Min, nan, two, two),
        (HalfOp::Max, two, nan, two),
        (HalfOp::Max, nan, nan, 0x7fff),
        (HalfOp::MinNan, nan, two, 0x7fff),
        (HalfOp::MaxNan, two, nan, 0x7fff),
        (HalfOp::Neg, one, 0, minus),
        (HalfOp::Abs, minus, 0, one),
    ] {
        assert_eq!(f(op, none, a, b), expected, "{op:?} {a:#x} {b:#x}");
    }
    let ftz = HalfFlags { ftz: true, ..none };
    assert_eq!(f(HalfOp::Add, ftz, 0x83ff, 0), 0);
    assert_eq!(f(HalfOp::Mul, ftz, 0x8400, 0x3800), 0x8000);
    assert_eq!(f(HalfOp::Mul, none, 0x8400, 0x3800), 0x8200);
    let sat = HalfFlags { sat: true, ..none };
    assert_eq!(f(HalfOp::Add, sat, one, one), one);
    assert_eq!(f(HalfOp::Add, sat, minus, 0x3800), 0);
    assert_eq!(f(HalfOp::Add, sat, nan, 0), 0);
    let relu = HalfFlags { relu: true, ..none };
    assert_eq!(apply(Half::F16, HalfOp::Fma, relu, minus, one, 0), 0);
    assert_eq!(apply(Half::F16, HalfOp::Fma, relu, nan, one, 0), 0x7fff);
    let xorsign = HalfFlags { xorsign: true, ..none };
    assert_eq!(f(HalfOp::Min, xorsign, 0xc000, one), minus);
    assert_eq!(f(HalfOp::Max, xorsign, 0xc000, minus), two);
}
