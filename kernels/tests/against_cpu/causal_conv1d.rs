//! The causal convolution, forward and backward, against the CPU backend's operators in f64.

use ssmv_autograd::{Gradients, Tensor};
use ssmv_emulator::Report;
use ssmv_kernels::{
    Target,
    causal_conv1d::{self, CausalConv1d},
};

use crate::{
    elements::{Half, Host, Random, Single, Tolerance, assert_coalesced, compare, gather, spread},
    harness::{Arg, at_best_and_worst, run, run_all, slack},
};

const TARGET: Target = Target::Sm80;

/// How far sums in f32 may be from exact ones, of the largest number of the array, or of 1: terms are of that size, even
/// where they cancel, as in the SiLU's derivative at −1.28.
const ERROR: f64 = 5e-7;

/// The inputs, each without gaps.
struct Inputs {
    x: Vec<f32>,
    weight: Vec<f32>,
    bias: Vec<f32>,
    dy: Vec<f32>,
}

/// y and the gradients.
struct Outputs<T> {
    y: Vec<T>,
    dx: Vec<T>,
    dweight: Vec<T>,
    dbias: Vec<T>,
}

fn sizes(spec: &CausalConv1d) -> [usize; 4] {
    [spec.batch, spec.length, spec.channels, spec.taps].map(|n| n as usize)
}

impl Inputs {
    fn draw<H: Host>(spec: &CausalConv1d) -> Self {
        let [batch, length, channels, taps] = sizes(spec);
        let n = batch * length * channels;
        let mut random = Random((n * 31 + taps) as u64);
        let mut within = |n: usize, size: f32| -> Vec<f32> {
            random.plain::<Single>(n).iter().map(|x| x / 8.0 * size).collect()
        };
        let round = |values: Vec<f32>| values.into_iter().map(H::round).collect();
        Self {
            x: round(within(n, 6.0)),
            weight: within(taps * channels, 1.0),
            bias: within(channels, 1.0),
            dy: round(within(n, 1.0)),
        }
    }
}

fn on_cpu(spec: &CausalConv1d, inputs: &Inputs) -> Outputs<f64> {
    let [batch, length, channels, taps] = sizes(spec);
    let tensor = |shape: &[usize], values: &[f32]| {
        let values: Vec<f64> = values.iter().map(|&x| x.into()).collect();
        Tensor::new(shape.to_vec(), &values).unwrap().leaf()
    };
    let wide = [batch, length, channels];
    let x = tensor(&wide, &inputs.x);
    let (weight, bias) = (tensor(&[taps, channels], &inputs.weight), tensor(&[channels], &inputs.bias));
    let mut y = x.causal_conv1d(&weight, &bias).unwrap();
    if spec.silu {
        y = y.silu().unwrap();
    }
    let mut gradients = Gradients::of_leaves();
    y.backward_from(tensor(&wide, &inputs.dy).detach(), &mut gradients).unwrap();
    let of = |x| gradients.of(x).unwrap().to_f64().unwrap();
    Outputs { y: y.to_f64().unwrap(), dx: of(&x), dweight: of(&weight), dbias: of(&bias) }
}

fn on_gpu<H: Host>(spec: &CausalConv1d, inputs: &Inputs) -> (Outputs<f32>, [Report; 2]) {
    let [batch, length, channels, taps] = sizes(spec);
    let element = H::encode(&[0.0]).len();
    let (wide, rows) = (batch * length * channels * element, batch * length);
    let x = H::encode(&spread(&inputs.x, channels, spec.x_row));
    let dy = H::encode(&inputs.dy);
    let [weight, bias] = [&inputs.weight, &inputs.bias].map(|x| Single::encode(x));
    let kernel = spec.forward::<H::Gpu>(TARGET).unwrap();
    let (outputs, forward) = run(&kernel, &[Arg::In(&x), Arg::In(&weight), Arg::In(&bias), Arg::Out(wide)]);
    let y = H::decode(&outputs[0]);
    let plan = spec.backward::<H::Gpu>(TARGET).unwrap();
    let args = [
        Arg::In(&x),
        Arg::In(&weight),
        Arg::In(&bias),
        Arg::In(&dy),
        Arg::Out(rows * spec.x_row as usize * element),
        Arg::Out(taps * channels * 4),
        Arg::Out(channels * 4),
        Arg::Out(plan.workspace_bytes as usize),
    ];
    let (outputs, backward) = run_all(&plan.kernels, &args);
    let outputs = Outputs {
        y,
        dx: gather::<H>(&plan.kernels[0].name, &outputs[0], channels, spec.x_row),
        dweight: Single::decode(&outputs[1]),
        dbias: Single::decode(&outputs[2]),
    };
    (outputs, [forward, backward])
}

fn near<H: Host>(case: &str, what: &str, got: &[f32], want: &[f64]) {
    let largest = want.iter().fold(1.0f64, |a, x| a.max(x.abs()));
    let tolerance = Tolerance::Near { ulps: 0.0, absolute: ERROR * slack() * largest };
    compare::<H>(&format!("{what} of {case}"), got, want, tolerance);
}

fn agrees<H: Host>(spec: &CausalConv1d) -> [Report; 2] {
    let inputs = Inputs::draw::<H>(spec);
    let want = on_cpu(spec, &inputs);
    let (got, reports) = on_gpu::<H>(spec, &inputs);
    let case = spec.forward::<H::Gpu>(TARGET).unwrap().name;
    near::<H>(&case, "y", &got.y, &want.y);
    near::<H>(&case, "dx", &got.dx, &want.dx);
    near::<Single>(&case, "dweight", &got.dweight, &want.dweight);
    near::<Single>(&case, "dbias", &got.dbias, &want.dbias);
    reports
}

/// Sequences shorter than the taps, of one piece and of several; the last piece as long as the others, shorter, and
/// shorter than the taps.
const SHAPES: [[u32; 3]; 11] = [
    [1, 1, 1],
    [3, 1, 8],
    [2, 2, 5],
    [1, 3, 64],
    [2, 7, 33],
    [16, 10, 64],
    [1, 16, 130],
    [2, 17, 6],
    [3, 20, 18],
    [1, 100, 7],
    [1, 321, 4],
];

fn shapes_agree<H: Host>() {
    for [batch, length, channels] in SHAPES {
        for taps in [1, 2, 4, 8] {
            for silu in [true, false] {
                agrees::<H>(&CausalConv1d { taps, silu, ..CausalConv1d::mixer(batch, length, channels) });
            }
        }
    }
}

#[test]
fn shapes_agree_in_f16() {
    at_best_and_worst(|| {
        shapes_agree::<Half>();
    });
}

#[test]
fn shapes_agree_in_f32() {
    at_best_and_worst(|| {
        shapes_agree::<Single>();
    });
}

#[test]
fn columns_of_a_wider_matrix_are_read_and_written_in_place() {
    at_best_and_worst(|| {
        for (length, channels, x_row) in [(10, 64, 128), (20, 6, 7), (37, 7, 10), (9, 8, 10)] {
            let spec = CausalConv1d { x_row, ..CausalConv1d::mixer(2, length, channels) };
            agrees::<Half>(&spec);
            agrees::<Single>(&spec);
        }
    });
}

#[test]
fn aligned_sizes_move_whole_sectors() {
    at_best_and_worst(|| {
        for length in [7, 10, 20] {
            for x_row in [128, 256] {
                let spec = CausalConv1d { x_row, ..CausalConv1d::mixer(2, length, 128) };
                let case = spec.forward::<<Half as Host>::Gpu>(TARGET).unwrap().name;
                agrees::<Half>(&spec).iter().for_each(|report| assert_coalesced(&case, report));
                agrees::<Single>(&spec).iter().for_each(|report| assert_coalesced(&case, report));
            }
        }
    });
}

/// The future is not seen, nor another channel, nor another sequence.
#[test]
fn a_step_reaches_only_what_follows_it() {
    at_best_and_worst(|| {
        let spec = CausalConv1d::mixer(2, 24, 3);
        for at in [0, 10, 11, 12, 13, 23] {
            let mut inputs = Inputs::draw::<Half>(&spec);
            inputs.x[(24 + at) * 3 + 1] = f32::NAN;
            let y = on_gpu::<Half>(&spec, &inputs).0.y;
            for (i, y) in y.iter().enumerate() {
                let (sequence, step, channel) = (i / 72, i / 3 % 24, i % 3);
                let reached = sequence == 1 && channel == 1 && (at..at + 4).contains(&step);
                assert_eq!(
                    y.is_nan(),
                    reached,
                    "y[{sequence}, {step}, {channel}] is {y} after NaN at step {at}"
                );
            }
        }
    });
}

#[test]
fn outputs_beyond_f16_are_infinite() {
    at_best_and_worst(|| {
        let spec = CausalConv1d::mixer(1, 2, 2);
        let mut inputs = Inputs::draw::<Half>(&spec);
        inputs.x.copy_from_slice(&[60_000.0, 1.0, 60_000.0, 1.0]);
        inputs.weight.fill(1.0);
        let y = on_gpu::<Half>(&spec, &inputs).0.y;
        assert_eq!(y[2], f32::INFINITY);
        assert!([y[0], y[1], y[3]].iter().all(|y| y.is_finite()), "{y:?}");
    });
}

#[test]
fn two_runs_give_the_same_bits() {
    at_best_and_worst(|| {
        let spec = CausalConv1d::mixer(5, 40, 70);
        let inputs = Inputs::draw::<Half>(&spec);
        let bits = || {
            let got = on_gpu::<Half>(&spec, &inputs).0;
            [got.dweight, got.dbias].concat().iter().map(|x| x.to_bits()).collect::<Vec<_>>()
        };
        assert_eq!(bits(), bits());
    });
}

#[test]
fn convolutions_that_cannot_be_are_errors() {
    let base = CausalConv1d::mixer(2, 3, 8);
    let cases = [
        (CausalConv1d { batch: 0, ..base }, "at least one of each"),
        (CausalConv1d { taps: 0, ..base }, "at least one of each"),
        (CausalConv1d { taps: 9, ..base }, "at most 8 taps"),
        (CausalConv1d { x_row: 7, ..base }, "rows of 7 elements are too short"),
        (CausalConv1d { length: 1 << 28, ..base }, "too large for 32-bit offsets"),
        (CausalConv1d::mixer(u32::MAX, u32::MAX, u32::MAX), "too large for 32-bit offsets"),
    ];
    for (spec, message) in cases {
        let errors = [
            spec.forward::<<Half as Host>::Gpu>(TARGET).unwrap_err(),
            spec.backward::<<Half as Host>::Gpu>(TARGET).unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.family, "causal_conv1d");
            assert!(error.message.contains(message), "{spec:?}: {error}");
        }
    }
}

#[test]
fn no_specification_of_the_catalogue_is_refused() {
    for target in Target::ALL {
        // Nine specifications in two element types, three kernels each.
        assert_eq!(causal_conv1d::catalogue(target).len(), 54);
    }
}
