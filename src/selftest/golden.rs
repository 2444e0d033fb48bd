//! The golden cases, which come with the program, on the device.

use ssmv_autograd::cuda::Cuda;

use super::{Part, sheet::Sheet};
use crate::verify::{Place, run_bytes};

/// Cases by name, and the bytes of their files.
macro_rules! embedded {
    ($constant:ident, $folder:literal: $($name:literal),* $(,)?) => {
        const $constant: &[(&str, &[u8])] = &[$((
            concat!($folder, $name),
            include_bytes!(concat!("../../tests/golden/", $folder, $name, ".safetensors")),
        )),*];
    };
}

#[rustfmt::skip]
embedded!(USUAL, "":
    "adamw", "batch_norm2d_eval_a", "batch_norm2d_train_a", "causal_conv1d_2x6x8", "clip_grad_norm",
    "conv2d_1x1s2", "conv2d_3x3", "conv2d_3x3s2", "conv2d_7x7s2", "conv_transpose2d_a",
    "conv_transpose2d_b", "cosine_annealing", "grad_scaler", "l1_loss", "layer_norm_5x32",
    "linear_6x20x12", "mamba_mixer_16x5", "max_pool2d", "predictor_nano", "relu",
    "selective_scan_1x10x8x16", "selective_scan_2x7x6x4", "sigmoid", "silu", "softplus", "tanh",
    "upsample_nearest2d",
);

#[rustfmt::skip]
embedded!(ODD, "odd/":
    "batch_norm2d_train_b", "bn_c1", "causal_1", "causal_2", "causal_4", "causal_7", "conv2d_bigpad",
    "conv2d_bigpad2", "conv2d_even", "conv2d_k1s2p1", "conv2d_k1s2p1w", "conv2d_onech", "conv2d_pair",
    "conv2d_pair2", "conv2d_s3", "conv2d_s3k1p1", "conv2d_s3k2", "conv2d_single", "conv_transpose2d_k1",
    "conv_transpose2d_k1p", "conv_transpose2d_one", "conv_transpose2d_op", "conv_transpose2d_s1",
    "conv_transpose2d_s3k2op", "linear_nobias_1", "linear_nobias_3", "ln2", "ln3", "max_pool2d_110",
    "max_pool2d_231", "max_pool2d_311", "max_pool2d_321", "max_pool2d_neg", "max_pool2d_ties",
    "relu_huge", "relu_tiny", "scan_1_1", "sigmoid_huge", "sigmoid_tiny", "silu_huge", "silu_tiny",
    "softplus_huge", "softplus_tiny", "tanh_huge", "tanh_tiny", "upsample_1", "upsample_3",
);

/// Runs the cases.
pub(super) fn run(cuda: &Cuda, sheet: &mut Sheet) {
    let place = Place::Device(cuda.clone());
    for (name, bytes) in USUAL.iter().chain(ODD) {
        if !sheet.wants(name) {
            continue;
        }
        let rows = match sheet.is_faulty(name) {
            true => run_bytes(name, &wrong(bytes), &place),
            false => run_bytes(name, bytes, &place),
        };
        for mut row in rows {
            row.case = (*name).to_owned();
            sheet.push(Part::Golden, row);
        }
    }
}

/// The case with another last number.
fn wrong(bytes: &[u8]) -> Vec<u8> {
    let mut wrong = bytes.to_vec();
    if let Some(last) = wrong.last_chunk_mut() {
        *last = 1e3f64.to_le_bytes();
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_files_are_there() {
        for (folder, cases) in [("", USUAL), ("odd/", ODD)] {
            let path = format!("{}/tests/golden/{folder}", env!("CARGO_MANIFEST_DIR"));
            let files = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
            let mut names: Vec<String> = files
                .filter(|path| path.extension().is_some_and(|e| e == "safetensors"))
                .map(|path| format!("{folder}{}", path.file_stem().unwrap().to_str().unwrap()))
                .collect();
            names.sort();
            assert_eq!(cases.iter().map(|(name, _)| *name).collect::<Vec<_>>(), names);
        }
    }
}
