//! CUDA kernels as nvcc compiles them, on the emulator with all its checks, against Rust. `NAME.cu` is the source,
//! `NAME.ptx` what `compile.sh` made of it, `NAME.rs` draws inputs and says what must come out.

mod calls;
mod control;
mod dispatch;
mod doubles;
mod fast;
mod functions;
mod halves;
mod heap;
mod histogram;
mod hopper;
mod integers;
mod machine;
mod matmul;
mod pipeline;
mod reduce;
mod scan;
mod spaces;
mod stack;
mod tensor;
mod transpose;
mod warp;

use bytemuck::Pod;
use proptest::prelude::*;
use ssmv_emulator::{Arguments, LaunchConfig, LoadedModule, Memory, Module, Options, Report, args, launch};

/// A device with one module.
struct Device {
    memory: Memory,
    module: LoadedModule,
    options: Options,
}

impl Device {
    /// Loads PTX text.
    fn new(name: &str, ptx: &str) -> Self {
        let memory = Memory::new(1 << 30);
        let module = Module::parse(name, ptx).and_then(|module| module.load(&memory));
        Self { module: module.unwrap_or_else(|e| panic!("{e}")), memory, options: Options::default() }
    }

    /// A copy of `data` in global memory.
    fn input<T: Pod>(&self, data: &[T]) -> u64 {
        let address = self.output::<T>(data.len());
        self.memory.write(address, bytemuck::cast_slice(data)).unwrap();
        address
    }

    /// Room for `n` elements that nothing has written.
    fn output<T: Pod>(&self, n: usize) -> u64 {
        self.memory.alloc((n * size_of::<T>()).max(1)).unwrap()
    }

    /// What lies there.
    fn read<T: Pod>(&self, address: u64, n: usize) -> Vec<T> {
        let mut data = vec![T::zeroed(); n];
        self.memory.read(address, bytemuck::cast_slice_mut(&mut data)).unwrap();
        data
    }

    /// Launches with everything checked; an error is a failed test.
    fn launch(
        &self,
        kernel: &str,
        grid: [u32; 3],
        block: [u32; 3],
        shared: u32,
        arguments: &Arguments,
    ) -> Report {
        let config = LaunchConfig { grid, block, shared };
        launch(&self.memory, &self.module, kernel, &config, arguments, &self.options)
            .unwrap_or_else(|e| panic!("{e}"))
    }

    /// [`launch`](Self::launch) with `threads` a block along x and blocks for `n` threads.
    fn launch_1d(&self, kernel: &str, n: usize, threads: u32, arguments: &Arguments) -> Report {
        let blocks = (n as u32).div_ceil(threads).max(1);
        self.launch(kernel, [blocks, 1, 1], [threads, 1, 1], 0, arguments)
    }
}

/// A test: a device with `NAME.ptx`, and inputs drawn by proptest.
macro_rules! kernel_test {
    (
        $(#[$doc:meta])* $name:ident, $file:literal, ($($input:ident: $strategy:expr),*), |$device:ident| $body:block
    ) => {
        $(#[$doc])*
        #[test]
        fn $name() {
            let config = ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() };
            let mut runner = proptest::test_runner::TestRunner::new(config);
            let result = runner.run(&($($strategy,)*), |($($input,)*)| {
                let $device = crate::Device::new($file, include_str!(concat!($file, ".ptx")));
                $body
                Ok(())
            });
            result.unwrap_or_else(|e| panic!("{e}"));
        }
    };
}
use kernel_test;

/// Between 1 and `most` elements.
fn some<S: Strategy>(element: S, most: usize) -> impl Strategy<Value = Vec<S::Value>> {
    prop::collection::vec(element, 1..most)
}

/// Small whole numbers: sums of them are exact.
fn whole() -> impl Strategy<Value = f32> {
    (-100i8..100).prop_map(f32::from)
}

/// Distance in units of the last place of `expected` in f32, subnormals' place at least.
fn places(found: f32, expected: f64) -> f64 {
    let near = (expected as f32).abs();
    let place = f64::from(near.next_up()) - f64::from(near);
    if f64::from(found) == expected { 0.0 } else { (f64::from(found) - expected).abs() / place }
}

/// Asserts that `found` is within `most` places of `expected`; NaN and infinities must match.
#[track_caller]
fn assert_places(found: f32, expected: f64, most: f64, what: &str) {
    let near = expected as f32;
    if near.is_finite() {
        let distance = places(found, expected);
        assert!(distance <= most, "{what}: {found:e} is {distance} places from {expected:e}");
    } else {
        assert!(
            found.to_bits() == near.to_bits() || (found.is_nan() && near.is_nan()),
            "{what}: {found:e}, not {near:e}"
        );
    }
}
