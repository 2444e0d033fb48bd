//! Runs kernels on fresh buffers: on the emulator, under all checks, or on a GPU where `SSMV_TEST_DEVICE` is `cuda`. Then
//! the emulator runs them too: it counts, and what differs to the bit is appended to the file that `SSMV_BITS` names.
//!
//! A test that launches kernels with approximate instructions runs twice on the emulator: with results to nearest, and with
//! all the error that the PTX ISA allows ([`at_best_and_worst`]).

use std::{
    cell::Cell,
    io::Write,
    sync::{Arc, Mutex, OnceLock},
};

use ssmv_autograd::cuda::{Argument, Backend, Cuda, DeviceBuffer, Emulated, EmulatorOptions};
use ssmv_emulator::{Approximation, Report};
use ssmv_kernels::{Kernel, Target};

/// An argument of a launch.
pub enum Arg<'a> {
    /// A buffer that the kernel reads.
    In(&'a [u8]),
    /// A buffer of so many bytes that the kernel writes; nothing has written it before.
    Out(usize),
    /// A buffer that the kernel reads and writes.
    InOut(&'a [u8]),
    /// A buffer that the kernel reads from a byte on.
    InFrom(&'a [u8], usize),
    /// A buffer that the kernel reads and writes from a byte on.
    InOutFrom(&'a [u8], usize),
    /// The buffer of the argument of this number.
    Same(usize),
    /// No memory at all: any access is an error.
    Null,
    /// A number.
    U32(u32),
    /// A number.
    F32(f32),
}

/// What [`Arg::Out`] buffers hold before, so that a byte which no kernel writes shows.
pub const POISON: u8 = 0xA5;

thread_local! {
    /// How approximate instructions err in the test of this thread; `None`: the test has not said that it allows for it.
    static APPROXIMATION: Cell<Option<Approximation>> = const { Cell::new(None) };
}

/// Runs a test with both errors of approximate instructions; once on a GPU, which has its own.
pub fn at_best_and_worst(test: impl Fn()) {
    let modes: &[Approximation] = match device().driver().backend() {
        Backend::Nvidia => &[Approximation::Nearest],
        Backend::Emulated | Backend::Counting => &[Approximation::Nearest, Approximation::Worst],
    };
    for &mode in modes {
        APPROXIMATION.set(Some(mode));
        println!("approximations: {mode:?}");
        test();
    }
    APPROXIMATION.set(None);
}

/// How much larger the error of an approximate instruction may be than with results to nearest: 2 ulp instead of half a
/// unit. The factor of a bound that sums of such results are held to.
pub fn slack() -> f64 {
    if APPROXIMATION.get() == Some(Approximation::Worst) { 4.0 } else { 1.0 }
}

/// The device under test, opened once. No device is a failure, not a reason to skip.
fn device() -> &'static Cuda {
    static DEVICE: OnceLock<Cuda> = OnceLock::new();
    DEVICE.get_or_init(|| match std::env::var("SSMV_TEST_DEVICE").as_deref() {
        Ok("cuda") => Cuda::open(Backend::Nvidia, 0).unwrap(),
        Ok("emulator") | Err(_) => Cuda::open(Backend::Emulated, 0).unwrap(),
        Ok(other) => panic!("SSMV_TEST_DEVICE is `{other}`, and must be emulator or cuda"),
    })
}

/// An emulator that computes as the device under test does, with approximate instructions at their worst.
fn worst() -> &'static Cuda {
    static DEVICE: OnceLock<Cuda> = OnceLock::new();
    DEVICE.get_or_init(|| {
        let options = EmulatorOptions::from_environment().unwrap();
        let options = EmulatorOptions { approximation: Approximation::Worst, ..options };
        Cuda::over(Arc::new(Emulated::new(&options))).unwrap()
    })
}

/// The device for some kernels of a test.
fn device_for(kernels: &[Kernel]) -> &'static Cuda {
    let approximate =
        kernels.iter().find(|kernel| [".approx", ".full"].iter().any(|word| kernel.ptx.contains(word)));
    match (APPROXIMATION.get(), approximate) {
        (None, Some(kernel)) => panic!("{} approximates: test it in `at_best_and_worst`", kernel.name),
        (Some(Approximation::Worst), _) => worst(),
        _ => device(),
    }
}

/// An emulator that computes as the device under test does.
fn shadow() -> Cuda {
    let options = EmulatorOptions { capability: device().device().capability, ..Default::default() };
    Cuda::over(Arc::new(Emulated::new(&options))).unwrap()
}

/// The instruction sets that the device under test runs.
pub fn targets() -> Vec<Target> {
    let hopper = device().device().capability == (9, 0);
    Target::ALL.into_iter().filter(|&target| target == Target::Sm80 || hopper).collect()
}

/// [`run_all`] of one kernel.
pub fn run(kernel: &Kernel, args: &[Arg]) -> (Vec<Vec<u8>>, Report) {
    run_all(std::slice::from_ref(kernel), args)
}

/// Launches the kernels in order, all with the same arguments. The contents of the `Out` and `InOut` buffers in order, as
/// the device under test left them, and the emulator's counts added up. Panics with the device's error.
pub fn run_all(kernels: &[Kernel], args: &[Arg]) -> (Vec<Vec<u8>>, Report) {
    let device = device_for(kernels);
    let (outputs, report) = launch(device, kernels, args);
    match device.driver().backend() {
        Backend::Emulated | Backend::Counting => (outputs, report),
        Backend::Nvidia => {
            let (emulated, report) = launch(&shadow(), kernels, args);
            compare(kernels, &outputs, &emulated);
            (outputs, report)
        }
    }
}

/// One launch after the other; reports are only good while no other test's launches come between.
fn launch(device: &Cuda, kernels: &[Kernel], args: &[Arg]) -> (Vec<Vec<u8>>, Report) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let mut buffers: Vec<(DeviceBuffer<u8>, bool)> = Vec::new();
    let mut arguments: Vec<Argument> = Vec::new();
    for arg in args {
        let mut start = 0;
        let (buffer, out) = match arg {
            Arg::U32(x) => {
                arguments.push((*x).into());
                continue;
            }
            Arg::F32(x) => {
                arguments.push((*x).into());
                continue;
            }
            Arg::Same(i) => {
                arguments.push(arguments[*i]);
                continue;
            }
            Arg::Null => {
                arguments.push(Argument::U64(0));
                continue;
            }
            Arg::In(contents) => (device.copy_of(contents).unwrap(), false),
            Arg::InOut(contents) => (device.copy_of(contents).unwrap(), true),
            Arg::InFrom(contents, from) | Arg::InOutFrom(contents, from) => {
                start = *from;
                (device.copy_of(contents).unwrap(), matches!(arg, Arg::InOutFrom(..)))
            }
            Arg::Out(len) => {
                let buffer = device.copy_of(&vec![POISON; *len]).unwrap();
                // The emulator then reports a read of it. On a GPU that would overwrite the poison.
                if device.driver().backend() == Backend::Emulated {
                    let stream = device.compute_stream();
                    device.driver().poison(buffer.address(), buffer.bytes(), stream).unwrap();
                }
                (buffer, true)
            }
        };
        arguments.push(buffer.address_of(start).unwrap().into());
        buffers.push((buffer, out));
    }
    device.driver().take_reports();
    for kernel in kernels {
        device.run(kernel, &arguments).unwrap_or_else(|e| panic!("{}: {e}", kernel.name));
    }
    let outputs =
        buffers.iter().filter(|(_, out)| *out).map(|(buffer, _)| buffer.download().unwrap()).collect();
    let mut total = Report::default();
    device.driver().take_reports().iter().for_each(|report| total += &report.counts);
    (outputs, total)
}

/// Appends a line a kernel and output: how many bytes there are, and how many differ between the GPU and the emulator.
fn compare(kernels: &[Kernel], gpu: &[Vec<u8>], emulator: &[Vec<u8>]) {
    let Ok(path) = std::env::var("SSMV_BITS") else {
        return;
    };
    let names = kernels.iter().map(|k| k.name.as_str()).collect::<Vec<_>>().join(" + ");
    let mut lines = String::new();
    for (i, (gpu, emulator)) in gpu.iter().zip(emulator).enumerate() {
        let different = gpu.iter().zip(emulator).filter(|(a, b)| a != b).count();
        lines += &format!("{names}\toutput {i}\t{different} of {} bytes differ\n", gpu.len());
    }
    // In one write, as other tests append to the file too.
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(lines.as_bytes()).unwrap();
}
