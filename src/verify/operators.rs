//! The table of operators: a name and the function that runs a case of it.

use serde_json::json;
use ssmv_autograd::{
    Op, Shape, Tensor,
    ops::{
        batch_norm2d::{BatchNormOptions, Statistics},
        conv_transpose2d::ConvTranspose2d,
        conv2d::Conv2d,
        linear::Linear,
    },
};

use super::{
    Place,
    case::{Array, Case},
    compare::Outputs,
    composites,
    graph::{Graph, to_channels_first, to_channels_last, to_taps_first},
    training,
};
use crate::{Error, Result};

/// Runs a case in a place and gives what it made, by the names that the references have.
type Operator = fn(&Case, &Place) -> Result<Outputs>;

/// Every operator that cases may name.
pub(super) const TABLE: &[(&str, Operator)] = &[
    ("adamw", training::adamw),
    ("batch_norm2d", batch_norm2d),
    ("causal_conv1d", causal_conv1d),
    ("clip_grad_norm", training::clip_grad_norm),
    ("conv2d", conv2d),
    ("conv_transpose2d", conv_transpose2d),
    ("cosine_annealing", training::cosine_annealing),
    ("grad_scaler", training::grad_scaler),
    ("l1_loss", |case, place| loss(case, place, Tensor::l1_loss)),
    ("layer_norm", layer_norm),
    ("linear", linear),
    ("mamba_mixer", composites::mamba_mixer),
    ("max_pool2d", max_pool2d),
    ("mse_loss", |case, place| loss(case, place, Tensor::mse_loss)),
    ("predictor", composites::predictor),
    ("relu", |case, place| unary(case, place, Tensor::relu)),
    ("selective_scan", selective_scan),
    ("sigmoid", |case, place| unary(case, place, Tensor::sigmoid)),
    ("silu", |case, place| unary(case, place, Tensor::silu)),
    ("softplus", |case, place| unary(case, place, Tensor::softplus)),
    ("tanh", |case, place| unary(case, place, Tensor::tanh)),
    ("upsample_nearest2d", upsample_nearest2d),
];

/// The NCHW shape of an NHWC one.
fn channels_first(shape: &Shape) -> Vec<usize> {
    [0, 3, 1, 2].iter().filter_map(|&axis| shape.get(axis).copied()).collect()
}

fn shapes<'a>(x: &'a Tensor, weight: &'a Tensor, bias: Option<&'a Tensor>) -> Vec<&'a Shape> {
    [x, weight].into_iter().chain(bias).map(Tensor::shape).collect()
}

fn unary(case: &Case, place: &Place, f: fn(&Tensor) -> ssmv_autograd::Result<Tensor>) -> Result<Outputs> {
    let mut graph = Graph::new(case, place);
    let y = f(&graph.input("x")?)?;
    graph.finish(&y)
}

fn loss(
    case: &Case,
    place: &Place,
    f: fn(&Tensor, &Tensor) -> ssmv_autograd::Result<Tensor>,
) -> Result<Outputs> {
    let mut graph = Graph::new(case, place);
    let y = f(&graph.input("prediction")?, &graph.input("target")?)?;
    graph.finish(&y)
}

/// Refuses an NHWC image that its padding would make too large.
fn bordered(graph: &Graph, image: &Shape, padding: [usize; 2]) -> Result<()> {
    let [_, h, w, c] = image.dims("padding", "[N,H,W,C]")?;
    graph.case.room(&[h.saturating_add(2 * padding[0]), w.saturating_add(2 * padding[1]), c])
}

fn conv2d(case: &Case, place: &Place) -> Result<Outputs> {
    case.only_usual(&[("dilation", json!(1)), ("groups", json!(1)), ("padding_mode", json!("zeros"))])?;
    let op = Conv2d { stride: case.pair("stride")?, padding: case.pair("padding")? };
    let mut graph = Graph::new(case, place);
    let (x, weight) = (to_channels_last(&graph.input("x")?)?, to_channels_last(&graph.input("weight")?)?);
    let bias = graph.optional("bias")?;
    graph.promise(&channels_first(&op.shape(&shapes(&x, &weight, bias.as_ref()))?))?;
    bordered(&graph, x.shape(), op.padding)?;
    let y = to_channels_first(&x.conv2d(&weight, bias.as_ref(), op)?)?;
    graph.finish(&y)
}

fn conv_transpose2d(case: &Case, place: &Place) -> Result<Outputs> {
    case.only_usual(&[("dilation", json!(1)), ("groups", json!(1))])?;
    let output_padding = if case.has("output_padding") { case.pair("output_padding")? } else { [0; 2] };
    let op = ConvTranspose2d { stride: case.pair("stride")?, padding: case.pair("padding")?, output_padding };
    let mut graph = Graph::new(case, place);
    let (x, weight) = (to_channels_last(&graph.input("x")?)?, to_channels_last(&graph.input("weight")?)?);
    let bias = graph.optional("bias")?;
    let shape = op.shape(&shapes(&x, &weight, bias.as_ref()))?;
    graph.promise(&channels_first(&shape))?;
    bordered(&graph, &shape, op.padding)?;
    let y = to_channels_first(&x.conv_transpose2d(&weight, bias.as_ref(), op)?)?;
    graph.finish(&y)
}

fn linear(case: &Case, place: &Place) -> Result<Outputs> {
    let mut graph = Graph::new(case, place);
    let (x, weight, bias) = (graph.input("x")?, graph.input("weight")?, graph.optional("bias")?);
    graph.promise(&Linear.shape(&shapes(&x, &weight, bias.as_ref()))?)?;
    let y = x.linear(&weight, bias.as_ref())?;
    graph.finish(&y)
}

/// Also the running statistics: (1 − m)·running + m·batch, with the unbiased variance.
fn batch_norm2d(case: &Case, place: &Place) -> Result<Outputs> {
    let (training, eps) = (case.flag("training")?, case.number("eps")?);
    let mut graph = Graph::new(case, place);
    let x = to_channels_last(&graph.input("x")?)?;
    let (weight, bias) = (graph.wide("weight")?, graph.wide("bias")?);
    let running = |name: &str| case.tensor(&format!("in.running_{name}"));
    let statistics = if training {
        Statistics::Batch
    } else {
        Statistics::Running(place.wide_tensor(running("mean")?)?, place.wide_tensor(running("var")?)?)
    };
    let options = BatchNormOptions { eps, ..BatchNormOptions::default() };
    let (y, seen) = x.batch_norm2d(&weight, &bias, statistics, options)?;
    if let Some(seen) = seen
        && case.get("out.running_mean").is_some()
    {
        let m = case.number("momentum")?;
        for (name, batch) in [("mean", seen.mean), ("var", seen.variance)] {
            let old = &running(name)?.values;
            let new = old.iter().zip(batch).map(|(o, b)| (1.0 - m) * o + m * b).collect();
            graph.outputs.insert(format!("out.running_{name}"), Array::vector(new));
        }
    }
    let y = to_channels_first(&y)?;
    graph.finish(&y)
}

fn layer_norm(case: &Case, place: &Place) -> Result<Outputs> {
    let mut graph = Graph::new(case, place);
    let (x, weight, bias) = (graph.input("x")?, graph.wide("weight")?, graph.wide("bias")?);
    let y = x.layer_norm(&weight, &bias, case.number("eps")?)?;
    graph.finish(&y)
}

fn max_pool2d(case: &Case, place: &Place) -> Result<Outputs> {
    case.only_usual(&[("dilation", json!(1)), ("ceil_mode", json!(false))])?;
    let mut graph = Graph::new(case, place);
    let x = to_channels_last(&graph.input("x")?)?;
    let y = x.max_pool2d(case.square("kernel")?, case.square("stride")?, case.square("padding")?)?;
    let y = to_channels_first(&y)?;
    graph.finish(&y)
}

fn upsample_nearest2d(case: &Case, place: &Place) -> Result<Outputs> {
    let mut graph = Graph::new(case, place);
    let (x, scale) = (graph.input("x")?, case.square("scale")?);
    let [n, c, h, w] = x.shape().dims("upsample_nearest2d", "x [N,C,H,W]")?;
    graph.promise(&[n, c, h.saturating_mul(scale), w.saturating_mul(scale)])?;
    let y = to_channels_first(&to_channels_last(&x)?.upsample_nearest2d(scale)?)?;
    graph.finish(&y)
}

fn causal_conv1d(case: &Case, place: &Place) -> Result<Outputs> {
    if case.has("layout") && case.word("layout")? != "BLD" {
        return Err(Error::Failure(format!("layout {} is not supported; BLD is", case.word("layout")?)));
    }
    let mut graph = Graph::new(case, place);
    let (x, weight, bias) = (graph.input("x")?, graph.wide("weight")?, graph.wide("bias")?);
    let y = x.causal_conv1d(&to_taps_first(&weight)?, &bias)?;
    graph.finish(&y)
}

fn selective_scan(case: &Case, place: &Place) -> Result<Outputs> {
    let mut graph = Graph::new(case, place);
    let (u, delta, a) = (graph.input("u")?, graph.input("delta")?, graph.wide("a")?);
    let y = u.selective_scan(&delta, &a, &graph.input("b")?, &graph.input("c")?, &graph.wide("d")?)?;
    graph.finish(&y)
}
