//! What stands above the driver: buffers, kernels found again, captured steps, input sent beside the work.

use ssmv_autograd::{
    Result,
    cuda::{Backend, Cuda, UploadBuffer},
};
use ssmv_kernels::{Kernel, pointwise::unary::SILU, ptx::F32};

use crate::{SAXPY, refused, with_every_driver};

/// The kernel as the kernel crate gives it.
fn kernel(n: u32) -> Kernel {
    Kernel { grid: [n.div_ceil(128), 1, 1], block: [128, 1, 1], ..crate::kernel("saxpy", SAXPY) }
}

fn on_every_device(case: impl Fn(&Cuda)) {
    with_every_driver(|driver| {
        let cuda = Cuda::over(driver).unwrap();
        case(&cuda);
        cuda.synchronize().unwrap();
        assert_eq!(cuda.memory_report().in_use, 0, "every buffer is given back");
    });
}

#[test]
fn buffers_hold_what_they_are_given() {
    on_every_device(|cuda| {
        let mut a = cuda.copy_of(&[1.0f32, 2.0, 3.0]).unwrap();
        assert_eq!((a.len(), a.bytes(), a.is_empty()), (3, 12, false));
        assert_eq!(a.download().unwrap(), [1.0, 2.0, 3.0]);
        let b = cuda.zeros::<f32>(3).unwrap();
        a.copy_from(&b).unwrap();
        assert_eq!(a.download().unwrap(), [0.0; 3]);
        assert_eq!(a.address_of(2).unwrap().0, a.address().0 + 8);
        refused(a.address_of(4), &["element 4"]);
        refused(a.upload(&[1.0]), &["upload", "1 values", "3"]);
        refused(a.download_into(&mut [0.0; 4]), &["download"]);
        refused(a.copy_from(&cuda.zeros(4).unwrap()), &["copy"]);
        assert!(cuda.copy_of::<u8>(&[]).unwrap().download().unwrap().is_empty());
        refused(cuda.uninit::<u64>(usize::MAX), &["allocate"]);
        assert!(cuda.memory_report().peak_in_use >= 24);
    });
}

#[test]
fn memory_that_comes_back_is_used_again_and_spoilt() {
    on_every_device(|cuda| {
        let first = cuda.copy_of(&[1.0f32; 100]).unwrap();
        let address = first.address();
        drop(first);
        let held = cuda.memory_report().held;
        let second = cuda.uninit::<f32>(100).unwrap();
        assert_eq!(second.address(), address);
        assert_eq!(cuda.memory_report().held, held);
        // What a kernel would read there is not the old value: the emulator refuses, a GPU's build with debug has NaN.
        let y = cuda.zeros::<f32>(100).unwrap();
        let arguments = [(&second).into(), (&y).into(), 1.0f32.into(), 100u32.into()];
        let ran = cuda.run(&kernel(100), &arguments).and_then(|()| y.download());
        match cuda.driver().backend() {
            Backend::Emulated => refused(ran, &["uninitialised memory"]),
            Backend::Nvidia if cfg!(debug_assertions) => assert!(ran.unwrap().iter().all(|v| v.is_nan())),
            Backend::Nvidia | Backend::Counting => drop(ran.unwrap()),
        }
        drop((second, y));
        cuda.trim().unwrap();
        assert_eq!(cuda.memory_report().held, 0);
    });
}

#[test]
fn kernels_are_compiled_once() {
    on_every_device(|cuda| {
        let loaded = cuda.load(&kernel(100)).unwrap();
        let larger = cuda.load(&Kernel { shared: 64 << 10, ..kernel(1000) }).unwrap();
        assert!(loaded.shares_code(&larger) && loaded.config() != larger.config());
        assert_eq!((loaded.name(), larger.config().grid), ("saxpy", [8, 1, 1]));
        let other_text = Kernel { ptx: format!("{SAXPY}\n// changed"), ..kernel(100) };
        assert!(!loaded.shares_code(&cuda.load(&other_text).unwrap()));
        let y = cuda.zeros::<f32>(4).unwrap();
        let arguments = [(&y).into(), (&y).into(), 1.0f32.into(), 4u32.into()];
        [&larger, &loaded, &larger].iter().for_each(|kernel| cuda.launch(kernel, &arguments).unwrap());

        let written = std::cell::Cell::new(0);
        let find = |n: u32| {
            let plan = cuda.plan(&("saxpy", n), |(_, n), _| {
                written.set(written.get() + 1);
                Ok(kernel(*n).into())
            });
            plan.unwrap().kernels().next().unwrap().clone()
        };
        let (a, b, c) = (find(100), find(200), find(100));
        assert_eq!(written.get(), 2);
        assert!(a.config() == c.config() && a.config() != b.config());
        // Another type of specification is another map.
        cuda.plan(&100u32, |n, _| Ok(kernel(*n).into())).unwrap();
        refused(
            cuda.load(&Kernel { name: "nothing".to_owned(), ptx: ".version".to_owned(), ..kernel(1) }),
            &["nothing"],
        );
    });
}

#[test]
fn kernels_are_compiled_side_by_side() {
    on_every_device(|cuda| {
        let texts = (0..24).map(|i| Kernel { ptx: format!("{SAXPY}\n// {}", i % 12), ..kernel(100) });
        let texts: Vec<Kernel> = texts.collect();
        let done = std::sync::atomic::AtomicUsize::new(0);
        let count = || {
            done.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        };
        cuda.load_all(&texts, count).unwrap();
        assert_eq!((done.into_inner(), cuda.kernels().len()), (24, 12));
        let y = cuda.zeros::<f32>(4).unwrap();
        let arguments = [(&y).into(), (&y).into(), 1.0f32.into(), 4u32.into()];
        texts.iter().for_each(|kernel| cuda.run(kernel, &arguments).unwrap());
        let bad = Kernel { name: "bad".to_owned(), ptx: ".version".to_owned(), ..kernel(1) };
        refused(cuda.load_all(&[kernel(1), bad], || ()), &["bad"]);
        assert_eq!(cuda.kernels().len(), 13, "a refused kernel is not counted");
    });
}

#[test]
fn kernels_of_the_kernel_crate_run() {
    on_every_device(|cuda| {
        let values: Vec<f32> = (0..1000).map(|i| (i as f32 - 500.0) / 50.0).collect();
        let x = cuda.copy_of(&values).unwrap();
        let y = cuda.uninit::<f32>(values.len()).unwrap();
        cuda.launch_one(&("silu", values.len()), &[(&x).into(), (&y).into()], |_, target| {
            Ok(SILU.forward::<F32>(values.len() as u32, target))
        })
        .unwrap();
        for (i, (y, x)) in y.download().unwrap().iter().zip(&values).enumerate() {
            let expected = x / (1.0 + (-x).exp());
            assert!(
                (y - expected).abs() <= 1e-5 * expected.abs().max(1e-3),
                "[{i}] silu({x}) = {y}, not {expected}"
            );
        }
    });
}

/// y ← y + x/2 + x/2 through a temporary.
fn step(
    cuda: &Cuda,
    x: &ssmv_autograd::cuda::DeviceBuffer<f32>,
) -> Result<ssmv_autograd::cuda::DeviceBuffer<f32>> {
    let n = x.len() as u32;
    let loaded = cuda.load(&kernel(n))?;
    let mut temporary = cuda.zeros::<f32>(x.len())?;
    cuda.launch(&loaded, &[x.into(), (&mut temporary).into(), 0.5f32.into(), n.into()])?;
    let mut y = cuda.uninit::<f32>(x.len())?;
    y.copy_from(&temporary)?;
    cuda.launch(&loaded, &[x.into(), (&mut y).into(), 0.5f32.into(), n.into()])?;
    Ok(y)
}

#[test]
fn a_captured_step_keeps_its_memory() {
    on_every_device(|cuda| {
        let values: Vec<f32> = (0..300).map(|i| i as f32).collect();
        let mut x = cuda.copy_of(&values).unwrap();
        refused(cuda.capture(|| step(cuda, &x)), &["before its capture"]);
        assert_eq!(step(cuda, &x).unwrap().download().unwrap(), values);
        let (captured, y) = cuda.capture(|| step(cuda, &x)).unwrap();
        // None of what is taken now may be the graph's.
        let bystanders: Vec<_> = (0..4).map(|_| cuda.copy_of(&values).unwrap()).collect();
        for round in 1..4 {
            let scaled: Vec<f32> = values.iter().map(|v| v * round as f32).collect();
            x.upload(&scaled).unwrap();
            captured.launch().unwrap();
            assert_eq!(y.download().unwrap(), scaled);
        }
        bystanders.iter().for_each(|buffer| assert_eq!(buffer.download().unwrap(), values));
        refused(cuda.capture(|| x.download()), &["copy to the host"]);
        refused(cuda.capture(|| cuda.synchronize()), &["wait for a stream"]);
        captured.launch().unwrap();
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            cuda.capture(|| -> Result<()> { panic!("in the middle of a capture") })
        }));
        assert!(panicked.is_err());
        assert_eq!(step(cuda, &x).unwrap().download().unwrap(), y.download().unwrap());
    });
}

#[test]
fn a_feed_brings_every_batch_whole() {
    on_every_device(|cuda| {
        let (n, batches) = (1000usize, 7u32);
        let mut places = [UploadBuffer::<f32>::new(cuda, n).unwrap(), UploadBuffer::new(cuda, n).unwrap()];
        let sum = cuda.zeros::<f32>(n).unwrap();
        let loaded = cuda.load(&kernel(n as u32)).unwrap();
        refused(places[0].receive(), &["never recorded"]);
        for batch in 0..batches {
            let place = &mut places[batch as usize % 2];
            place
                .send(|values| values.iter_mut().zip(0u32..).for_each(|(v, i)| *v = (i * batch) as f32))
                .unwrap();
            let input = place.receive().unwrap();
            cuda.launch(&loaded, &[input.into(), (&sum).into(), 1.0f32.into(), (n as u32).into()]).unwrap();
            place.done().unwrap();
        }
        let total = (0..batches).sum::<u32>();
        let expected: Vec<f32> = (0..n as u32).map(|i| (i * total) as f32).collect();
        assert_eq!(sum.download().unwrap(), expected);
    });
}

#[test]
fn marks_measure_on_the_device() {
    on_every_device(|cuda| {
        let (start, end) = (cuda.timed_event().unwrap(), cuda.timed_event().unwrap());
        start.record().unwrap();
        drop(cuda.zeros::<u8>(1 << 20).unwrap());
        end.record().unwrap();
        end.synchronize().unwrap();
        assert!(end.elapsed_ms(&start).unwrap() >= 0.0);
    });
}

#[test]
fn the_emulator_has_one_device() {
    assert!(Cuda::open(Backend::Emulated, 0).unwrap().driver().checks_bounds());
    refused(Cuda::open(Backend::Emulated, 1), &["device 1"]);
}
