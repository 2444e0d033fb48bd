//! The selective scan, forward and backward, against the CPU backend's operators in f64, composed as the mixer has them.

use ssmv_autograd::{Gradients, Tensor};
use ssmv_emulator::Report;
use ssmv_kernels::{
    Target,
    selective_scan::{self, SelectiveScan},
};

use crate::{
    elements::{Half, Host, Random, Single, Tolerance, assert_coalesced, compare, gather, spread},
    harness::{Arg, at_best_and_worst, run, run_all, slack},
};

const TARGET: Target = Target::Sm80;

/// How far sums in f32 may be from exact ones, of the largest number of the array: a few roundings of each term, and
/// exponents of up to some 50, whose rounding is that many times that of a number near 1.
const ERROR: f64 = 7e-7;

/// The inputs, each without gaps.
struct Inputs {
    u: Vec<f32>,
    delta: Vec<f32>,
    bias: Vec<f32>,
    /// A, or A_log.
    a: Vec<f32>,
    b: Vec<f32>,
    c: Vec<f32>,
    d: Vec<f32>,
    z: Vec<f32>,
    dy: Vec<f32>,
}

fn sizes(spec: &SelectiveScan) -> [usize; 4] {
    [spec.batch, spec.length, spec.channels, spec.states].map(|n| n as usize)
}

impl Inputs {
    /// As in training: Δ from 0.002 to 3 or so, A from −0.4 to −16.
    fn draw<H: Host>(spec: &SelectiveScan) -> Self {
        let [batch, length, channels, states] = sizes(spec);
        let (wide, narrow) = (batch * length * channels, batch * length * states);
        let mut random = Random((wide * 31 + narrow) as u64);
        let mut within = |n: usize, low: f32, high: f32| -> Vec<f32> {
            random.plain::<Single>(n).iter().map(|x| low + (x + 8.0) / 16.0 * (high - low)).collect()
        };
        let f16 = |values: Vec<f32>| values.into_iter().map(H::round).collect();
        let a = within(channels * states, -1.0, 2.8);
        let delta = within(wide, -5.0, 2.0);
        Self {
            u: f16(within(wide, -2.0, 2.0)),
            delta: f16(if spec.softplus { delta } else { delta.iter().map(|x| x.exp() / 4.0).collect() }),
            // Without softplus Δ must not become negative: states would grow without bound.
            bias: within(channels, if spec.softplus { -1.0 } else { 0.0 }, 1.0),
            a: if spec.log_a { a } else { a.iter().map(|x| -x.exp()).collect() },
            b: f16(within(narrow, -1.0, 1.0)),
            c: f16(within(narrow, -1.0, 1.0)),
            d: within(channels, -1.0, 1.0),
            z: f16(within(wide, -6.0, 6.0)),
            dy: f16(within(wide, -1.0, 1.0)),
        }
    }
}

/// y, and the gradients in the order of the backward kernels' parameters; empty where there is none.
struct Outputs<T> {
    y: Vec<T>,
    du: Vec<T>,
    ddelta: Vec<T>,
    dbias: Vec<T>,
    da: Vec<T>,
    db: Vec<T>,
    dc: Vec<T>,
    dd: Vec<T>,
    dz: Vec<T>,
}

fn on_cpu(spec: &SelectiveScan, inputs: &Inputs) -> Outputs<f64> {
    let [batch, length, channels, states] = sizes(spec);
    let exact = |values: &[f32]| values.iter().map(|&x| x.into()).collect::<Vec<f64>>();
    let leaf = |shape: &[usize], values: &[f64]| Tensor::new(shape.to_vec(), values).unwrap().leaf();
    let (wide, narrow) = ([batch, length, channels], [batch, length, states]);
    let mut x = exact(&inputs.delta);
    if spec.dt_bias {
        x.chunks_mut(channels)
            .flat_map(|row| row.iter_mut().zip(&inputs.bias))
            .for_each(|(x, &b)| *x += f64::from(b));
    }
    let [u, delta, z] = [exact(&inputs.u), x, exact(&inputs.z)].map(|x| leaf(&wide, &x));
    let [b, c] = [&inputs.b, &inputs.c].map(|x| leaf(&narrow, &exact(x)));
    let a = leaf(&[channels, states], &exact(&inputs.a));
    let d = if spec.skip { exact(&inputs.d) } else { vec![0.0; channels] };
    let d = leaf(&[channels], &d);
    let dt = if spec.softplus { delta.softplus().unwrap() } else { delta.clone() };
    let decay = if spec.log_a { a.exp().unwrap().scale(-1.0).unwrap() } else { a.clone() };
    let mut y = u.selective_scan(&dt, &decay, &b, &c, &d).unwrap();
    if spec.gate {
        y = y.mul(&z.silu().unwrap()).unwrap();
    }
    let mut gradients = Gradients::of_leaves();
    y.backward_from(Tensor::new(wide.to_vec(), &exact(&inputs.dy)).unwrap(), &mut gradients).unwrap();
    let of =
        |there: bool, x: &Tensor| if there { gradients.of(x).unwrap().to_f64().unwrap() } else { vec![] };
    let ddelta = of(true, &delta);
    let mut dbias = vec![0.0; if spec.dt_bias { channels } else { 0 }];
    ddelta.chunks(channels).for_each(|row| dbias.iter_mut().zip(row).for_each(|(sum, x)| *sum += x));
    Outputs {
        y: y.to_f64().unwrap(),
        du: of(true, &u),
        ddelta,
        dbias,
        da: of(true, &a),
        db: of(true, &b),
        dc: of(true, &c),
        dd: of(spec.skip, &d),
        dz: of(spec.gate, &z),
    }
}

fn on_gpu<H: Host>(spec: &SelectiveScan, inputs: &Inputs) -> (Outputs<f32>, [Report; 2]) {
    let [batch, length, channels, states] = sizes(spec);
    let rows = batch * length;
    let element = H::encode(&[0.0]).len();
    let [u, delta, dy] = [&inputs.u, &inputs.delta, &inputs.dy].map(|x| H::encode(x));
    let [b, c] = [&inputs.b, &inputs.c].map(|x| H::encode(&spread(x, states, spec.bc_row)));
    let z = H::encode(&spread(&inputs.z, channels, spec.z_row));
    let [bias, a, d] = [&inputs.bias, &inputs.a, &inputs.d].map(|x| Single::encode(x));
    let arguments = || {
        let mut args = vec![Arg::In(&u), Arg::In(&delta)];
        args.extend(spec.dt_bias.then_some(Arg::In(&bias)));
        args.extend([Arg::In(&a), Arg::In(&b), Arg::In(&c)]);
        args.extend(spec.skip.then_some(Arg::In(&d)));
        args.extend(spec.gate.then_some(Arg::In(&z)));
        args
    };
    let kernel = spec.forward::<H::Gpu>(TARGET).unwrap();
    let mut args = arguments();
    args.push(Arg::Out(rows * channels * element));
    let (outputs, forward) = run(&kernel, &args);
    let y = H::decode(&outputs[0]);

    let plan = spec.backward::<H::Gpu>(TARGET).unwrap();
    let (wide, narrow) = (rows * channels * element, rows * spec.bc_row as usize * element);
    let mut args = arguments();
    args.extend([Arg::In(&dy), Arg::Out(wide), Arg::Out(wide)]);
    args.extend(spec.dt_bias.then_some(Arg::Out(channels * 4)));
    args.extend([Arg::Out(channels * states * 4), Arg::Out(narrow), Arg::Out(narrow)]);
    args.extend(spec.skip.then_some(Arg::Out(channels * 4)));
    args.extend(spec.gate.then_some(Arg::Out(rows * spec.z_row as usize * element)));
    args.push(Arg::Out(plan.workspace_bytes as usize));
    for kernel in &plan.kernels {
        assert_eq!(kernel.parameters.len(), args.len(), "{}", kernel.name);
    }
    let (outputs, backward) = run_all(&plan.kernels, &args);
    let mut outputs = outputs.into_iter();
    let case = &plan.kernels[0].name;
    let mut next = |there: bool| if there { outputs.next().unwrap() } else { vec![] };
    let outputs = Outputs {
        y,
        du: H::decode(&next(true)),
        ddelta: H::decode(&next(true)),
        dbias: Single::decode(&next(spec.dt_bias)),
        da: Single::decode(&next(true)),
        db: gather::<H>(case, &next(true), states, spec.bc_row),
        dc: gather::<H>(case, &next(true), states, spec.bc_row),
        dd: Single::decode(&next(spec.skip)),
        dz: gather::<H>(case, &next(spec.gate), channels, spec.z_row),
    };
    (outputs, [forward, backward])
}

fn near<H: Host>(case: &str, what: &str, got: &[f32], want: &[f64]) {
    let largest = want.iter().fold(0.0f64, |a, x| a.max(x.abs()));
    let tolerance = Tolerance::Near { ulps: 0.0, absolute: ERROR * slack() * largest };
    compare::<H>(&format!("{what} of {case}"), got, want, tolerance);
}

fn agrees<H: Host>(spec: &SelectiveScan) -> [Report; 2] {
    let inputs = Inputs::draw::<H>(spec);
    let want = on_cpu(spec, &inputs);
    let (got, reports) = on_gpu::<H>(spec, &inputs);
    let case = spec.forward::<H::Gpu>(TARGET).unwrap().name;
    near::<H>(&case, "y", &got.y, &want.y);
    near::<H>(&case, "du", &got.du, &want.du);
    near::<H>(&case, "ddelta", &got.ddelta, &want.ddelta);
    near::<H>(&case, "dB", &got.db, &want.db);
    near::<H>(&case, "dC", &got.dc, &want.dc);
    near::<H>(&case, "dz", &got.dz, &want.dz);
    near::<Single>(&case, "dA", &got.da, &want.da);
    near::<Single>(&case, "dD", &got.dd, &want.dd);
    near::<Single>(&case, "dbias", &got.dbias, &want.dbias);
    reports
}

/// One of everything, sequences of one chunk and of several with and without a rest, channels with idle lanes and more
/// than a block of them, states that fill the lanes and that do not.
const SHAPES: [[u32; 4]; 16] = [
    [1, 1, 1, 1],
    [1, 7, 1, 16],
    [3, 1, 5, 4],
    [2, 10, 64, 16],
    [1, 7, 33, 16],
    [2, 20, 34, 16],
    [1, 100, 6, 16],
    [1, 25, 70, 1],
    [2, 13, 130, 4],
    [3, 9, 3, 5],
    [1, 12, 2, 3],
    [2, 24, 12, 8],
    [1, 37, 17, 33],
    [1, 5, 6, 100],
    [1, 14, 3, 256],
    [1, 40, 2, 64],
];

fn shapes_agree<H: Host>() {
    for [batch, length, channels, states] in SHAPES {
        agrees::<H>(&SelectiveScan::mixer(batch, length, channels, states));
        agrees::<H>(&SelectiveScan::plain(batch, length, channels, states));
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
fn every_choice_of_what_is_fused_agrees() {
    at_best_and_worst(|| {
        for choice in 0..32 {
            let [softplus, dt_bias, log_a, skip, gate] = [0, 1, 2, 3, 4].map(|bit| choice >> bit & 1 == 1);
            let plain = SelectiveScan::plain(2, 6, 10, 4);
            agrees::<Single>(&SelectiveScan { softplus, dt_bias, log_a, skip, gate, ..plain });
        }
    });
}

#[test]
fn columns_of_wider_matrices_are_read_and_written_in_place() {
    at_best_and_worst(|| {
        for (channels, states, z_row, bc_row) in
            [(64, 16, 128, 96), (10, 16, 20, 37), (6, 5, 7, 11), (8, 6, 9, 8)]
        {
            let spec = SelectiveScan { z_row, bc_row, ..SelectiveScan::mixer(2, 14, channels, states) };
            agrees::<Half>(&spec);
            agrees::<Single>(&spec);
        }
    });
}

#[test]
fn aligned_sizes_move_whole_sectors() {
    at_best_and_worst(|| {
        for length in [7, 10, 20] {
            let base = SelectiveScan::mixer(2, length, 128, 16);
            for spec in [
                base,
                SelectiveScan { z_row: 256, bc_row: 96, ..base },
                SelectiveScan::plain(2, length, 128, 16),
            ] {
                let case = spec.forward::<<Half as Host>::Gpu>(TARGET).unwrap().name;
                agrees::<Half>(&spec).iter().for_each(|report| assert_coalesced(&case, report));
                agrees::<Single>(&spec).iter().for_each(|report| assert_coalesced(&case, report));
            }
        }
    });
}

/// What f16 cannot hold becomes infinity, with its sign, and nothing beside it changes.
#[test]
fn outputs_beyond_f16_are_infinite() {
    at_best_and_worst(|| {
        let spec = SelectiveScan::mixer(1, 3, 4, 16);
        let mut inputs = Inputs::draw::<Half>(&spec);
        (inputs.u[5], inputs.z[5], inputs.d[1]) = (60_000.0, 8.0, 1.0);
        (inputs.u[6], inputs.z[6], inputs.d[2]) = (-60_000.0, 8.0, 1.0);
        let y = on_gpu::<Half>(&spec, &inputs).0.y;
        assert_eq!([y[5], y[6]], [f32::INFINITY, f32::NEG_INFINITY]);
        let others = y.iter().enumerate().filter(|(i, _)| i % 4 == 0 || i % 4 == 3);
        others.for_each(|(i, y)| assert!(y.is_finite(), "y[{i}] is {y}"));
    });
}

/// A number that is not finite reaches all that depends on it, and nothing else.
#[test]
fn infinities_and_nan_stay_where_they_belong() {
    at_best_and_worst(|| {
        let spec = SelectiveScan::mixer(2, 6, 5, 16);
        for bad in [f32::INFINITY, f32::NAN] {
            let mut inputs = Inputs::draw::<Half>(&spec);
            // Channel 3 of the second sequence, at its third step.
            inputs.u[(6 + 2) * 5 + 3] = bad;
            let got = on_gpu::<Half>(&spec, &inputs).0;
            for (i, y) in got.y.iter().enumerate() {
                let (sequence, step, channel) = (i / 30, i / 5 % 6, i % 5);
                let reached = sequence == 1 && step >= 2 && channel == 3;
                assert_eq!(y.is_finite(), !reached, "y[{sequence}, {step}, {channel}] is {y} after {bad}");
            }
            for (i, da) in got.da.iter().enumerate() {
                assert_eq!(da.is_finite(), i / 16 != 3, "dA[{}, {}] is {da} after {bad}", i / 16, i % 16);
            }
        }
    });
}

#[test]
fn two_runs_give_the_same_bits() {
    at_best_and_worst(|| {
        let spec = SelectiveScan::mixer(3, 15, 70, 16);
        let inputs = Inputs::draw::<Half>(&spec);
        let bits = || {
            let got = on_gpu::<Half>(&spec, &inputs).0;
            [got.da, got.db, got.dc, got.dbias, got.dd]
                .concat()
                .iter()
                .map(|x| x.to_bits())
                .collect::<Vec<_>>()
        };
        assert_eq!(bits(), bits());
    });
}

#[test]
fn scans_that_cannot_be_are_errors() {
    let base = SelectiveScan::mixer(2, 3, 8, 16);
    let cases = [
        (SelectiveScan { length: 0, ..base }, "at least one of each"),
        (SelectiveScan { states: 257, bc_row: 257, ..base }, "at most 65535 sequences and 256 states"),
        (SelectiveScan { batch: 65_536, ..base }, "at most 65535 sequences and 256 states"),
        (SelectiveScan { z_row: 7, ..base }, "rows of 7 (z) and 16 (B, C) elements are too short"),
        (SelectiveScan { bc_row: 15, ..base }, "rows of 8 (z) and 15 (B, C) elements are too short"),
        (SelectiveScan { length: 1 << 28, ..base }, "too large for 32-bit offsets"),
        (SelectiveScan::mixer(u32::MAX, u32::MAX, u32::MAX, 1), "at most 65535 sequences"),
        (SelectiveScan::mixer(65_535, u32::MAX, u32::MAX, 256), "too large for 32-bit offsets"),
    ];
    for (spec, message) in cases {
        let errors = [
            spec.forward::<<Half as Host>::Gpu>(TARGET).unwrap_err(),
            spec.backward::<<Half as Host>::Gpu>(TARGET).unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.family, "selective_scan");
            assert!(error.message.contains(message), "{spec:?}: {error}");
        }
    }
}

#[test]
fn no_specification_of_the_catalogue_is_refused() {
    for target in Target::ALL {
        // Ten specifications in two element types, three kernels each.
        assert_eq!(selective_scan::catalogue(target).len(), 60);
    }
}
