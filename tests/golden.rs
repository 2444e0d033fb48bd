//! The golden cases against the engine, and proof that the comparison can fail.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use ssmv_autograd::{
    DType, bf16_available,
    cuda::{Cuda, Emulated, EmulatorOptions},
};
use ssmv_emulator::Approximation;
use ssmv_raw::check::{
    TargetDevice,
    verify::{self, Report},
};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn report(paths: &[PathBuf], dtype: DType) -> Report {
    verify::run(paths, &TargetDevice::Cpu(dtype)).expect("paths were given")
}

fn assert_passes(device: &TargetDevice) {
    assert_pass(&[golden(""), golden("odd")], device);
}

fn assert_pass(paths: &[PathBuf], device: &TargetDevice) {
    let report = verify::run(paths, device).expect("paths were given");
    let failures: Vec<String> = report.failures().map(|row| format!("{row:?}")).collect();
    assert!(report.passed(), "{}", failures.join("\n"));
}

#[test]
fn all_cases_pass_in_f64() {
    assert_passes(&TargetDevice::Cpu(DType::F64));
}

#[test]
fn all_cases_pass_in_f32() {
    assert_passes(&TargetDevice::Cpu(DType::F32));
}

/// The operators with products; all others compute in f32.
#[test]
fn products_pass_in_bf16() {
    if !bf16_available() {
        eprintln!("skipped: this processor has no products of bf16 (avx512_bf16)");
        return;
    }
    let files =
        ["", "odd"].map(|folder| golden(folder).read_dir().unwrap().map(|entry| entry.unwrap().path()));
    let with_products = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy();
        name.starts_with("conv2d_") || name.starts_with("conv_transpose2d_") || name.starts_with("linear_")
    };
    let paths: Vec<PathBuf> = files.into_iter().flatten().filter(with_products).collect();
    assert!(paths.len() > 6, "{paths:?}");
    assert_pass(&paths, &TargetDevice::CpuBf16);
}

/// The kernels of a GPU, under all of the emulator's checks: with approximate instructions to nearest, and with all the
/// error that the PTX ISA allows them.
#[test]
fn all_cases_pass_in_f16_on_the_emulator() {
    for approximation in [Approximation::Nearest, Approximation::Worst] {
        let options = EmulatorOptions { approximation, ..EmulatorOptions::default() };
        assert_passes(&TargetDevice::Cuda(Cuda::over(Arc::new(Emulated::new(&options))).unwrap()));
    }
}

/// A tensor as safetensors has it: dtype, shape, bytes.
type Raw = (Dtype, Vec<usize>, Vec<u8>);
type Metadata = HashMap<String, String>;

/// A copy of a case in which `edit` has changed the metadata or the tensors.
fn edited(folder: &Path, name: &str, edit: impl FnOnce(&mut Metadata, &mut HashMap<String, Raw>)) -> PathBuf {
    let bytes = std::fs::read(golden(&format!("{name}.safetensors"))).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let mut metadata = header.metadata().clone().unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: HashMap<String, Raw> = file
        .iter()
        .map(|(k, v)| (k.to_owned(), (v.dtype(), v.shape().to_vec(), v.data().to_vec())))
        .collect();
    edit(&mut metadata, &mut tensors);
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
    let shape = |raw: &mut Raw, shape: &[usize]| {
        raw.1 = shape.to_vec();
        raw.2.resize(shape.iter().product::<usize>() * 8, 0);
    };
    // Each copy in a folder of its own.
    let copies = std::cell::Cell::new(0);
    let copy = |case: &str, edit: &dyn Fn(&mut Metadata, &mut HashMap<String, Raw>)| {
        copies.set(copies.get() + 1);
        let folder = path(&copies.get().to_string());
        std::fs::create_dir(&folder).unwrap();
        edited(&folder, case, edit)
    };
    let op = |case: &str, op: &str| copy(case, &|m, _| drop(m.insert("op".into(), op.into())));
    let params =
        |case: &str, params: &str| copy(case, &|m, _| drop(m.insert("params".into(), params.into())));
    let without = |case: &str, tensor: &str| copy(case, &|_, t| drop(t.remove(tensor)));
    let resized = |case: &str, tensor: &str, dims: &[usize]| {
        copy(case, &|_, t| shape(t.get_mut(tensor).unwrap(), dims))
    };
    let cases = [
        (path("absent.safetensors"), "cannot read"),
        (path("empty"), "no .safetensors file"),
        (write("none.safetensors", b""), "not a well-formed"),
        (write("cut.safetensors", &whole[..whole.len() - 1]), "not a well-formed"),
        (write("far.safetensors", &far), "not a well-formed"),
        (write("text.safetensors", &text), "not a well-formed"),
        (copy("relu", &|m, _| m.clear()), "no \"op\""),
        (op("relu", "gelu"), "unknown operator \"gelu\""),
        (op("relu", "conv2d"), "no attribute stride"),
        (op("relu", "linear"), "no tensor in.weight"),
        (without("silu", "in.x"), "no tensor in.x"),
        (without("tanh", "grad_out.y"), "no tensor grad_out.y"),
        (without("predictor_nano", "state.encoder.head.bias"), "no tensor state.encoder.head.bias"),
        (copy("tanh", &|_, t| t.retain(|k, _| k == "in.x")), "no reference"),
        (copy("silu", &|_, t| t.get_mut("in.x").unwrap().0 = Dtype::I64), "F64, F32 and F16"),
        (resized("silu", "out.y", &[7]), "shape"),
        (resized("silu", "grad_out.y", &[7]), "sent back"),
        (resized("conv2d_3x3", "in.x", &[0, 0, 0, 0]), "conv2d"),
        (resized("conv2d_3x3", "in.weight", &[1]), "permute"),
        (resized("max_pool2d", "in.x", &[1, 1, 0, 0]), "max_pool2d"),
        (resized("mamba_mixer_16x5", "in.x", &[2, 5]), "in.x [2, 5]"),
        (resized("mamba_mixer_16x5", "param.D", &[5]), "param.D"),
        (resized("predictor_nano", "in.frames", &[2, 4, 3, 16, 16]), "do not fit"),
        (resized("predictor_nano", "in.frames", &[2, 2, 3, 32, 32]), "2 input frames"),
        (resized("adamw", "in.grad.2", &[36]), "in.grad.2"),
        (params("conv2d_3x3", "[]"), "not a JSON object"),
        (params("conv2d_3x3", r#"{"stride":0,"padding":1}"#), "stride"),
        (params("conv2d_3x3", r#"{"stride":-1,"padding":1}"#), "attribute stride"),
        (params("conv2d_3x3", r#"{"stride":[1,1,1],"padding":1}"#), "attribute stride"),
        (params("conv2d_3x3", r#"{"stride":4096,"padding":4096}"#), "out.y has the shape"),
        (params("conv2d_3x3", r#"{"stride":1e300,"padding":1}"#), "attribute stride"),
        (params("conv2d_3x3", r#"{"stride":1,"padding":1,"groups":2}"#), "groups 2 is not supported"),
        (params("upsample_nearest2d", r#"{"scale":4096}"#), "out.y has the shape"),
        (params("max_pool2d", r#"{"kernel":[3,2],"stride":2,"padding":1}"#), "must be equal"),
        (params("predictor_nano", r#"{"preset":"giant","training":true}"#), "\"giant\""),
        (params("mamba_mixer_16x5", r#"{"dim":16,"state":4096,"conv":4096,"expand":4096}"#), "param."),
        (
            params(
                "grad_scaler",
                r#"{"init_scale":1024,"growth_factor":2,"backoff_factor":0.5,"growth_interval":0}"#,
            ),
            "interval 0",
        ),
    ];
    for (path, message) in cases {
        let report = report(std::slice::from_ref(&path), DType::F64);
        let said: Vec<&str> = report.rows.iter().filter_map(|row| row.message.as_deref()).collect();
        assert!(!report.passed() && said.iter().any(|m| m.contains(message)), "{}: {said:?}", path.display());
    }
    assert!(verify::run(&[], &TargetDevice::Cpu(DType::F64)).is_err());
}
