//! The driver seam: one table of cases for the emulated driver and, with `SSMV_TEST_DEVICE=cuda`, for the machine's own;
//! then a missing driver fails the tests.

mod counting;
mod cuda;
mod memory;
mod modules;
mod peers;
mod streams;

use std::sync::{Arc, Mutex, PoisonError};

use ssmv_autograd::cuda::{
    Backend, Cuda, Driver, Emulated, EmulatorOptions, Function, Nvidia, Priority, Stream,
};
use ssmv_kernels::{Kernel, Parameter, Target};

/// Bytes of the emulated device.
const MEMORY: u64 = 64 << 20;

/// A device to test on.
fn emulated() -> Arc<dyn Driver> {
    Arc::new(Emulated::new(&EmulatorOptions { memory: MEMORY, ..Default::default() }))
}

/// Held while a test uses this machine's GPU. All tests of a process share its context there, and one that waits for the
/// context would spoil what another captures.
static GPU: Mutex<()> = Mutex::new(());

/// Runs a case on every device that is to be tested.
fn with_every_driver(case: impl Fn(Arc<dyn Driver>)) {
    case(emulated());
    if std::env::var("SSMV_TEST_DEVICE").is_ok_and(|device| device == "cuda") {
        // A test that failed says so itself.
        let _alone = GPU.lock().unwrap_or_else(PoisonError::into_inner);
        case(Arc::new(Nvidia::open(0).expect("SSMV_TEST_DEVICE is cuda")));
    }
}

/// The same, with a stream of its own.
fn on_every_driver(case: impl Fn(&dyn Driver, Stream)) {
    with_every_driver(|driver| {
        let stream = driver.create_stream(Priority::Normal).unwrap();
        case(&*driver, stream);
        driver.synchronize(stream).unwrap();
        driver.destroy_stream(stream).unwrap();
    });
}

/// Checks that an error has all of `parts` in it.
#[track_caller]
fn refused<T: std::fmt::Debug>(result: ssmv_autograd::Result<T>, parts: &[&str]) {
    let error = result.unwrap_err().to_string();
    parts.iter().for_each(|part| assert!(error.contains(part), "{part:?} is not in: {error}"));
}

/// y ← a·x + y, by hand; 128 threads a block.
const SAXPY: &str = "
.version 7.0
.target sm_80
.address_size 64

.visible .entry saxpy(.param .u64 x, .param .u64 y, .param .f32 a, .param .u32 n)
{
    .reg .pred %p;
    .reg .b32 %r<5>;
    .reg .f32 %f<4>;
    .reg .b64 %rd<6>;

    mov.u32 %r1, %ctaid.x;
    mov.u32 %r2, %ntid.x;
    mov.u32 %r3, %tid.x;
    mad.lo.u32 %r4, %r1, %r2, %r3;
    ld.param.u32 %r1, [n];
    setp.ge.u32 %p, %r4, %r1;
    @%p bra done;

    ld.param.u64 %rd1, [x];
    ld.param.u64 %rd2, [y];
    cvta.to.global.u64 %rd1, %rd1;
    cvta.to.global.u64 %rd2, %rd2;
    mul.wide.u32 %rd3, %r4, 4;
    add.u64 %rd4, %rd1, %rd3;
    add.u64 %rd5, %rd2, %rd3;
    ld.global.f32 %f1, [%rd4];
    ld.global.f32 %f2, [%rd5];
    ld.param.f32 %f3, [a];
    fma.rn.f32 %f2, %f3, %f1, %f2;
    st.global.f32 [%rd5], %f2;
done:
    ret;
}
";

/// A kernel of this text with the parameters of [`SAXPY`].
fn kernel(name: &str, ptx: &str) -> Kernel {
    let parameter = |(name, ty, bytes): (&str, _, _)| Parameter { name: name.to_owned(), ty, bytes };
    let parameters = [("x", "u64", 8), ("y", "u64", 8), ("a", "f32", 4), ("n", "u32", 4)];
    Kernel { parameters: parameters.map(parameter).into(), ..Kernel::by_hand(name, Target::Sm80, ptx) }
}

/// The kernel, compiled.
fn saxpy(driver: &dyn Driver) -> Function {
    let module = driver.load(&kernel("saxpy", SAXPY)).unwrap();
    driver.function(module).unwrap()
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]])).collect()
}

#[test]
fn a_device_says_what_it_is() {
    with_every_driver(|driver| {
        let device = driver.device();
        assert!(!device.name.is_empty() && device.capability >= (8, 0) && device.multiprocessors > 0);
        assert!(device.shared_per_block >= 48 << 10);
        let memory = driver.memory().unwrap();
        assert!(memory.free <= memory.total && memory.total > 0);
    });
    assert_eq!(emulated().backend(), Backend::Emulated);
}

#[test]
fn a_machine_without_a_driver_says_so_in_a_line() {
    match ssmv_autograd::cuda::devices(Backend::Nvidia) {
        // A machine with a driver knows how many devices it has, and none beyond them.
        Ok(devices) => refused(Nvidia::open(devices.len() as u32), &["device"]),
        Err(error) => {
            let line = error.to_string();
            assert!(line.lines().count() == 1 && line.contains("driver"), "{line}");
            if line.contains("not found") {
                let expected = "no NVIDIA driver on this machine (libcuda.so.1 was not found); use --device cpu or --device emulator";
                assert_eq!(line, expected);
            }
            assert_eq!(Nvidia::open(0).unwrap_err(), error);
            assert_eq!(Cuda::open(Backend::Nvidia, 0).unwrap_err(), error);
        }
    }
}
