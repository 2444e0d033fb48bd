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
        .drawn(&[gradients("exp", 4, any_unary), device("exp", unary)])
        .golden(golden!["exp"]),
    Operator::new("log", X, |x, _| only(x[0].log()))
        .drawn(&[gradients("log", 4, any_positive), device("log", positive)])
        .golden(golden!["log", "odd/log_near_1"]),
    Operator::new("sqrt", X, |x, _| only(x[0].sqrt()))
        .drawn(&[gradients("sqrt", 4, any_positive), device("sqrt", positive)])
        .golden(golden!["sqrt", "odd/sqrt_tiny"]),
    Operator::new("neg", X, |x, _| only(x[0].neg()))
        .drawn(&[gradients("neg", 2, any_unary), device("neg", unary)])
        .golden(golden!["neg"]),
    Operator::new("scale", X, |x, _| only(x[0].scale(-1.75)))
        .drawn(&[gradients("scale", 2, any_unary), device("scale", unary)]),
    Operator::new("add", AB, |x, _| only(x[0].add(&x[1])))
        .drawn(&[
            gradients("add", 4, any_binary),
            gradients("add, broadcast", 12, any_broadcast),
            device("add", |d| binary(d, &[3, 7, 11])),
            device("add of a row", |d| broadcast(d, &[3, 7, 16], &[16])),
            device("add of a number", |d| broadcast(d, &[], &[7, 33])),
            gpu("add of an image's channels", |d| broadcast(d, &[16, 64, 32, 32], &[64, 1, 1])),
        ])
        .golden(golden!["add"]),
    Operator::new("sub", AB, |x, _| only(x[0].sub(&x[1])))
        .drawn(&[
            gradients("sub", 4, any_binary),
            gradients("sub, broadcast", 12, any_broadcast),
            device("sub", |d| binary(d, &[3, 7, 11])),
            device("sub of a column", |d| broadcast(d, &[3, 7, 16], &[7, 1])),
        ])
        .golden(golden!["sub"]),
    Operator::new("mul", AB, |x, _| only(x[0].mul(&x[1])))
        .drawn(&[
            gradients("mul", 4, any_binary),
            gradients("mul, broadcast", 12, any_broadcast),
            device("mul", |d| binary(d, &[3, 7, 11])),
            device("mul, outer", |d| broadcast(d, &[9, 1], &[1, 40])),
            device("mul of every second axis", |d| broadcast(d, &[3, 1, 5, 1], &[4, 1, 8])),
        ])
        .golden(golden!["mul"]),
    Operator::new("div", AB, |x, _| only(x[0].div(&x[1])))
        .drawn(&[
            gradients("div", 4, |d| {
                let shape = any_shape(d, 3, 9);
                broadcast(d, &shape, &shape)
            }),
            gradients("div, broadcast", 12, any_broadcast),
            device("div", |d| broadcast(d, &[3, 7, 11], &[3, 7, 11])),
            device("div by a row", |d| broadcast(d, &[3, 7, 16], &[7, 16])),
            device("div of a row", |d| broadcast(d, &[1, 33], &[5, 33])),
        ])
        .golden(golden!["div", "odd/div_one"]),
    Operator::new("tensors and numbers", X, |x, _| only(numbers(&x[0]))).drawn(&[
        gradients("tensors and numbers", 4, |d| {
            let shape = any_shape(d, 3, 9);
            Case::new([d.values(&shape)])
        }),
        device("tensors and numbers", |d| Case::new([d.values(&[3, 7, 11])])),
    ]),
    Operator::new("softmax", X, |x, _| only(x[0].softmax()))
        .drawn(&[
            gradients("softmax", 8, any_rows),
            device("softmax", |d| rows(d, &[3, 5, 40])),
            device("softmax, long rows", |d| rows(d, &[2, 1500])),
            gpu("softmax of a vocabulary", |d| rows(d, &[16, 50257])),
        ])
        .golden(golden! {
            "softmax", "odd/softmax_1", "odd/softmax_far", "odd/softmax_long", "odd/softmax_masked",
        }),
    Operator::new("log_softmax", X, |x, _| only(x[0].log_softmax()))
        .drawn(&[
            gradients("log_softmax", 8, any_rows),
            device("log_softmax", |d| rows(d, &[3, 5, 40])),
            device("log_softmax, long rows", |d| rows(d, &[2, 1500])),
            gpu("log_softmax of a vocabulary", |d| rows(d, &[16, 50257])),
        ])
        .golden(golden! {
            "log_softmax", "odd/log_softmax_1", "odd/log_softmax_far", "odd/log_softmax_long",
        }),
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

fn any_positive(d: &mut Draw) -> Case {
    let shape = any_shape(d, 3, 9);
    Case::new([d.between(&shape, 0.5, 4.0)])
}

fn positive(d: &mut Draw) -> Case {
    Case::new([d.between(&[3, 7, 11], 0.25, 4.0)])
}

fn any_binary(d: &mut Draw) -> Case {
    let shape = any_shape(d, 3, 9);
    binary(d, &shape)
}

/// Two operands of one result: each lacks some of its first axes, and has size 1 along others.
fn any_broadcast(d: &mut Draw) -> Case {
    let shape = any_shape(d, 4, 5);
    let [a, b] = [(); 2].map(|()| {
        let mut operand = shape[d.within(0, shape.len())..].to_vec();
        operand.iter_mut().for_each(|size| *size = if d.flag() { 1 } else { *size });
        operand
    });
    broadcast(d, &a, &b)
}

/// Operands of arithmetic; the second one is away from 0.
fn broadcast(d: &mut Draw, a: &[usize], b: &[usize]) -> Case {
    Case::new([d.values(a), d.away(b, 0.5)])
}

/// Every operator between a tensor and a number. Divisors are above 1.
fn numbers(x: &Tensor) -> ssmv_autograd::Result<Tensor> {
    let below = (2.0 - ((x + 0.5)? / 3.0)?)?;
    let share = (1.5 / (below - 0.25)?)?;
    0.75 + ((-(3.0 * share)?)? * 0.5)?
}

fn any_rows(d: &mut Draw) -> Case {
    let mut shape = any_shape(d, 3, 5);
    shape.push(d.channels());
    rows(d, &shape)
}

fn rows(d: &mut Draw, shape: &[usize]) -> Case {
    Case::new([d.between(shape, -4.0, 4.0)])
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
