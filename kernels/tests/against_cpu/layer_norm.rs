//! Layer normalisation, forward and backward, against f64 on the host.

use ssmv_emulator::Report;
use ssmv_kernels::{
    Target,
    layer_norm::{self, LayerNorm},
};

use crate::{
    elements::{Half, Host, Random, Single, assert_coalesced},
    harness::{Arg, run, run_all, targets},
    normalise::{U, around, bits, wide, within},
};

const EPS: f32 = 1e-5;

/// Roundings of a sum in f32 that add up: those of a thread's terms, of its warp's, and of what follows.
const SUM: f64 = 4.0 * U;

/// A matrix, and how far its rows are from 0 for what they are spread.
#[derive(Debug, Clone, Copy)]
struct Size {
    rows: usize,
    cols: usize,
    centre: f32,
    reach: f32,
}

impl Size {
    const fn new(rows: usize, cols: usize) -> Self {
        Self { rows, cols, centre: 0.5, reach: 3.0 }
    }

    fn spec(self) -> LayerNorm {
        LayerNorm { rows: self.rows as u32, cols: self.cols as u32 }
    }
}

struct Inputs {
    x: Vec<f32>,
    dy: Vec<f32>,
    gamma: Vec<f32>,
    beta: Vec<f32>,
}

struct Outputs {
    y: Vec<f32>,
    dx: Vec<f32>,
    dgamma: Vec<f32>,
    dbeta: Vec<f32>,
}

impl Inputs {
    fn draw<H: Host>(size: Size) -> Self {
        let Size { rows, cols, centre, reach } = size;
        let random = &mut Random((rows * 131 + cols) as u64);
        Self {
            x: around::<H>(random, rows * cols, centre, reach),
            dy: around::<H>(random, rows * cols, 0.25, 1.0),
            gamma: around::<Single>(random, cols, 0.5, 1.5),
            beta: around::<Single>(random, cols, 0.0, 1.0),
        }
    }
}

fn on_gpu<H: Host>(target: Target, size: Size, inputs: &Inputs) -> (Outputs, [Report; 2]) {
    let [x, dy] = [&inputs.x, &inputs.dy].map(|x| H::encode(x));
    let [gamma, beta] = [&inputs.gamma, &inputs.beta].map(|x| Single::encode(x));
    let args = [Arg::In(&x), Arg::In(&gamma), Arg::In(&beta), Arg::Out(x.len()), Arg::F32(EPS)];
    let (outputs, forward) = run(&size.spec().forward::<H::Gpu>(target).unwrap(), &args);
    let y = H::decode(&outputs[0]);
    let plan = size.spec().backward::<H::Gpu>(target).unwrap();
    let args = [
        Arg::In(&x),
        Arg::In(&gamma),
        Arg::In(&dy),
        Arg::Out(x.len()),
        Arg::Out(gamma.len()),
        Arg::Out(gamma.len()),
        Arg::Out(plan.workspace_bytes as usize),
        Arg::F32(EPS),
    ];
    let (outputs, backward) = run_all(&plan.kernels, &args);
    let outputs = Outputs {
        y,
        dx: H::decode(&outputs[0]),
        dgamma: Single::decode(&outputs[1]),
        dbeta: Single::decode(&outputs[2]),
    };
    (outputs, [forward, backward])
}

/// What there should be, and how far from it each number may be.
#[derive(Default)]
struct Wanted {
    y: Vec<[f64; 2]>,
    dx: Vec<[f64; 2]>,
    dgamma: Vec<[f64; 2]>,
    dbeta: Vec<[f64; 2]>,
}

fn wanted(size: Size, inputs: &Inputs) -> Wanted {
    let n = size.cols as f64;
    let [x, dy, gamma, beta] = [&inputs.x, &inputs.dy, &inputs.gamma, &inputs.beta].map(|x| wide(x));
    let mut wanted =
        Wanted { dgamma: vec![[0.0; 2]; size.cols], dbeta: vec![[0.0; 2]; size.cols], ..Wanted::default() };
    for (x, dy) in x.chunks(size.cols).zip(dy.chunks(size.cols)) {
        let mean = x.iter().sum::<f64>() / n;
        let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
        let inverse = 1.0 / (variance + f64::from(EPS)).sqrt();
        let hat: Vec<_> = x.iter().map(|x| (x - mean) * inverse).collect();
        let g: Vec<_> = dy.iter().zip(&gamma).map(|(dy, gamma)| dy * gamma).collect();
        let average = |f: &dyn Fn(usize) -> f64| (0..size.cols).map(f).sum::<f64>() / n;
        let (g_mean, slope) = (average(&|j| g[j]), average(&|j| g[j] * hat[j]));
        let (g_size, slope_size) = (average(&|j| g[j].abs()), average(&|j| (g[j] * hat[j]).abs()));
        // The mean's own rounding is found in the second pass, so it counts twice over; that of x̂ in units of σ.
        let off = SUM * inverse * (variance.sqrt() + SUM * mean.abs());
        for j in 0..size.cols {
            let normal = hat[j] * gamma[j];
            let y_off = gamma[j].abs() * off + SUM * normal.abs() + U * (normal + beta[j]).abs();
            wanted.y.push([normal + beta[j], y_off]);

            let parts = [g[j], -g_mean, -hat[j] * slope];
            let dx = inverse * parts.iter().sum::<f64>();
            let sizes = g[j].abs() + g_size + hat[j].abs() * slope_size;
            let dx_off = inverse * (SUM * sizes + off * (slope.abs() + hat[j].abs() * g_size));
            // Short rows are computed in f64, and rounded to f32 and then to their type.
            let few = size.cols <= 32;
            wanted.dx.push([dx, if few { U * dx.abs() + 1e-12 } else { dx_off + SUM * dx.abs() }]);

            // For these sums the mean is rounded to f32.
            let hat_off = off + U * mean.abs() * inverse + SUM * hat[j].abs();
            let add = |to: &mut [f64; 2], [value, off]: [f64; 2]| {
                to[0] += value;
                to[1] += off;
            };
            add(&mut wanted.dgamma[j], [dy[j] * hat[j], dy[j].abs() * hat_off]);
            add(&mut wanted.dbeta[j], [dy[j], SUM * dy[j].abs()]);
        }
    }
    wanted
}

fn agrees<H: Host>(target: Target, size: Size) -> [Report; 2] {
    let inputs = Inputs::draw::<H>(size);
    let (got, reports) = on_gpu::<H>(target, size, &inputs);
    let Wanted { y, dx, dgamma, dbeta } = wanted(size, &inputs);
    let case = format!("{size:?} ({target}, {} bytes an element)", H::encode(&[0.0]).len());
    let check = |what: &str, got: &[f32], want: &[[f64; 2]], compare: Compare| {
        let values: Vec<_> = want.iter().map(|[value, _]| *value).collect();
        compare(&format!("{what} of {case}"), got, &values, &|i| want[i][1]);
    };
    type Compare = fn(&str, &[f32], &[f64], &dyn Fn(usize) -> f64);
    let (element, single): (Compare, Compare) = (
        |case, got, want, allowed| within::<H>(case, got, want, allowed),
        |case, got, want, allowed| within::<Single>(case, got, want, allowed),
    );
    check("y", &got.y, &y, element);
    check("dx", &got.dx, &dx, element);
    check("dgamma", &got.dgamma, &dgamma, single);
    check("dbeta", &got.dbeta, &dbeta, single);
    reports
}

/// One row, one column, rows that share a warp and end inside of a block, a warp's, a block's, and some that registers do
/// not hold; vectors of 1, 2 and 4; sums over rows in one piece and in several.
const SIZES: [[usize; 2]; 22] = [
    [1, 1],
    [5, 1],
    [3, 2],
    [70, 3],
    [9, 7],
    [33, 31],
    [5, 32],
    [1500, 12],
    [5, 33],
    [9, 100],
    [3, 256],
    [17, 260],
    [300, 40],
    [7, 1000],
    [2, 1023],
    [6, 1024],
    [2, 1025],
    [2, 1030],
    [3, 4096],
    [1, 16_384],
    [2, 16_385],
    [1, 65_536],
];

fn sizes_agree<H: Host>() {
    for target in targets() {
        for [rows, cols] in SIZES {
            agrees::<H>(target, Size::new(rows, cols));
        }
    }
}

#[test]
fn sizes_agree_in_f16() {
    sizes_agree::<Half>();
}

#[test]
fn sizes_agree_in_f32() {
    sizes_agree::<Single>();
}

/// Naive sums of squares lose everything here.
#[test]
fn a_mean_far_from_0_does_not_cancel() {
    for cols in [2, 9, 40, 1500] {
        for (centre, reach) in [(1000.0, 4.0), (-30_000.0, 64.0)] {
            agrees::<Half>(Target::Sm80, Size { centre, reach, ..Size::new(10, cols) });
        }
        for (centre, reach) in [(1e4, 0.1), (-3e6, 8.0), (0.0, 1e-4)] {
            agrees::<Single>(Target::Sm80, Size { centre, reach, ..Size::new(10, cols) });
        }
    }
}

/// The rounding of a mean is not a deviation.
#[test]
fn constant_rows_become_the_bias() {
    for cols in [1, 3, 100, 1500] {
        let size = Size { centre: 1e6 + 0.5, reach: 0.0, ..Size::new(4, cols) };
        let inputs = Inputs::draw::<Single>(size);
        let y = on_gpu::<Single>(Target::Sm80, size, &inputs).0.y;
        for (i, &y) in y.iter().enumerate() {
            let beta = inputs.beta[i % cols];
            assert!((y - beta).abs() < 1e-4, "{cols} columns, element {i} is {y}, not {beta}");
        }
    }
}

#[test]
fn numbers_that_are_not_finite_spoil_their_row() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for cols in [5, 40, 1200] {
            let size = Size::new(9, cols);
            for at in [0, 3 * cols + 2, 9 * cols - 1] {
                let mut inputs = Inputs::draw::<Half>(size);
                inputs.x[at] = bad;
                let got = on_gpu::<Half>(Target::Sm80, size, &inputs).0;
                for (i, (y, dx)) in got.y.iter().zip(&got.dx).enumerate() {
                    let spoilt = i / cols == at / cols;
                    assert_eq!(y.is_nan(), spoilt, "{bad} at {at} of {size:?}: y[{i}] is {y}");
                    assert_eq!(dx.is_nan(), spoilt, "{bad} at {at} of {size:?}: dx[{i}] is {dx}");
                }
                assert!(got.dgamma.iter().all(|x| x.is_nan()), "{bad} at {at} of {size:?}");
                assert!(got.dbeta.iter().all(|x| x.is_finite()), "{bad} at {at} of {size:?}");
            }
        }
    }
}

#[test]
fn outputs_beyond_f16_are_infinite() {
    let size = Size::new(2, 64);
    let mut inputs = Inputs::draw::<Half>(size);
    inputs.gamma.fill(0.0);
    inputs.beta.fill(65_519.0);
    inputs.beta[7] = 65_520.0;
    let y = on_gpu::<Half>(Target::Sm80, size, &inputs).0.y;
    y.iter().enumerate().for_each(|(i, &y)| {
        assert_eq!(y, if i % 64 == 7 { f32::INFINITY } else { 65_504.0 }, "element {i}");
    });
}

#[test]
fn y_may_be_x() {
    for cols in [6, 1024, 20_000] {
        let size = Size::new(3, cols);
        let inputs = Inputs::draw::<Half>(size);
        let y = on_gpu::<Half>(Target::Sm80, size, &inputs).0.y;
        let x = Half::encode(&inputs.x);
        let [gamma, beta] = [&inputs.gamma, &inputs.beta].map(|x| Single::encode(x));
        let args = [Arg::InOut(&x), Arg::In(&gamma), Arg::In(&beta), Arg::Same(0), Arg::F32(EPS)];
        let kernel = size.spec().forward::<<Half as Host>::Gpu>(Target::Sm80).unwrap();
        assert_eq!(Half::decode(&run(&kernel, &args).0[0]), y, "{cols} columns");
    }
}

#[test]
fn the_models_rows_move_whole_sectors() {
    for (rows, cols) in [(16, 1024), (64, 64), (4, 4096)] {
        let size = Size::new(rows, cols);
        let case = size.spec().forward::<<Half as Host>::Gpu>(Target::Sm80).unwrap().name;
        agrees::<Half>(Target::Sm80, size).iter().for_each(|report| assert_coalesced(&case, report));
        agrees::<Single>(Target::Sm80, size).iter().for_each(|report| assert_coalesced(&case, report));
    }
}

#[test]
fn two_runs_give_the_same_bits() {
    for cols in [12, 1500] {
        let size = Size::new(600, cols);
        let inputs = Inputs::draw::<Half>(size);
        let all = || {
            let got = on_gpu::<Half>(Target::Sm80, size, &inputs).0;
            [bits(&got.y), bits(&got.dx), bits(&got.dgamma), bits(&got.dbeta)]
        };
        assert_eq!(all(), all());
    }
}

#[test]
fn sizes_that_cannot_be_are_errors() {
    let cases = [
        (0, 4, "at least one of each"),
        (4, 0, "at least one of each"),
        (4, 65_537, "at most 65536 columns"),
        (u32::MAX, u32::MAX, "at most 65536 columns"),
        (1 << 16, 1 << 15, "too large for 32-bit offsets"),
        (1 << 28, 1, "too large for 32-bit offsets"),
        (u32::MAX, 1, "too large for 32-bit offsets"),
    ];
    type Gpu = <Half as Host>::Gpu;
    for (rows, cols, message) in cases {
        let spec = LayerNorm { rows, cols };
        let errors =
            [spec.forward::<Gpu>(Target::Sm80).unwrap_err(), spec.backward::<Gpu>(Target::Sm80).unwrap_err()];
        for error in errors {
            assert_eq!(error.family, "layer_norm");
            assert!(error.message.contains(message), "{rows}x{cols}: {error}");
        }
    }
}

#[test]
fn no_specification_of_the_catalogue_is_refused() {
    for target in Target::ALL {
        // Eight sizes in two element types, three kernels each, one more where the rows are summed in pieces: of five sizes.
        assert_eq!(layer_norm::catalogue(target).len(), 58);
    }
}
