//! Tensors in device memory: what the operators' own comparisons with the CPU do not reach.

use std::sync::Arc;

use ssmv_autograd::{
    Arena, ArenaLayout, DType, Error, Gradients, Shape, Tensor, check_finite,
    cuda::{Backend, Cuda, Emulated, EmulatorOptions},
};

fn emulator() -> Cuda {
    Cuda::open(Backend::Emulated, 0).unwrap()
}

fn on_device(cuda: &Cuda, shape: &[usize], values: &[f32], dtype: DType) -> Tensor {
    Tensor::new(shape, values).unwrap().to_cuda(cuda, dtype).unwrap()
}

/// Every kind of operator may read a parameter that is kept as f16; its gradient arrives in f32.
#[test]
fn a_gradient_of_a_halved_parameter_is_f32_whoever_reads_it() {
    let cuda = emulator();
    let layout = ArenaLayout::new([Shape::from([2, 4]), Shape::from([3])]).unwrap();
    let mut values = vec![0f32; layout.len()];
    values[..8].copy_from_slice(&[1.0, -2.0, 3.0, -4.0, 5.0, -6.0, 7.0, -8.0]);
    let arena = Arena::on_cuda(&cuda, layout, &values, &[true, false]).unwrap();
    let parameter = arena.parameter(0);
    assert_eq!((parameter.dtype(), arena.parameter(1).dtype()), (DType::F16, DType::F32));
    type Function = fn(&Tensor) -> ssmv_autograd::Result<Tensor>;
    let cases: [(&str, Function, [f64; 8]); 5] = [
        ("slice", |x| x.slice(1, 1, 2), [0., 1., 1., 0., 0., 1., 1., 0.]),
        ("relu", |x| x.relu(), [1., 0., 1., 0., 1., 0., 1., 0.]),
        ("permute", |x| x.permute(&[1, 0]), [1.; 8]),
        ("twice", |x| x.add(x), [2.; 8]),
        ("twice by two ways", |x| x.add(&x.slice(0, 0, 2)?), [2.; 8]),
    ];
    for (name, f, want) in cases {
        let mut gradients = arena.gradients().unwrap();
        // Anything that is not overwritten shows.
        let memory = gradients.memory().unwrap();
        memory.upload(&vec![99.0; memory.len()]).unwrap();
        gradients.reset();
        let y = f(&parameter).unwrap();
        let ones = vec![1f32; y.numel()];
        y.backward_from(on_device(&cuda, y.shape(), &ones, DType::F16), &mut gradients).unwrap();
        let got = gradients.memory().unwrap().download(0..8).unwrap();
        assert_eq!(got.iter().map(|&g| f64::from(g)).collect::<Vec<_>>(), want, "{name}");
        let other = gradients.memory().unwrap().download(64..67).unwrap();
        assert_eq!(other, [0.0; 3], "{name}: no gradient has come there");
    }
}

#[test]
fn an_empty_slice_has_a_gradient_of_zeros() {
    let cuda = emulator();
    let x = on_device(&cuda, &[2, 3], &[1.0; 6], DType::F16).leaf();
    let z = on_device(&cuda, &[2, 2], &[1.0; 4], DType::F16).leaf();
    let y = Tensor::concat(&[&x.slice(1, 0, 0).unwrap(), &z], 1).unwrap();
    let mut gradients = Gradients::of_leaves();
    y.backward_from(on_device(&cuda, &[2, 2], &[3.0; 4], DType::F16), &mut gradients).unwrap();
    assert_eq!(gradients.of(&x).unwrap().to_f64().unwrap(), [0.0; 6]);
    assert_eq!(gradients.of(&z).unwrap().to_f64().unwrap(), [3.0; 4]);
}

#[test]
fn what_does_not_go_together_is_refused() {
    let cuda = emulator();
    let half = on_device(&cuda, &[2, 2], &[1.0; 4], DType::F16);
    let single = on_device(&cuda, &[2, 2], &[1.0; 4], DType::F32);
    let host = Tensor::new([2, 2], &[1f32; 4]).unwrap();
    assert!(matches!(half.add(&single), Err(Error::Dtype { op: "add", .. })));
    assert!(matches!(single.add(&host), Err(Error::Misuse { .. })));
    assert!(matches!(single.matmul(&single), Err(Error::Dtype { expected, .. }) if expected.contains("f16")));
    assert!(matches!(host.to_cuda(&cuda, DType::F64), Err(Error::Dtype { .. })));
    assert!(matches!(host.to_dtype(DType::F16), Err(Error::Dtype { .. })));
    assert!(half.values::<f32>().unwrap_err().to_string().contains("to_host"));
    assert!(host.cuda().unwrap_err().to_string().contains("to_cuda"));
    assert_eq!(half.to_host().unwrap().values::<f32>().unwrap(), [1.0; 4]);
}

#[test]
fn the_first_output_that_is_not_finite_is_named_on_this_thread_alone() {
    let cuda = emulator();
    let x = on_device(&cuda, &[3], &[1.0, 60_000.0, -60_000.0], DType::F16);
    let twice = || x.add(&x)?.relu();
    assert_eq!(twice().unwrap().to_f64().unwrap(), [2.0, f64::INFINITY, 0.0]);
    check_finite(true, || {
        let error = twice().unwrap_err();
        assert!(matches!(&error, Error::NotFinite { op: "add", count: 2, first: 1, .. }), "{error}");
        std::thread::scope(|scope| scope.spawn(|| assert!(twice().is_ok())).join().unwrap());
        let host = Tensor::new([2], &[1f32, f32::NAN]).unwrap();
        assert!(matches!(host.relu(), Err(Error::NotFinite { op: "relu", .. })));
    });
    assert!(twice().is_ok());
}

#[test]
fn a_device_that_is_full_says_so() {
    let options = EmulatorOptions { memory: 1 << 16, ..EmulatorOptions::default() };
    let cuda = Cuda::over(Arc::new(Emulated::new(&options))).unwrap();
    let error = Tensor::cuda_zeros(&cuda, [1 << 20], DType::F32).unwrap_err();
    assert!(matches!(&error, Error::OutOfMemory { .. }) && error.to_string().contains("4194304"), "{error}");
}
