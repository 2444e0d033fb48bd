//! `cvt` against a slow model: exact values as i128 fractions, roundings by comparison.

use proptest::prelude::*;

use crate::numerics::Rounding::{self, Down, Nearest, Up, Zero};
use crate::numerics::convert::*;
use crate::numerics::half::Half;

const INTEGERS: [Type; 8] = [
    Type::Unsigned(8),
    Type::Unsigned(16),
    Type::Unsigned(32),
    Type::Unsigned(64),
    Type::Signed(8),
    Type::Signed(16),
    Type::Signed(32),
    Type::Signed(64),
];

fn bounds(t: Type) -> (i128, i128) {
    match t {
        Type::Unsigned(n) => (0, (1i128 << n) - 1),
        Type::Signed(n) => (-(1i128 << (n - 1)), (1i128 << (n - 1)) - 1),
        _ => unreachable!(),
    }
}

/// The bits of a float as a number; all floats fit an f64.
fn value(t: Type, bits: u64) -> f64 {
    match t {
        Type::F16 => Half::F16.widen(bits as u32).into(),
        Type::Bf16 => Half::Bf16.widen(bits as u32).into(),
        Type::F32 => f32::from_bits(bits as u32).into(),
        _ => f64::from_bits(bits),
    }
}

/// The contents of a 64-bit register for an integer.
fn held(v: i128) -> u64 {
    v as u64
}

/// Rounded to a whole number.
fn whole(x: f64, rounding: Rounding) -> f64 {
    match rounding {
        Nearest => {
            let low = x.floor();
            let rest = x - low;
            let up = rest > 0.5 || (rest == 0.5 && low % 2.0 != 0.0);
            if up { low + 1.0 } else { low }
        }
        Zero => {
            if x < 0.0 {
                x.ceil()
            } else {
                x.floor()
            }
        }
        Down => x.floor(),
        Up => x.ceil(),
    }
}

fn to_integer(t: Type, from: Type, x: f64, rounding: Rounding) -> u64 {
    let (least, most) = bounds(t);
    if x.is_nan() {
        let wide = matches!(t, Type::Unsigned(64) | Type::Signed(64));
        let width = match t {
            Type::Unsigned(n) | Type::Signed(n) => n,
            _ => 0,
        };
        return if from == Type::F64 || wide {
            held(if let Type::Signed(_) = t { least } else { 1i128 << (width - 1) })
        } else {
            0
        };
    }
    // f64 holds no whole number beside 2⁶⁴ − 1 or 2⁶³ − 1, so that `as` of i128 decides the clamp.
    held((whole(x, rounding) as i128).clamp(least, most))
}

#[test]
fn every_f16_to_every_integer() {
    for from in [Type::F16, Type::Bf16] {
        for bits in 0..=0xffffu64 {
            for to in INTEGERS {
                for rounding in Rounding::ALL {
                    let conversion = Conversion { rounding, ..Conversion::new(to, from) };
                    let expected = to_integer(to, from, value(from, bits), rounding);
                    assert_eq!(conversion.apply(bits), expected, "{to:?} {from:?} {rounding:?} {bits:#x}");
                }
            }
        }
    }
}

#[test]
fn every_f16_to_every_float() {
    for h in 0..=0xffffu64 {
        let x = value(Type::F16, h);
        let nan = x.is_nan();
        let at = |to| Conversion::new(to, Type::F16).apply(h);
        assert_eq!(at(Type::F32), if nan { 0x7fff_ffff } else { u64::from((x as f32).to_bits()) });
        assert_eq!(at(Type::F64), if nan { 0x7fff_ffff_e000_0000 } else { x.to_bits() });
        assert_eq!(at(Type::Bf16), Half::Bf16.narrow(x as f32).into());
        for rounding in Rounding::ALL {
            let back = Conversion { rounding, ..Conversion::new(Type::F16, Type::F32) }.apply(at(Type::F32));
            assert_eq!(back, if nan { 0x7fff } else { h });
            let integral = Conversion { rounding, integral: true, ..Conversion::new(Type::F16, Type::F16) };
            let found = value(Type::F16, integral.apply(h));
            assert!(found == whole(x, rounding) || nan || x.is_infinite(), "{h:#x} {rounding:?} {found}");
            assert!(found.is_sign_negative() == x.is_sign_negative() || nan);
        }
    }
}

fn any_f32() -> impl Strategy<Value = f32> {
    prop_oneof![
        any::<u32>().prop_map(f32::from_bits),
        -70_000.0f32..70_000.0,
        (-1000i32..1000).prop_map(|i| i as f32 / 2.0),
        prop::sample::select(vec![
            0.0,
            -0.0,
            0.5,
            -0.5,
            255.5,
            -128.5,
            65504.0,
            65520.0,
            2147483648.0,
            -2147483648.0,
            4294967296.0,
            9.223372e18,
            -9.223372e18,
            1.8446744e19,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::NAN
        ]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn floats_to_integers(x in any_f32(), fine in -2.0f64..2.0) {
        let y = f64::from(x) + fine;
        for to in INTEGERS {
            for rounding in Rounding::ALL {
                let of = |from, bits| Conversion { rounding, ..Conversion::new(to, from) }.apply(bits);
                let expected = [(Type::F32, f64::from(x)), (Type::F64, y)].map(|(from, v)| to_integer(to, from, v, rounding));
                let found = [of(Type::F32, x.to_bits().into()), of(Type::F64, y.to_bits())];
                prop_assert_eq!(found, expected, "{:?} {:?} {:e} {:e}", to, rounding, x, y);
            }
        }
    }

    /// The result is exact, or the neighbour that the rounding selects.
    #[test]
    fn integers_to_floats(bits in (any::<u64>(), 0..64).prop_map(|(b, s)| b >> s)) {
        for from in INTEGERS {
            let exact = match from {
                Type::Unsigned(8) => i128::from(bits as u8),
                Type::Unsigned(16) => i128::from(bits as u16),
                Type::Unsigned(32) => i128::from(bits as u32),
                Type::Unsigned(_) => i128::from(bits),
                Type::Signed(8) => i128::from(bits as i8),
                Type::Signed(16) => i128::from(bits as i16),
                Type::Signed(32) => i128::from(bits as i32),
                _ => i128::from(bits as i64),
            };
            let far = i128::MAX;
            for (to, digits, top) in [(Type::F16, 11, 65504), (Type::Bf16, 8, far), (Type::F32, 24, far), (Type::F64, 53, far)] {
                let width = 128 - exact.unsigned_abs().leading_zeros() as i32;
                let unit = 1i128 << (width - digits).max(0);
                let (low, high) = (exact.div_euclid(unit) * unit, -((-exact).div_euclid(unit) * unit));
                for rounding in Rounding::ALL {
                    let found = value(to, Conversion { rounding, ..Conversion::new(to, from) }.apply(bits));
                    let expected = match rounding {
                        Down => low,
                        Up => high,
                        Zero => if exact < 0 { high } else { low },
                        Nearest if exact - low < high - exact => low,
                        Nearest if exact - low > high - exact => high,
                        Nearest => if low / unit % 2 == 0 { low } else { high },
                    };
                    // Past the largest f16: ∞, or the largest where the rounding points inward.
                    let inward = match rounding { Nearest => false, Zero => true, Down => exact > 0, Up => exact < 0 };
                    let expected = if expected.abs() > top {
                        (if inward { 65504.0 } else { f64::INFINITY }).copysign(exact as f64)
                    } else {
                        expected as f64
                    };
                    prop_assert_eq!(found, expected, "{:?} {:?} {:?} {}", to, from, rounding, exact);
                }
            }
        }
    }

    /// Downward and upward enclose the value between neighbours, toward zero is one of them, nearest the nearer one.
    #[test]
    fn floats_to_narrower_floats(x in any_f32(), fine in -1e-3f64..1e-3) {
        prop_assume!(!x.is_nan());
        let y = f64::from(x) * (1.0 + fine);
        for (from, to, v, bits) in [
            (Type::F32, Type::F16, f64::from(x), u64::from(x.to_bits())),
            (Type::F32, Type::Bf16, f64::from(x), u64::from(x.to_bits())),
            (Type::F64, Type::F16, y, y.to_bits()),
            (Type::F64, Type::Bf16, y, y.to_bits()),
            (Type::F64, Type::F32, y, y.to_bits()),
        ] {
            let [near, zero, down, up] = Rounding::ALL.map(|rounding| {
                Conversion { rounding, ..Conversion::new(to, from) }.apply(bits)
            });
            let (n, d, u) = (value(to, near), value(to, down), value(to, up));
            prop_assert!(d <= v && v <= u, "{:?} {:e}: {:e} {:e}", to, v, d, u);
            prop_assert!((d == v) == (u == v), "{:?} {:e}", to, v);
            let sign = 1 << if to == Type::F32 { 31 } else { 15 };
            let rank = |b: u64| if b & sign != 0 { -((b & (sign - 1)) as i64) } else { b as i64 };
            prop_assert!(rank(up) - rank(down) <= 1, "{:?} {:e}", to, v);
            prop_assert_eq!(zero, if v.is_sign_negative() { up } else { down });
            if n.is_finite() && d.is_finite() && u.is_finite() && d != u {
                let downward = v - d < u - v || (v - d == u - v && down & 1 == 0);
                prop_assert_eq!(near, if downward { down } else { up }, "{:?} {:e}", to, v);
            }
        }
    }

    /// The loops over lanes do what the single conversion does.
    #[test]
    fn lanes_are_the_single_conversion(
        x in prop::array::uniform32(prop_oneof![any::<u32>(), any_f32().prop_map(f32::to_bits)]),
        rounding in prop::sample::select(Rounding::ALL.to_vec()),
        modifiers in prop_oneof![Just(0), 0..16],
    ) {
        let types = [Type::Signed(32), Type::Unsigned(32), Type::Signed(16), Type::F16, Type::Bf16, Type::F32];
        let [integral, ftz, sat, relu] = [1, 2, 4, 8].map(|m| modifiers & m != 0);
        for (to, from) in types.into_iter().flat_map(|to| types.map(|from| (to, from))) {
            let conversion = Conversion { to, from, rounding, integral, ftz, sat, relu, finite: false };
            let mut found = [0; 32];
            conversion.lanes(&x, &mut found);
            prop_assert_eq!(found, x.map(|x| conversion.apply(x.into()) as u32), "{:?}", conversion);
        }
    }
}

#[test]
fn integers_to_integers() {
    let plain = |to, from, bits| Conversion::new(to, from).apply(bits);
    let sat = |to, from, bits| Conversion { sat: true, ..Conversion::new(to, from) }.apply(bits);
    assert_eq!(plain(Type::Signed(8), Type::Signed(32), 0x1ff), u64::MAX);
    assert_eq!(plain(Type::Unsigned(8), Type::Signed(32), 0x1ff), 0xff);
    assert_eq!(plain(Type::Signed(64), Type::Signed(32), 0xffff_ffff), u64::MAX);
    assert_eq!(plain(Type::Signed(64), Type::Unsigned(32), 0xffff_ffff), 0xffff_ffff);
    assert_eq!(plain(Type::Unsigned(64), Type::Signed(8), 0x80), 0xffff_ffff_ffff_ff80);
    assert_eq!(sat(Type::Unsigned(8), Type::Signed(32), 300), 255);
    assert_eq!(sat(Type::Unsigned(8), Type::Signed(32), -5i32 as u32 as u64), 0);
    assert_eq!(sat(Type::Signed(8), Type::Signed(32), -300i32 as u32 as u64), -128i64 as u64);
    assert_eq!(sat(Type::Signed(32), Type::Unsigned(32), 0xffff_ffff), 0x7fff_ffff);
}

#[test]
fn modifiers() {
    let c = Conversion::new(Type::F16, Type::F32);
    let bits = |x: f32| u64::from(x.to_bits());
    for (x, sat, relu) in
        [(2.0, 0x3c00, 0x4000), (-2.0, 0, 0), (0.5, 0x3800, 0x3800), (f32::NAN, 0, 0x7fff), (-0.0, 0, 0)]
    {
        assert_eq!(Conversion { sat: true, ..c }.apply(bits(x)), sat, "{x}");
        assert_eq!(Conversion { relu: true, ..c }.apply(bits(x)), relu, "{x}");
    }
    let ftz = |to, rounding, x| Conversion { ftz: true, rounding, ..Conversion::new(to, Type::F32) }.apply(x);
    assert_eq!(ftz(Type::Signed(32), Down, 0x8000_0001), 0);
    assert_eq!(ftz(Type::F32, Nearest, 0x8000_0001), 1 << 31);
    let up = Conversion { rounding: Up, ..c };
    assert_eq!(up.apply(1), 1);
    assert_eq!(Conversion { ftz: true, ..up }.apply(1), 0);
    let narrow = Conversion { ftz: true, rounding: Up, ..Conversion::new(Type::F32, Type::F64) };
    assert_eq!(narrow.apply(1e-40f64.to_bits()), 0);
    assert_eq!(Conversion::new(Type::F64, Type::F32).apply(0x7fc0_0001), 0x7ff8_0000_2000_0000);
    let whole = Conversion { integral: true, rounding: Nearest, ..Conversion::new(Type::F32, Type::F32) };
    for (x, expected) in [(2.5, 2.0), (3.5, 4.0), (-0.3, -0.0), (1e30, 1e30), (f32::INFINITY, f32::INFINITY)]
    {
        assert_eq!(whole.apply(bits(x)), bits(expected), "{x}");
    }
}

#[test]
fn pairs() {
    let (a, b) = (1.5f32.to_bits(), (-2.0f32).to_bits());
    assert_eq!(pack_pair(Half::F16, false, a, b), 0x3e00_c000);
    assert_eq!(pack_pair(Half::F16, true, a, b), 0x3e00_0000);
    assert_eq!(pack_pair(Half::Bf16, false, a, b), 0x3fc0_c000);
    assert_eq!(pack_pair(Half::F16, true, f32::NAN.to_bits(), (-0.0f32).to_bits()), 0x7fff_0000);
    let above = (1.0f32 + 2f32.powi(-11) * 1.5).to_bits();
    assert_eq!(pack_pair(Half::F16, false, above, b), 0x3c01_c000);
    let zero = Conversion { rounding: Zero, ..Conversion::new(Type::F16, Type::F32) };
    assert_eq!(pack_pair_by(zero, above, b), 0x3c00_c000);
    // Past the largest half, and an infinity.
    let (big, infinite) = (70_000f32.to_bits(), f32::NEG_INFINITY.to_bits());
    let finite = Conversion { finite: true, ..Conversion::new(Type::F16, Type::F32) };
    assert_eq!(pack_pair_by(finite, big, infinite), 0x7bff_fbff);
    assert_eq!(pack_pair_by(Conversion { relu: true, ..finite }, f32::NAN.to_bits(), infinite), 0x7fff_0000);
    let mut lanes = [0; 32];
    pack_pair_lanes(Half::Bf16, true, &[a; 32], &[b; 32], &mut lanes);
    assert_eq!(lanes, [0x3fc0_0000; 32]);
}
