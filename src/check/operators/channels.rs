//! Operators over the last axis: matrix products and normalisations.

use ssmv_autograd::{
    Device, Op,
    ops::{
        batch_norm2d::{BatchNormOptions, Statistics},
        linear::Linear,
    },
};

use super::*;

const X: Input = Input::new("x");
const WEIGHT: Input = Input::new("weight");
const BIAS: Input = Input::new("bias").keep_f32();

pub(super) const TABLE: &[Operator] = &[
    Operator::new("linear", &[X, WEIGHT, BIAS.optional()], |x, _| only(x[0].linear(&x[1], x.get(2))))
        .shape(|inputs, _| Ok(Linear.shape(inputs)?))
        .drawn(&[
            gradients("linear", 12, |d| {
                let shape = last_axis(d, 4, 6);
                let (bias, out) = (d.flag(), d.channels());
                linear(d, &shape, out, bias)
            }),
            device("linear", |d| linear(d, &[2, 5, 40], 24, true)),
            device("linear odd sizes", |d| linear(d, &[3, 33], 17, true)),
            device("linear of whole tiles and a rest", |d| linear(d, &[9, 11, 130], 75, true)),
            device("linear single", |d| linear(d, &[1, 1], 1, true)),
            device("linear split over its inputs", |d| linear(d, &[20, 4096], 64, true)),
            gpu("linear to base's hidden width", |d| linear(d, &[160, 16384], 1024, true)),
            gpu("linear to base's latent", |d| linear(d, &[32, 1024], 16384, true)),
        ])
        .golden(golden!["linear_6x20x12", "odd/linear_nobias_1", "odd/linear_nobias_3"]),
    Operator::new("matmul", &[Input::new("a"), Input::new("b")], |x, _| only(x[0].matmul(&x[1]))).drawn(&[
        gradients("matmul", 8, |d| {
            let [m, k, n] = [d.channels(), d.channels(), d.channels()];
            matmul(d, m, k, n)
        }),
        device("matmul", |d| matmul(d, 20, 48, 40)),
        device("matmul of whole tiles and a rest", |d| matmul(d, 99, 131, 77)),
        device("matmul odd sizes", |d| matmul(d, 7, 13, 5)),
        gpu("matmul large", |d| matmul(d, 513, 1025, 257)),
    ]),
    Operator::new(
        "batch_norm2d",
        &[
            X.layout(Layout::ChannelsFirst),
            WEIGHT.keep_f32(),
            BIAS,
            Input::new("running_mean").keep_f32().constant(),
            Input::new("running_var").keep_f32().constant(),
            Input::new("residual").optional(),
        ],
        batch_norm2d,
    )
    .accepts(|a| a.flag("training").and(a.number("eps")).map(drop))
    .drawn(&[
        gradients("batch_norm2d, training", 40, |d| any_batch_norm2d(d, Mode::Batch)),
        gradients("batch_norm2d, evaluation", 12, |d| any_batch_norm2d(d, Mode::Running)),
        device("batch_norm2d training", |d| norm(d, &[2, 5, 4, 16], Mode::Batch, false, false)),
        device("batch_norm2d training, residual, relu", |d| norm(d, &[2, 5, 4, 16], Mode::Batch, true, true)),
        device("batch_norm2d training, relu, odd channels", |d| {
            norm(d, &[3, 4, 3, 5], Mode::Batch, false, true)
        }),
        device("batch_norm2d training, few rows", |d| norm(d, &[1, 1, 3, 24], Mode::Batch, false, false)),
        device("batch_norm2d training, running statistics", |d| {
            norm(d, &[2, 4, 4, 8], Mode::Tracked, false, false)
        }),
        device("batch_norm2d training, residual", |d| norm(d, &[2, 5, 4, 8], Mode::Batch, true, false)),
        device("batch_norm2d evaluation, residual, relu", |d| {
            norm(d, &[2, 3, 4, 16], Mode::Running, true, true)
        }),
        device("batch_norm2d evaluation, relu", |d| norm(d, &[2, 3, 4, 9], Mode::Running, false, true)),
        device("batch_norm2d evaluation, residual", |d| norm(d, &[2, 3, 4, 16], Mode::Running, true, false)),
        gpu("batch_norm2d training of base", |d| norm(d, &[160, 16, 16, 64], Mode::Tracked, true, true)),
    ])
    .golden(golden! {
        "batch_norm2d_eval_a", "batch_norm2d_train_a", "odd/batch_norm2d_train_b", "odd/bn_c1",
    }),
    Operator::new("layer_norm", &[X, WEIGHT.keep_f32(), BIAS], |x, a| {
        only(x[0].layer_norm(&x[1], &x[2], a.number("eps")?))
    })
    .accepts(|a| a.number("eps").map(drop))
    .drawn(&[
        gradients("layer_norm", 12, |d| {
            let shape = last_axis(d, 3, 5);
            layer_norm(d, &shape, 0.1)
        }),
        device("layer_norm", |d| layer_norm(d, &[2, 5, 32], 1e-5)),
        device("layer_norm odd width", |d| layer_norm(d, &[3, 37], 1e-5)),
        device("layer_norm many rows", |d| layer_norm(d, &[600, 24], 1e-5)),
        gpu("layer_norm of base", |d| layer_norm(d, &[16, 12, 1024], 1e-5)),
    ])
    .golden(golden!["layer_norm_5x32", "odd/ln2", "odd/ln3"]),
];

/// Up to `axes` axes of at most `largest`, and channels in the last one.
fn last_axis(d: &mut Draw, axes: usize, largest: usize) -> Vec<usize> {
    let before = d.within(0, axes - 1);
    let mut shape = d.shape(before, largest);
    shape.push(d.channels());
    shape
}

fn linear(d: &mut Draw, x: &[usize], out: usize, bias: bool) -> Case {
    let columns = x[x.len() - 1];
    let mut inputs = vec![d.values(x), d.weight(&[out, columns], columns)];
    if bias {
        inputs.push(d.values(&[out]));
    }
    Case::new(inputs)
}

fn matmul(d: &mut Draw, m: usize, k: usize, n: usize) -> Case {
    Case::new([d.values(&[m, k]), d.weight(&[k, n], k)])
}

fn layer_norm(d: &mut Draw, shape: &[usize], eps: f64) -> Case {
    let columns = [shape[shape.len() - 1]];
    let (weight, bias) = (d.between(&columns, 0.5, 1.5), d.values(&columns));
    Case::new([d.values(shape), weight, bias]).with(json!({ "eps": eps }))
}

/// Also the running statistics: (1 − m)·running + m·batch, with the unbiased variance. If `tracked`, a device updates
/// them itself.
fn batch_norm2d(x: &[Tensor], a: &Attributes) -> Result<Output> {
    let (training, tracked) = (a.flag("training")?, a.optional_flag("tracked")?);
    let options =
        BatchNormOptions { eps: a.number("eps")?, residual: x.get(5), relu: a.optional_flag("relu")? };
    let [mean, variance] = [&x[3], &x[4]].map(Tensor::clone);
    let statistics = match training {
        false => Statistics::Running(mean, variance),
        true if tracked && x[0].device() == Device::Cuda => {
            Statistics::Tracked { mean, variance, momentum: a.number("momentum")? }
        }
        true => Statistics::Batch,
    };
    let (y, seen) = x[0].batch_norm2d(&x[1], &x[2], statistics, options)?;
    let others = match seen {
        Some(seen) => {
            let m = a.number("momentum")?;
            let carried = |old: &Tensor, new: Vec<f64>| -> Result<Array> {
                let old = old.to_f64()?;
                Ok(Array::vector(old.iter().zip(new).map(|(o, n)| (1.0 - m) * o + m * n).collect()))
            };
            vec![
                ("running_mean", carried(&x[3], seen.mean)?),
                ("running_var", carried(&x[4], seen.variance)?),
            ]
        }
        None if training => {
            vec![("running_mean", Array::of(&x[3])?), ("running_var", Array::of(&x[4])?)]
        }
        None => Vec::new(),
    };
    Ok(Output { y, others })
}

/// Statistics that a batch normalisation uses.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Statistics of the batch.
    Batch,
    /// Statistics of the batch, and the running ones are updated.
    Tracked,
    /// The running statistics.
    Running,
}

fn norm(d: &mut Draw, shape: &[usize], mode: Mode, residual: bool, relu: bool) -> Case {
    batch_norm2d_of(d, shape, mode, [residual, relu], 0.0, 1e-5)
}

fn any_batch_norm2d(d: &mut Draw, mode: Mode) -> Case {
    let channels = d.pick(&[1, 2, 3, 17, 33, 130]);
    let mut shape = d.shape(3, 4);
    shape.push(channels);
    let (residual_relu, offset) = ([d.flag(), d.flag()], d.pick(&[0.0, 3.0]));
    // A large ε, so that the differences stay smooth with one or two rows.
    batch_norm2d_of(d, &shape, mode, residual_relu, offset, 0.1)
}

/// Inputs of a batch normalisation. Before a ReLU the values are about ±6, so that rounding or a small step does not
/// change their sign.
fn batch_norm2d_of(
    d: &mut Draw,
    shape: &[usize],
    mode: Mode,
    [residual, relu]: [bool; 2],
    offset: f64,
    eps: f64,
) -> Case {
    let channels = [shape[shape.len() - 1]];
    let gap = if relu { 6.0 } else { 0.25 };
    let mut inputs = vec![
        d.between(shape, offset - 1.0, offset + 1.0),
        d.between(&channels, 0.5, 1.5),
        d.away(&channels, if residual { 0.25 } else { gap }),
        d.between(&channels, offset - 0.5, offset + 0.5),
        d.between(&channels, 0.5, 2.0),
    ];
    if residual {
        inputs.push(d.away(shape, gap));
    }
    Case::new(inputs).with(json!({
        "training": mode != Mode::Running,
        "tracked": mode == Mode::Tracked,
        "momentum": if mode == Mode::Tracked { 0.1 } else { 1.0 },
        "eps": eps,
        "relu": relu,
    }))
}
