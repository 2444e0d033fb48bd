//! Products of integers, f64 and 8-bit floats against loops over whole matrices.

use crate::TensorCore::Hopper;
use crate::numerics::products::{Dot, doubles, eights_f16, eights_f32, integers};
use crate::numerics::small::Eight;
use crate::numerics::{Lanes, Rounding, fragment};

/// A small generator: numbers that look drawn.
fn next(state: &mut u64) -> u32 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) as u32
}

fn lanes(state: &mut u64) -> Lanes {
    std::array::from_fn(|_| next(state))
}

/// Element (row, k) of A of `bits` bits; k runs over all registers of the row.
fn a_element(a: &[Lanes], rows: usize, bits: u32, row: usize, k: usize) -> u32 {
    let per = 32 / bits as usize;
    let (tile, t, part) = (k / (4 * per), k / per % 4, k % per);
    a[tile * rows + row / 8][row % 8 * 4 + t] >> (bits as usize * part) & (u32::MAX >> (32 - bits))
}

/// Element (k, column) of B.
fn b_element(b: &[Lanes], bits: u32, k: usize, column: usize) -> u32 {
    a_element(b, 1, bits, column, k)
}

#[test]
fn integers_are_summed_exactly() {
    let extend = |x: u32, bits: u32, signed: bool| {
        if signed && x >> (bits - 1) == 1 { i64::from(x) - (1 << bits) } else { i64::from(x) }
    };
    let mut state = 7;
    for (bits, rows, tiles) in
        [(8, 1, 1), (8, 2, 1), (8, 2, 2), (4, 1, 1), (4, 2, 1), (4, 2, 2), (1, 1, 1), (1, 2, 1), (1, 2, 2)]
    {
        for signs in [[false, false], [true, false], [false, true], [true, true]] {
            let (a, b): (Vec<_>, Vec<_>) = (
                (0..rows * tiles).map(|_| lanes(&mut state)).collect(),
                (0..tiles).map(|_| lanes(&mut state)).collect(),
            );
            let c: Vec<_> = (0..2 * rows).map(|_| lanes(&mut state)).collect();
            let dot = match (bits, signs[0]) {
                (1, true) => Dot::Xor,
                (1, false) => Dot::And,
                _ => Dot::Integers(bits, signs),
            };
            for satfinite in [false, true] {
                let mut d = c.clone();
                integers(dot, satfinite, &a, &b, &mut d);
                for register in 0..2 * rows {
                    for lane in 0..32 {
                        let (row, column) = fragment::accumulator(lane, register);
                        let mut sum = i64::from(c[register][lane] as i32);
                        for k in 0..tiles * 128 / bits as usize {
                            let (x, y) = (a_element(&a, rows, bits, row, k), b_element(&b, bits, k, column));
                            sum += match dot {
                                Dot::Xor => i64::from(x ^ y),
                                Dot::And => i64::from(x & y),
                                Dot::Integers(..) => extend(x, bits, signs[0]) * extend(y, bits, signs[1]),
                            };
                        }
                        let sum = if satfinite { sum.clamp(i32::MIN.into(), i32::MAX.into()) } else { sum };
                        assert_eq!(d[register][lane], sum as u32, "{dot:?} {rows} {tiles} ({row}, {column})");
                    }
                }
            }
        }
    }
}

#[test]
fn doubles_are_a_chain_of_fused_multiply_adds() {
    let mut state = 11;
    let mut draw =
        || -> [u64; 32] { std::array::from_fn(|_| (f64::from(next(&mut state)) / 3e8 - 1.0).to_bits()) };
    for (rows, tiles) in [(1, 1), (2, 1), (2, 2), (2, 4)] {
        let (a, b): (Vec<_>, Vec<_>) =
            ((0..rows * tiles).map(|_| draw()).collect(), (0..tiles).map(|_| draw()).collect());
        let c: Vec<_> = (0..2 * rows).map(|_| draw()).collect();
        let mut d = c.clone();
        doubles(Rounding::Nearest, &a, &b, &mut d);
        for register in 0..2 * rows {
            for lane in 0..32 {
                let (row, column) = fragment::accumulator(lane, register);
                let mut sum = f64::from_bits(c[register][lane]);
                for k in 0..4 * tiles {
                    let x = f64::from_bits(a[k / 4 * rows + row / 8][row % 8 * 4 + k % 4]);
                    sum = x.mul_add(f64::from_bits(b[k / 4][column * 4 + k % 4]), sum);
                }
                assert_eq!(f64::from_bits(d[register][lane]), sum, "{rows} {tiles} ({row}, {column})");
            }
        }
    }
    // 1 + 2^-60, rounded up.
    let (mut a, mut b) = ([[0; 32]; 1], [[0; 32]; 1]);
    (a[0][0], b[0][0]) = (2f64.powi(-30).to_bits(), 2f64.powi(-30).to_bits());
    let mut d = [[1f64.to_bits(); 32]; 2];
    doubles(Rounding::Up, &a, &b, &mut d);
    assert_eq!(f64::from_bits(d[0][0]), 1f64.next_up());
}

/// Small whole numbers, whose sums are exact in every order.
#[test]
fn eight_bit_floats_are_multiplied_as_halves() {
    let formats = [Eight::E5m2, Eight::E4m3];
    let mut state = 3;
    let mut draw = |format: Eight| -> Lanes {
        std::array::from_fn(|_| {
            let bytes: [u8; 4] = std::array::from_fn(|_| {
                let x = (next(&mut state) % 9) as f32 - 4.0;
                format.narrow(x.to_bits(), false) as u8
            });
            u32::from_le_bytes(bytes)
        })
    };
    for tiles in [1, 2] {
        let a: Vec<_> = (0..2 * tiles).map(|_| draw(formats[0])).collect();
        let b: Vec<_> = (0..tiles).map(|_| draw(formats[1])).collect();
        let mut single = [[2.5f32.to_bits(); 32]; 4];
        eights_f32(Hopper, formats, &a, &b, &mut single);
        let mut short = [[0x4100_4100; 32]; 2];
        eights_f16(Hopper, formats, &a, &b, &mut short);
        for register in 0..4 {
            for lane in 0..32 {
                let (row, column) = fragment::accumulator(lane, register);
                let sum: f32 = (0..16 * tiles)
                    .map(|k| {
                        let x = formats[0].widen(a_element(&a, 2, 8, row, k));
                        f32::from_bits(x) * f32::from_bits(formats[1].widen(b_element(&b, 8, k, column)))
                    })
                    .sum();
                assert_eq!(f32::from_bits(single[register][lane]), sum + 2.5, "{tiles} ({row}, {column})");
                let half = short[register / 2][lane] >> (16 * (register % 2)) & 0xffff;
                assert_eq!(
                    crate::numerics::half::Half::F16.widen(half),
                    sum + 2.5,
                    "{tiles} ({row}, {column})"
                );
            }
        }
    }
}
