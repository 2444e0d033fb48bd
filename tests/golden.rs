//! The golden cases against the engine, and proof that the comparison can fail.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use ssmv_autograd::DType;
use ssmv_raw::verify::{self, Report};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn report(paths: &[PathBuf], dtype: DType) -> Report {
    verify::run(paths, dtype).expect("paths were given")
}

fn assert_passes(dtype: DType) {
    let report = report(&[golden("")], dtype);
    let failures: Vec<String> = report.failures().map(|row| format!("{row:?}")).collect();
    assert!(report.passed(), "{}", failures.join("\n"));
}

#[test]
fn all_cases_pass_in_f64() {
    assert_passes(DType::F64);
}

#[test]
fn all_cases_pass_in_f32() {
    assert_passes(DType::F32);
}

/// A tensor as safetensors has it: dtype, shape, bytes.
type Raw = (Dtype, Vec<usize>, Vec<u8>);

/// A copy of a case in which `edit` has changed the operator's name or the tensors.
fn edited(folder: &Path, name: &str, edit: impl FnOnce(&mut String, &mut HashMap<String, Raw>)) -> PathBuf {
    let bytes = std::fs::read(golden(&format!("{name}.safetensors"))).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let mut metadata = header.metadata().clone().unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: HashMap<String, Raw> = file
        .iter()
        .map(|(k, v)| (k.to_owned(), (v.dtype(), v.shape().to_vec(), v.data().to_vec())))
        .collect();
    edit(metadata.get_mut("op").unwrap(), &mut tensors);
    let views = tensors
        .iter()
        .map(|(k, (dtype, shape, data))| (k.as_str(), TensorView::new(*dtype, shape.clone(), data).unwrap()));
    let path = folder.join(format!("{name}.safetensors"));
    safetensors::serialize_to_file(views, Some(metadata), &path).unwrap();
    path
}

/// Adds `by` to the first element.
fn nudge(raw: &mut Raw, by: f64) {
    let first = f64::from_le_bytes(raw.2[..8].try_into().unwrap()) + by;
    raw.2[..8].copy_from_slice(&first.to_le_bytes());
}

#[test]
fn a_wrong_value_fails_in_its_row_alone() {
    let folder = tempfile::tempdir().unwrap();
    for (case, tensor) in [
        ("conv2d_3x3", "out.y"),
        ("silu", "grad_in.x"),
        ("batch_norm2d_train_a", "out.running_var"),
        ("mamba_mixer_16x5", "grad_param.A_log"),
    ] {
        for (dtype, by) in [(DType::F64, 1e-3), (DType::F32, 0.1), (DType::F64, f64::NAN)] {
            let path = edited(folder.path(), case, |_, tensors| nudge(tensors.get_mut(tensor).unwrap(), by));
            let report = report(&[path], dtype);
            let failed: Vec<&str> = report.failures().map(|row| row.tensor.as_str()).collect();
            assert_eq!(failed, [tensor], "{case} in {dtype} with {by} added");
            assert!(!report.passed());
        }
    }
}

#[test]
fn what_cannot_be_run_is_a_failing_row_that_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let whole = std::fs::read(golden("relu.safetensors")).unwrap();
    let mut far = whole.clone();
    far[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    let mut text = whole.clone();
    text[8..12].fill(0xff);
    let write = |name: &str, bytes: &[u8]| {
        std::fs::write(path(name), bytes).unwrap();
        path(name)
    };
    std::fs::create_dir(path("empty")).unwrap();
    for sub in ["a", "b", "c", "d", "e"] {
        std::fs::create_dir(path(sub)).unwrap();
    }
    let shape = |raw: &mut Raw, shape: &[usize]| {
        raw.1 = shape.to_vec();
        raw.2.resize(shape.iter().product::<usize>() * 8, 0);
    };
    let cases = [
        (path("absent.safetensors"), "cannot read"),
        (path("empty"), "no .safetensors file"),
        (write("none.safetensors", b""), "not a well-formed"),
        (write("cut.safetensors", &whole[..whole.len() - 1]), "not a well-formed"),
        (write("far.safetensors", &far), "not a well-formed"),
        (write("text.safetensors", &text), "not a well-formed"),
        (edited(&path("a"), "relu", |op, _| "gelu".clone_into(op)), "unknown operator \"gelu\""),
        (edited(&path("a"), "silu", |_, t| drop(t.remove("in.x"))), "no tensor in.x"),
        (edited(&path("a"), "tanh", |_, t| drop(t.remove("grad_out.y"))), "no tensor grad_out.y"),
        (edited(&path("b"), "tanh", |_, t| t.retain(|k, _| k == "in.x")), "no reference"),
        (edited(&path("b"), "relu", |op, _| "conv2d".clone_into(op)), "no attribute stride"),
        (edited(&path("b"), "silu", |_, t| shape(t.get_mut("out.y").unwrap(), &[7])), "shape"),
        (edited(&path("c"), "silu", |_, t| shape(t.get_mut("grad_out.y").unwrap(), &[7])), "sent back"),
        (edited(&path("c"), "silu", |_, t| t.get_mut("in.x").unwrap().0 = Dtype::I64), "F64, F32 or F16"),
        (edited(&path("c"), "relu", |op, _| "linear".clone_into(op)), "no tensor in.weight"),
        (edited(&path("d"), "conv2d_3x3", |_, t| shape(t.get_mut("in.x").unwrap(), &[0, 0, 0, 0])), "conv2d"),
        (edited(&path("e"), "conv2d_3x3", |_, t| shape(t.get_mut("in.weight").unwrap(), &[1])), "permute"),
        (
            edited(&path("e"), "max_pool2d", |_, t| shape(t.get_mut("in.x").unwrap(), &[1, 1, 0, 0])),
            "max_pool2d",
        ),
    ];
    for (path, message) in cases {
        let report = report(std::slice::from_ref(&path), DType::F64);
        let said: Vec<&str> = report.rows.iter().filter_map(|row| row.message.as_deref()).collect();
        assert!(!report.passed() && said.iter().any(|m| m.contains(message)), "{}: {said:?}", path.display());
    }
    assert!(verify::run(&[], DType::F64).is_err());
}
