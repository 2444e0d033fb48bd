//! Operators on single elements, sums over them, and losses.

use super::*;

const X: &[Input] = &[Input::new("x")];
const AB: &[Input] = &[Input::new("a"), Input::new("b")];
const LOSS: &[Input] = &[Input::new("prediction"), Input::new("target")];

pub(super) const TABLE: &[Operator] = &[
    Operator::new("relu", X, |x, _| only(x[0].relu()))
        .drawn(&[
            gradients("relu", 4, |d| {
                let shape = any_shape(d, 3, 9);
                Case::new([d.away(&shape, 0.05)])
            }),
            device("relu", unary),
        ])
        .golden(golden!["relu", "odd/relu_huge", "odd/relu_tiny"]),
    Operator::new("silu", X, |x, _| only(x[0].silu()))
        .drawn(&[gradients("silu", 4, any_unary), device("silu", unary)])
        .golden(golden!["silu", "odd/silu_huge", "odd/silu_tiny"]),
    Operator::new("sigmoid", X, |x, _| only(x[0].sigmoid()))
        .drawn(&[gradients("sigmoid", 4, any_unary), device("sigmoid", unary)])
        .golden(golden!["sigmoid", "odd/sigmoid_huge", "odd/sigmoid_tiny"]),
    Operator::new("tanh", X, |x, _| only(x[0].tanh()))
        .drawn(&[gradients("tanh", 4, any_unary), device("tanh", unary)])
        .golden(golden!["tanh", "odd/tanh_huge", "odd/tanh_tiny"]),
    Operator::new("softplus", X, |x, _| only(x[0].softplus()))
        .drawn(&[gradients("softplus", 4, any_unary), device("softplus", unary)])
        .golden(golden!["softplus", "odd/softplus_huge", "odd/softplus_tiny"]),
    Operator::new("exp", X, |x, _| only(x[0].exp()))
        .drawn(&[gradients("exp", 4, any_unary), device("exp", unary)]),
    Operator::new("scale", X, |x, _| only(x[0].scale(-1.75)))
        .drawn(&[gradients("scale", 2, any_unary), device("scale", unary)]),
    Operator::new("add", AB, |x, _| only(x[0].add(&x[1])))
        .drawn(&[gradients("add", 4, any_binary), device("add", |d| binary(d, &[3, 7, 11]))]),
    Operator::new("mul", AB, |x, _| only(x[0].mul(&x[1])))
        .drawn(&[gradients("mul", 4, any_binary), device("mul", |d| binary(d, &[3, 7, 11]))]),
    Operator::new("bias", &[Input::new("x"), Input::new("bias")], |x, _| only(x[0].bias(&x[1]))).drawn(&[
        gradients("bias", 8, |d| {
            let mut shape = any_shape(d, 3, 5);
            shape.push(d.channels());
            bias(d, &shape)
        }),
        device("bias", |d| bias(d, &[3, 7, 11])),
    ]),
    Operator::new("sum", X, |x, a| only(x[0].sum(&a.counts("axes")?))).drawn(&[
        gradients("sum", 12, any_reduction),
        device("sum", |d| reduction(d, &[3, 4, 17], &[0, 1])),
        device("sum of all", |d| reduction(d, &[5, 33], &[0, 1])),
    ]),
    Operator::new("mean", X, |x, a| only(x[0].mean(&a.counts("axes")?))).drawn(&[
        gradients("mean", 12, any_reduction),
        device("mean", |d| reduction(d, &[3, 4, 17], &[0])),
        device("mean of the last axis", |d| reduction(d, &[6, 40], &[1])),
        gpu("mean of many", |d| reduction(d, &[160, 64, 1024], &[0, 1])),
    ]),
    Operator::new("l1_loss", LOSS, |x, _| only(x[0].l1_loss(&x[1])))
        .drawn(&[
            gradients("l1_loss", 4, any_loss),
            device("l1_loss", |d| binary(d, &[2, 2, 7, 5, 3])),
            device("l1_loss in parts", |d| binary(d, &[4, 32, 32, 3])),
            gpu("l1_loss of base", |d| binary(d, &[16, 2, 64, 64, 3])),
        ])
        .golden(golden!["l1_loss"]),
    Operator::new("mse_loss", LOSS, |x, _| only(x[0].mse_loss(&x[1]))).drawn(&[
        gradients("mse_loss", 4, any_loss),
        device("mse_loss", |d| binary(d, &[2, 2, 7, 5, 3])),
        device("mse_loss in parts", |d| binary(d, &[4, 32, 32, 3])),
        gpu("mse_loss of base", |d| binary(d, &[16, 2, 64, 64, 3])),
    ]),
];

/// Up to `axes` axes of at most `largest`.
fn any_shape(d: &mut Draw, axes: usize, largest: usize) -> Vec<usize> {
    let axes = d.within(0, axes);
    d.shape(axes, largest)
}

fn any_unary(d: &mut Draw) -> Case {
    let shape = any_shape(d, 3, 9);
    Case::new([d.between(&shape, -4.0, 4.0)])
}

fn unary(d: &mut Draw) -> Case {
    Case::new([d.between(&[3, 7, 11], -4.0, 4.0)])
}

fn any_binary(d: &mut Draw) -> Case {
    let shape = any_shape(d, 3, 9);
    binary(d, &shape)
}

fn binary(d: &mut Draw, shape: &[usize]) -> Case {
    Case::new([d.values(shape), d.values(shape)])
}

fn bias(d: &mut Draw, shape: &[usize]) -> Case {
    Case::new([d.values(shape), d.values(&shape[shape.len() - 1..])])
}

/// |prediction − target| stays away from 0, where L1 has its kink.
fn any_loss(d: &mut Draw) -> Case {
    let shape = any_shape(d, 4, 6);
    let (mut prediction, target) = (d.away(&shape, 0.05), d.values(&shape));
    prediction.values.iter_mut().zip(&target.values).for_each(|(p, t)| *p += t);
    Case::new([prediction, target])
}

fn any_reduction(d: &mut Draw) -> Case {
    let shape = any_shape(d, 4, 6);
    let axes: Vec<usize> = (0..shape.len()).filter(|_| d.flag()).collect();
    reduction(d, &shape, &axes)
}

fn reduction(d: &mut Draw, shape: &[usize], axes: &[usize]) -> Case {
    Case::new([d.values(shape)]).with(json!({ "axes": axes }))
}
