//! Operators on images [N,H,W,C]: convolutions, pooling and upsampling.

use serde::Serialize;
use ssmv_autograd::{
    Op,
    ops::{conv_transpose2d::ConvTranspose2d, conv2d::Conv2d},
};

use super::*;

const X: Input = Input::new("x").layout(Layout::ChannelsFirst);
const WEIGHT: Input = Input::new("weight").layout(Layout::ChannelsFirst);
const BIAS: Input = Input::new("bias").keep_f32().optional();

pub(super) const TABLE: &[Operator] = &[
    Operator::new("conv2d", &[X, WEIGHT, BIAS], |x, a| {
        let op = conv2d(a)?;
        bordered(x[0].shape(), op.padding)?;
        only(x[0].conv2d(&x[1], x.get(2), op))
    })
    .accepts(|a| conv2d(a).map(drop))
    .shape(|inputs, a| Ok(conv2d(a)?.shape(inputs)?))
    .drawn(&[
        gradients("conv2d", 150, any_conv2d),
        gradients("conv2d, large weight", 2, conv2d_large_weight),
        // An image too large to share a task's scratch with another one.
        gradients("conv2d, large image", 1, |d| conv2d_of(d, [2, 64, 65, 33], [3, 3, 3], 2, 1, false)),
        device("conv2d 3x3", |d| conv2d_of(d, [2, 8, 8, 16], [24, 3, 3], 1, 1, true)),
        device("conv2d 3x3 stride 2", |d| conv2d_of(d, [2, 9, 8, 16], [32, 3, 3], 2, 1, false)),
        device("conv2d 3x3 odd channels", |d| conv2d_of(d, [1, 5, 7, 5], [3, 3, 3], 1, 1, true)),
        device("conv2d 1x1 stride 2", |d| conv2d_of(d, [2, 8, 8, 16], [32, 1, 1], 2, 0, false)),
        device("conv2d 7x7 stride 2 of RGB", |d| conv2d_of(d, [1, 16, 16, 3], [8, 7, 7], 2, 3, false)),
        gpu("conv2d 3x3 of base", |d| conv2d_of(d, [40, 16, 16, 128], [128, 3, 3], 1, 1, false)),
        gpu("conv2d 3x3 stride 2 of base", |d| conv2d_of(d, [40, 16, 16, 64], [128, 3, 3], 2, 1, false)),
        gpu("conv2d 1x1 stride 2 of base", |d| conv2d_of(d, [40, 16, 16, 64], [128, 1, 1], 2, 0, false)),
        gpu("conv2d 7x7 stride 2 of base", |d| conv2d_of(d, [20, 64, 64, 3], [64, 7, 7], 2, 3, false)),
    ])
    .golden(golden! {
        "conv2d_1x1s2", "conv2d_3x3", "conv2d_3x3s2", "conv2d_7x7s2", "odd/conv2d_bigpad",
        "odd/conv2d_bigpad2", "odd/conv2d_even", "odd/conv2d_k1s2p1", "odd/conv2d_k1s2p1w",
        "odd/conv2d_onech", "odd/conv2d_pair", "odd/conv2d_pair2", "odd/conv2d_s3", "odd/conv2d_s3k1p1",
        "odd/conv2d_s3k2", "odd/conv2d_single",
    }),
    Operator::new("conv_transpose2d", &[X, WEIGHT, BIAS], |x, a| {
        let op = conv_transpose2d(a)?;
        bordered(&op.shape(&x.iter().map(Tensor::shape).collect::<Vec<_>>())?, op.padding)?;
        only(x[0].conv_transpose2d(&x[1], x.get(2), op))
    })
    .accepts(|a| conv_transpose2d(a).map(drop))
    .shape(|inputs, a| Ok(conv_transpose2d(a)?.shape(inputs)?))
    .drawn(&[
        gradients("conv_transpose2d", 120, any_conv_transpose2d),
        device("conv_transpose2d 4x4 stride 2", |d| conv_transpose2d_of(d, [2, 4, 4, 16], [4, 4, 8], true)),
        device("conv_transpose2d 4x4 odd channels", |d| {
            conv_transpose2d_of(d, [1, 3, 5, 3], [4, 4, 5], true)
        }),
        gpu("conv_transpose2d 4x4 of base", |d| conv_transpose2d_of(d, [16, 8, 8, 512], [4, 4, 256], false)),
    ])
    .golden(golden! {
        "conv_transpose2d_a", "conv_transpose2d_b", "odd/conv_transpose2d_k1", "odd/conv_transpose2d_k1p",
        "odd/conv_transpose2d_one", "odd/conv_transpose2d_op", "odd/conv_transpose2d_s1",
        "odd/conv_transpose2d_s3k2op",
    }),
    Operator::new("max_pool2d", &[X], |x, a| {
        only(x[0].max_pool2d(a.square("kernel")?, a.square("stride")?, a.square("padding")?))
    })
    .accepts(|a| a.only_usual(&[("dilation", json!(1)), ("ceil_mode", json!(false))]))
    .drawn(&[
        gradients("max_pool2d", 40, any_max_pool2d),
        device("max_pool2d 3x3 stride 2", |d| max_pool2d_of(d, [2, 8, 9, 8])),
        device("max_pool2d odd channels", |d| max_pool2d_of(d, [1, 5, 6, 3])),
        gpu("max_pool2d of base", |d| max_pool2d_of(d, [40, 32, 32, 64])),
    ])
    .golden(golden! {
        "max_pool2d", "odd/max_pool2d_110", "odd/max_pool2d_231", "odd/max_pool2d_311", "odd/max_pool2d_321",
        "odd/max_pool2d_neg", "odd/max_pool2d_ties",
    }),
    Operator::new("upsample_nearest2d", &[X], |x, a| only(x[0].upsample_nearest2d(a.square("scale")?)))
        .shape(|inputs, a| {
            let ([n, h, w, c], scale) =
                (inputs[0].dims("upsample_nearest2d", "x [N,H,W,C]")?, a.square("scale")?);
            Ok(Shape::from([n, h.saturating_mul(scale), w.saturating_mul(scale), c]))
        })
        .drawn(&[
            gradients("upsample_nearest2d", 8, |d| {
                let (scale, mut shape) = (d.within(1, 4), d.shape(3, 5));
                shape.push(d.channels());
                Case::new([d.values(&shape)]).with(json!({ "scale": scale }))
            }),
            device("upsample_nearest2d", |d| upsample_of(d, [2, 3, 4, 8])),
            device("upsample_nearest2d odd channels", |d| upsample_of(d, [1, 2, 3, 5])),
        ])
        .golden(golden!["upsample_nearest2d", "odd/upsample_1", "odd/upsample_3"]),
];

fn conv2d(a: &Attributes) -> Result<Conv2d> {
    a.only_usual(&[("dilation", json!(1)), ("groups", json!(1)), ("padding_mode", json!("zeros"))])?;
    Ok(Conv2d { stride: a.pair("stride")?, padding: a.pair("padding")? })
}

fn conv_transpose2d(a: &Attributes) -> Result<ConvTranspose2d> {
    a.only_usual(&[("dilation", json!(1)), ("groups", json!(1))])?;
    let output_padding = if a.has("output_padding") { a.pair("output_padding")? } else { [0; 2] };
    Ok(ConvTranspose2d { stride: a.pair("stride")?, padding: a.pair("padding")?, output_padding })
}

/// Checks the size of an image with its padding.
fn bordered(image: &Shape, padding: [usize; 2]) -> Result<()> {
    let [_, h, w, c] = image.dims("padding", "[N,H,W,C]")?;
    room(&[h.saturating_add(2 * padding[0]), w.saturating_add(2 * padding[1]), c])
}

fn any_conv2d(d: &mut Draw) -> Case {
    let (cin, cout) = (d.channels(), d.channels());
    let kernel = [d.pick(&[1, 2, 3, 3, 4, 5, 7]), d.pick(&[1, 2, 3, 3, 4, 5, 7])];
    let stride = [d.within(1, 3), d.within(1, 3)];
    let padding = kernel.map(|k| d.within(0, k + 1));
    // At least one patch fits.
    let [h, w] = [0, 1].map(|i: usize| {
        let least = kernel[i].saturating_sub(2 * padding[i]).max(1);
        d.within(least, least + 5)
    });
    let (batch, bias) = (d.pick(&[1, 1, 2, 3, 19]), d.flag());
    conv2d_of(d, [batch, h, w, cin], [cout, kernel[0], kernel[1]], stride, padding, bias)
}

/// A weight too large for a separate sum in each task of its gradient.
fn conv2d_large_weight(d: &mut Draw) -> Case {
    let (cin, cout) = (d.within(70, 75), d.within(110, 115));
    let (batch, stride) = (d.within(1, 3), d.within(1, 2));
    conv2d_of(d, [batch, 4, 3, cin], [cout, 3, 3], stride, 1, false)
}

/// `weight` has the output's channels, rows and columns.
fn conv2d_of(
    d: &mut Draw,
    x: [usize; 4],
    [out, rows, columns]: [usize; 3],
    stride: impl Serialize,
    padding: impl Serialize,
    bias: bool,
) -> Case {
    let mut inputs = vec![d.values(&x), d.weight(&[out, rows, columns, x[3]], rows * columns * x[3])];
    if bias {
        inputs.push(d.values(&[out]));
    }
    Case::new(inputs).with(json!({ "stride": stride, "padding": padding }))
}

fn any_conv_transpose2d(d: &mut Draw) -> Case {
    let (cin, cout) = (d.channels(), d.channels());
    let kernel = [d.within(1, 5), d.within(1, 5)];
    let stride = [d.within(1, 3), d.within(1, 3)];
    let output_padding = stride.map(|s| d.within(0, s - 1));
    let [h, w] = [d.within(1, 5), d.within(1, 5)];
    let padding = [0, 1].map(|i: usize| {
        let full = ([h, w][i] - 1) * stride[i] + kernel[i] + output_padding[i];
        d.within(0, ((full - 1) / 2).min(kernel[i]))
    });
    let (batch, bias) = (d.pick(&[1, 1, 2, 18]), d.flag());
    conv_transpose2d_of(d, [batch, h, w, cin], [kernel[0], kernel[1], cout], bias)
        .with(json!({ "stride": stride, "padding": padding, "output_padding": output_padding }))
}

/// `weight` has rows, columns and the output's channels; stride 2, padding 1, as in the decoder.
fn conv_transpose2d_of(d: &mut Draw, x: [usize; 4], [rows, columns, out]: [usize; 3], bias: bool) -> Case {
    let fan_in = (rows * columns * x[3]).div_ceil(4);
    let mut inputs = vec![d.values(&x), d.weight(&[x[3], rows, columns, out], fan_in)];
    if bias {
        inputs.push(d.values(&[out]));
    }
    Case::new(inputs).with(json!({ "stride": 2, "padding": 1 }))
}

fn any_max_pool2d(d: &mut Draw) -> Case {
    let (kernel, stride) = (d.within(1, 5), d.within(1, 3));
    let padding = d.within(0, kernel / 2);
    let least = (kernel - 2 * padding).max(1);
    let [h, w] = [d.within(least, least + 7), d.within(least, least + 7)];
    let shape = [d.within(1, 3), h, w, d.channels()];
    Case::new([d.distinct(&shape)]).with(json!({ "kernel": kernel, "stride": stride, "padding": padding }))
}

fn max_pool2d_of(d: &mut Draw, x: [usize; 4]) -> Case {
    Case::new([d.values(&x)]).with(json!({ "kernel": 3, "stride": 2, "padding": 1 }))
}

fn upsample_of(d: &mut Draw, x: [usize; 4]) -> Case {
    Case::new([d.values(&x)]).with(json!({ "scale": 2 }))
}
