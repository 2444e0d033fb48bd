//! The tensor cores' sums against exact rationals written another way: every term a big integer in units of 2⁻⁴⁰⁰.

use proptest::prelude::*;

use crate::TensorCore::{self, Ampere, Hopper};
use crate::numerics::half::Half::{Bf16, F16};
use crate::numerics::mma::{Factor, mma_f16, mma_f32};
use crate::numerics::{Lanes, fragment};

/// A whole number of any size: 32-bit digits, lowest first, and a sign. Only what the model needs.
#[derive(Clone, Debug)]
struct Big {
    negative: bool,
    digits: Vec<u32>,
}

impl Big {
    fn new(value: i64) -> Self {
        let m = value.unsigned_abs();
        Self { negative: value < 0, digits: vec![m as u32, (m >> 32) as u32] }
    }

    /// value·2^shift, or truncated toward zero for negative shifts.
    fn shifted(&self, shift: i32) -> Self {
        let bit = |i: i64| {
            let digit = self.digits.get((i.max(0) / 32) as usize).copied().unwrap_or(0);
            i >= 0 && digit >> (i % 32) & 1 == 1
        };
        let length = (self.digits.len() as i64 * 32 + i64::from(shift)).max(0) as usize / 32 + 1;
        let digits = (0..length)
            .map(|d| (0..32).map(|b| u32::from(bit((d * 32 + b) as i64 - i64::from(shift))) << b).sum());
        Self { negative: self.negative, digits: digits.collect() }
    }

    /// Bits of the magnitude.
    fn width(&self) -> i32 {
        (0..self.digits.len() as i32 * 32)
            .rev()
            .find(|i| self.digits[*i as usize / 32] >> (i % 32) & 1 == 1)
            .map_or(0, |i| i + 1)
    }

    fn to_i64(&self) -> i64 {
        assert!(self.width() < 63);
        let m = i64::from(self.digits[0]) | i64::from(self.digits.get(1).copied().unwrap_or(0)) << 32;
        if self.negative { -m } else { m }
    }
}

/// Sign, integer significand with `fraction` fractional bits, exponent as the model counts it.
fn split(value: f64, fraction: u32, least: i32) -> (i64, i32) {
    if value == 0.0 {
        return (0, -126);
    }
    let exponent = ((value.to_bits() >> 52 & 0x7ff) as i32 - 1023).max(least);
    let scaled = value * 2f64.powi(fraction as i32 - exponent);
    assert_eq!(scaled, scaled.trunc());
    (scaled as i64, exponent)
}

/// One fused sum after the published model; the result is exact in f64, before its rounding to the accumulator's type.
fn fused(core: TensorCore, factor: Factor, products: &[(f64, f64)], c: f64, c_least: i32) -> f64 {
    let special: f64 = products.iter().map(|(a, b)| a * b).sum::<f64>() + c;
    if !special.is_finite() {
        return special;
    }
    let f = if core == Ampere { 24 } else { 25 };
    let (bits, least) = match factor {
        Factor::Half(F16) => (10, -14),
        Factor::Half(Bf16) => (7, -126),
        Factor::Tf32 => (10, -126),
    };
    // Terms in units of 2^-(fractional bits), with exponents.
    let mut terms = vec![];
    for &(a, b) in products {
        let ((sa, ea), (sb, eb)) = (split(a, bits, least), split(b, bits, least));
        let exponent = if sa * sb == 0 { -126 } else { ea + eb };
        terms.push((Big::new(sa * sb), 2 * bits as i32, exponent));
    }
    let (sc, ec) = split(c, 23, c_least);
    terms.push((Big::new(sc), 23, ec));
    let top = terms.iter().map(|t| t.2).max().unwrap();
    let sum: i64 = terms.iter().map(|(s, bits, e)| s.shifted(f - bits + e - top).to_i64()).sum();
    sum as f64 * 2f64.powi(top - f)
}

/// Toward zero to f32, by hand: drop all bits below the 24th or below 2⁻¹⁴⁹.
fn to_f32_zero(x: f64) -> u32 {
    if x.is_nan() {
        return 0x7fff_ffff;
    }
    if x.is_infinite() || x.abs() >= 2f64.powi(128) {
        return if x < 0.0 { 0xff80_0000 } else { 0x7f80_0000 };
    }
    let exponent = ((x.to_bits() >> 52 & 0x7ff) as i32 - 1023).max(-126);
    let unit = 2f64.powi(exponent - 23);
    (((x / unit).trunc() * unit) as f32).to_bits()
}

/// To nearest even to f16, by hand.
fn to_f16_nearest(x: f64) -> u32 {
    if x.is_nan() {
        return 0x7fff;
    }
    let sign = if x.is_sign_negative() { 0x8000 } else { 0 };
    let magnitude = x.abs();
    let exponent = ((x.to_bits() >> 52 & 0x7ff) as i32 - 1023).max(-14);
    let scaled = (magnitude / 2f64.powi(exponent - 10)).round_ties_even();
    if magnitude.is_infinite() || scaled * 2f64.powi(exponent - 10) >= 65536.0 {
        return sign | 0x7c00;
    }
    sign + if exponent == -14 { scaled as u32 } else { ((exponent + 14) << 10) as u32 + scaled as u32 }
}

/// D = A·B + C by the model, element by element.
fn model(core: TensorCore, factor: Factor, k: usize, case: &Case) -> [[u32; 8]; 16] {
    let mut d = case.c;
    for (row, d) in d.iter_mut().enumerate() {
        for (column, d) in d.iter_mut().enumerate() {
            let group = match (core, factor) {
                (Ampere, Factor::Tf32) => 4,
                (Ampere, _) => 8,
                (Hopper, _) => k,
            };
            for from in (0..k).step_by(group) {
                let products: Vec<(f64, f64)> = (from..from + group)
                    .map(|k| {
                        let (a, b) = (case.a[row][k], case.b[k][column]);
                        (f64::from(value(factor, a)), f64::from(value(factor, b)))
                    })
                    .collect();
                *d = if case.short {
                    to_f16_nearest(fused(core, factor, &products, F16.widen(*d).into(), -14))
                } else {
                    to_f32_zero(fused(core, factor, &products, f32::from_bits(*d).into(), -126))
                };
            }
        }
    }
    d
}

/// The value of an element's bits.
fn value(factor: Factor, bits: u32) -> f32 {
    match factor {
        Factor::Half(format) => format.widen(bits),
        Factor::Tf32 => f32::from_bits(bits & !0x1fff),
    }
}

/// Operands of one `mma`, by element.
#[derive(Debug, Clone)]
struct Case {
    a: [[u32; 16]; 16],
    b: [[u32; 8]; 16],
    c: [[u32; 8]; 16],
    /// Whether accumulators are f16 instead of f32.
    short: bool,
}

impl Case {
    const ZERO: Self = Self { a: [[0; 16]; 16], b: [[0; 8]; 16], c: [[0; 8]; 16], short: false };

    /// Runs the `mma` with operands packed into registers.
    fn run(&self, core: TensorCore, factor: Factor, k: usize) -> [[u32; 8]; 16] {
        let (mut a, mut b) = ([[0; 32]; 4], [[0; 32]; 2]);
        let per = factor.per();
        for lane in 0..32 {
            for register in 0..4 {
                for part in 0..per {
                    let (row, column) = fragment::a(per, lane, register, part);
                    a[register][lane] |= self.a[row][column] << (16 * part);
                }
            }
            for register in 0..2 {
                for part in 0..per {
                    let (row, column) = fragment::b(per, lane, register, part);
                    b[register][lane] |= self.b[row][column] << (16 * part);
                }
            }
        }
        let mut d = [[0; 8]; 16];
        let (a, b) = (&a[..k / per / 2], &b[..k / per / 4]);
        if self.short {
            let mut sums: [Lanes; 2] = [[0; 32]; 2];
            for lane in 0..32 {
                for half in 0..4 {
                    let (row, column) = fragment::accumulator(lane, half);
                    sums[half / 2][lane] |= self.c[row][column] << (16 * (half % 2));
                }
            }
            mma_f16(core, a, b, &mut sums);
            for lane in 0..32 {
                for half in 0..4 {
                    let (row, column) = fragment::accumulator(lane, half);
                    d[row][column] = sums[half / 2][lane] >> (16 * (half % 2)) & 0xffff;
                }
            }
        } else {
            let mut sums: [Lanes; 4] = [[0; 32]; 4];
            for lane in 0..32 {
                for register in 0..4 {
                    let (row, column) = fragment::accumulator(lane, register);
                    sums[register][lane] = self.c[row][column];
                }
            }
            mma_f32(core, factor, a, b, &mut sums);
            for lane in 0..32 {
                for register in 0..4 {
                    let (row, column) = fragment::accumulator(lane, register);
                    d[row][column] = sums[register][lane];
                }
            }
        }
        d
    }
}

/// Elements: any bits, or numbers whose exponents lie within a few of each other, where truncation shows.
fn elements(factor: Factor) -> impl Strategy<Value = u32> {
    let (near, sign, infinity) = match factor {
        Factor::Half(F16) => (0x3000..0x4400u32, 15, 0x7c00),
        Factor::Half(Bf16) => (0x3e00..0x4080u32, 15, 0x7f80),
        Factor::Tf32 => (0x3e00_0000..0x4080_0000u32, 31, 0x7f80_0000),
    };
    prop_oneof![
        8 => (near, any::<bool>()).prop_map(move |(x, negative)| x | u32::from(negative) << sign),
        2 => any::<u32>().prop_map(move |x| {
            let x = x >> (31 - sign);
            if value(factor, x).is_finite() { x } else { x & !infinity }
        }),
        1 => Just(0),
    ]
}

fn cases(factor: Factor, short: bool, special: bool) -> impl Strategy<Value = Case> {
    let specials = match factor {
        Factor::Half(_) => vec![0x7c00, 0xfc00, 0x7f80, 0xff80, 0x7fff, 0],
        Factor::Tf32 => vec![0x7f80_0000, 0xff80_0000, 0x7fff_ffff, 0],
    };
    let element = move || {
        prop_oneof![
            30 => elements(factor),
            u32::from(special) => prop::sample::select(specials.clone()),
        ]
    };
    let addend = prop_oneof![
        4 => (-20.0f32..20.0).prop_map(f32::to_bits),
        2 => (-2e-3f32..2e-3).prop_map(f32::to_bits),
        1 => any::<u32>().prop_map(|b| if f32::from_bits(b).is_finite() { b } else { b & 0x807f_ffff }),
        1 => Just(0),
    ]
    .prop_map(move |c| if short { F16.narrow(f32::from_bits(c)) } else { c });
    (
        prop::collection::vec(element(), 256),
        prop::collection::vec(element(), 128),
        prop::collection::vec(addend, 128),
    )
        .prop_map(move |(a, b, c)| {
            let mut case = Case { short, ..Case::ZERO };
            case.a.iter_mut().flatten().zip(a).for_each(|(to, from)| *to = from);
            case.b.iter_mut().flatten().zip(b).for_each(|(to, from)| *to = from);
            case.c.iter_mut().flatten().zip(c).for_each(|(to, from)| *to = from);
            case
        })
}

const HALF: Factor = Factor::Half(F16);
const BRAIN: Factor = Factor::Half(Bf16);

fn agree(factor: Factor, case: &Case) -> Result<(), TestCaseError> {
    for core in [Ampere, Hopper] {
        for k in [4 * factor.per(), 8 * factor.per()] {
            let (found, expected) = (case.run(core, factor, k), model(core, factor, k, case));
            for row in 0..16 {
                for column in 0..8 {
                    let (f, e) = (found[row][column], expected[row][column]);
                    prop_assert_eq!(
                        f,
                        e,
                        "{:?} {:?} k={} ({}, {}): {:#x} {:#x}",
                        core,
                        factor,
                        k,
                        row,
                        column,
                        f,
                        e
                    );
                }
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn f16_is_the_models(case in cases(HALF, false, false)) { agree(HALF, &case)?; }
    #[test]
    fn bf16_is_the_models(case in cases(BRAIN, false, false)) { agree(BRAIN, &case)?; }
    #[test]
    fn tf32_is_the_models(case in cases(Factor::Tf32, false, false)) { agree(Factor::Tf32, &case)?; }
    #[test]
    fn f16_accumulators_are_the_models(case in cases(HALF, true, false)) { agree(HALF, &case)?; }
    #[test]
    fn specials_are_the_models(
        f16 in cases(HALF, false, true), bf16 in cases(BRAIN, false, true), short in cases(HALF, true, true),
        tf32 in cases(Factor::Tf32, false, true)
    ) {
        agree(HALF, &f16)?;
        agree(BRAIN, &bf16)?;
        agree(HALF, &short)?;
        agree(Factor::Tf32, &tf32)?;
    }
    /// |D − exact| < (n + 1)·2^(E − F) + 2^−23·|D| per group, as the module's documentation states.
    #[test]
    fn f16_is_within_the_bound(case in cases(HALF, false, false)) {
        for (core, groups, terms, fraction) in [(Ampere, 2, 9, 24), (Hopper, 1, 17, 25)] {
            let found = case.run(core, HALF, 16);
            for row in 0..16 {
                for column in 0..8 {
                    let d = f64::from(f32::from_bits(found[row][column]));
                    let mut sum = f64::from(f32::from_bits(case.c[row][column]));
                    let mut largest = sum.abs();
                    for k in 0..16 {
                        let [a, b] = [case.a[row][k], case.b[k][column]].map(|h| f64::from(F16.widen(h)));
                        sum += a * b;
                        largest = largest.max((a * b).abs()).max(sum.abs());
                    }
                    // 2^E is at most the largest term, the sum at most 17 of it.
                    let place = f64::from(terms) * 2f64.powi(-fraction) + 18.0 * 2f64.powi(-23);
                    let bound = f64::from(groups) * place * largest;
                    prop_assert!(!d.is_finite() || (d - sum).abs() <= bound + 2f64.powi(-126), "{} {}", d, sum);
                }
            }
        }
    }
}

/// The element (0, 0) for a row of A, a column of B and an addend given as f32.
fn dot(core: TensorCore, a: &[f32], b: &[f32], c: f32) -> f32 {
    let mut case = Case::ZERO;
    for k in 0..a.len() {
        case.a[0][k] = F16.narrow(a[k]);
        case.b[k][0] = F16.narrow(b[k]);
    }
    case.c[0][0] = c.to_bits();
    f32::from_bits(case.run(core, HALF, 16)[0][0])
}

/// The same in f32, one fused multiply-add after the other.
fn chained(a: &[f32], b: &[f32], c: f32) -> f32 {
    a.iter().zip(b).fold(c, |sum, (a, b)| a.mul_add(*b, sum))
}

#[test]
fn worked_by_hand() {
    let tiny = 2f32.powi(-12);
    // 1 + 4·2⁻²⁵: Ampere drops what is below 2⁻²⁴ of each term. Hopper keeps 2⁻²⁵, and the four make 2⁻²³. Added one by
    // one, each is rounded away.
    let a = [1.0, tiny, tiny, tiny, tiny];
    let b = [1.0, tiny / 2.0, tiny / 2.0, tiny / 2.0, tiny / 2.0];
    assert_eq!(dot(Ampere, &a, &b, 0.0), 1.0);
    assert_eq!(dot(Hopper, &a, &b, 0.0), 1.0 + 2f32.powi(-23));
    assert_eq!(chained(&a, &b, 0.0), 1.0);

    // The addend 2²⁵ cancels, with small products in the other half of k: Ampere adds those after the cancellation.
    let mut a = [0.0; 16];
    let mut b = [0.0; 16];
    (a[0], b[0]) = (-4096.0, 8192.0);
    (a[8], b[8]) = (0.125, 1.0);
    assert_eq!(dot(Ampere, &a, &b, 2f32.powi(25)), 0.125);
    assert_eq!(dot(Hopper, &a, &b, 2f32.powi(25)), 0.0);
    assert_eq!(chained(&a, &b, 2f32.powi(25)), 0.125);

    // Rounding is toward zero: 1 + 3·2⁻²⁵ is 1, where f32 gives 1 + 2⁻²³; and the same below zero.
    for sign in [1.0, -1.0] {
        let (a, b) = ([1.5 * tiny], [sign * tiny]);
        assert_eq!(dot(Hopper, &a, &b, sign), sign);
        assert_eq!(dot(Ampere, &a, &b, sign), sign);
        assert_eq!(chained(&a, &b, sign), sign * (1.0 + 2f32.powi(-23)));
    }

    // The exponent of a product is not normalised: 1.5·1.5 = 2.25 counts with exponent 0, so that 2⁻²⁵ survives beside
    // it on Hopper; with 2 as the addend it is lost.
    let (a, b) = ([1.5, 1.5, tiny], [1.5, -1.5, tiny / 2.0]);
    assert_eq!(dot(Hopper, &a, &b, 0.0), 2f32.powi(-25));
    assert_eq!(dot(Ampere, &a, &b, 0.0), 0.0);
    let (a, b) = ([1.0, tiny], [-2.0, tiny / 2.0]);
    assert_eq!(dot(Hopper, &a, &b, 2.0), 0.0);
}

#[test]
fn special_values() {
    let inf = f32::INFINITY;
    let nan = 0x7fff_ffff;
    let table: [(&[f32], &[f32], f32, u32); 10] = [
        (&[f32::NAN], &[0.0], 1.0, nan),
        (&[inf], &[0.0], 1.0, nan),
        (&[inf, inf], &[1.0, -1.0], 1.0, nan),
        (&[inf], &[1.0], -inf, nan),
        (&[1.0], &[1.0], f32::from_bits(0xffc0_1234), nan),
        (&[inf, 1.0], &[-2.0, 1.0], 5.0, 0xff80_0000),
        (&[1.0], &[1.0], -inf, 0xff80_0000),
        // 2³² is 2⁻⁹⁶ of the largest f32: it is lost, not rounded up to ∞.
        (&[65504.0], &[65504.0], f32::MAX, f32::MAX.to_bits()),
        (&[0.0], &[1.0], -0.0, 0),
        // The least product of subnormals, and the least f32.
        (&[2f32.powi(-24)], &[2f32.powi(-24)], f32::from_bits(1), 2f32.powi(-48).to_bits()),
    ];
    for core in [Ampere, Hopper] {
        for (a, b, c, expected) in table {
            let found = dot(core, a, b, c).to_bits();
            assert_eq!(found, expected, "{core:?} {a:?}·{b:?} + {c}: {found:#x}");
        }
    }
}

#[test]
fn bf16_overflows_to_infinity() {
    let mut case = Case::ZERO;
    (case.a[0][0], case.b[0][0]) = (0x7f00, 0x4000);
    for core in [Ampere, Hopper] {
        assert_eq!(case.run(core, BRAIN, 16)[0][0], 0x7f80_0000);
    }
}
