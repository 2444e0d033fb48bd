//! `mma.sync` m16n8k16, m16n8k8 and m16n8k4 on f16, bf16 and tf32: D = A·B + C as the tensor cores round it.
//!
//! The model is that of MMA-Sim ("MMA-Sim: bit-accurate reference model of tensor cores and matrix cores",
//! arXiv 2511.10909), which its authors compared with the chips; this implementation of it was not compared with a chip.
//! For one element of D, a group of products and the addend make one fused sum:
//!
//! 1. Each product a·b is exact: the product of the significands at the sum of the exponents, not normalised. Subnormals
//!    count: they have the format's least exponent and no hidden bit. A zero counts with exponent −126.
//! 2. Every term is aligned to the largest exponent, that of the addend included, and truncated toward zero below its
//!    F-th fractional bit.
//! 3. The aligned terms are summed exactly, as integers, in any order.
//! 4. The sum is rounded to f32 toward zero (past the largest f32 it is ∞), or to f16 to nearest even. A zero is +0.
//!
//! | | F | products a group, of tf32 |
//! | --- | --- | --- |
//! | Ampere (A100) | 24 | 8, 4: k = 16 is two sums, the first one's result is the second one's addend |
//! | Hopper (H100, H200) | 25 | 16, 8 |
//!
//! The low 13 bits of a tf32 do not count.
//!
//! A NaN among the inputs, 0·∞, or infinities of both signs give the NaN 0x7fffffff (f16: 0x7fff); otherwise an infinite
//! term gives that infinity. MMA-Sim leaves open which exponent a zero has; with −126, the f32 addend's least, it never
//! matters for f16 products.
//!
//! # Error
//! Each of the n + 1 terms of a group loses less than 2^(E − F), E the largest exponent, and the result less than its
//! own last place: |D − exact| < (n + 1)·2^(E − F) + 2^−23·|D| a group.

use super::half::{Half, f64_to_f32_odd};
use super::{Lanes, NAN_16, NAN_F32, fragment, wide};
use crate::TensorCore;

/// Rows of A and D.
const M: usize = 16;
/// Columns of B and D.
const N: usize = 8;
/// Largest k of an `mma` shape.
const K: usize = 16;
/// Exponent that represents a zero's in products: below that of any number, and sums of two do not overflow.
const ZERO_EXPONENT: i32 = -10_000;

impl TensorCore {
    /// Fractional bits that survive the alignment.
    const fn fraction(self) -> u32 {
        match self {
            Self::Ampere => 24,
            Self::Hopper => 25,
        }
    }

    /// Products of one fused sum.
    const fn group(self, factor: Factor) -> usize {
        let halves = match self {
            Self::Ampere => 8,
            Self::Hopper => 16,
        };
        if matches!(factor, Factor::Tf32) { halves / 2 } else { halves }
    }
}

/// The format of the factors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Factor {
    /// f16 or bf16.
    Half(Half),
    /// f32 without its low 13 bits.
    Tf32,
}

impl Factor {
    /// Number of elements of a register.
    pub const fn per(self) -> usize {
        match self {
            Self::Half(_) => 2,
            Self::Tf32 => 1,
        }
    }

    /// Bits of the fraction and of the exponent.
    const fn layout(self) -> (u32, u32) {
        match self {
            Self::Half(Half::F16) => (10, 5),
            Self::Half(Half::Bf16) => (7, 8),
            Self::Tf32 => (10, 8),
        }
    }

    /// The value of an element.
    fn widen(self, element: u32) -> f32 {
        match self {
            Self::Half(format) => format.widen(element),
            Self::Tf32 => f32::from_bits(element << 13),
        }
    }
}

/// A matrix of elements taken apart: value = (−1)^sign·significand·2^(exponent − fraction bits).
struct Parts<const ROWS: usize, const COLUMNS: usize> {
    significand: [[i32; COLUMNS]; ROWS],
    exponent: [[i32; COLUMNS]; ROWS],
    /// All ones for negative values.
    sign: [[i32; COLUMNS]; ROWS],
    /// Whether an infinity or a NaN is among the elements.
    special: bool,
}

impl<const ROWS: usize, const COLUMNS: usize> Parts<ROWS, COLUMNS> {
    #[inline(always)]
    fn new(factor: Factor, bits: &[[u32; COLUMNS]; ROWS]) -> Self {
        let (fraction, width) = factor.layout();
        let (top, bias) = ((1 << width) - 1, (1 << (width - 1)) - 1);
        let zero = [[0; COLUMNS]; ROWS];
        let mut parts = Self { significand: zero, exponent: zero, sign: zero, special: false };
        let mut special = 0;
        for row in 0..ROWS {
            for column in 0..COLUMNS {
                let bits = bits[row][column] as i32;
                let magnitude = bits & ((1 << (fraction + width)) - 1);
                let field = magnitude >> fraction;
                let hidden = if field != 0 { 1 << fraction } else { 0 };
                let exponent = if field != 0 { field } else { 1 } - bias;
                parts.significand[row][column] = magnitude & ((1 << fraction) - 1) | hidden;
                parts.exponent[row][column] = if magnitude != 0 { exponent } else { ZERO_EXPONENT };
                parts.sign[row][column] = -(bits >> (fraction + width));
                special |= i32::from(field == top);
            }
        }
        parts.special = special != 0;
        parts
    }
}

/// The operands' elements in decoded form.
struct Operands<'a> {
    factor: Factor,
    a: &'a [[u32; K]; M],
    b: &'a [[u32; N]; K],
    a_parts: Parts<M, K>,
    b_parts: Parts<K, N>,
}

/// The type of accumulators, as bits in a u32.
trait Accumulator {
    /// Significand in units of 2⁻²³, exponent (−126 for zeros), sign.
    fn parts(bits: u32) -> (i32, i32, i32);
    /// Rounds a sum to this type.
    fn round(x: f64) -> u32;
    /// Whether it is an infinity or a NaN.
    fn is_special(bits: u32) -> bool;
    /// The exact value of an accumulator.
    fn widen(bits: u32) -> f64;
    /// The bits of an infinity or a NaN.
    fn special(x: f64) -> u32;
}

/// f32, rounded toward zero.
struct Single;

impl Accumulator for Single {
    #[inline(always)]
    fn parts(bits: u32) -> (i32, i32, i32) {
        let field = (bits >> 23 & 0xff) as i32;
        let hidden = if field != 0 { 1 << 23 } else { 0 };
        ((bits & 0x7f_ffff) as i32 | hidden, if field != 0 { field } else { 1 } - 127, bits as i32 >> 31)
    }

    #[inline(always)]
    fn round(x: f64) -> u32 {
        let near = x as f32;
        let past = (f64::from(near).abs() > x.abs()) & (x.abs() < power(128));
        near.to_bits().wrapping_sub(u32::from(past))
    }

    #[inline(always)]
    fn is_special(bits: u32) -> bool {
        bits & 0x7f80_0000 == 0x7f80_0000
    }

    fn widen(bits: u32) -> f64 {
        f32::from_bits(bits).into()
    }

    fn special(x: f64) -> u32 {
        if x.is_nan() { NAN_F32 } else { (x as f32).to_bits() }
    }
}

/// f16, rounded to nearest.
struct Short;

impl Accumulator for Short {
    #[inline(always)]
    fn parts(bits: u32) -> (i32, i32, i32) {
        let field = (bits >> 10 & 0x1f) as i32;
        let hidden = if field != 0 { 1 << 10 } else { 0 };
        let exponent = if field != 0 { field } else { 1 } - 15;
        let exponent = if bits & 0x7fff != 0 { exponent } else { -126 };
        (((bits & 0x3ff) as i32 | hidden) << 13, exponent, -(bits as i32 >> 15 & 1))
    }

    #[inline(always)]
    fn round(x: f64) -> u32 {
        Half::F16.narrow(f64_to_f32_odd(x))
    }

    #[inline(always)]
    fn is_special(bits: u32) -> bool {
        bits & 0x7c00 == 0x7c00
    }

    fn widen(bits: u32) -> f64 {
        Half::F16.widen(bits).into()
    }

    fn special(x: f64) -> u32 {
        if x.is_nan() { NAN_16 } else { Half::F16.narrow(x as f32) }
    }
}

/// 2^exponent, for exponents of normal f64.
#[inline(always)]
fn power(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

/// One fused sum for a row of D: adds products `from..from + GROUP` to the accumulators.
#[inline(always)]
fn group<A: Accumulator, const GROUP: usize>(
    operands: &Operands,
    fraction: u32,
    row: usize,
    from: usize,
    sums: &mut [u32; N],
) {
    let (a, b) = (&operands.a_parts, &operands.b_parts);
    // Products have two significands' fractional bits.
    let lift = fraction - 2 * operands.factor.layout().0;
    let (mut significand, mut exponent, mut sign) = ([0; N], [0; N], [0; N]);
    for j in 0..N {
        (significand[j], exponent[j], sign[j]) = A::parts(sums[j]);
    }
    let mut largest = exponent;
    for k in from..from + GROUP {
        for j in 0..N {
            largest[j] = largest[j].max(a.exponent[row][k] + b.exponent[k][j]);
        }
    }
    // |a·b| < 4, so that 16 terms stay below 2^(2 + 25 + 4): an i32 holds them, but not the addend as well.
    let mut total = [0i32; N];
    for k in from..from + GROUP {
        let (a_significand, a_exponent, a_sign) = (a.significand[row][k], a.exponent[row][k], a.sign[row][k]);
        for j in 0..N {
            let distance = (largest[j] - (a_exponent + b.exponent[k][j])).min(31) as u32;
            let magnitude = ((a_significand * b.significand[k][j]) << lift).wrapping_shr(distance);
            let sign = a_sign ^ b.sign[k][j];
            total[j] += (magnitude ^ sign) - sign;
        }
    }
    let before = *sums;
    let mut specials = u32::from(a.special | b.special);
    for j in 0..N {
        let distance = (largest[j] - exponent[j]).min(31) as u32;
        let magnitude = (significand[j] << (fraction - 23)).wrapping_shr(distance);
        let addend = (magnitude ^ sign[j]) - sign[j];
        // Integers below 2⁵³ times a power of two: exact.
        let sum = (f64::from(total[j]) + f64::from(addend)) * power(largest[j] - fraction as i32);
        sums[j] = A::round(sum);
        specials |= u32::from(A::is_special(before[j]));
    }
    if specials != 0 {
        for j in 0..N {
            let products = (from..from + GROUP).map(|k| {
                let (a, b) = (operands.a[row][k], operands.b[k][j]);
                f64::from(operands.factor.widen(a)) * f64::from(operands.factor.widen(b))
            });
            let sum = products.fold(A::widen(before[j]), |sum, product| sum + product);
            if !sum.is_finite() {
                sums[j] = A::special(sum);
            }
        }
    }
}

/// All of D, in place of C.
#[inline(always)]
fn product<A: Accumulator>(core: TensorCore, k: usize, operands: &Operands, sums: &mut [[u32; N]; M]) {
    let size = core.group(operands.factor).min(k);
    for (row, sums) in sums.iter_mut().enumerate() {
        for from in (0..k).step_by(size) {
            match size {
                4 => group::<A, 4>(operands, core.fraction(), row, from, sums),
                8 => group::<A, 8>(operands, core.fraction(), row, from, sums),
                _ => group::<A, 16>(operands, core.fraction(), row, from, sums),
            }
        }
    }
}

/// The bits of element `part` of a register with `PER` of them.
#[inline(always)]
const fn element<const PER: usize>(register: u32, part: usize) -> u32 {
    if PER == 2 { register >> (16 * part) & 0xffff } else { register >> 13 }
}

/// The elements of A (16×k) in its registers. Columns from k on stay 0.
fn gather_a<const PER: usize>(a: &[Lanes]) -> [[u32; K]; M] {
    let mut elements = [[0; K]; M];
    for (register, lanes) in a.iter().enumerate().take(4) {
        for (lane, &bits) in lanes.iter().enumerate() {
            for part in 0..PER {
                let (row, column) = fragment::a(PER, lane, register, part);
                elements[row][column] = element::<PER>(bits, part);
            }
        }
    }
    elements
}

/// The elements of B (k×8) in its registers. Rows from k on stay 0.
fn gather_b<const PER: usize>(b: &[Lanes]) -> [[u32; N]; K] {
    let mut elements = [[0; N]; K];
    for (register, lanes) in b.iter().enumerate().take(2) {
        for (lane, &bits) in lanes.iter().enumerate() {
            for part in 0..PER {
                let (row, column) = fragment::b(PER, lane, register, part);
                elements[row][column] = element::<PER>(bits, part);
            }
        }
    }
    elements
}

/// `mma.sync.aligned.m16n8kK.row.col.f32.T.T.f32`: D = A·B + C for a warp. `a` has 4 registers and `b` 2 for k = 16 (of tf32
/// 8); 2 and 1 for half of it. `sums` holds C and then D.
pub(crate) fn mma_f32(core: TensorCore, factor: Factor, a: &[Lanes], b: &[Lanes], sums: &mut [Lanes; 4]) {
    let k = b.len().min(2) * 4 * factor.per();
    let (a, b) = match factor {
        Factor::Half(_) => (gather_a::<2>(a), gather_b::<2>(b)),
        Factor::Tf32 => (gather_a::<1>(a), gather_b::<1>(b)),
    };
    let mut elements = [[0; N]; M];
    for (register, lanes) in sums.iter().enumerate() {
        for (lane, &bits) in lanes.iter().enumerate() {
            let (row, column) = fragment::accumulator(lane, register);
            elements[row][column] = bits;
        }
    }
    wide!({
        let (a_parts, b_parts) = (Parts::new(factor, &a), Parts::new(factor, &b));
        let operands = Operands { factor, a: &a, b: &b, a_parts, b_parts };
        product::<Single>(core, k, &operands, &mut elements);
    });
    for (register, lanes) in sums.iter_mut().enumerate() {
        for (lane, bits) in lanes.iter_mut().enumerate() {
            let (row, column) = fragment::accumulator(lane, register);
            *bits = elements[row][column];
        }
    }
}

/// `mma.sync.aligned.m16n8kK.row.col.f16.f16.f16.f16`, likewise; the accumulators are f16 pairs.
pub(crate) fn mma_f16(core: TensorCore, a: &[Lanes], b: &[Lanes], sums: &mut [Lanes; 2]) {
    let factor = Factor::Half(Half::F16);
    let k = b.len().min(2) * 8;
    let (a, b) = (gather_a::<2>(a), gather_b::<2>(b));
    let mut elements = [[0; N]; M];
    for (register, lanes) in sums.iter().enumerate() {
        for (lane, &bits) in lanes.iter().enumerate() {
            let (row, column) = fragment::accumulator(lane, register * 2);
            elements[row][column] = bits & 0xffff;
            elements[row][column + 1] = bits >> 16;
        }
    }
    wide!({
        let (a_parts, b_parts) = (Parts::new(factor, &a), Parts::new(factor, &b));
        let operands = Operands { factor, a: &a, b: &b, a_parts, b_parts };
        product::<Short>(core, k, &operands, &mut elements);
    });
    for (register, lanes) in sums.iter_mut().enumerate() {
        for (lane, bits) in lanes.iter_mut().enumerate() {
            let (row, column) = fragment::accumulator(lane, register * 2);
            *bits = elements[row][column] | elements[row][column + 1] << 16;
        }
    }
}
