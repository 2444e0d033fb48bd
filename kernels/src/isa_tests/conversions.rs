//! Tests of conversions between all number types, with every rounding.

use super::{Guide, IsaTest, isa_test, word::half};
use crate::{
    Target,
    ptx::{F16, F32, F64, Rounding, S32, S64, U16, U32, U64},
};

/// The test of `cvt` in all its forms.
pub fn conversions(target: Target) -> IsaTest {
    isa_test("conversions", target, vec![], |t| {
        between_integers(t);
        to_integers(t);
        from_integers(t);
        between_floats(t);
    })
}

/// Widening by sign or zeros, narrowing by truncation.
fn between_integers(t: &Guide) {
    t.asm.step("between integers");
    let a = |l: u32| (-7_919_317_000_123i64).wrapping_mul(i64::from(l) - 9);
    let x = t.give::<S64>(a);
    t.check("cvt.u16.s64", x.to::<U16>(), |l| a(l) as u16);
    t.check("cvt.u32.s64", x.to::<U32>(), |l| a(l) as u32);
    t.check("cvt.s32.s64", x.to::<S32>(), |l| a(l) as i32);
    t.check("cvt.u64.s64", x.to::<U64>(), |l| a(l) as u64);
    let narrow = x.to::<S32>();
    t.check("cvt.s64.s32", narrow.to::<S64>(), |l| (a(l) as i32).into());
    t.check("cvt.u16.s32", narrow.to::<U16>(), |l| a(l) as u16);
    t.check("cvt.u64.s32", narrow.to::<U64>(), |l| a(l) as i32 as u64);
    let word = x.to::<U32>();
    t.check("cvt.u64.u32", word.to::<U64>(), |l| (a(l) as u32).into());
    t.check("cvt.s64.u32", word.to::<S64>(), |l| (a(l) as u32).into());
    let short = x.to::<U16>();
    t.check("cvt.u32.u16", short.to::<U32>(), |l| (a(l) as u16).into());
    t.check("cvt.s32.u16", short.to::<S32>(), |l| (a(l) as u16).into());
    t.check("cvt.u32.u64", x.to::<U64>().to::<U32>(), |l| a(l) as u32);
    t.check("cvt.u64.u16", short.to::<U64>(), |l| (a(l) as u16).into());
}

const ROUNDINGS: [Rounding; 4] = [Rounding::Nearest, Rounding::Zero, Rounding::Down, Rounding::Up];

/// x rounded to an integer.
fn rounded(x: f64, rounding: Rounding) -> f64 {
    match rounding {
        Rounding::Nearest => x.round_ties_even(),
        Rounding::Zero => x.trunc(),
        Rounding::Down => x.floor(),
        Rounding::Up => x.ceil(),
    }
}

/// Saturating conversions; NaN becomes 0.
fn to_integers(t: &Guide) {
    t.asm.step("from floats to integers");
    let a = |l: u32| match l {
        30 => 1e30,
        31 => -1e30,
        _ => (l as f32 - 10.0) * 0.75,
    };
    let (x, d) = (t.give::<F32>(a), t.give::<F64>(|l| a(l).into()));
    for r in ROUNDINGS {
        let want = |l: u32| rounded(a(l).into(), r);
        let name = |what: &str| format!("cvt.{what}, {r:?}");
        t.check(&name("s32.f32"), x.to_with::<S32>(r), |l| want(l) as i32);
        t.check(&name("u32.f32"), x.to_with::<U32>(r), |l| want(l) as u32);
        t.check(&name("s64.f32"), x.to_with::<S64>(r), |l| want(l) as i64);
        t.check(&name("u64.f32"), x.to_with::<U64>(r), |l| want(l) as u64);
        t.check(&name("u16.f32"), x.to_with::<U16>(r), |l| want(l) as u16);
        t.check(&name("s32.f64"), d.to_with::<S32>(r), |l| want(l) as i32);
        t.check(&name("u64.f64"), d.to_with::<U64>(r), |l| want(l) as u64);
    }
    let b = |l: u32| l as f32 * 0.5 - 4.0;
    let h = t.give::<F16>(|l| half(b(l)));
    t.check("cvt.rzi.s32.f16", h.to::<S32>(), |l| b(l) as i32);
    t.check("cvt.rzi.u16.f16", h.to::<U16>(), |l| b(l) as u16);
    let nan = t.asm.value::<F32>(f32::NAN) + x;
    t.check("cvt.rzi.s32.f32 of NaN", nan.to::<S32>(), |_| 0);
}

/// x rounded to f32.
fn single(x: f64, rounding: Rounding) -> f32 {
    let near = x as f32;
    match rounding {
        Rounding::Zero if f64::from(near).abs() > x.abs() => f32::from_bits(near.to_bits() - 1),
        Rounding::Down if f64::from(near) > x => near.next_down(),
        Rounding::Up if f64::from(near) < x => near.next_up(),
        _ => near,
    }
}

/// From integers with more bits than the float has.
fn from_integers(t: &Guide) {
    t.asm.step("from integers to floats");
    // Below 2⁵³, so that f64 has them and the host rounds once.
    let (a, b) =
        (|l: u32| u32::MAX - l * 37, |l: u32| (i64::from(l) - 15) * 5_629_499_534_213 + i64::from(l) * 3 + 1);
    let (x, y) = (t.give::<U32>(a), t.give::<S64>(b));
    let (signed, long) = (x.to::<S32>(), t.give::<U64>(|l| b(l).unsigned_abs()));
    for r in ROUNDINGS {
        let name = |what: &str| format!("cvt.{what}, {r:?}");
        t.check(&name("f32.u32"), x.to_with::<F32>(r), |l| single(a(l).into(), r));
        t.check(&name("f32.s32"), signed.to_with::<F32>(r), |l| single((a(l) as i32).into(), r));
        t.check(&name("f32.s64"), y.to_with::<F32>(r), |l| single(b(l) as f64, r));
        t.check(&name("f32.u64"), long.to_with::<F32>(r), |l| single(b(l).unsigned_abs() as f64, r));
    }
    t.check("cvt.rn.f64.s64", y.to::<F64>(), |l| b(l) as f64);
    t.check("cvt.rn.f64.u64", long.to::<F64>(), |l| b(l).unsigned_abs() as f64);
    t.check("cvt.rn.f64.u32", x.to::<F64>(), |l| a(l).into());
    let small = t.lane + 3;
    t.check("cvt.rn.f16.u32", small.to::<F16>(), |l| half((l + 3) as f32));
    t.check("cvt.rn.f32.u16", small.to::<U16>().to::<F32>(), |l| (l + 3) as f32);
}

/// Narrowing with every rounding, exact widening.
fn between_floats(t: &Guide) {
    t.asm.step("between floats");
    let a = |l: u32| (f64::from(l) - 15.5) / 3.0;
    let d = t.give::<F64>(a);
    // ±(1 + 0.75·2⁻¹⁰): between two neighbours of binary16.
    let b = |l: u32| if l.is_multiple_of(2) { 1.0f32 + 0.75 / 1024.0 } else { -1.0 - 0.75 / 1024.0 };
    let x = t.give::<F32>(b);
    for r in ROUNDINGS {
        t.check(&format!("cvt.f32.f64, {r:?}"), d.to_with::<F32>(r), |l| single(a(l), r));
        let away = |l: u32| match r {
            Rounding::Nearest => 1,
            Rounding::Zero => 0,
            Rounding::Down => u16::from(b(l) < 0.0),
            Rounding::Up => u16::from(b(l) > 0.0),
        };
        t.check(&format!("cvt.f16.f32, {r:?}"), x.to_with::<F16>(r), |l| half(b(l).signum()) + away(l));
    }
    let h = t.give::<F16>(|l| half(l as f32 - 3.5));
    t.check("cvt.f32.f16", h.to::<F32>(), |l| l as f32 - 3.5);
    t.check("cvt.f64.f16", h.to::<F64>(), |l| f64::from(l) - 3.5);
    t.check("cvt.f64.f32", x.to::<F64>(), |l| b(l).into());
    t.check("cvt.rn.f16.f64", h.to::<F64>().to::<F16>(), |l| half(l as f32 - 3.5));
    t.check("cvt.rn.f16x2.f32", t.asm.pack_f16x2([x, h.to()]), |l| {
        [half(b(l).signum()) + 1, half(l as f32 - 3.5)]
    });
}
