//! What operators cannot take is an error that names the operator, never a panic.

use ssmv_autograd::{
    DType, Result, Tensor,
    ops::{
        batch_norm2d::{BatchNormOptions, Statistics},
        conv_transpose2d::ConvTranspose2d,
        conv2d::Conv2d,
    },
};

fn zeros(shape: &[usize]) -> Tensor {
    Tensor::zeros(shape, DType::F64).unwrap()
}

fn conv(x: &[usize], w: &[usize], stride: usize, padding: usize) -> Result<Tensor> {
    zeros(x).conv2d(&zeros(w), None, Conv2d::square(stride, padding))
}

fn deconv(x: &[usize], w: &[usize], stride: usize, padding: usize, output_padding: usize) -> Result<Tensor> {
    let output_padding = [output_padding; 2];
    let attributes = ConvTranspose2d { output_padding, ..ConvTranspose2d::square(stride, padding) };
    zeros(x).conv_transpose2d(&zeros(w), None, attributes)
}

fn norm(x: &[usize], gamma: &[usize], beta: &[usize]) -> Result<Tensor> {
    let y =
        zeros(x).batch_norm2d(&zeros(gamma), &zeros(beta), Statistics::Batch, BatchNormOptions::default());
    Ok(y?.0)
}

#[test]
fn misfits_are_errors() {
    const HUGE: usize = usize::MAX / 2;
    let (x, w) = ([1, 4, 4, 2], [3, 3, 3, 2]);
    let cases: Vec<(&str, Result<Tensor>)> = vec![
        ("conv2d", conv(&x, &w, 0, 1)),
        ("conv2d", conv(&x, &[3, 3, 3, 1], 1, 1)),
        ("conv2d", conv(&x, &[3, 7, 7, 2], 1, 1)),
        ("conv2d", conv(&x, &[3, 0, 3, 2], 1, 1)),
        ("conv2d", conv(&x, &w, 1, HUGE)),
        ("conv2d", conv(&x, &w, 1, 1 << 31)),
        ("conv2d", conv(&x, &w, 1 << 50, 1 << 50)),
        ("conv2d", conv(&[1, 4, 4, 0], &[3, 3, 3, 0], 1, 1)),
        ("conv2d", conv(&[1, 4, 4, 0], &[3, 3, 3, 0], 1, 0)),
        ("conv2d", conv(&x, &[0, 3, 3, 2], 1, 0)),
        ("conv2d", conv(&[1, 0, 4, 2], &w, 1, 2)),
        ("conv2d", conv(&[0, 4, 4, 2], &w, 1, 2)),
        ("conv2d", conv(&[4, 4, 2], &w, 1, 2)),
        ("conv2d", zeros(&x).conv2d(&zeros(&w), Some(&zeros(&[2])), Conv2d::square(1, 1))),
        ("conv_transpose2d", deconv(&x, &[2, 3, 3, 5], 2, 1, 2)),
        ("conv_transpose2d", deconv(&x, &[2, 3, 3, 5], 0, 1, 0)),
        ("conv_transpose2d", deconv(&x, &[2, 3, 3, 5], 2, 9, 0)),
        ("conv_transpose2d", deconv(&x, &[2, 3, 3, 5], HUGE, 0, 0)),
        ("conv_transpose2d", deconv(&x, &[2, 3, 3, 5], 2, HUGE, 0)),
        ("conv_transpose2d", deconv(&x, &[2, 3, 3, 0], 2, 0, 0)),
        ("conv_transpose2d", deconv(&[1, 4, 4, 0], &[0, 3, 3, 5], 2, 0, 0)),
        ("conv_transpose2d", deconv(&[0, 4, 4, 2], &[2, 3, 3, 5], 2, 0, 0)),
        ("max_pool2d", zeros(&x).max_pool2d(2, 0, 0)),
        ("max_pool2d", zeros(&x).max_pool2d(0, 1, 0)),
        ("max_pool2d", zeros(&x).max_pool2d(16, 1, 8)),
        ("max_pool2d", zeros(&x).max_pool2d(3, 1, 2)),
        ("max_pool2d", zeros(&x).max_pool2d(3, 1, HUGE)),
        ("max_pool2d", zeros(&x).max_pool2d(3, 1, usize::MAX)),
        ("max_pool2d", zeros(&[1, 0, 4, 2]).max_pool2d(2, 1, 1)),
        ("max_pool2d", zeros(&[1, 4, 4]).max_pool2d(2, 1, 1)),
        ("upsample_nearest2d", zeros(&x).upsample_nearest2d(0)),
        ("upsample_nearest2d", zeros(&x).upsample_nearest2d(HUGE)),
        ("upsample_nearest2d", zeros(&x).upsample_nearest2d(1 << 31)),
        ("batch_norm2d", norm(&x, &[2], &[3])),
        ("batch_norm2d", norm(&x, &[3], &[2])),
        ("batch_norm2d", norm(&[1, 0, 4, 2], &[2], &[2])),
        ("batch_norm2d", norm(&[1, 4, 4, 0], &[0], &[0])),
        ("layer_norm", zeros(&x).layer_norm(&zeros(&[3]), &zeros(&[2]), 1e-5)),
        ("layer_norm", zeros(&[3, 0]).layer_norm(&zeros(&[0]), &zeros(&[0]), 1e-5)),
        ("linear", zeros(&[3, 4]).linear(&zeros(&[2, 5]), None)),
        ("linear", zeros(&[3, 4]).linear(&zeros(&[2, 4]), Some(&zeros(&[4])))),
        ("linear", zeros(&[]).linear(&zeros(&[2, 4]), None)),
        ("matmul", zeros(&[3, 4]).matmul(&zeros(&[3, 4]))),
        ("add", zeros(&[3]).add(&zeros(&[4]))),
        ("add", zeros(&[3]).add(&zeros(&[3]).to_dtype(DType::F32).unwrap())),
        ("mul", zeros(&[3]).mul(&zeros(&[3, 4]))),
        ("sub", zeros(&[2, 1]).sub(&zeros(&[3, 1]))),
        ("div", zeros(&[0]).div(&zeros(&[2]))),
        ("add", zeros(&[1 << 40, 1, 0]).add(&zeros(&[1, 1 << 40, 0]))),
        ("softmax", zeros(&[]).softmax()),
        ("log_softmax", zeros(&[]).log_softmax()),
        ("bias", zeros(&[3, 4]).bias(&zeros(&[3]))),
        ("concat", Tensor::concat(&[], 0)),
        ("concat", Tensor::concat(&[&zeros(&[3]), &zeros(&[3])], 1)),
        ("concat", Tensor::concat(&[&zeros(&[3, 2]), &zeros(&[3, 3])], 0)),
        ("slice", zeros(&[3]).slice(0, 2, 2)),
        ("slice", zeros(&[3]).slice(0, 2, usize::MAX)),
        ("slice", zeros(&[3]).slice(1, 0, 0)),
        ("permute", zeros(&[3, 2]).permute(&[0, 0])),
        ("permute", zeros(&[3, 2]).permute(&[0])),
        ("reshape", zeros(&[3, 2]).reshape([5])),
        ("reshape", zeros(&[3, 2]).reshape([HUGE, HUGE])),
        ("sum", zeros(&[3, 2]).sum(&[1, 0])),
        ("mean", zeros(&[3, 2]).mean(&[2])),
        ("causal_conv1d", zeros(&[1, 3, 2]).causal_conv1d(&zeros(&[4, 3]), &zeros(&[2]))),
        ("causal_conv1d", zeros(&[1, 3, 2]).causal_conv1d(&zeros(&[0, 2]), &zeros(&[2]))),
        ("l1_loss", zeros(&[3]).l1_loss(&zeros(&[4]))),
        ("mse_loss", zeros(&[0]).mse_loss(&zeros(&[0]))),
        ("selective_scan", {
            let u = zeros(&[1, 3, 2]);
            u.selective_scan(&u, &zeros(&[2, 4]), &zeros(&[1, 3, 4]), &zeros(&[1, 3, 5]), &zeros(&[2]))
        }),
        ("zeros", Tensor::zeros([HUGE, 4], DType::F32)),
        ("tensor", Tensor::new([2, 2], &[1.0f32])),
    ];
    for (i, (op, result)) in cases.into_iter().enumerate() {
        let message = result.err().unwrap_or_else(|| panic!("case {i} of {op} passed")).to_string();
        assert!(message.starts_with(op), "case {i} of {op}: {message}");
    }
}

/// Values that are not numbers come through, instead of being lost in a maximum.
#[test]
fn nan_stays_nan() {
    let x = Tensor::new([1, 2, 2, 1], &[1.0, f64::NAN, 3.0, 2.0]).unwrap();
    for (op, y) in [
        ("relu", x.relu()),
        ("silu", x.silu()),
        ("sigmoid", x.sigmoid()),
        ("tanh", x.tanh()),
        ("softplus", x.softplus()),
        ("exp", x.exp()),
        ("log", x.log()),
        ("sqrt", x.sqrt()),
        ("neg", x.neg()),
        ("sub", x.sub(&x)),
        ("div", x.div(&x)),
        ("softmax", x.reshape([4]).unwrap().softmax()),
        ("log_softmax", x.reshape([4]).unwrap().log_softmax()),
        ("max_pool2d", x.max_pool2d(2, 2, 0)),
        ("sum", x.sum(&[])),
        ("l1_loss", x.l1_loss(&x)),
    ] {
        assert!(y.unwrap().to_f64().unwrap().iter().any(|v| v.is_nan()), "{op}");
    }
}
