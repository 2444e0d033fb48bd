//! The table of operators: a line a case.

use ssmv_autograd::{
    Device, Tensor,
    ops::{
        batch_norm2d::{BatchNormOptions, Statistics},
        conv_transpose2d::ConvTranspose2d,
        conv2d::Conv2d,
        mamba_inner::MambaInner,
    },
};

use super::{
    draw::Draw,
    operators::{Case, Line},
};
use crate::Result;

const fn small(name: &'static str, make: fn(&mut Draw) -> Result<Case>) -> Line {
    Line { name, large: false, make }
}

/// What only a GPU has the time for: `base`'s sizes.
const fn large(name: &'static str, make: fn(&mut Draw) -> Result<Case>) -> Line {
    Line { name, large: true, make }
}

/// Every operator of the engine, its kernels' odd sizes among them.
pub(super) const TABLE: &[Line] = &[
    small("conv2d 3x3", |d| conv(d, [2, 8, 8, 16], [24, 3, 3], 1, 1, true)),
    small("conv2d 3x3 stride 2", |d| conv(d, [2, 9, 8, 16], [32, 3, 3], 2, 1, false)),
    small("conv2d 3x3 odd channels", |d| conv(d, [1, 5, 7, 5], [3, 3, 3], 1, 1, true)),
    small("conv2d 1x1 stride 2", |d| conv(d, [2, 8, 8, 16], [32, 1, 1], 2, 0, false)),
    small("conv2d 7x7 stride 2 of RGB", |d| conv(d, [1, 16, 16, 3], [8, 7, 7], 2, 3, false)),
    large("conv2d 3x3 of base", |d| conv(d, [40, 16, 16, 128], [128, 3, 3], 1, 1, false)),
    large("conv2d 3x3 stride 2 of base", |d| conv(d, [40, 16, 16, 64], [128, 3, 3], 2, 1, false)),
    large("conv2d 1x1 stride 2 of base", |d| conv(d, [40, 16, 16, 64], [128, 1, 1], 2, 0, false)),
    large("conv2d 7x7 stride 2 of base", |d| conv(d, [20, 64, 64, 3], [64, 7, 7], 2, 3, false)),
    small("conv_transpose2d 4x4 stride 2", |d| conv_transpose(d, [2, 4, 4, 16], [4, 4, 8], true)),
    small("conv_transpose2d 4x4 odd channels", |d| conv_transpose(d, [1, 3, 5, 3], [4, 4, 5], true)),
    large("conv_transpose2d 4x4 of base", |d| conv_transpose(d, [16, 8, 8, 512], [4, 4, 256], false)),
    small("linear", |d| linear(d, &[2, 5, 40], 24, true)),
    small("linear odd sizes", |d| linear(d, &[3, 33], 17, true)),
    small("linear single", |d| linear(d, &[1, 1], 1, true)),
    small("linear split over its inputs", |d| linear(d, &[20, 4096], 64, true)),
    large("linear to base's hidden width", |d| linear(d, &[160, 16384], 1024, true)),
    large("linear to base's latent", |d| linear(d, &[32, 1024], 16384, true)),
    small("matmul", |d| matmul(d, 20, 48, 40)),
    small("matmul odd sizes", |d| matmul(d, 7, 13, 5)),
    large("matmul large", |d| matmul(d, 513, 1025, 257)),
    small("batch_norm2d training", |d| batch_norm(d, &[2, 5, 4, 16], Mode::Batch, false, false)),
    small("batch_norm2d training, residual, relu", |d| {
        batch_norm(d, &[2, 5, 4, 16], Mode::Batch, true, true)
    }),
    small("batch_norm2d training, relu, odd channels", |d| {
        batch_norm(d, &[3, 4, 3, 5], Mode::Batch, false, true)
    }),
    small("batch_norm2d training, few rows", |d| batch_norm(d, &[1, 1, 3, 24], Mode::Batch, false, false)),
    small("batch_norm2d training, running statistics", |d| {
        batch_norm(d, &[2, 4, 4, 8], Mode::Tracked, false, false)
    }),
    small("batch_norm2d training, residual", |d| batch_norm(d, &[2, 5, 4, 8], Mode::Batch, true, false)),
    small("batch_norm2d evaluation, residual, relu", |d| {
        batch_norm(d, &[2, 3, 4, 16], Mode::Running, true, true)
    }),
    small("batch_norm2d evaluation, relu", |d| batch_norm(d, &[2, 3, 4, 9], Mode::Running, false, true)),
    small("batch_norm2d evaluation, residual", |d| batch_norm(d, &[2, 3, 4, 16], Mode::Running, true, false)),
    large("batch_norm2d training of base", |d| batch_norm(d, &[160, 16, 16, 64], Mode::Tracked, true, true)),
    small("layer_norm", |d| layer_norm(d, &[2, 5, 32])),
    small("layer_norm odd width", |d| layer_norm(d, &[3, 37])),
    small("layer_norm many rows", |d| layer_norm(d, &[600, 24])),
    large("layer_norm of base", |d| layer_norm(d, &[16, 12, 1024])),
    small("max_pool2d 3x3 stride 2", |d| max_pool(d, &[2, 8, 9, 8])),
    small("max_pool2d odd channels", |d| max_pool(d, &[1, 5, 6, 3])),
    large("max_pool2d of base", |d| max_pool(d, &[40, 32, 32, 64])),
    small("upsample_nearest2d", |d| upsample(d, &[2, 3, 4, 8])),
    small("upsample_nearest2d odd channels", |d| upsample(d, &[1, 2, 3, 5])),
    small("permute", |d| permute(d, &[2, 3, 4, 5], &[0, 2, 3, 1])),
    small("permute of rows", |d| permute(d, &[3, 4, 2, 8], &[1, 0, 2, 3])),
    small("slice", |d| slice(d, &[3, 7, 8], 1, 2, 4)),
    small("slice of odd columns", |d| slice(d, &[3, 2, 11], 2, 3, 5)),
    small("concat", |d| concat(d, [&[2, 3, 8], &[2, 1, 8], &[2, 4, 8]], 1)),
    small("concat of odd columns", |d| concat(d, [&[3, 5], &[3, 1], &[3, 3]], 1)),
    small("causal_conv1d", |d| causal_conv1d(d, [2, 7, 16])),
    small("causal_conv1d shorter than its taps", |d| causal_conv1d(d, [1, 2, 5])),
    large("causal_conv1d of base", |d| causal_conv1d(d, [16, 12, 2048])),
    small("selective_scan", |d| scan(d, 2, 7, 16, 16)),
    small("selective_scan one step, odd channels", |d| scan(d, 1, 1, 5, 3)),
    small("selective_scan 300 steps", |d| scan(d, 1, 300, 8, 4)),
    large("selective_scan of base", |d| scan(d, 16, 12, 2048, 16)),
    small("mamba_inner", |d| mamba_inner(d, 2, 5, 32, 4)),
    small("mamba_inner odd channels", |d| mamba_inner(d, 1, 3, 6, 1)),
    large("mamba_inner of base", |d| mamba_inner(d, 4, 12, 2048, 64)),
    small("relu", |d| unary(d, Tensor::relu)),
    small("silu", |d| unary(d, Tensor::silu)),
    small("sigmoid", |d| unary(d, Tensor::sigmoid)),
    small("tanh", |d| unary(d, Tensor::tanh)),
    small("softplus", |d| unary(d, Tensor::softplus)),
    small("exp", |d| unary(d, Tensor::exp)),
    small("scale", |d| unary(d, |x| x.scale(-1.75))),
    small("add", |d| binary(d, &[3, 7, 11], Tensor::add)),
    small("mul", |d| binary(d, &[3, 7, 11], Tensor::mul)),
    small("bias", |d| {
        Ok(Case::new(vec![d.input("x", &[3, 7, 11])?, d.input("bias", &[11])?], |x| x[0].bias(&x[1])))
    }),
    small("sum", |d| reduce(d, &[3, 4, 17], &[0, 1], Tensor::sum)),
    small("sum of all", |d| reduce(d, &[5, 33], &[0, 1], Tensor::sum)),
    small("mean", |d| reduce(d, &[3, 4, 17], &[0], Tensor::mean)),
    small("mean of the last axis", |d| reduce(d, &[6, 40], &[1], Tensor::mean)),
    large("mean of many", |d| reduce(d, &[160, 64, 1024], &[0, 1], Tensor::mean)),
    small("l1_loss", |d| binary(d, &[2, 2, 7, 5, 3], Tensor::l1_loss)),
    small("mse_loss", |d| binary(d, &[2, 2, 7, 5, 3], Tensor::mse_loss)),
    small("l1_loss in parts", |d| binary(d, &[4, 32, 32, 3], Tensor::l1_loss)),
    small("mse_loss in parts", |d| binary(d, &[4, 32, 32, 3], Tensor::mse_loss)),
    large("l1_loss of base", |d| binary(d, &[16, 2, 64, 64, 3], Tensor::l1_loss)),
    large("mse_loss of base", |d| binary(d, &[16, 2, 64, 64, 3], Tensor::mse_loss)),
];

/// `weight` has the output's channels, rows and columns.
fn conv(
    d: &mut Draw,
    x: [usize; 4],
    weight: [usize; 3],
    stride: usize,
    padding: usize,
    bias: bool,
) -> Result<Case> {
    let [out, rows, columns] = weight;
    let shape = [out, rows, columns, x[3]];
    let mut inputs = vec![d.input("x", &x)?, d.weight("weight", &shape, rows * columns * x[3])?];
    if bias {
        inputs.push(d.input("bias", &[out])?.wide());
    }
    Ok(Case::new(inputs, move |x| x[0].conv2d(&x[1], x.get(2), Conv2d::square(stride, padding))))
}

/// `weight` has rows, columns and the output's channels; stride 2, padding 1, as the decoder has them.
fn conv_transpose(d: &mut Draw, x: [usize; 4], weight: [usize; 3], bias: bool) -> Result<Case> {
    let [rows, columns, out] = weight;
    let shape = [x[3], rows, columns, out];
    let mut inputs = vec![d.input("x", &x)?, d.weight("weight", &shape, rows * columns * x[3] / 4)?];
    if bias {
        inputs.push(d.input("bias", &[out])?.wide());
    }
    Ok(Case::new(inputs, |x| x[0].conv_transpose2d(&x[1], x.get(2), ConvTranspose2d::square(2, 1))))
}

fn linear(d: &mut Draw, x: &[usize], out: usize, bias: bool) -> Result<Case> {
    let columns = x[x.len() - 1];
    let mut inputs = vec![d.input("x", x)?, d.weight("weight", &[out, columns], columns)?];
    if bias {
        inputs.push(d.input("bias", &[out])?.wide());
    }
    Ok(Case::new(inputs, |x| x[0].linear(&x[1], x.get(2))))
}

fn matmul(d: &mut Draw, m: usize, k: usize, n: usize) -> Result<Case> {
    let inputs = vec![d.input("a", &[m, k])?, d.weight("b", &[k, n], k)?];
    Ok(Case::new(inputs, |x| x[0].matmul(&x[1])))
}

/// Where a batch normalisation's statistics come from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Batch,
    /// The batch's, carried into running ones.
    Tracked,
    Running,
}

/// How much of a batch's statistics goes into the running ones.
const MOMENTUM: f64 = 0.1;

/// Whether a ReLU is open is decided by values of ±6, which no rounding turns over.
fn batch_norm(d: &mut Draw, shape: &[usize], mode: Mode, residual: bool, relu: bool) -> Result<Case> {
    let channels = [shape[shape.len() - 1]];
    let gap = if relu { 6.0 } else { 0.25 };
    let (x, weight) = (d.input("x", shape)?, d.between("weight", &channels, 0.5, 1.5)?.wide());
    let bias = d.away("bias", &channels, if residual { 0.25 } else { gap })?.wide();
    let mean = d.between("mean", &channels, -0.5, 0.5)?.wide().fixed();
    let variance = d.between("variance", &channels, 0.5, 2.0)?.wide().fixed();
    let mut inputs = vec![x, weight, bias, mean, variance];
    if residual {
        inputs.push(d.away("residual", shape, gap)?);
    }
    Ok(Case::with_outputs(inputs, move |x| {
        let options = BatchNormOptions { eps: 1e-5, residual: x.get(5), relu };
        let tracked_there = mode == Mode::Tracked && x[0].device() == Device::Cuda;
        let [mean, variance] = [&x[3], &x[4]].map(Tensor::clone);
        let statistics = match mode {
            Mode::Running => Statistics::Running(mean, variance),
            Mode::Tracked if tracked_there => Statistics::Tracked { mean, variance, momentum: MOMENTUM },
            Mode::Batch | Mode::Tracked => Statistics::Batch,
        };
        let (y, seen) = x[0].batch_norm2d(&x[1], &x[2], statistics, options)?;
        let mut outputs = vec![("y", y)];
        match (mode, seen) {
            (Mode::Running, _) => {}
            // What the device has carried on where it was.
            (Mode::Tracked, None) => {
                outputs.extend([("running mean", x[3].clone()), ("running variance", x[4].clone())]);
            }
            (_, Some(seen)) => {
                let share = if mode == Mode::Tracked { MOMENTUM } else { 1.0 };
                for (name, old, new) in
                    [("running mean", &x[3], seen.mean), ("running variance", &x[4], seen.variance)]
                {
                    let old = old.to_f64()?;
                    let carried: Vec<f64> = old.iter().zip(new).map(|(o, n)| o + share * (n - o)).collect();
                    outputs.push((name, Tensor::new([carried.len()], &carried)?));
                }
            }
            (Mode::Batch, None) => {}
        }
        Ok(outputs)
    }))
}

fn layer_norm(d: &mut Draw, shape: &[usize]) -> Result<Case> {
    let columns = [shape[shape.len() - 1]];
    let (weight, bias) = (d.between("weight", &columns, 0.5, 1.5)?.wide(), d.input("bias", &columns)?.wide());
    Ok(Case::new(vec![d.input("x", shape)?, weight, bias], |x| x[0].layer_norm(&x[1], &x[2], 1e-5)))
}

fn max_pool(d: &mut Draw, shape: &[usize]) -> Result<Case> {
    Ok(Case::new(vec![d.input("x", shape)?], |x| x[0].max_pool2d(3, 2, 1)))
}

fn upsample(d: &mut Draw, shape: &[usize]) -> Result<Case> {
    Ok(Case::new(vec![d.input("x", shape)?], |x| x[0].upsample_nearest2d(2)))
}

fn permute(d: &mut Draw, shape: &[usize], order: &'static [usize]) -> Result<Case> {
    Ok(Case::new(vec![d.input("x", shape)?], |x| x[0].permute(order)))
}

fn slice(d: &mut Draw, shape: &[usize], axis: usize, start: usize, len: usize) -> Result<Case> {
    Ok(Case::new(vec![d.input("x", shape)?], move |x| x[0].slice(axis, start, len)))
}

fn concat(d: &mut Draw, shapes: [&[usize]; 3], axis: usize) -> Result<Case> {
    let inputs = vec![d.input("a", shapes[0])?, d.input("b", shapes[1])?, d.input("c", shapes[2])?];
    Ok(Case::new(inputs, move |x| Tensor::concat(&[&x[0], &x[1], &x[2]], axis)))
}

fn causal_conv1d(d: &mut Draw, x: [usize; 3]) -> Result<Case> {
    let channels = x[2];
    let (weight, bias) = (d.input("weight", &[4, channels])?.wide(), d.input("bias", &[channels])?.wide());
    Ok(Case::new(vec![d.input("x", &x)?, weight, bias], |x| x[0].causal_conv1d(&x[1], &x[2])))
}

fn scan(d: &mut Draw, batch: usize, length: usize, channels: usize, states: usize) -> Result<Case> {
    let (wide, narrow) = ([batch, length, channels], [batch, length, states]);
    let inputs = vec![
        d.input("u", &wide)?,
        d.between("delta", &wide, 0.01, 0.5)?,
        d.between("A", &[channels, states], -4.0, -0.1)?.wide(),
        d.input("B", &narrow)?,
        d.input("C", &narrow)?,
        d.input("D", &[channels])?.wide(),
    ];
    Ok(Case::new(inputs, |x| x[0].selective_scan(&x[1], &x[2], &x[3], &x[4], &x[5])))
}

/// The mixer between its projections, with 16 states and 4 taps.
fn mamba_inner(d: &mut Draw, batch: usize, length: usize, channels: usize, rank: usize) -> Result<Case> {
    let (states, taps) = (16, 4);
    let inputs = vec![
        d.input("uz", &[batch, length, 2 * channels])?,
        d.weight("conv weight", &[taps, channels], taps)?.wide(),
        d.input("conv bias", &[channels])?.wide(),
        d.weight("x_proj", &[rank + 2 * states, channels], channels)?,
        d.weight("dt_proj", &[channels, rank], rank)?,
        d.between("dt_bias", &[channels], -4.0, -1.0)?.wide(),
        d.between("A_log", &[channels, states], 0.0, 2.5)?.wide(),
        d.input("D", &[channels])?.wide(),
    ];
    let case = Case::new(inputs, |x| {
        x[0].mamba_inner(&MambaInner {
            conv_weight: &x[1],
            conv_bias: &x[2],
            x_proj: &x[3],
            dt_proj: &x[4],
            dt_bias: &x[5],
            a_log: &x[6],
            d: &x[7],
        })
    });
    Ok(case.composite())
}

type Unary = fn(&Tensor) -> ssmv_autograd::Result<Tensor>;
type Binary = fn(&Tensor, &Tensor) -> ssmv_autograd::Result<Tensor>;

fn unary(d: &mut Draw, f: Unary) -> Result<Case> {
    Ok(Case::new(vec![d.between("x", &[3, 7, 11], -4.0, 4.0)?], move |x| f(&x[0])))
}

fn binary(d: &mut Draw, shape: &[usize], f: Binary) -> Result<Case> {
    Ok(Case::new(vec![d.input("a", shape)?, d.input("b", shape)?], move |x| f(&x[0], &x[1])))
}

type Reduce = fn(&Tensor, &[usize]) -> ssmv_autograd::Result<Tensor>;

fn reduce(d: &mut Draw, shape: &[usize], axes: &'static [usize], f: Reduce) -> Result<Case> {
    Ok(Case::new(vec![d.input("x", shape)?], move |x| f(&x[0], axes)))
}
