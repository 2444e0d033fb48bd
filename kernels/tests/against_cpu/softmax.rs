//! Softmax and its logarithm, forward and backward, against f64 on the host.

use ssmv_emulator::Report;
use ssmv_kernels::{Target, softmax::Softmax};

use crate::{
    elements::{Half, Host, Random, Single, assert_coalesced},
    harness::{Arg, at_best_and_worst, run, targets},
    normalise::{U, around, wide, within},
};

fn forward<H: Host>(target: Target, spec: Softmax, x: &[f32]) -> (Vec<f32>, Report) {
    let x = H::encode(x);
    let (outputs, report) = run(&spec.forward::<H::Gpu>(target).unwrap(), &[Arg::In(&x), Arg::Out(x.len())]);
    (H::decode(&outputs[0]), report)
}

fn backward<H: Host>(target: Target, spec: Softmax, dy: &[f32], y: &[f32]) -> (Vec<f32>, Report) {
    let (dy, y) = (H::encode(dy), H::encode(y));
    let kernel = spec.backward::<H::Gpu>(target).unwrap();
    let (outputs, report) = run(&kernel, &[Arg::In(&dy), Arg::In(&y), Arg::Out(y.len())]);
    (H::decode(&outputs[0]), report)
}

/// Both passes. An exponential is within 4 ulp (8 U) and takes in the rounding of its argument.
fn agrees<H: Host>(target: Target, [rows, cols]: [usize; 2], centre: f32, reach: f32) -> Vec<Report> {
    let mut reports = Vec::new();
    for log in [false, true] {
        let spec = Softmax { rows: rows as u32, cols: cols as u32, log };
        let case = format!("{spec:?} ({target}, {} bytes an element)", H::encode(&[0.0]).len());
        let random = &mut Random((rows * 131 + cols) as u64);
        let x = around::<H>(random, rows * cols, centre, reach);
        let dy = around::<H>(random, rows * cols, 0.25, 1.0);
        let (y, report) = forward::<H>(target, spec, &x);
        reports.push(report);
        let (mut want, mut allowed) = (Vec::new(), Vec::new());
        for x in wide(&x).chunks(cols) {
            let largest = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum = x.iter().map(|x| (x - largest).exp()).sum::<f64>();
            for x in x {
                let below = x - largest;
                let value = below - sum.ln();
                want.push(if log { value } else { value.exp() });
                let off = (24.0 - below) * U;
                allowed.push(if log { off + U * (sum.ln() - below) } else { off * value.exp() + 1e-44 });
            }
        }
        within::<H>(&format!("y of {case}"), &y, &want, |i| allowed[i]);

        let (dx, report) = backward::<H>(target, spec, &dy, &y);
        reports.push(report);
        let (mut want, mut allowed) = (Vec::new(), Vec::new());
        for (y, dy) in wide(&y).chunks(cols).zip(wide(&dy).chunks(cols)) {
            let term = |(y, dy): (&f64, &f64)| if log { *dy } else { y * dy };
            let terms = || y.iter().zip(dy).map(term);
            let (sum, size) = (terms().sum::<f64>(), terms().map(f64::abs).sum::<f64>());
            for (y, dy) in y.iter().zip(dy) {
                want.push(if log { dy - y.exp() * sum } else { y * (dy - sum) });
                allowed.push(match log {
                    true => U * (dy.abs() + (16.0 - y) * y.exp() * size),
                    false => 8.0 * U * y * (dy.abs() + size) + 1e-44,
                });
            }
        }
        within::<H>(&format!("dx of {case}"), &dx, &want, |i| allowed[i]);
    }
    reports
}

/// One column, rows that share a warp and end inside of a block, a warp's, a block's, and some that registers do not hold;
/// vectors of 1, 2, 4 and 8.
const SIZES: [[usize; 2]; 19] = [
    [1, 1],
    [5, 1],
    [3, 2],
    [70, 3],
    [9, 7],
    [33, 31],
    [5, 32],
    [150, 12],
    [5, 33],
    [9, 100],
    [3, 256],
    [17, 260],
    [7, 1000],
    [2, 1023],
    [6, 1024],
    [2, 1025],
    [3, 4096],
    [1, 16_384],
    [2, 16_389],
];

fn sizes_agree<H: Host>() {
    at_best_and_worst(|| {
        for target in targets() {
            for size in SIZES {
                agrees::<H>(target, size, 0.5, 4.0);
            }
        }
    });
}

#[test]
fn sizes_agree_in_f16() {
    sizes_agree::<Half>();
}

#[test]
fn sizes_agree_in_f32() {
    sizes_agree::<Single>();
}

/// e^x itself would overflow or vanish.
#[test]
fn rows_far_from_0_neither_overflow_nor_vanish() {
    at_best_and_worst(|| {
        for (centre, reach) in [(60_000.0, 64.0), (-60_000.0, 64.0), (0.0, 200.0)] {
            agrees::<Half>(Target::Sm80, [5, 40], centre, reach);
        }
        for (centre, reach) in [(1e6, 8.0), (-3e6, 8.0), (0.0, 500.0)] {
            agrees::<Single>(Target::Sm80, [3, 1500], centre, reach);
        }
    });
}

#[test]
fn elements_of_minus_infinity_are_left_out() {
    at_best_and_worst(|| {
        for cols in [6, 40, 1200] {
            let mut x = Random(3).plain::<Single>(2 * cols);
            x[cols..].fill(f32::NEG_INFINITY);
            x[cols + 3] = -7.0;
            let spec = |log| Softmax { rows: 2, cols: cols as u32, log };
            let (y, logs) = (
                forward::<Single>(Target::Sm80, spec(false), &x).0,
                forward::<Single>(Target::Sm80, spec(true), &x).0,
            );
            for i in 0..cols {
                let (y, log) = (y[cols + i], logs[cols + i]);
                let want = if i == 3 { [1.0, 0.0] } else { [0.0, f32::NEG_INFINITY] };
                assert_eq!([y, log], want, "{cols} columns, element {i}");
            }
            let dx = backward::<Single>(Target::Sm80, spec(true), &vec![1.0; 2 * cols], &logs).0;
            assert!(dx.iter().all(|x| x.is_finite()), "{cols} columns");
        }
    });
}

#[test]
fn numbers_that_have_no_softmax_spoil_their_row() {
    at_best_and_worst(|| {
        for bad in [f32::NAN, f32::INFINITY] {
            for cols in [5, 40, 1200] {
                for (log, at) in [(false, 0), (true, 3 * cols + 2), (false, 9 * cols - 1)] {
                    let mut x = Random(5).plain::<Half>(9 * cols);
                    x[at] = bad;
                    let y = forward::<Half>(Target::Sm80, Softmax { rows: 9, cols: cols as u32, log }, &x).0;
                    for (i, y) in y.iter().enumerate() {
                        // ∞ − ∞ is NaN, and so is the sum.
                        let spoilt = i / cols == at / cols;
                        assert_eq!(y.is_nan(), spoilt, "{bad} at {at} of 9x{cols}: y[{i}] is {y}");
                    }
                }
            }
        }
    });
}

#[test]
fn outputs_may_be_inputs() {
    at_best_and_worst(|| {
        for (cols, log) in [(6, false), (1024, true), (20_000, false)] {
            let spec = Softmax { rows: 1, cols, log };
            let x = Random(6).plain::<Half>(cols as usize);
            let (y, _) = forward::<Half>(Target::Sm80, spec, &x);
            let kernel = spec.forward::<<Half as Host>::Gpu>(Target::Sm80).unwrap();
            let in_place = run(&kernel, &[Arg::InOut(&Half::encode(&x)), Arg::Same(0)]).0;
            assert_eq!(Half::decode(&in_place[0]), y, "{cols} columns");
        }
    });
}

#[test]
fn whole_sectors_are_moved() {
    at_best_and_worst(|| {
        for size in [[16, 1024], [64, 64], [4, 4096]] {
            let reports = agrees::<Half>(Target::Sm80, size, 0.0, 4.0);
            reports.iter().for_each(|report| assert_coalesced(&format!("{size:?}"), report));
        }
    });
}

#[test]
fn sizes_that_cannot_be_are_errors() {
    for (rows, cols, message) in
        [(0, 4, "no elements"), (4, 0, "no elements"), (1 << 16, 1 << 15, "2³¹ elements or more")]
    {
        let spec = Softmax { rows, cols, log: false };
        type Gpu = <Half as Host>::Gpu;
        for error in
            [spec.forward::<Gpu>(Target::Sm80).unwrap_err(), spec.backward::<Gpu>(Target::Sm80).unwrap_err()]
        {
            assert!(error.family == "softmax" && error.message.contains(message), "{error}");
        }
    }
}
