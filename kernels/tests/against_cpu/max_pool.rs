//! Max-pooling, forward and backward, against the CPU backend's operator: to the bit, winners included.

use ssmv_autograd::{Gradients, Tensor};
use ssmv_emulator::Report;
use ssmv_kernels::{
    Target,
    max_pool::{self, MaxPool},
};

use crate::{
    elements::{Half, Host, Random, Single, Tolerance, assert_coalesced, compare},
    harness::{Arg, run, targets},
};

fn pool([count, height, width, channels]: [u32; 4], [kernel, stride, padding]: [u32; 3]) -> MaxPool {
    MaxPool { count, input: [height, width], channels, kernel, stride, padding }
}

fn shape(spec: &MaxPool, [height, width]: [u32; 2]) -> Vec<usize> {
    [spec.count, height, width, spec.channels].map(|n| n as usize).to_vec()
}

/// Where each window's winner stands, from the definition.
fn winners(spec: &MaxPool, x: &[f32]) -> Vec<u8> {
    let [count, height, width, channels] = [spec.count, spec.input[0], spec.input[1], spec.channels];
    let [rows, columns] = spec.output();
    let mut winners = Vec::new();
    for i in 0..count * rows * columns * channels {
        let (c, ox, oy, n) = (
            i % channels,
            i / channels % columns,
            i / channels / columns % rows,
            i / channels / columns / rows,
        );
        let mut best: Option<(f32, u32)> = None;
        for tap in 0..spec.kernel * spec.kernel {
            let iy = (oy * spec.stride + tap / spec.kernel).wrapping_sub(spec.padding);
            let ix = (ox * spec.stride + tap % spec.kernel).wrapping_sub(spec.padding);
            if iy >= height || ix >= width {
                continue;
            }
            let value = x[(((n * height + iy) * width + ix) * channels + c) as usize];
            if best.is_none_or(|(best, _)| value > best || value.is_nan()) {
                best = Some((value, tap));
            }
        }
        winners.push(best.unwrap().1 as u8);
    }
    winners
}

/// Compares both passes on numbers with `corners` or without; gives their counts.
fn agrees<H: Host>(spec: &MaxPool, corners: bool, target: Target) -> [Report; 2] {
    let (from, to) = (shape(spec, spec.input), shape(spec, spec.output()));
    let (inputs, outputs) = (from.iter().product::<usize>(), to.iter().product::<usize>());
    let element = H::encode(&[0.0]).len();
    let mut random = Random(inputs as u64 * 31 + u64::from(spec.kernel));
    // Few different numbers, so that windows have equal ones.
    let mut x: Vec<_> = (0..inputs).map(|_| random.below(9) as f32 - 4.0).collect();
    if corners {
        x = random.with_corners::<H>(inputs);
    }
    let dy = random.plain::<H>(outputs);

    let on_cpu = Tensor::new(from, &x).unwrap().leaf();
    let y = on_cpu.max_pool2d(spec.kernel as usize, spec.stride as usize, spec.padding as usize).unwrap();
    assert_eq!(y.shape().to_vec(), to, "{spec:?}");
    let mut gradients = Gradients::of_leaves();
    y.backward_from(Tensor::new(to, &dy).unwrap().detach(), &mut gradients).unwrap();

    let kernel = spec.forward::<H::Gpu>(target).unwrap();
    let args = [Arg::In(&H::encode(&x)), Arg::Out(outputs * element), Arg::Out(outputs)];
    let (results, forward) = run(&kernel, &args);
    compare::<H>(&kernel.name, &H::decode(&results[0]), &y.to_f64().unwrap(), Tolerance::Exact);
    let won = winners(spec, &x);
    assert_eq!(results[1], won, "winners of {}", kernel.name);

    let kernel = spec.backward::<H::Gpu>(target).unwrap();
    let args = [Arg::In(&H::encode(&dy)), Arg::In(&won), Arg::Out(inputs * element)];
    let (results, backward) = run(&kernel, &args);
    let dx = gradients.of(&on_cpu).unwrap().to_f64().unwrap();
    compare::<H>(&kernel.name, &H::decode(&results[0]), &dx, Tolerance::Exact);
    [forward, backward]
}

/// Odd channels, batch 1, images of a pixel, all widths of an access; windows that overlap, touch, and leave gaps.
const CASES: [([u32; 4], [u32; 3]); 17] = [
    ([1, 1, 1, 1], [1, 1, 0]),
    ([1, 1, 1, 3], [3, 2, 1]),
    ([2, 1, 1, 8], [2, 1, 1]),
    ([1, 4, 4, 1], [2, 2, 0]),
    ([2, 8, 8, 16], [3, 2, 1]),
    ([3, 7, 5, 5], [3, 2, 1]),
    ([1, 9, 6, 6], [3, 1, 1]),
    ([2, 5, 9, 4], [2, 1, 1]),
    ([1, 6, 6, 2], [4, 3, 2]),
    ([1, 10, 11, 7], [5, 1, 2]),
    ([1, 8, 9, 12], [6, 2, 3]),
    ([2, 16, 15, 3], [15, 1, 7]),
    ([1, 16, 16, 1], [15, 4, 0]),
    ([2, 9, 7, 8], [2, 3, 0]),
    ([1, 5, 4, 2], [1, 4, 0]),
    ([1, 3, 70, 24], [3, 2, 1]),
    ([2, 3, 4, 9], [3, u32::MAX, 1]),
];

fn cases_agree<H: Host>() {
    for target in targets() {
        for (shape, window) in CASES {
            let spec = pool(shape, window);
            agrees::<H>(&spec, false, target);
            agrees::<H>(&spec, true, target);
        }
    }
}

#[test]
fn cases_agree_in_f16() {
    cases_agree::<Half>();
}

#[test]
fn cases_agree_in_f32() {
    cases_agree::<Single>();
}

#[test]
fn drawn_shapes_agree() {
    let mut random = Random(4);
    for _ in 0..40 {
        let mut size = |most| 1 + random.below(most) as u32;
        let kernel = size(15);
        let spec =
            pool([size(3), size(12), size(12), size(20)], [kernel, size(4), size(8).min(kernel / 2 + 1) - 1]);
        if spec.output().contains(&0) {
            assert!(spec.forward::<<Half as Host>::Gpu>(Target::Sm80).is_err(), "{spec:?}");
            continue;
        }
        agrees::<Half>(&spec, true, Target::Sm80);
        agrees::<Single>(&spec, true, Target::Sm80);
    }
}

/// NaN and −∞ all over: padding must not win, and the first of equal values must.
#[test]
fn windows_without_a_number_have_a_winner() {
    let spec = pool([1, 4, 4, 1], [3, 2, 1]);
    for value in [f32::NEG_INFINITY, f32::NAN] {
        let x = vec![value; 16];
        let args = [Arg::In(&Half::encode(&x)), Arg::Out(8), Arg::Out(4)];
        let (results, _) = run(&spec.forward::<<Half as Host>::Gpu>(Target::Sm80).unwrap(), &args);
        let y = Half::decode(&results[0]);
        assert!(y.iter().all(|y| y.is_nan() == value.is_nan() && !y.is_finite()), "{y:?}");
        // The first place inside of the image, or the last one: each NaN wins over the one before.
        let want = if value.is_nan() { [8, 8, 8, 8] } else { [4, 3, 1, 0] };
        assert_eq!(results[1], want, "of {value}");
    }
}

#[test]
fn aligned_sizes_move_whole_sectors() {
    for channels in [64, 128] {
        let spec = pool([2, 16, 16, channels], [3, 2, 1]);
        let case = format!("{spec:?}");
        agrees::<Half>(&spec, false, Target::Sm80).iter().for_each(|r| assert_coalesced(&case, r));
        agrees::<Single>(&spec, false, Target::Sm80).iter().for_each(|r| assert_coalesced(&case, r));
    }
}

#[test]
fn pools_that_cannot_be_are_errors() {
    let base = pool([2, 8, 8, 4], [3, 2, 1]);
    let cases = [
        (MaxPool { count: 0, ..base }, "no elements"),
        (MaxPool { input: [0, 8], ..base }, "no elements"),
        (MaxPool { kernel: 0, padding: 0, ..base }, "kernel 0 (1 to 15)"),
        (MaxPool { kernel: 16, ..base }, "kernel 16 (1 to 15)"),
        (MaxPool { stride: 0, ..base }, "stride 0 (at least 1)"),
        (MaxPool { padding: 2, ..base }, "padding 2 (at most half the kernel)"),
        (MaxPool { padding: u32::MAX, ..base }, "padding 4294967295"),
        (MaxPool { kernel: 11, padding: 0, ..base }, "do not fit images of [8, 8]"),
        (MaxPool { channels: u32::MAX, input: [u32::MAX; 2], ..base }, "2³¹ elements or more"),
        // y has four elements for each of x.
        (pool([1 << 29, 1, 1, 1], [2, 1, 1]), "2³¹ elements or more"),
    ];
    for (spec, message) in cases {
        let errors = [
            spec.forward::<<Half as Host>::Gpu>(Target::Sm80).unwrap_err(),
            spec.backward::<<Half as Host>::Gpu>(Target::Sm80).unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.family, "max_pool");
            assert!(error.message.contains(message), "{spec:?}: {error}");
        }
    }
}

#[test]
fn no_specification_of_the_catalogue_is_refused() {
    for target in Target::ALL {
        // Six specifications in two element types, two passes each.
        assert_eq!(max_pool::catalogue(target).len(), 24);
    }
}
