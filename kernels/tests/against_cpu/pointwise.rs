//! Pointwise kernels.

use std::collections::HashSet;

use half::f16;
use ssmv_autograd::{
    Result, Tensor,
    ops::pointwise::{Exp, Log, Relu, Sigmoid, Silu, Softplus, Sqrt, Tanh, Unary},
};
use ssmv_kernels::{
    Kernel, Target,
    pointwise::{self, ACTIVATIONS, Activation, Along, Arithmetic, Frames, unary},
    ptx,
};

use crate::{
    elements::{Half, Host, Random, Single, Tolerance, assert_coalesced, compare},
    harness::{Arg, at_best_and_worst, run},
};

/// None, one, less and more than a vector, a warp, a block, and tails of each.
const SIZES: [usize; 13] = [0, 1, 2, 7, 8, 9, 31, 255, 256, 257, 1003, 4096, 65_537];

/// A size with neither tail nor empty lanes.
const ALIGNED: usize = 4096;

const TARGET: Target = Target::Sm80;

/// Runs a kernel whose last buffer is its only output, of n elements.
fn output<H: Host>(kernel: &Kernel, n: usize, inputs: &[&[u8]], number: Option<f32>) -> Vec<f32> {
    let bytes = n * H::encode(&[0.0]).len();
    // Of an empty array nothing may be touched.
    let mut args: Vec<_> = inputs.iter().map(|x| if n == 0 { Arg::Null } else { Arg::In(x) }).collect();
    args.push(Arg::Out(bytes));
    args.extend(number.map(Arg::F32));
    let (outputs, report) = run(kernel, &args);
    if n == ALIGNED {
        assert_coalesced(&kernel.name, &report);
    }
    H::decode(&outputs[0])
}

/// An activation beside the CPU backend's.
struct Case {
    gpu: Activation,
    from_output: bool,
    value: fn(f64) -> f64,
    derivative: fn(f64) -> f64,
    /// Of y, and of dx for each unit of |dy|.
    tolerance: [Tolerance; 2],
}

/// What hardware makes of results below f32's normal numbers: 1/(1 + e⁻ˣ) is 0 where e⁻ˣ overflows.
const FLUSHED: f64 = 1.2e-38;

fn cases() -> [Case; 8] {
    let near = |ulps, absolute| Tolerance::Near { ulps, absolute };
    macro_rules! case {
        ($gpu:ident, $cpu:ident, $($tolerance:expr),*) => {
            Case {
                gpu: unary::$gpu,
                from_output: $cpu::FROM_OUTPUT,
                value: |x| $cpu.value(x),
                derivative: |at| $cpu.derivative(at),
                tolerance: [$($tolerance),*],
            }
        };
    }
    // Exponentials are within 4 ulp, reciprocals within 1, each operation besides adds a half. Derivatives from y cancel
    // as y nears 1: they are exact to a unit of f32 at 1, 2⁻²³. That of silu has a zero at −1.28, where it cancels.
    [
        case!(RELU, Relu, Tolerance::Exact, Tolerance::Exact),
        case!(SILU, Silu, near(8.0, 105.0 * FLUSHED), near(12.0, 2f64.powi(-21))),
        case!(SIGMOID, Sigmoid, near(6.0, FLUSHED), near(2.0, 2f64.powi(-23))),
        case!(TANH, Tanh, near(12.0, 0.0), near(2.0, 2f64.powi(-23))),
        case!(SOFTPLUS, Softplus, near(12.0, 0.0), near(8.0, FLUSHED)),
        case!(EXP, Exp, near(4.0, 0.0), Tolerance::Exact),
        // 1/x in f32, where that of a subnormal number is infinite.
        Case {
            derivative: |x| Log.derivative(x as f32).into(),
            ..case!(LOG, Log, near(2.0, 0.0), near(1.0, 0.0))
        },
        case!(SQRT, Sqrt, near(0.5, 0.0), near(2.0, 0.0)),
    ]
}

fn activations_agree<H: Host>() {
    for case in cases() {
        let name = case.gpu.name;
        assert_eq!(case.gpu.from_output, case.from_output, "{name}: what the derivative is computed from");
        for n in SIZES {
            let mut random = Random(n as u64);
            let x = random.with_corners::<H>(n);
            let kernel = case.gpu.forward::<H::Gpu>(n as u32, TARGET);
            let y = output::<H>(&kernel, n, &[&H::encode(&x)], None);
            let want: Vec<_> = x.iter().map(|&x| (case.value)(x.into())).collect();
            compare::<H>(&kernel.name, &y, &want, case.tolerance[0]);

            // The derivative at numbers that y can be, and the cotangents small enough for f16.
            let dy: Vec<_> = random.plain::<H>(n).iter().map(|&d| H::round(d / 8.0)).collect();
            let at = if case.from_output { y } else { x };
            let kernel = case.gpu.backward::<H::Gpu>(n as u32, TARGET);
            let dx = output::<H>(&kernel, n, &[&H::encode(&dy), &H::encode(&at)], None);
            let want = at.iter().zip(&dy).map(|(&at, &d)| f64::from(d) * (case.derivative)(at.into()));
            compare::<H>(&kernel.name, &dx, &want.collect::<Vec<_>>(), case.tolerance[1]);
        }
    }
}

#[test]
fn activations_agree_in_f16() {
    at_best_and_worst(|| {
        activations_agree::<Half>();
    });
}

#[test]
fn activations_agree_in_f32() {
    at_best_and_worst(|| {
        activations_agree::<Single>();
    });
}

/// Softplus to the last bits of f32 where Mamba's step sizes are, far below 0: ln(1 + eˣ) is nearly eˣ there.
#[test]
fn softplus_is_accurate_where_its_result_is_small() {
    at_best_and_worst(|| {
        let n = 1 << 16;
        let x: Vec<f32> = (0..n).map(|i| -90.0 + 120.0 * i as f32 / n as f32).collect();
        let kernel = unary::SOFTPLUS.forward::<ptx::F32>(n as u32, TARGET);
        let y = output::<Single>(&kernel, n, &[&Single::encode(&x)], None);
        for (x, y) in x.into_iter().zip(y) {
            let exact = f64::from(x).exp().ln_1p();
            // 12 ulp; below the normal numbers a few of the last bits there are.
            let bound = exact * 2f64.powi(-20) + 4.0 * 2f64.powi(-149);
            let error = f64::from(y) - exact;
            assert!(
                error.abs() <= bound,
                "softplus({x:e}) is {y:e}, not {exact:e}: off by {:e}",
                error / exact
            );
        }
    });
}

/// ln x to the last bits of f32 where it vanishes.
#[test]
fn log_is_accurate_near_1() {
    at_best_and_worst(|| {
        let n = 1 << 16;
        let x: Vec<f32> = (0..n).map(|i| 1.0 + (i - n / 2) as f32 * 1.5e-5).chain([1.0]).collect();
        let near = |i: u32| [f32::from_bits(0x3f80_0000 + i), f32::from_bits(0x3f80_0000 - i)];
        let x: Vec<f32> = x.into_iter().chain((1..100).flat_map(near)).collect();
        let kernel = unary::LOG.forward::<ptx::F32>(x.len() as u32, TARGET);
        let y = output::<Single>(&kernel, x.len(), &[&Single::encode(&x)], None);
        let want: Vec<_> = x.iter().map(|&x| f64::from(x).ln()).collect();
        compare::<Single>(&kernel.name, &y, &want, Tolerance::Near { ulps: 2.0, absolute: 0.0 });
    });
}

#[test]
fn every_activation_has_its_case() {
    let tested: HashSet<_> = cases().iter().map(|c| c.gpu.name).collect();
    assert_eq!(tested, ACTIVATIONS.iter().map(|a| a.name).collect());
}

/// Panics unless the numbers are the CPU's f32 ones, rounded to the type, to the bit.
fn exact<H: Host>(kernel: &Kernel, got: &[f32], want: &Tensor) {
    let want: Vec<_> = want.values::<f32>().unwrap().iter().map(|&x| H::round(x).into()).collect();
    compare::<H>(&kernel.name, got, &want, Tolerance::Exact);
}

/// f32 arithmetic as the CPU does it, rounded once more for f16: to the bit.
fn arithmetic_is_exact<H: Host>() {
    let on_cpu: [fn(&Tensor, &Tensor) -> Result<Tensor>; 4] =
        [Tensor::add, Tensor::sub, Tensor::mul, Tensor::div];
    for n in SIZES {
        let mut random = Random(100 + n as u64);
        let (a, b) = (random.with_corners::<H>(n), random.with_corners::<H>(n));
        let (a_bytes, b_bytes) = (H::encode(&a), H::encode(&b));
        let [a, b] = [a, b].map(|x| Tensor::new([n], &x).unwrap());
        for (operation, f) in Arithmetic::ALL.into_iter().zip(on_cpu) {
            let kernel = operation.kernel::<H::Gpu>(n as u32, TARGET);
            let y = output::<H>(&kernel, n, &[&a_bytes, &b_bytes], None);
            exact::<H>(&kernel, &y, &f(&a, &b).unwrap());
        }
        let kernel = pointwise::scale::<H::Gpu>(n as u32, TARGET);
        let y = output::<H>(&kernel, n, &[&a_bytes], Some(-0.3));
        exact::<H>(&kernel, &y, &a.scale(-0.3).unwrap());

        let kernel = pointwise::fill::<H::Gpu>(n as u32, TARGET);
        let y = output::<H>(&kernel, n, &[], Some(0.1));
        exact::<H>(&kernel, &y, &Tensor::new([n], &vec![0.1f32; n]).unwrap());
    }
}

#[test]
fn arithmetic_is_exact_in_f16() {
    arithmetic_is_exact::<Half>();
}

#[test]
fn arithmetic_is_exact_in_f32() {
    arithmetic_is_exact::<Single>();
}

fn sums_take_several_sources<H: Host>() {
    for n in SIZES {
        let mut random = Random(200 + n as u64);
        let (x, sum) = (random.with_corners::<H>(n), random.with_corners::<Single>(n));
        let kernel = pointwise::accumulate::<H::Gpu>(n as u32, TARGET);
        let (outputs, report) = run(&kernel, &[Arg::In(&H::encode(&x)), Arg::InOut(&Single::encode(&sum))]);
        let want: Vec<_> = x.iter().zip(&sum).map(|(&x, &s)| (s + x).into()).collect();
        compare::<Single>(&kernel.name, &Single::decode(&outputs[0]), &want, Tolerance::Exact);
        if n == ALIGNED {
            assert_coalesced(&kernel.name, &report);
        }
    }
}

#[test]
fn sums_take_several_sources_of_both_types() {
    sums_take_several_sources::<Half>();
    sums_take_several_sources::<Single>();
}

#[test]
fn casts_round_as_the_cpu_does() {
    for n in SIZES {
        let x = Random(300 + n as u64).with_corners::<Single>(n);
        let kernel = pointwise::cast::<ptx::F32, ptx::F16>(n as u32, TARGET);
        let y = output::<Half>(&kernel, n, &[&Single::encode(&x)], None);
        let want: Vec<_> = x.iter().map(|&x| f16::from_f32(x).to_f64()).collect();
        compare::<Half>(&kernel.name, &y, &want, Tolerance::Exact);

        let kernel = pointwise::cast::<ptx::F16, ptx::F32>(n as u32, TARGET);
        let back = output::<Single>(&kernel, n, &[&Half::encode(&y)], None);
        compare::<Single>(&kernel.name, &back, &want, Tolerance::Exact);
    }
}

#[test]
fn every_half_survives_a_cast() {
    let all: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
    let values = Half::decode(&all);
    let kernel = pointwise::cast::<ptx::F16, ptx::F32>(1 << 16, TARGET);
    let widened = output::<Single>(&kernel, 1 << 16, &[&all], None);
    let kernel = pointwise::cast::<ptx::F32, ptx::F16>(1 << 16, TARGET);
    let back = output::<Half>(&kernel, 1 << 16, &[&Single::encode(&widened)], None);
    let want: Vec<_> = values.iter().map(|&x| x.into()).collect();
    compare::<Single>("f16 → f32", &widened, &want, Tolerance::Exact);
    compare::<Half>("f16 → f32 → f16", &back, &want, Tolerance::Exact);
}

fn broadcasts_agree<H: Host>() {
    for (rows, cols) in [(0, 3), (3, 0), (1, 1), (5, 1), (7, 33), (3, 12), (9, 64), (300, 10), (16, 256)] {
        let n = rows * cols;
        let mut random = Random(400 + n as u64);
        let (x, b) = (random.with_corners::<H>(n), random.with_corners::<H>(cols));
        let kernel = pointwise::bias::<H::Gpu>(rows as u32, cols as u32, TARGET);
        let y = output::<H>(&kernel, n, &[&H::encode(&x), &H::encode(&b)], None);
        let on_cpu = Tensor::new([rows, cols], &x).unwrap().bias(&Tensor::new([cols], &b).unwrap());
        exact::<H>(&kernel, &y, &on_cpu.unwrap());

        for along in Along::ALL {
            let len = [1, rows, cols][Along::ALL.iter().position(|&a| a == along).unwrap()];
            let x = random.with_corners::<Single>(len);
            let kernel = pointwise::spread::<H::Gpu>(along, rows as u32, cols as u32, TARGET);
            let y = output::<H>(&kernel, n, &[&Single::encode(&x)], Some(0.7));
            let index = |i: usize| match along {
                Along::All => 0,
                Along::Rows => i / cols,
                Along::Cols => i % cols,
            };
            let want: Vec<_> = (0..n).map(|i| H::round(x[index(i)] * 0.7).into()).collect();
            compare::<H>(&kernel.name, &y, &want, Tolerance::Exact);
        }
    }
}

#[test]
fn broadcasts_agree_in_f16() {
    broadcasts_agree::<Half>();
}

#[test]
fn broadcasts_agree_in_f32() {
    broadcasts_agree::<Single>();
}

/// The CPU's frames: byte / 255 in f32, grey three times.
fn frames_agree<H: Host>() {
    // sequences, steps, first, count, bytes of a frame.
    let shapes = [
        (0, 4, 0, 4, 16),
        (1, 1, 0, 1, 1),
        (1, 1, 0, 1, 256),
        (3, 5, 1, 3, 49),
        (2, 3, 2, 1, 64),
        (2, 12, 0, 10, 72),
        (2, 12, 10, 2, 1024),
    ];
    for (sequences, steps, first, count, frame) in shapes {
        for grey_to_rgb in [false, true] {
            let [s, t, f, c, b] = [sequences, steps, first, count, frame].map(|n| n as u32);
            let spec = Frames { sequences: s, steps: t, first: f, count: c, frame_bytes: b, grey_to_rgb };
            let mut bytes = Random(frame as u64).bytes(sequences * steps * frame);
            // Every value once where there is room.
            bytes.iter_mut().zip(0..=255).for_each(|(b, i)| *b = i);
            let kernel = spec.normalise::<H::Gpu>(TARGET);
            let repeat = if grey_to_rgb { 3 } else { 1 };
            let taken = count * frame;
            let want: Vec<_> = (0..sequences * taken * repeat)
                .map(|i| {
                    let i = i / repeat;
                    let at = i / taken * steps * frame + first * frame + i % taken;
                    H::round(f32::from(bytes[at]) / 255.0).into()
                })
                .collect();
            let y = output::<H>(&kernel, want.len(), &[&bytes], None);
            compare::<H>(&kernel.name, &y, &want, Tolerance::Exact);
        }
    }
}

#[test]
fn frames_agree_in_f16() {
    frames_agree::<Half>();
}

#[test]
fn frames_agree_in_f32() {
    frames_agree::<Single>();
}

#[test]
fn kernels_work_in_place() {
    at_best_and_worst(|| {
        let n = 1003;
        let (x, dy) = (Random(7).plain::<Half>(n), Random(8).plain::<Half>(n));
        let (x, dy) = (Half::encode(&x), Half::encode(&dy));
        let forward = unary::SILU.forward::<ptx::F16>(n as u32, TARGET);
        let backward = unary::SILU.backward::<ptx::F16>(n as u32, TARGET);
        let apart = run(&forward, &[Arg::In(&x), Arg::Out(x.len())]).0;
        let in_place = run(&forward, &[Arg::InOut(&x), Arg::Same(0)]).0;
        assert_eq!(in_place, apart);
        let apart = run(&backward, &[Arg::In(&dy), Arg::In(&x), Arg::Out(x.len())]).0;
        let in_place = run(&backward, &[Arg::InOut(&dy), Arg::In(&x), Arg::Same(0)]).0;
        assert_eq!(in_place, apart);
    });
}
