//! Losses: the mean to the bit in the order that is documented, and the gradient to the bit of the CPU backend's.

use ssmv_autograd::{Gradients, Tensor};
use ssmv_emulator::Report;
use ssmv_kernels::{
    Target,
    loss::{self, Loss, LossKind},
};

use crate::{
    elements::{Half, Host, Random, Single, Tolerance, assert_coalesced, compare},
    harness::{Arg, run, run_all, targets},
};

/// Less than a vector, tails, a block and several with and without a rest; in f16 more of them than a block has threads, in
/// f32 as many as there may be.
const SIZES: [usize; 12] = [1, 3, 7, 8, 9, 255, 2048, 8192, 8193, 20_000, 100_003, 2_200_003];

/// The sum of costs in the documented order, from the sums of each thread's accumulators.
fn ordered<H: Host>(kind: LossKind, p: &[f32], t: &[f32]) -> f64 {
    let (n, width) = (p.len(), 16 / H::encode(&[0.0]).len());
    let cost = |i: usize| {
        let d = f64::from(p[i]) - f64::from(t[i]);
        if kind == LossKind::L1 { d.abs() } else { d * d }
    };
    let vectors = n / width;
    let blocks = vectors.div_ceil(1024).clamp(1, 512);
    let mut sums = vec![vec![0.0; width]; blocks * 256];
    for vector in 0..vectors {
        let thread = vector % (blocks * 256);
        (0..width).for_each(|j| sums[thread][j] += cost(vector * width + j));
    }
    (vectors * width..n).zip(0..).for_each(|(i, thread): (usize, usize)| sums[thread][0] += cost(i));
    let threads: Vec<f64> =
        sums.iter().map(|sums| sums.iter().copied().reduce(|a, b| a + b).unwrap()).collect();
    let totals: Vec<f64> = threads.chunks(256).map(block).collect();
    if blocks == 1 {
        return totals[0];
    }
    let strided = |t: usize| totals.iter().skip(t).step_by(256).fold(0.0, |sum, x| sum + x);
    block(&(0..256).map(strided).collect::<Vec<_>>())
}

/// Lanes 16, 8, 4, 2 and 1 apart, then the warps in order.
fn block(threads: &[f64]) -> f64 {
    let warp = |lanes: &[f64]| {
        let mut lanes = lanes.to_vec();
        for mask in [16, 8, 4, 2, 1] {
            lanes = (0..32).map(|l| lanes[l] + lanes[l ^ mask]).collect();
        }
        lanes[0]
    };
    threads.chunks(32).map(warp).fold(0.0, |sum, x| sum + x)
}

fn mean<H: Host>(loss: &Loss, p: &[f32], t: &[f32], target: Target) -> (f32, Report) {
    let plan = loss.forward::<H::Gpu>(target).unwrap();
    let args = [
        Arg::In(&H::encode(p)),
        Arg::In(&H::encode(t)),
        Arg::Out(4),
        if plan.workspace_bytes == 0 { Arg::Null } else { Arg::Out(plan.workspace_bytes as usize) },
    ];
    let (outputs, report) = run_all(&plan.kernels, &args);
    (Single::decode(&outputs[0])[0], report)
}

fn agrees<H: Host>(loss: &Loss, corners: bool, target: Target) -> [Report; 2] {
    let (kind, n) = (loss.kind, loss.n as usize);
    let mut random = Random(n as u64);
    let mut draw = || if corners { random.with_corners::<H>(n) } else { random.plain::<H>(n) };
    let (p, mut t) = (draw(), draw());
    // Differences of 0, where the slope of L1 is 0.
    t.iter_mut().zip(&p).step_by(5).for_each(|(t, &p)| *t = p);

    let (got, forward) = mean::<H>(loss, &p, &t, target);
    let case = loss.forward::<H::Gpu>(target).unwrap().kernels[0].name.clone();
    compare::<Single>(&case, &[got], &[ordered::<H>(kind, &p, &t) / n as f64], Tolerance::Exact);

    let [on_cpu, fixed] = [&p, &t].map(|x| Tensor::new([n], x).unwrap());
    let on_cpu = on_cpu.leaf();
    let y = if kind == LossKind::L1 { on_cpu.l1_loss(&fixed) } else { on_cpu.mse_loss(&fixed) }.unwrap();
    // The CPU adds up in another order, in f64 too.
    let want = y.to_f64().unwrap()[0];
    let near = Tolerance::Near { ulps: 1.0, absolute: 0.0 };
    compare::<Single>(&case, &[got], &[want], near);

    let dy = 65_536.0 * 0.7;
    let mut gradients = Gradients::of_leaves();
    y.backward_from(Tensor::new([], &[dy]).unwrap().detach(), &mut gradients).unwrap();
    let kernel = loss.backward::<H::Gpu>(target).unwrap();
    let args = [
        Arg::In(&H::encode(&p)),
        Arg::In(&H::encode(&t)),
        Arg::In(&Single::encode(&[dy])),
        Arg::Out(H::encode(&p).len()),
    ];
    let (outputs, backward) = run(&kernel, &args);
    let dp = gradients.of(&on_cpu).unwrap().to_f64().unwrap();
    compare::<H>(&kernel.name, &H::decode(&outputs[0]), &dp, Tolerance::Exact);
    [forward, backward]
}

fn sizes_agree<H: Host>() {
    for target in targets() {
        for n in SIZES {
            for kind in LossKind::ALL {
                agrees::<H>(&Loss { kind, n: n as u32 }, false, target);
            }
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

#[test]
fn infinities_and_nan_come_through() {
    for kind in LossKind::ALL {
        for n in [7, 1003] {
            agrees::<Half>(&Loss { kind, n }, true, Target::Sm80);
            agrees::<Single>(&Loss { kind, n }, true, Target::Sm80);
        }
        let one = |p: f32, t: f32| mean::<Half>(&Loss { kind, n: 2 }, &[p, 1.0], &[t, 1.0], Target::Sm80).0;
        assert!(one(f32::INFINITY, 1.0) == f32::INFINITY && one(f32::INFINITY, f32::INFINITY).is_nan());
        assert!(one(f32::NAN, 1.0).is_nan());
    }
}

#[test]
fn aligned_sizes_move_whole_sectors() {
    for kind in LossKind::ALL {
        let spec = Loss { kind, n: 65_536 };
        let case = format!("{spec:?}");
        agrees::<Half>(&spec, false, Target::Sm80).iter().for_each(|report| assert_coalesced(&case, report));
        agrees::<Single>(&spec, false, Target::Sm80)
            .iter()
            .for_each(|report| assert_coalesced(&case, report));
    }
}

#[test]
fn losses_that_cannot_be_are_errors() {
    for (n, message) in [(0, "no elements"), (1 << 31, "2³¹ elements or more")] {
        for kind in LossKind::ALL {
            let spec = Loss { kind, n };
            let errors = [
                spec.forward::<<Half as Host>::Gpu>(Target::Sm80).unwrap_err(),
                spec.backward::<<Half as Host>::Gpu>(Target::Sm80).unwrap_err(),
            ];
            for error in errors {
                assert_eq!(error.family, "loss");
                assert!(error.message.contains(message), "{spec:?}: {error}");
            }
        }
    }
}

#[test]
fn no_specification_of_the_catalogue_is_refused() {
    for target in Target::ALL {
        // Two losses of five sizes in two element types, a kernel a pass; a second one for three of the sizes.
        assert_eq!(loss::catalogue(target).len(), 2 * 2 * (5 * 2 + 3));
    }
}
