//! Operators that move values.

use std::sync::Arc;

use super::*;

const X: &[Input] = &[Input::new("x")];

pub(super) const TABLE: &[Operator] = &[
    Operator::new("permute", X, |x, a| only(x[0].permute(&a.counts("order")?))).drawn(&[
        gradients("permute", 16, |d| {
            let axes = d.within(0, 5);
            let (shape, order) = (d.shape(axes, 5), d.order(axes));
            permute(d, &shape, &order)
        }),
        device("permute", |d| permute(d, &[2, 3, 4, 5], &[0, 2, 3, 1])),
        device("permute of rows", |d| permute(d, &[3, 4, 2, 8], &[1, 0, 2, 3])),
    ]),
    Operator::new("slice", X, |x, a| only(x[0].slice(a.count("axis")?, a.count("start")?, a.count("len")?)))
        .drawn(&[
            gradients("slice", 12, |d| {
                let axes = d.within(1, 4);
                let (shape, axis) = (d.shape(axes, 7), d.within(0, axes - 1));
                let start = d.within(0, shape[axis] - 1);
                let len = d.within(1, shape[axis] - start);
                slice(d, &shape, axis, start, len)
            }),
            device("slice", |d| slice(d, &[3, 7, 8], 1, 2, 4)),
            device("slice of odd columns", |d| slice(d, &[3, 2, 11], 2, 3, 5)),
        ]),
    Operator::new(
        "concat",
        &[
            Input::new("a"),
            Input::new("b").optional(),
            Input::new("c").optional(),
            Input::new("d").optional(),
        ],
        |x, a| only(Tensor::concat(&x.iter().collect::<Vec<_>>(), a.count("axis")?)),
    )
    .drawn(&[
        gradients("concat", 12, |d| {
            let axes = d.within(1, 4);
            let (mut shape, axis) = (d.shape(axes, 4), d.within(0, axes - 1));
            let sizes: Vec<usize> = (0..d.within(1, 4)).map(|_| d.within(1, 5)).collect();
            shape[axis] = 0;
            concat(d, &shape, axis, &sizes)
        }),
        device("concat", |d| concat(d, &[2, 0, 8], 1, &[3, 1, 4])),
        device("concat of odd columns", |d| concat(d, &[3, 0], 1, &[5, 1, 3])),
    ]),
    Operator::new("reshape", X, |x, a| only(x[0].reshape(a.counts("to")?))).drawn(&[gradients(
        "reshape",
        6,
        |d| {
            let [a, b, c] = [d.within(1, 5), d.within(1, 5), d.within(1, 5)];
            let to = d.pick(&[[a * b, c, 1], [1, a, b * c], [c, b, a]]);
            Case::new([d.values(&[a, b, c])]).with(json!({ "to": to }))
        },
    )]),
    Operator::new("probe", X, |x, _| only(x[0].probe(Arc::new(|_| Ok(()))))).drawn(&[gradients(
        "probe",
        2,
        |d| {
            let axes = d.within(0, 3);
            let shape = d.shape(axes, 9);
            Case::new([d.values(&shape)])
        },
    )]),
];

fn permute(d: &mut Draw, shape: &[usize], order: &[usize]) -> Case {
    Case::new([d.values(shape)]).with(json!({ "order": order }))
}

fn slice(d: &mut Draw, shape: &[usize], axis: usize, start: usize, len: usize) -> Case {
    Case::new([d.values(shape)]).with(json!({ "axis": axis, "start": start, "len": len }))
}

/// Inputs of one shape except for their sizes along an axis.
fn concat(d: &mut Draw, shape: &[usize], axis: usize, sizes: &[usize]) -> Case {
    let input = |size: &usize| {
        let mut shape = shape.to_vec();
        shape[axis] = *size;
        d.values(&shape)
    };
    Case::new(sizes.iter().map(input).collect::<Vec<_>>()).with(json!({ "axis": axis }))
}
