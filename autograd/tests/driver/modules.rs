//! Modules, kernels and their launches.

use half::f16;
use ssmv_autograd::{
    Error,
    cuda::{Argument, Driver, Emulated, EmulatorOptions, LaunchConfig, Priority, Stream},
};

use ssmv_kernels::{Kernel, Target};

use crate::{SAXPY, bytes, emulated, floats, kernel, on_every_driver, refused, saxpy};

const LINE: LaunchConfig = LaunchConfig { grid: [3, 1, 1], block: [128, 1, 1], shared: 0 };

/// Runs the kernel on `n` elements and compares every bit.
fn check_saxpy(driver: &dyn Driver, stream: Stream, n: usize) {
    let x: Vec<f32> = (0..n).map(|i| i as f32 * 0.37 - 3.0).collect();
    let y: Vec<f32> = (0..n).map(|i| 1.0 / (i as f32 + 1.0)).collect();
    let size = 4 * n as u64;
    let (dx, dy) = (driver.allocate(size).unwrap(), driver.allocate(size).unwrap());
    driver.upload(dx, &bytes(&x), stream).unwrap();
    driver.upload(dy, &bytes(&y), stream).unwrap();
    let function = saxpy(driver);
    let config = LaunchConfig { grid: [n.div_ceil(128) as u32, 1, 1], ..LINE };
    driver
        .launch(function, &config, &[dx.into(), dy.into(), 1.7f32.into(), (n as u32).into()], stream)
        .unwrap();
    let mut back = vec![0; 4 * n];
    driver.download(&mut back, dy, stream).unwrap();
    let expected: Vec<f32> = x.iter().zip(&y).map(|(x, y)| 1.7f32.mul_add(*x, *y)).collect();
    assert_eq!(floats(&back), expected);
    driver.free(dx).unwrap();
    driver.free(dy).unwrap();
}

#[test]
fn a_kernel_written_by_hand_runs() {
    on_every_driver(|driver, stream| {
        for n in [1, 127, 128, 129, 1000] {
            check_saxpy(driver, stream, n);
        }
    });
}

#[test]
fn the_attributes_are_the_compilers() {
    on_every_driver(|driver, _| {
        let attributes = driver.attributes(saxpy(driver)).unwrap();
        assert_eq!((attributes.static_shared, attributes.local), (0, 0));
        assert!(attributes.max_threads >= 128);
    });
}

#[test]
fn arguments_that_do_not_fit_are_refused() {
    on_every_driver(|driver, stream| {
        let function = saxpy(driver);
        let launch = |arguments: &[Argument]| driver.launch(function, &LINE, arguments, stream);
        refused(launch(&[]), &["launch saxpy", "0 arguments given for 4"]);
        refused(
            launch(&[0u64.into(), 0u64.into(), 0u64.into(), 1u32.into()]),
            &["argument 2", "8 bytes", "4"],
        );
        refused(
            launch(&[0u64.into(), 0u64.into(), f16::ONE.into(), 1u32.into()]),
            &["argument 2", "2 bytes"],
        );
        let arguments: [Argument; 4] = [0u64.into(), 0u64.into(), 1.0f32.into(), 0i32.into()];
        launch(&arguments).unwrap();
        for (config, part) in [
            (LaunchConfig { grid: [0, 1, 1], ..LINE }, "grid"),
            (LaunchConfig { grid: [u32::MAX, u32::MAX, u32::MAX], ..LINE }, "grid"),
            (LaunchConfig { block: [1025, 1, 1], ..LINE }, "block"),
            (LaunchConfig { block: [1024, 2, 1], ..LINE }, "1024 at most"),
            (LaunchConfig { shared: 1 << 20, ..LINE }, "shared memory"),
        ] {
            refused(driver.launch(function, &config, &arguments, stream), &["launch saxpy", part]);
        }
    });
}

#[test]
fn shared_memory_beyond_48_kib_is_to_be_asked_for() {
    on_every_driver(|driver, stream| {
        let function = saxpy(driver);
        let arguments: [Argument; 4] = [0u64.into(), 0u64.into(), 1.0f32.into(), 0u32.into()];
        let large = LaunchConfig { shared: 64 << 10, ..LINE };
        refused(
            driver.launch(function, &large, &arguments, stream),
            &["65536 bytes of dynamic shared memory"],
        );
        driver.allow_shared(function, 64 << 10).unwrap();
        driver.launch(function, &large, &arguments, stream).unwrap();
        let most = driver.device().shared_per_block;
        refused(driver.allow_shared(function, most + 1), &["saxpy", &most.to_string()]);
        refused(driver.allow_shared(function, u32::MAX), &["saxpy"]);
    });
}

#[test]
fn broken_text_is_refused_with_the_compilers_log() {
    on_every_driver(|driver, _| {
        let broken = SAXPY.replace("fma.rn.f32", "fmo.rn.f32");
        let line = broken.lines().position(|line| line.contains("fmo")).unwrap() + 1;
        let error = driver.load(&kernel("broken", &broken)).unwrap_err();
        assert!(matches!(&error, Error::Ptx { kernel, .. } if kernel == "broken"), "{error}");
        let text = error.to_string();
        assert!(text.contains(&format!("line {line}")), "{text}");
        assert!(driver.load(&kernel("prose", "this is not PTX")).is_err());
        refused(driver.load(&kernel("zero", "\0")), &["zero byte"]);
    });
}

#[test]
fn kernels_for_other_devices_are_refused() {
    on_every_driver(|driver, _| {
        let future = SAXPY.replace("sm_80", "sm_999");
        refused(driver.load(&kernel("future", &future)), &["future", "sm_999", &driver.device().name]);
    });
    let text = SAXPY.replace("sm_80", "sm_90a").replace("7.0", "8.0");
    let hopper = Kernel { target: Target::Sm90a, ..kernel("saxpy", &text) };
    let ampere = Emulated::new(&EmulatorOptions { capability: (8, 0), ..Default::default() });
    refused(ampere.load(&hopper), &["saxpy", "sm_90a", "sm_80", &ampere.device().name]);
    emulated().load(&hopper).unwrap();
}

#[test]
fn a_modules_variables_go_with_it() {
    let driver = emulated();
    let before = driver.memory().unwrap().free;
    let text = SAXPY.replace(".visible", ".global .align 4 .b8 table[65536];\n.visible");
    let module = driver.load(&kernel("saxpy", &text)).unwrap();
    driver.function(module).unwrap();
    assert!(driver.memory().unwrap().free <= before - 65_536);
    driver.unload_module(module).unwrap();
    assert_eq!(driver.memory().unwrap().free, before);
}

#[test]
fn what_was_taken_back_is_gone() {
    on_every_driver(|driver, stream| {
        let other = driver.load(&kernel("daxpy", SAXPY)).unwrap();
        refused(driver.function(other), &["daxpy"]);
        let module = driver.load(&kernel("saxpy", SAXPY)).unwrap();
        let function = driver.function(module).unwrap();
        driver.module_log(module).unwrap();
        driver.unload_module(module).unwrap();
        refused(driver.unload_module(module), &["module", "destroyed"]);
        refused(driver.function(module), &["module"]);
        refused(driver.module_log(module), &["module"]);
        refused(driver.attributes(function), &["kernel"]);
        refused(driver.launch(function, &LINE, &[], stream), &["kernel"]);
    });
}

#[test]
fn the_emulator_counts_launches_and_names_faults() {
    let driver = emulated();
    let stream = driver.create_stream(Priority::Normal).unwrap();
    check_saxpy(&*driver, stream, 256);
    let reports = driver.take_reports();
    assert_eq!(reports.len(), 1);
    assert_eq!(reports[0].kernel, "saxpy");
    let counts = &reports[0].counts;
    assert_eq!((counts.global_requests, counts.bank_conflicts), (8 * 3, 0), "two loads and a store a warp");
    assert_eq!(counts.global_sectors, counts.global_sectors_ideal);
    assert!(driver.take_reports().is_empty());

    let (x, y) = (driver.allocate(400).unwrap(), driver.allocate(400).unwrap());
    driver.fill(y, 0, 400, stream).unwrap();
    let launch = |n: u32| {
        driver.launch(saxpy(&*driver), &LINE, &[x.into(), y.into(), 1.0f32.into(), n.into()], stream)
    };
    let error = launch(100).unwrap_err();
    assert!(matches!(error, Error::Kernel(_)), "{error}");
    refused(launch(100), &["saxpy", "ld.global.f32", "uninitialised memory"]);
    driver.fill(x, 0, 400, stream).unwrap();
    launch(100).unwrap();
    refused(launch(101), &["out of bounds", "thread (100, 0, 0)"]);
    driver.poison(x, 400, stream).unwrap();
    refused(launch(100), &["uninitialised memory"]);
}
