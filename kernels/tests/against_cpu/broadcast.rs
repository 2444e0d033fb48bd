//! Arithmetic of arrays that repeat along axes, against the CPU: to the bit.

use ssmv_autograd::{Result, Tensor};
use ssmv_kernels::{
    Target,
    pointwise::{Arithmetic, Axis, Broadcast},
};

use crate::{
    elements::{Half, Host, Random, Single, Tolerance, assert_coalesced, compare},
    harness::{Arg, run},
};

/// Axes of the result: their sizes, and which operands have them.
type Axes = &'static [(u32, &'static str)];

/// Rows, columns and single numbers beside matrices, on either side; outer products; axes that alternate; a last axis that
/// is as long as a vector, longer, and odd.
const SHAPES: [Axes; 14] = [
    &[(5, "ab")],
    &[(7, "a")],
    &[(300, "b")],
    &[(9, "a"), (16, "ab")],
    &[(9, "ab"), (16, "a")],
    &[(9, "b"), (33, "ab")],
    &[(40, "ab"), (3, "b")],
    &[(12, "a"), (64, "b")],
    &[(64, "b"), (12, "a")],
    &[(2, "a"), (3, "b"), (8, "a"), (5, "b")],
    &[(3, "ab"), (4, "b"), (24, "ab")],
    &[(3, "ab"), (4, "a"), (6, "ab"), (2, "b")],
    &[(2, "b"), (1, "a"), (2048, "ab")],
    &[(3, "y"), (8, "ab"), (4, "y")],
];

fn agree<H: Host>() {
    let on_cpu: [fn(&Tensor, &Tensor) -> Result<Tensor>; 4] =
        [Tensor::add, Tensor::sub, Tensor::mul, Tensor::div];
    for (seed, shape) in (0..).zip(SHAPES) {
        let axes: Vec<_> = shape
            .iter()
            .map(|&(size, has)| Axis { size, a: has.contains('a'), b: has.contains('b') })
            .collect();
        let of = |has: fn(&Axis) -> bool| -> Vec<usize> {
            axes.iter().map(|axis| if has(axis) { axis.size as usize } else { 1 }).collect()
        };
        let mut random = Random(800 + seed);
        let [a, b] = [of(|axis| axis.a), of(|axis| axis.b)].map(|shape| {
            let values = random.with_corners::<H>(shape.iter().product());
            Tensor::new(shape, &values).unwrap()
        });
        let whole: Vec<_> = axes.iter().map(|axis| axis.size as usize).collect();
        for (operation, on_cpu) in Arithmetic::ALL.into_iter().zip(on_cpu) {
            let kernel = Broadcast { operation, axes: axes.clone() }.kernel::<H::Gpu>(Target::Sm80).unwrap();
            let [x, z] = [&a, &b].map(|x| H::encode(x.values::<f32>().unwrap()));
            let bytes = whole.iter().product::<usize>() * H::encode(&[0.0]).len();
            let (outputs, report) = run(&kernel, &[Arg::In(&x), Arg::In(&z), Arg::Out(bytes)]);
            // Adding −0 changes no bit; it repeats along axes that neither operand has.
            let zeros = Tensor::new(whole.clone(), &vec![-0.0f32; whole.iter().product()]).unwrap();
            let want = on_cpu(&a, &b).unwrap().add(&zeros).unwrap();
            let want: Vec<_> = want.values::<f32>().unwrap().iter().map(|&x| H::round(x).into()).collect();
            compare::<H>(&kernel.name, &H::decode(&outputs[0]), &want, Tolerance::Exact);
            if axes.last().is_some_and(|axis| axis.size == 2048) {
                assert_coalesced(&kernel.name, &report);
            }
        }
    }
}

#[test]
fn arrays_that_repeat_agree_in_f16() {
    agree::<Half>();
}

#[test]
fn arrays_that_repeat_agree_in_f32() {
    agree::<Single>();
}

#[test]
fn axes_that_cannot_be_are_errors() {
    let axis = |size| Axis { size, a: true, b: false };
    for (axes, message) in [
        (vec![], "need an axis"),
        (vec![axis(3), axis(0)], "no elements"),
        (vec![axis(1 << 16), axis(1 << 15)], "2³¹ elements or more"),
    ] {
        let spec = Broadcast { operation: Arithmetic::Add, axes };
        let error = spec.kernel::<<Half as Host>::Gpu>(Target::Sm80).unwrap_err();
        assert!(error.family == "pointwise" && error.message.contains(message), "{error}");
    }
}
