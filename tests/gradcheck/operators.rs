//! The table: one row an operator.

use std::sync::Arc;

use ssmv_autograd::{
    Tensor,
    ops::{
        batch_norm2d::{BatchNormOptions, Statistics},
        conv_transpose2d::ConvTranspose2d,
        conv2d::Conv2d,
    },
};

use super::{
    check::{Case, Row},
    draw::Draw,
};

/// Every operator.
pub const TABLE: &[Row] = &[
    Row { name: "linear", cases: 12, draw: linear },
    Row { name: "matmul", cases: 8, draw: matmul },
    Row { name: "conv2d", cases: 150, draw: conv2d },
    Row { name: "conv2d, large weight", cases: 2, draw: conv2d_large_weight },
    Row { name: "conv2d, large image", cases: 1, draw: conv2d_large_image },
    Row { name: "conv_transpose2d", cases: 120, draw: conv_transpose2d },
    Row { name: "batch_norm2d, training", cases: 40, draw: |draw| batch_norm2d(draw, true) },
    Row { name: "batch_norm2d, evaluation", cases: 12, draw: |draw| batch_norm2d(draw, false) },
    Row { name: "layer_norm", cases: 12, draw: layer_norm },
    Row { name: "relu", cases: 4, draw: |draw| unary(draw, 0.05, Tensor::relu) },
    Row { name: "silu", cases: 4, draw: |draw| unary(draw, 0.0, Tensor::silu) },
    Row { name: "sigmoid", cases: 4, draw: |draw| unary(draw, 0.0, Tensor::sigmoid) },
    Row { name: "tanh", cases: 4, draw: |draw| unary(draw, 0.0, Tensor::tanh) },
    Row { name: "softplus", cases: 4, draw: |draw| unary(draw, 0.0, Tensor::softplus) },
    Row { name: "exp", cases: 4, draw: |draw| unary(draw, 0.0, Tensor::exp) },
    Row { name: "scale", cases: 2, draw: |draw| unary(draw, 0.0, |x| x.scale(-1.75)) },
    Row { name: "add", cases: 4, draw: |draw| binary(draw, Tensor::add) },
    Row { name: "mul", cases: 4, draw: |draw| binary(draw, Tensor::mul) },
    Row { name: "bias", cases: 8, draw: bias },
    Row { name: "concat", cases: 12, draw: concat },
    Row { name: "slice", cases: 12, draw: slice },
    Row { name: "permute", cases: 16, draw: permute },
    Row { name: "reshape", cases: 6, draw: reshape },
    Row { name: "probe", cases: 2, draw: |draw| unary(draw, 0.0, |x| x.probe(Arc::new(|_| Ok(())))) },
    Row { name: "sum", cases: 12, draw: |draw| reduce(draw, Tensor::sum) },
    Row { name: "mean", cases: 12, draw: |draw| reduce(draw, Tensor::mean) },
    Row { name: "max_pool2d", cases: 40, draw: max_pool2d },
    Row { name: "upsample_nearest2d", cases: 8, draw: upsample_nearest2d },
    Row { name: "causal_conv1d", cases: 16, draw: causal_conv1d },
    Row { name: "selective_scan", cases: 30, draw: selective_scan },
    Row { name: "l1_loss", cases: 4, draw: |draw| loss(draw, Tensor::l1_loss) },
    Row { name: "mse_loss", cases: 4, draw: |draw| loss(draw, Tensor::mse_loss) },
];

type Unary = fn(&Tensor) -> ssmv_autograd::Result<Tensor>;
type Binary = fn(&Tensor, &Tensor) -> ssmv_autograd::Result<Tensor>;

fn unary(draw: &mut Draw, gap: f64, f: Unary) -> Case {
    let axes = draw.within(0, 3);
    let shape = draw.shape(axes, 9);
    let x = if gap > 0.0 { draw.away(&shape, gap) } else { draw.between(&shape, -4.0, 4.0) };
    Case::new(String::new(), vec![x], move |x| f(&x[0]))
}

fn binary(draw: &mut Draw, f: Binary) -> Case {
    let axes = draw.within(0, 3);
    let shape = draw.shape(axes, 9);
    let inputs = vec![draw.values(&shape), draw.values(&shape)];
    Case::new(String::new(), inputs, move |x| f(&x[0], &x[1]))
}

fn loss(draw: &mut Draw, f: Binary) -> Case {
    let axes = draw.within(0, 4);
    let shape = draw.shape(axes, 6);
    // |prediction − target| stays away from 0, where L1 has its kink.
    let (target, far) = (draw.values(&shape), draw.away(&shape, 0.05));
    let prediction = Tensor::add(&target, &far).unwrap();
    Case::new(String::new(), vec![prediction, target], move |x| f(&x[0], &x[1]))
}

fn bias(draw: &mut Draw) -> Case {
    let axes = draw.within(1, 4);
    let mut shape = draw.shape(axes, 5);
    shape[axes - 1] = draw.channels();
    let inputs = vec![draw.values(&shape), draw.values(&shape[axes - 1..])];
    Case::new(String::new(), inputs, |x| x[0].bias(&x[1]))
}

fn linear(draw: &mut Draw) -> Case {
    let axes = draw.within(1, 4);
    let mut shape = draw.shape(axes, 6);
    let (cin, cout) = (draw.channels(), draw.channels());
    shape[axes - 1] = cin;
    let mut inputs = vec![draw.values(&shape), draw.values(&[cout, cin])];
    if draw.flag() {
        inputs.push(draw.values(&[cout]));
    }
    Case::new(String::new(), inputs, |x| x[0].linear(&x[1], x.get(2)))
}

fn matmul(draw: &mut Draw) -> Case {
    let (m, k, n) = (draw.channels(), draw.channels(), draw.channels());
    Case::new(String::new(), vec![draw.values(&[m, k]), draw.values(&[k, n])], |x| x[0].matmul(&x[1]))
}

fn conv_case(attributes: Conv2d, inputs: Vec<Tensor>) -> Case {
    Case::new(format!("{attributes:?}"), inputs, move |x| x[0].conv2d(&x[1], x.get(2), attributes))
}

fn conv2d(draw: &mut Draw) -> Case {
    let (cin, cout) = (draw.channels(), draw.channels());
    let kernel = [draw.pick(&[1, 2, 3, 3, 4, 5, 7]), draw.pick(&[1, 2, 3, 3, 4, 5, 7])];
    let stride = [draw.within(1, 3), draw.within(1, 3)];
    let padding = [0, 1].map(|i: usize| draw.within(0, kernel[i] + 1));
    // At least one patch fits.
    let [h, w] = [0, 1].map(|i: usize| {
        let least = kernel[i].saturating_sub(2 * padding[i]).max(1);
        draw.within(least, least + 5)
    });
    let batch = draw.pick(&[1, 1, 2, 3, 19]);
    let mut inputs = vec![draw.values(&[batch, h, w, cin]), draw.values(&[cout, kernel[0], kernel[1], cin])];
    if draw.flag() {
        inputs.push(draw.values(&[cout]));
    }
    conv_case(Conv2d { stride, padding }, inputs)
}

/// A weight too large for a sum of its own in each task of wgrad.
fn conv2d_large_weight(draw: &mut Draw) -> Case {
    let (cin, cout, batch) = (draw.within(70, 75), draw.within(110, 115), draw.within(1, 3));
    let inputs = vec![draw.values(&[batch, 4, 3, cin]), draw.values(&[cout, 3, 3, cin])];
    conv_case(Conv2d::square(draw.within(1, 2), 1), inputs)
}

/// An image too large to share a task's scratch with another one.
fn conv2d_large_image(draw: &mut Draw) -> Case {
    conv_case(Conv2d::square(2, 1), vec![draw.values(&[2, 64, 65, 33]), draw.values(&[3, 3, 3, 33])])
}

fn conv_transpose2d(draw: &mut Draw) -> Case {
    let (cin, cout) = (draw.channels(), draw.channels());
    let kernel = [draw.within(1, 5), draw.within(1, 5)];
    let stride = [draw.within(1, 3), draw.within(1, 3)];
    let output_padding = stride.map(|s| draw.within(0, s - 1));
    let [h, w] = [draw.within(1, 5), draw.within(1, 5)];
    let padding = [0, 1].map(|i: usize| {
        let full = ([h, w][i] - 1) * stride[i] + kernel[i] + output_padding[i];
        draw.within(0, ((full - 1) / 2).min(kernel[i]))
    });
    let batch = draw.pick(&[1, 1, 2, 18]);
    let mut inputs = vec![draw.values(&[batch, h, w, cin]), draw.values(&[cin, kernel[0], kernel[1], cout])];
    if draw.flag() {
        inputs.push(draw.values(&[cout]));
    }
    let attributes = ConvTranspose2d { stride, padding, output_padding };
    Case::new(format!("{attributes:?}"), inputs, move |x| x[0].conv_transpose2d(&x[1], x.get(2), attributes))
}

/// With and without the fused residual and ReLU. Whether the ReLU is open is decided by values of ±6, which no small
/// step turns over.
fn batch_norm2d(draw: &mut Draw, training: bool) -> Case {
    let channels = draw.pick(&[1, 2, 3, 17, 33, 130]);
    let sides = draw.shape(3, 4);
    let mut shape = sides.clone();
    shape.push(channels);
    let (residual, relu) = (draw.flag(), draw.flag());
    let offset = draw.pick(&[0.0, 3.0]);
    let open = |draw: &mut Draw, shape: &[usize]| {
        let gap = if relu { 6.0 } else { 0.1 };
        draw.away(shape, gap)
    };
    let x = draw.between(&shape, offset - 1.0, offset + 1.0);
    let mut inputs = vec![x, draw.between(&[channels], 0.5, 1.5)];
    if residual {
        inputs.push(draw.values(&[channels]));
        inputs.push(open(draw, &shape));
    } else {
        inputs.push(open(draw, &[channels]));
    }
    let statistics =
        (draw.between(&[channels], offset - 0.5, offset + 0.5), draw.between(&[channels], 0.5, 2.0));
    Case::new(format!("residual {residual}, relu {relu}, offset {offset}"), inputs, move |x| {
        let statistics = if training {
            Statistics::Batch
        } else {
            let (mean, variance) = &statistics;
            Statistics::Running(
                mean.to_dtype(x[0].dtype()).unwrap(),
                variance.to_dtype(x[0].dtype()).unwrap(),
            )
        };
        // A large ε, so that the differences stay smooth with one or two rows.
        let options = BatchNormOptions { eps: 0.1, residual: x.get(3), relu };
        Ok(x[0].batch_norm2d(&x[1], &x[2], statistics, options)?.0)
    })
}

fn layer_norm(draw: &mut Draw) -> Case {
    let axes = draw.within(1, 3);
    let mut shape = draw.shape(axes, 5);
    shape[axes - 1] = draw.channels();
    let n = shape[axes - 1];
    let inputs = vec![draw.values(&shape), draw.values(&[n]), draw.values(&[n])];
    Case::new(String::new(), inputs, |x| x[0].layer_norm(&x[1], &x[2], 0.1))
}

fn concat(draw: &mut Draw) -> Case {
    let axes = draw.within(1, 4);
    let shape = draw.shape(axes, 4);
    let axis = draw.within(0, axes - 1);
    let inputs = (0..draw.within(1, 4))
        .map(|_| {
            let mut shape = shape.clone();
            shape[axis] = draw.within(1, 5);
            draw.values(&shape)
        })
        .collect();
    Case::new(format!("axis {axis}"), inputs, move |x| Tensor::concat(&x.iter().collect::<Vec<_>>(), axis))
}

fn slice(draw: &mut Draw) -> Case {
    let axes = draw.within(1, 4);
    let shape = draw.shape(axes, 7);
    let axis = draw.within(0, axes - 1);
    let start = draw.within(0, shape[axis] - 1);
    let len = draw.within(1, shape[axis] - start);
    let x = draw.values(&shape);
    Case::new(format!("{len} from {start} of axis {axis}"), vec![x], move |x| x[0].slice(axis, start, len))
}

fn permute(draw: &mut Draw) -> Case {
    let axes = draw.within(0, 5);
    let (shape, order) = (draw.shape(axes, 5), draw.order(axes));
    let x = draw.values(&shape);
    Case::new(format!("{order:?}"), vec![x], move |x| x[0].permute(&order))
}

fn reshape(draw: &mut Draw) -> Case {
    let [a, b, c] = [draw.within(1, 5), draw.within(1, 5), draw.within(1, 5)];
    let to = draw.pick(&[[a * b, c, 1], [1, a, b * c], [c, b, a]]);
    let x = draw.values(&[a, b, c]);
    Case::new(format!("to {to:?}"), vec![x], move |x| x[0].reshape(to))
}

fn reduce(draw: &mut Draw, f: fn(&Tensor, &[usize]) -> ssmv_autograd::Result<Tensor>) -> Case {
    let axes = draw.within(0, 4);
    let shape = draw.shape(axes, 6);
    let over: Vec<usize> = (0..axes).filter(|_| draw.flag()).collect();
    let x = draw.values(&shape);
    Case::new(format!("axes {over:?}"), vec![x], move |x| f(&x[0], &over))
}

fn max_pool2d(draw: &mut Draw) -> Case {
    let (kernel, stride) = (draw.within(1, 5), draw.within(1, 3));
    let padding = draw.within(0, kernel / 2);
    let least = (kernel - 2 * padding).max(1);
    let [h, w] = [draw.within(least, least + 7), draw.within(least, least + 7)];
    let (batch, channels) = (draw.within(1, 3), draw.channels());
    let x = draw.distinct(&[batch, h, w, channels]);
    Case::new(format!("kernel {kernel}, stride {stride}, padding {padding}"), vec![x], move |x| {
        x[0].max_pool2d(kernel, stride, padding)
    })
}

fn upsample_nearest2d(draw: &mut Draw) -> Case {
    let scale = draw.within(1, 4);
    let mut shape = draw.shape(3, 5);
    shape.push(draw.channels());
    Case::new(format!("scale {scale}"), vec![draw.values(&shape)], move |x| x[0].upsample_nearest2d(scale))
}

fn causal_conv1d(draw: &mut Draw) -> Case {
    let (batch, length, taps) =
        (draw.within(1, 3), draw.pick(&[1, 2, 3, 4, 5, 11]), draw.pick(&[1, 2, 4, 7]));
    let channels = draw.channels();
    let inputs = [&[batch, length, channels][..], &[taps, channels], &[channels]].map(|s| draw.values(s));
    Case::new(String::new(), inputs.into(), |x| x[0].causal_conv1d(&x[1], &x[2]))
}

/// Also lengths past the one up to which all states are kept.
fn selective_scan(draw: &mut Draw) -> Case {
    let length = draw.pick(&[1, 2, 7, 12, 64, 65, 81, 100, 131]);
    let (batch, channels, states) =
        (draw.within(1, 2), draw.pick(&[1, 3, 16, 17, 33]), draw.pick(&[1, 3, 4, 16]));
    let (wide, narrow) = ([batch, length, channels], [batch, length, states]);
    let inputs = vec![
        draw.values(&wide),
        draw.between(&wide, 0.01, 0.5),
        draw.between(&[channels, states], -4.0, -0.1),
        draw.values(&narrow),
        draw.values(&narrow),
        draw.values(&[channels]),
    ];
    Case::new(String::new(), inputs, |x| x[0].selective_scan(&x[1], &x[2], &x[3], &x[4], &x[5]))
}
