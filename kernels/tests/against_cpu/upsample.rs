//! Nearest-neighbour upsampling, forward and backward, against the CPU backend's operator: to the bit.

use ssmv_autograd::{Gradients, Tensor};
use ssmv_emulator::Report;
use ssmv_kernels::{
    Target,
    upsample::{self, Nearest},
};

use crate::{
    elements::{Half, Host, Random, Single, Tolerance, assert_coalesced, compare},
    harness::{Arg, run, targets},
};

fn nearest([count, height, width, channels]: [u32; 4], factor: u32) -> Nearest {
    Nearest { count, input: [height, width], channels, factor }
}

fn agrees<H: Host>(spec: &Nearest, target: Target) -> [Report; 2] {
    let shape = |by: u32| -> Vec<usize> {
        [spec.count, by * spec.input[0], by * spec.input[1], spec.channels].map(|n| n as usize).to_vec()
    };
    let (from, to) = (shape(1), shape(spec.factor));
    let (inputs, outputs) = (from.iter().product::<usize>(), to.iter().product::<usize>());
    let element = H::encode(&[0.0]).len();
    let mut random = Random(inputs as u64 * 31 + u64::from(spec.factor));
    let (x, dy) = (random.with_corners::<H>(inputs), random.plain::<H>(outputs));

    let on_cpu = Tensor::new(from, &x).unwrap().leaf();
    let y = on_cpu.upsample_nearest2d(spec.factor as usize).unwrap();
    let mut gradients = Gradients::of_leaves();
    y.backward_from(Tensor::new(to, &dy).unwrap().detach(), &mut gradients).unwrap();

    let kernel = spec.forward::<H::Gpu>(target).unwrap();
    let (results, forward) = run(&kernel, &[Arg::In(&H::encode(&x)), Arg::Out(outputs * element)]);
    compare::<H>(&kernel.name, &H::decode(&results[0]), &y.to_f64().unwrap(), Tolerance::Exact);

    let kernel = spec.backward::<H::Gpu>(target).unwrap();
    let (results, backward) = run(&kernel, &[Arg::In(&H::encode(&dy)), Arg::Out(inputs * element)]);
    let dx = gradients.of(&on_cpu).unwrap().to_f64().unwrap();
    compare::<H>(&kernel.name, &H::decode(&results[0]), &dx, Tolerance::Exact);
    [forward, backward]
}

#[test]
fn shapes_agree() {
    let mut random = Random(9);
    let mut size = |most| 1 + random.below(most) as u32;
    let drawn: Vec<_> = (0..20).map(|_| nearest([size(3), size(9), size(9), size(20)], size(7))).collect();
    let corners = [
        nearest([1, 1, 1, 1], 1),
        nearest([1, 1, 1, 3], 9),
        nearest([2, 4, 4, 16], 2),
        nearest([1, 5, 3, 8], 3),
        nearest([2, 3, 5, 7], 2),
        nearest([1, 2, 70, 6], 4),
    ];
    for target in targets() {
        for spec in drawn.iter().chain(&corners) {
            agrees::<Half>(spec, target);
            agrees::<Single>(spec, target);
        }
    }
}

#[test]
fn aligned_sizes_move_whole_sectors() {
    let spec = nearest([2, 8, 8, 64], 2);
    let case = format!("{spec:?}");
    agrees::<Half>(&spec, Target::Sm80).iter().for_each(|report| assert_coalesced(&case, report));
    agrees::<Single>(&spec, Target::Sm80).iter().for_each(|report| assert_coalesced(&case, report));
}

#[test]
fn factors_that_cannot_be_are_errors() {
    let base = nearest([2, 8, 8, 4], 2);
    let cases = [
        (Nearest { count: 0, ..base }, "no elements"),
        (Nearest { factor: 0, ..base }, "no elements"),
        (Nearest { factor: u32::MAX, ..base }, "factor 4294967295 of images of [8, 8] is too large"),
        (Nearest { factor: 1 << 14, ..base }, "2³¹ elements or more"),
        (Nearest { channels: u32::MAX, ..base }, "2³¹ elements or more"),
    ];
    for (spec, message) in cases {
        let errors = [
            spec.forward::<<Half as Host>::Gpu>(Target::Sm80).unwrap_err(),
            spec.backward::<<Half as Host>::Gpu>(Target::Sm80).unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.family, "upsample");
            assert!(error.message.contains(message), "{spec:?}: {error}");
        }
    }
}

#[test]
fn no_specification_of_the_catalogue_is_refused() {
    for target in Target::ALL {
        // Six specifications in two element types, two passes each.
        assert_eq!(upsample::catalogue(target).len(), 24);
    }
}
