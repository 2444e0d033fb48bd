//! Batch normalisation, stage by stage as it is launched, against f64 on the host.

use ssmv_emulator::Report;
use ssmv_kernels::{
    Kernel, Target,
    batch_norm::{self, Apply, InputGradient, Mode, Statistics, Sums},
};

use crate::{
    elements::{Half, Host, Random, Single, assert_coalesced},
    harness::{Arg, run, targets},
    normalise::{U, around, bits, wide, within},
};

const EPS: f32 = 1e-5;
const MOMENTUM: f32 = 0.1;

/// Roundings of a sum in f32 that add up: those of a thread's terms, of its warp's, and of the pieces'.
const SUM: f64 = 4.0 * U;

/// A matrix, and how far its channels are from 0 for what they are spread.
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

    fn numbers(self) -> (u32, u32) {
        (self.rows as u32, self.cols as u32)
    }

    fn apply(self, mode: Mode, relu: bool, residual: bool) -> Apply {
        let (rows, cols) = self.numbers();
        Apply { rows, cols, mode, relu, residual }
    }

    fn gradient(self, mode: Mode, relu: bool, residual: bool) -> InputGradient {
        let (rows, cols) = self.numbers();
        InputGradient { rows, cols, mode, relu, residual }
    }
}

struct Inputs {
    x: Vec<f32>,
    residual: Vec<f32>,
    dy: Vec<f32>,
    gamma: Vec<f32>,
    beta: Vec<f32>,
    running_mean: Vec<f32>,
    running_variance: Vec<f32>,
}

impl Inputs {
    fn draw<H: Host>(size: Size) -> Self {
        let Size { rows, cols, centre, reach } = size;
        let random = &mut Random((rows * 131 + cols) as u64);
        Self {
            x: around::<H>(random, rows * cols, centre, reach),
            residual: around::<H>(random, rows * cols, 0.0, 2.0),
            dy: around::<H>(random, rows * cols, 0.25, 1.0),
            gamma: around::<Single>(random, cols, 0.5, 1.5),
            beta: around::<Single>(random, cols, 0.0, 1.0),
            running_mean: around::<Single>(random, cols, centre, reach),
            running_variance: around::<Single>(random, cols, 2.0, 1.9),
        }
    }
}

/// What the statistics' kernels give, and how far they may be off.
#[derive(Clone)]
struct Moments {
    mean: Vec<f32>,
    /// 1/√(σ² + ε), or σ² in evaluation.
    spread: Vec<f32>,
}

/// A channel in f64.
#[derive(Clone, Copy)]
struct Channel {
    mean: f64,
    variance: f64,
    inverse: f64,
    /// How far the kernels' mean may be off.
    mean_off: f64,
    /// How far their 1/√(σ² + ε) may be off, relatively.
    inverse_off: f64,
}

fn column(values: &[f64], cols: usize, c: usize) -> Vec<f64> {
    values.iter().skip(c).step_by(cols).copied().collect()
}

fn channel(x: &[f64]) -> Channel {
    let n = x.len() as f64;
    let mean = x.iter().sum::<f64>() / n;
    let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
    let spread = variance + f64::from(EPS);
    // The mean is rounded once, when x₀ is added; the rest is found from distances.
    let distance = variance.sqrt() + (x[0] - mean).abs();
    let mean_off = U * mean.abs() + SUM * distance;
    let inverse_off = SUM * (1.0 + distance * variance.sqrt() / spread);
    Channel { mean, variance, inverse: 1.0 / spread.sqrt(), mean_off, inverse_off }
}

fn channels(size: Size, inputs: &Inputs, mode: Mode) -> Vec<Channel> {
    let x = wide(&inputs.x);
    let of = |c| match mode {
        Mode::Train => channel(&column(&x, size.cols, c)),
        Mode::Eval => {
            let [mean, variance] = [inputs.running_mean[c], inputs.running_variance[c]].map(f64::from);
            let inverse = 1.0 / (variance + f64::from(EPS)).sqrt();
            Channel { mean, variance, inverse, mean_off: 0.0, inverse_off: 4.0 * U }
        }
    };
    (0..size.cols).map(of).collect()
}

/// The kernels, with reports of what they moved.
struct Gpu<'a> {
    target: Target,
    size: Size,
    inputs: &'a Inputs,
    reports: Vec<(String, Report)>,
}

impl<'a> Gpu<'a> {
    fn new(target: Target, size: Size, inputs: &'a Inputs) -> Self {
        Self { target, size, inputs, reports: Vec::new() }
    }

    fn run(&mut self, kernel: &Kernel, args: &[Arg]) -> Vec<Vec<u8>> {
        let (outputs, report) = run(kernel, args);
        self.reports.push((kernel.name.clone(), report));
        outputs
    }

    /// The moments, and the running mean and variance after it.
    fn statistics<H: Host>(&mut self) -> (Moments, [Vec<f32>; 2]) {
        let (rows, cols) = self.size.numbers();
        let spec = Statistics { rows, cols };
        let (x, bytes) = (H::encode(&self.inputs.x), cols as usize * 4);
        let kernel = spec.partials::<H::Gpu>(self.target).unwrap();
        let outputs = self.run(&kernel, &[Arg::In(&x), Arg::Out(spec.workspace_bytes() as usize)]);
        let running = [&self.inputs.running_mean, &self.inputs.running_variance].map(|x| Single::encode(x));
        let args = [
            Arg::In(&outputs[0]),
            Arg::InOut(&running[0]),
            Arg::InOut(&running[1]),
            Arg::Out(bytes),
            Arg::Out(bytes),
            Arg::F32(EPS),
            Arg::F32(MOMENTUM),
        ];
        let outputs = self.run(&spec.finish(self.target).unwrap(), &args);
        let outputs: Vec<_> = outputs.iter().map(|bytes| Single::decode(bytes)).collect();
        let [running_mean, running_variance, mean, spread] = outputs.try_into().unwrap();
        (Moments { mean, spread }, [running_mean, running_variance])
    }

    fn apply<H: Host>(&mut self, spec: Apply, moments: &Moments) -> Vec<f32> {
        let Inputs { x, gamma, beta, residual, .. } = self.inputs;
        let [x, residual] = [x, residual].map(|x| H::encode(x));
        let channels = [gamma, beta, &moments.mean, &moments.spread].map(|x| Single::encode(x));
        let mut args = vec![Arg::In(&x)];
        args.extend(channels.iter().map(|x| Arg::In(x)));
        if spec.residual {
            args.push(Arg::In(&residual));
        }
        args.extend([Arg::Out(x.len()), Arg::F32(EPS)]);
        let outputs = self.run(&spec.kernel::<H::Gpu>(self.target).unwrap(), &args);
        H::decode(&outputs[0])
    }

    /// dγ and dβ.
    fn sums<H: Host>(&mut self, mode: Mode, y: Option<&[f32]>, moments: &Moments) -> [Vec<f32>; 2] {
        let (rows, cols) = self.size.numbers();
        let spec = Sums { rows, cols, relu: y.is_some() };
        let [dy, x] = [&self.inputs.dy, &self.inputs.x].map(|x| H::encode(x));
        let y = y.map(|y| H::encode(y));
        let [mean, spread] = [&moments.mean, &moments.spread].map(|x| Single::encode(x));
        let mut args = vec![Arg::In(&dy), Arg::In(&x)];
        args.extend(y.as_ref().map(|y| Arg::In(y)));
        args.extend([Arg::In(&mean), Arg::Out(spec.workspace_bytes() as usize)]);
        let outputs = self.run(&spec.partials::<H::Gpu>(self.target).unwrap(), &args);
        let bytes = cols as usize * 4;
        let args = [Arg::In(&outputs[0]), Arg::In(&spread), Arg::Out(bytes), Arg::Out(bytes), Arg::F32(EPS)];
        let outputs = self.run(&spec.finish(mode, self.target).unwrap(), &args);
        [0, 1].map(|i| Single::decode(&outputs[i]))
    }

    /// dx and, where it is asked for, the residual's gradient.
    fn gradient<H: Host>(
        &mut self,
        spec: InputGradient,
        y: Option<&[f32]>,
        moments: &Moments,
        sums: &[Vec<f32>; 2],
    ) -> [Vec<f32>; 2] {
        let train = spec.mode == Mode::Train;
        let [dy, x] = [&self.inputs.dy, &self.inputs.x].map(|x| H::encode(x));
        let y = y.map(|y| H::encode(y));
        let channels = [&self.inputs.gamma, &moments.mean, &moments.spread, &sums[0], &sums[1]];
        let [gamma, mean, spread, dgamma, dbeta] = channels.map(|x| Single::encode(x));
        let mut args = vec![Arg::In(&dy)];
        args.extend(train.then_some(Arg::In(&x)));
        args.extend(y.as_ref().map(|y| Arg::In(y)));
        args.push(Arg::In(&gamma));
        args.extend(train.then_some(Arg::In(&mean)));
        args.push(Arg::In(&spread));
        if train {
            args.extend([Arg::In(&dgamma), Arg::In(&dbeta)]);
        }
        args.push(Arg::Out(x.len()));
        args.extend(spec.residual.then_some(Arg::Out(x.len())));
        args.push(Arg::F32(EPS));
        let outputs = self.run(&spec.kernel::<H::Gpu>(self.target).unwrap(), &args);
        [0, 1].map(|i| outputs.get(i).map(|bytes| H::decode(bytes)).unwrap_or_default())
    }
}

fn statistics_agree(case: &str, size: Size, inputs: &Inputs, got: &Moments, running: &[Vec<f32>; 2]) {
    let want = channels(size, inputs, Mode::Train);
    let of = |f: &dyn Fn(&Channel) -> f64| want.iter().map(f).collect::<Vec<_>>();
    within::<Single>(&format!("mean of {case}"), &got.mean, &of(&|c| c.mean), |c| want[c].mean_off);
    within::<Single>(&format!("inverse of {case}"), &got.spread, &of(&|c| c.inverse), |c| {
        want[c].inverse * want[c].inverse_off
    });
    let (rows, momentum) = (size.rows as f64, f64::from(MOMENTUM));
    let moved = |old: &[f32], c: usize, new: f64| f64::from(old[c]) + momentum * (new - f64::from(old[c]));
    let (old_mean, old_variance) = (&inputs.running_mean, &inputs.running_variance);
    let means: Vec<_> = (0..size.cols).map(|c| moved(old_mean, c, want[c].mean)).collect();
    within::<Single>(&format!("running mean of {case}"), &running[0], &means, |c| {
        want[c].mean_off + 2.0 * U * f64::from(old_mean[c]).abs()
    });
    let correction = if size.rows > 1 { rows / (rows - 1.0) } else { 1.0 };
    let variances: Vec<_> =
        (0..size.cols).map(|c| moved(old_variance, c, want[c].variance * correction)).collect();
    within::<Single>(&format!("running variance of {case}"), &running[1], &variances, |c| {
        let spread = (want[c].variance + f64::from(EPS)) * correction;
        2.0 * spread * want[c].inverse_off + 2.0 * U * f64::from(old_variance[c])
    });
}

/// y from f64 statistics.
fn y_agrees<H: Host>(case: &str, spec: Apply, inputs: &Inputs, channels: &[Channel], y: &[f32]) {
    let (mut want, mut allowed) = (Vec::new(), Vec::new());
    for (i, &x) in inputs.x.iter().enumerate() {
        let (c, residual) = (i % channels.len(), if spec.residual { inputs.residual[i].into() } else { 0.0 });
        let Channel { mean, inverse, mean_off, inverse_off, .. } = channels[c];
        let (scale, beta) = (f64::from(inputs.gamma[c]) * inverse, f64::from(inputs.beta[c]));
        let normal = (f64::from(x) - mean) * scale;
        let value = normal + beta + residual;
        want.push(if spec.relu { value.max(0.0) } else { value });
        allowed.push(
            normal.abs() * (inverse_off + 4.0 * U)
                + (scale * mean_off).abs()
                + 2.0 * U * (beta.abs() + residual.abs()),
        );
    }
    within::<H>(&format!("y of {case}"), y, &want, |i| allowed[i]);
}

/// The gradients from f64 statistics, with the kernels' own y for the mask.
fn gradients_agree<H: Host>(
    case: &str,
    spec: InputGradient,
    inputs: &Inputs,
    channels: &[Channel],
    y: Option<&[f32]>,
    [dgamma, dbeta]: &[Vec<f32>; 2],
    [dx, dresidual]: &[Vec<f32>; 2],
) {
    let cols = channels.len();
    let g: Vec<f32> =
        (0..inputs.dy.len()).map(|i| if y.is_none_or(|y| y[i] > 0.0) { inputs.dy[i] } else { 0.0 }).collect();
    if spec.residual {
        assert_eq!(bits(dresidual), bits(&g), "residual's gradient of {case}");
    }
    let (wide_g, x, rows) = (wide(&g), wide(&inputs.x), f64::from(spec.rows));
    let mut want_dx = vec![0.0; x.len()];
    let mut dx_off = vec![0.0; x.len()];
    for (c, channel) in channels.iter().enumerate() {
        let Channel { mean, inverse, mean_off, inverse_off, .. } = *channel;
        let (g, x) = (column(&wide_g, cols, c), column(&x, cols, c));
        let hat: Vec<_> = x.iter().map(|x| (x - mean) * inverse).collect();
        let products: Vec<_> = g.iter().zip(&hat).map(|(g, hat)| g * hat).collect();
        let size = |terms: &[f64]| terms.iter().map(|x| x.abs()).sum::<f64>();
        let (beta, gamma) = (g.iter().sum::<f64>(), products.iter().sum::<f64>());
        let beta_off = SUM * size(&g);
        let gamma_off = size(&products) * (SUM + inverse_off) + size(&g) * mean_off * inverse;
        within::<Single>(&format!("dbeta[{c}] of {case}"), &[dbeta[c]], &[beta], |_| beta_off);
        within::<Single>(&format!("dgamma[{c}] of {case}"), &[dgamma[c]], &[gamma], |_| gamma_off);
        let scale = f64::from(inputs.gamma[c]) * inverse;
        for (row, (g, hat)) in g.iter().zip(&hat).enumerate() {
            let i = row * cols + c;
            let (parts, off) = match spec.mode {
                Mode::Eval => ([*g, 0.0, 0.0], (inverse_off + 2.0 * U) * g.abs()),
                Mode::Train => {
                    let parts = [*g, -beta / rows, -hat * gamma / rows];
                    let sums = (beta_off + hat.abs() * gamma_off) / rows;
                    let mean = mean_off * inverse * gamma.abs() / rows;
                    (parts, sums + mean + (2.0 * inverse_off + 4.0 * U) * size(&parts))
                }
            };
            want_dx[i] = scale * parts.iter().sum::<f64>();
            // Few rows are computed in f64, and rounded to f32 and then to their type.
            let few = spec.mode == Mode::Train && spec.rows <= 32;
            dx_off[i] = if few { U * want_dx[i].abs() + 1e-12 } else { off * scale.abs() };
        }
    }
    within::<H>(&format!("dx of {case}"), dx, &want_dx, |i| dx_off[i]);
}

/// All stages of a size, in both modes, with and without what is fused. The kernels' reports.
fn agrees<H: Host>(target: Target, size: Size) -> Vec<(String, Report)> {
    let inputs = Inputs::draw::<H>(size);
    let mut gpu = Gpu::new(target, size, &inputs);
    let (batch, after) = gpu.statistics::<H>();
    let case = format!("{size:?} ({target}, {} bytes an element)", H::encode(&[0.0]).len());
    statistics_agree(&case, size, &inputs, &batch, &after);
    let running = Moments { mean: inputs.running_mean.clone(), spread: inputs.running_variance.clone() };
    for (mode, moments) in [(Mode::Train, &batch), (Mode::Eval, &running)] {
        let channels = channels(size, &inputs, mode);
        for relu in [false, true] {
            for residual in [false, true] {
                let case = format!("{case}, {mode:?}, relu {relu}, residual {residual}");
                let spec = size.apply(mode, relu, residual);
                let y = gpu.apply::<H>(spec, moments);
                y_agrees::<H>(&case, spec, &inputs, &channels, &y);
                let y = relu.then_some(&y[..]);
                let sums = gpu.sums::<H>(mode, y, moments);
                let spec = size.gradient(mode, relu, residual);
                let got = gpu.gradient::<H>(spec, y, moments, &sums);
                gradients_agree::<H>(&case, spec, &inputs, &channels, y, &sums, &got);
            }
        }
    }
    gpu.reports
}

/// One row, one channel, odd channels, one whole strip and a part of the next, several pieces, more than a block's
/// channels; up to 32 rows and more.
const SIZES: [[usize; 2]; 20] = [
    [1, 1],
    [1, 70],
    [2, 3],
    [2, 64],
    [3, 8],
    [5, 1],
    [31, 12],
    [32, 136],
    [33, 136],
    [33, 5],
    [64, 64],
    [100, 1],
    [257, 33],
    [300, 20],
    [700, 130],
    [1025, 8],
    [5000, 1],
    [70, 300],
    [40, 1030],
    [520, 16],
];

fn sizes_agree<H: Host>() {
    for target in targets() {
        SIZES.iter().for_each(|&[rows, cols]| drop(agrees::<H>(target, Size::new(rows, cols))));
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
    for rows in [2, 9, 40, 1500] {
        for (centre, reach) in [(1000.0, 4.0), (-30_000.0, 64.0)] {
            agrees::<Half>(Target::Sm80, Size { centre, reach, ..Size::new(rows, 10) });
        }
        for (centre, reach) in [(1e4, 0.1), (-3e6, 8.0), (0.0, 1e-4)] {
            agrees::<Single>(Target::Sm80, Size { centre, reach, ..Size::new(rows, 10) });
        }
    }
}

#[test]
fn constant_channels_become_their_bias() {
    for rows in [1, 3, 1000] {
        let size = Size { centre: 1e6 + 0.5, reach: 0.0, ..Size::new(rows, 6) };
        let inputs = Inputs::draw::<Single>(size);
        let mut gpu = Gpu::new(Target::Sm80, size, &inputs);
        let (moments, _) = gpu.statistics::<Single>();
        let y = gpu.apply::<Single>(size.apply(Mode::Train, false, false), &moments);
        y.iter()
            .enumerate()
            .for_each(|(i, &y)| assert_eq!(y, inputs.beta[i % 6], "{rows} rows, element {i}"));
    }
}

/// In training a number that is not finite spoils its channel, in evaluation itself; a ReLU does not hide it.
#[test]
fn numbers_that_are_not_finite_stay_visible() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for at in [0, 5 * 7 + 3, 299 * 7 + 6] {
            let size = Size::new(300, 7);
            let mut inputs = Inputs::draw::<Half>(size);
            inputs.x[at] = bad;
            let mut gpu = Gpu::new(Target::Sm80, size, &inputs);
            let (moments, _) = gpu.statistics::<Half>();
            let y = gpu.apply::<Half>(size.apply(Mode::Train, true, true), &moments);
            for (i, y) in y.iter().enumerate() {
                assert_eq!(y.is_nan(), i % 7 == at % 7, "{bad} at {at}: y[{i}] is {y}");
            }
            let running =
                Moments { mean: inputs.running_mean.clone(), spread: inputs.running_variance.clone() };
            let y = gpu.apply::<Half>(size.apply(Mode::Eval, false, true), &running);
            for (i, y) in y.iter().enumerate() {
                assert_eq!(y.is_finite(), i != at, "{bad} at {at}: y[{i}] is {y} in evaluation");
            }
        }
    }
}

/// Neither zero lets a gradient through, nor does NaN; the smallest positive number does.
#[test]
fn the_mask_is_y_above_0() {
    for rows in [8, 40] {
        let size = Size::new(rows, 8);
        let mut inputs = Inputs::draw::<Half>(size);
        inputs.dy[3] = f32::NAN;
        let corners = [0.0, -0.0, 6e-8, f32::NAN, f32::INFINITY, -1.0, 2.0, f32::NEG_INFINITY];
        let y: Vec<f32> = corners.iter().copied().cycle().take(rows * 8).map(Half::round).collect();
        let mut gpu = Gpu::new(Target::Sm80, size, &inputs);
        let (moments, _) = gpu.statistics::<Half>();
        for mode in Mode::ALL {
            let sums = gpu.sums::<Half>(mode, Some(&y), &moments);
            let got = gpu.gradient::<Half>(size.gradient(mode, true, true), Some(&y), &moments, &sums);
            for (i, g) in got[1].iter().enumerate() {
                let want = if [2, 4, 6].contains(&(i % 8)) { inputs.dy[i] } else { 0.0 };
                assert_eq!(g.to_bits(), want.to_bits(), "{mode:?}, {rows} rows, element {i}, y {}", y[i]);
            }
            assert!(got[0].iter().all(|dx| dx.is_finite()), "{mode:?}, {rows} rows");
            let through: f32 = (0..rows).map(|row| inputs.dy[row * 8 + 4]).sum();
            assert_eq!(sums[1], [0.0, 0.0, sums[1][2], 0.0, sums[1][4], 0.0, sums[1][6], 0.0]);
            approx::assert_abs_diff_eq!(sums[1][4], through, epsilon = 1e-3);
        }
    }
}

#[test]
fn a_relu_gives_no_negative_zero() {
    let size = Size { reach: 0.0, ..Size::new(40, 8) };
    let mut inputs = Inputs::draw::<Half>(size);
    inputs.gamma.fill(-1.0);
    inputs.beta.fill(-0.0);
    let mut gpu = Gpu::new(Target::Sm80, size, &inputs);
    let (moments, _) = gpu.statistics::<Half>();
    let y = gpu.apply::<Half>(size.apply(Mode::Train, false, false), &moments);
    assert!(y.iter().all(|y| y.to_bits() == (-0.0f32).to_bits()), "{y:?}");
    let y = gpu.apply::<Half>(size.apply(Mode::Train, true, false), &moments);
    assert!(y.iter().all(|y| y.to_bits() == 0), "{y:?}");
}

#[test]
fn y_may_be_x_and_dx_may_be_dy() {
    for rows in [9, 300] {
        let size = Size::new(rows, 16);
        let inputs = Inputs::draw::<Half>(size);
        let mut gpu = Gpu::new(Target::Sm80, size, &inputs);
        let (moments, _) = gpu.statistics::<Half>();
        let sums = gpu.sums::<Half>(Mode::Train, None, &moments);
        let apply = size.apply(Mode::Train, false, false);
        let gradient = size.gradient(Mode::Train, false, false);
        let y = gpu.apply::<Half>(apply, &moments);
        let [dx, _] = gpu.gradient::<Half>(gradient, None, &moments, &sums);
        let (x, dy) = (Half::encode(&inputs.x), Half::encode(&inputs.dy));
        let channels = [&inputs.gamma, &inputs.beta, &moments.mean, &moments.spread, &sums[0], &sums[1]];
        let [gamma, beta, mean, spread, dgamma, dbeta] = channels.map(|x| Single::encode(x));
        let args = [
            Arg::InOut(&x),
            Arg::In(&gamma),
            Arg::In(&beta),
            Arg::In(&mean),
            Arg::In(&spread),
            Arg::Same(0),
            Arg::F32(EPS),
        ];
        let outputs = gpu.run(&apply.kernel::<<Half as Host>::Gpu>(Target::Sm80).unwrap(), &args);
        assert_eq!(Half::decode(&outputs[0]), y, "{rows} rows");
        let args = [
            Arg::InOut(&dy),
            Arg::In(&x),
            Arg::In(&gamma),
            Arg::In(&mean),
            Arg::In(&spread),
            Arg::In(&dgamma),
            Arg::In(&dbeta),
            Arg::Same(0),
            Arg::F32(EPS),
        ];
        let outputs = gpu.run(&gradient.kernel::<<Half as Host>::Gpu>(Target::Sm80).unwrap(), &args);
        assert_eq!(Half::decode(&outputs[0]), dx, "{rows} rows");
    }
}

#[test]
fn the_models_channels_move_whole_sectors() {
    for cols in [64, 256] {
        let reports = [
            agrees::<Half>(Target::Sm80, Size::new(640, cols)),
            agrees::<Single>(Target::Sm80, Size::new(640, cols)),
        ];
        reports.iter().flatten().for_each(|(name, report)| assert_coalesced(name, report));
    }
}

#[test]
fn two_runs_give_the_same_bits() {
    let size = Size::new(3000, 9);
    let inputs = Inputs::draw::<Half>(size);
    let all = || {
        let mut gpu = Gpu::new(Target::Sm80, size, &inputs);
        let (moments, running) = gpu.statistics::<Half>();
        let sums = gpu.sums::<Half>(Mode::Train, None, &moments);
        [bits(&moments.mean), bits(&moments.spread), bits(&running.concat()), bits(&sums.concat())]
    };
    assert_eq!(all(), all());
}

#[test]
fn sizes_that_cannot_be_are_errors() {
    let cases = [
        (0, 4, "at least one of each"),
        (4, 0, "at least one of each"),
        (1 << 20, 1 << 11, "too large for 32-bit offsets"),
        (1, (1 << 20) + 1, "at most 1048576 channels"),
        (u32::MAX, u32::MAX, "at most 1048576 channels"),
        (u32::MAX, 1, "too large for 32-bit offsets"),
    ];
    type Gpu = <Half as Host>::Gpu;
    for (rows, cols, message) in cases {
        let (statistics, sums) = (Statistics { rows, cols }, Sums { rows, cols, relu: true });
        assert_eq!((statistics.workspace_bytes(), sums.workspace_bytes()), (0, 0));
        let mode = Mode::Train;
        let errors = [
            statistics.partials::<Gpu>(Target::Sm80),
            statistics.finish(Target::Sm80),
            Apply { rows, cols, mode, relu: true, residual: true }.kernel::<Gpu>(Target::Sm80),
            sums.partials::<Gpu>(Target::Sm80),
            sums.finish(mode, Target::Sm80),
            InputGradient { rows, cols, mode, relu: true, residual: true }.kernel::<Gpu>(Target::Sm80),
        ];
        for error in errors.map(Result::unwrap_err) {
            assert_eq!(error.family, "batch_norm");
            assert!(error.message.contains(message), "{rows}x{cols}: {error}");
        }
    }
}

#[test]
fn no_specification_of_the_catalogue_is_refused() {
    for target in Target::ALL {
        // Five sizes, 31 kernels each.
        assert_eq!(batch_norm::catalogue(target).len(), 155);
    }
}
