//! Matrix products that are not one of [`mma`](super::mma)'s sums: integers and bits, f64, and 8-bit floats.
//!
//! Registers are those of [`fragment`](super::fragment): A's alternate between rows 0 to 7 and 8 to 15, each with 4 lanes a
//! row; B's have 4 lanes a column. So the element in row r, column c of D is a sum over pairs of registers of A's lanes of row
//! r with B's lanes of column c.

use super::half::{self, Half, HalfFlags, HalfOp};
use super::mma::{Factor, mma_f16, mma_f32};
use super::small::Eight;
use super::{Lanes, Rounding, float, fragment};
use crate::TensorCore;

/// How the words of A and B are multiplied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Dot {
    /// Integers of that many bits (8 or 4); A's and B's are signed or not.
    Integers(u32, [bool; 2]),
    /// Ones in A xor B.
    Xor,
    /// Ones in A and B.
    And,
}

impl Dot {
    /// The sum of the products of two words.
    fn words(self, a: u32, b: u32) -> i64 {
        match self {
            Self::Integers(bits, [a_signed, b_signed]) => {
                let element = |x: u32, at: u32, signed: bool| {
                    let top = x << (32 - bits - at);
                    if signed { i64::from(top as i32 >> (32 - bits)) } else { i64::from(top >> (32 - bits)) }
                };
                let places = (0..32).step_by(bits as usize);
                places.map(|at| element(a, at, a_signed) * element(b, at, b_signed)).sum()
            }
            Self::Xor => i64::from((a ^ b).count_ones()),
            Self::And => i64::from((a & b).count_ones()),
        }
    }
}

/// D = A·B + C in s32. A has a register for each 8 rows and each of B's; `sums` (2 a register of rows) hold C and then D, which
/// wraps around, or with `.satfinite` ends at the largest and smallest s32.
pub(crate) fn integers(dot: Dot, satfinite: bool, a: &[Lanes], b: &[Lanes], sums: &mut [Lanes]) {
    let rows = sums.len() / 2;
    for (register, lanes) in sums.iter_mut().enumerate() {
        for (lane, sum) in lanes.iter_mut().enumerate() {
            let (row, column) = fragment::accumulator(lane, register);
            let mut total = i64::from(*sum as i32);
            for (tile, b) in b.iter().enumerate() {
                let a = &a[tile * rows + row / 8];
                total += (0..4).map(|t| dot.words(a[row % 8 * 4 + t], b[column * 4 + t])).sum::<i64>();
            }
            let clamped = total.clamp(i32::MIN.into(), i32::MAX.into());
            *sum = if satfinite { clamped } else { total } as u32;
        }
    }
}

/// D = A·B + C in f64, likewise: a chain of fused multiply-adds, k upward, each rounded as asked.
pub(crate) fn doubles(rounding: Rounding, a: &[[u64; 32]], b: &[[u64; 32]], sums: &mut [[u64; 32]]) {
    let rows = sums.len() / 2;
    for (register, lanes) in sums.iter_mut().enumerate() {
        for (lane, sum) in lanes.iter_mut().enumerate() {
            let (row, column) = fragment::accumulator(lane, register);
            for (tile, b) in b.iter().enumerate() {
                let a = &a[tile * rows + row / 8];
                for t in 0..4 {
                    let (a, b) = (a[row % 8 * 4 + t], b[column * 4 + t]);
                    *sum = float::f64(float::Op::Fma, rounding, a, b, *sum);
                }
            }
        }
    }
}

/// The low or the high two of each register's 8-bit floats, as pairs of f16.
fn widened(format: Eight, registers: &[Lanes], high: bool) -> Vec<Lanes> {
    let shift = if high { 16 } else { 0 };
    registers.iter().map(|lanes| lanes.map(|x| format.widen_pair(x >> shift & 0xffff, false))).collect()
}

/// D = A·B + C of 8-bit floats in f32, as ptxas 13.5 compiles it for the H100: the low two of each register's elements made
/// f16 and multiplied, then the high two with that as the addend, and C added to the sum by an addition of its own.
pub(crate) fn eights_f32(
    core: TensorCore,
    formats: [Eight; 2],
    a: &[Lanes],
    b: &[Lanes],
    sums: &mut [Lanes; 4],
) {
    let mut product = [[0; 32]; 4];
    for high in [false, true] {
        let (a, b) = (widened(formats[0], a, high), widened(formats[1], b, high));
        mma_f32(core, Factor::Half(Half::F16), &a, &b, &mut product);
    }
    for (sums, product) in sums.iter_mut().zip(product) {
        for (sum, x) in sums.iter_mut().zip(product) {
            *sum = float::f32(float::Op::Add, Rounding::Nearest, float::Flags::default(), *sum, x, 0);
        }
    }
}

/// Products of 8-bit floats, accumulated in f16.
pub(crate) fn eights_f16(
    core: TensorCore,
    formats: [Eight; 2],
    a: &[Lanes],
    b: &[Lanes],
    sums: &mut [Lanes; 2],
) {
    let mut product = [[0; 32]; 2];
    for high in [false, true] {
        let (a, b) = (widened(formats[0], a, high), widened(formats[1], b, high));
        mma_f16(core, &a, &b, &mut product);
    }
    for (sums, product) in sums.iter_mut().zip(product) {
        for (sum, x) in sums.iter_mut().zip(product) {
            *sum = half::apply_pair(Half::F16, HalfOp::Add, HalfFlags::default(), *sum, x, 0);
        }
    }
}
