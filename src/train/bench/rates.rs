//! The device's best rates of memory traffic and matrix products, for lower bounds.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use ssmv_autograd::{
    DType,
    cuda::{Cuda, DeviceBuffer, DeviceMemory},
};
use ssmv_kernels::{
    Work,
    gemm::{Dtype, Epilogue, Gemm},
    tile::Major,
};

use super::median;
use crate::Result;

/// Size of the copy in bytes: normal, and small.
const COPY: [usize; 2] = [1 << 30, 1 << 20];
/// Rows, columns and depth of the product: normal, and small.
const SIDE: [u32; 2] = [4096, 64];
/// Number of timed runs, and of untimed ones before them.
const RUNS: usize = 20;
const WARM_UP: usize = 3;

/// Rates of the device, measured in this run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Rates {
    /// Bytes read and written per second by a large copy within the device.
    pub bytes_per_second: f64,
    /// Operations per second of a large product of f16 with f32 sums, by this program's own kernel.
    pub operations_per_second: f64,
}

impl Rates {
    /// Lower bound of a kernel's time in seconds: for its bytes or its operations, whichever is longer.
    pub fn floor(&self, work: Work) -> f64 {
        (work.bytes as f64 / self.bytes_per_second).max(work.operations as f64 / self.operations_per_second)
    }
}

/// Measures both rates on the device.
pub(super) fn measure(cuda: &Cuda, small: bool) -> Result<Rates> {
    let small = usize::from(small);
    Ok(Rates {
        bytes_per_second: copy_rate(cuda, COPY[small])?,
        operations_per_second: product_rate(cuda, SIDE[small])?,
    })
}

fn copy_rate(cuda: &Cuda, bytes: usize) -> Result<f64> {
    let room = usize::try_from(cuda.driver().memory()?.free / 4).unwrap_or(usize::MAX);
    let bytes = bytes.min(room).max(1);
    let (from, mut to): (DeviceBuffer<u8>, DeviceBuffer<u8>) = (cuda.zeros(bytes)?, cuda.uninit(bytes)?);
    let seconds = seconds(cuda, || Ok(to.copy_from(&from)?))?;
    Ok(2.0 * bytes as f64 / seconds)
}

fn product_rate(cuda: &Cuda, side: u32) -> Result<f64> {
    let epilogue = Epilogue::plain(Dtype::F16);
    let product = Gemm { m: side, n: side, k: side, a: Major::K, b: Major::K, epilogue };
    let plan = cuda.plan(&product, |product, target| product.plan(target))?;
    let elements = (side * side) as usize;
    // Multiplying zeros takes less power, and therefore less time, than real data.
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let values: Vec<f32> = (0..elements).map(|_| rng.random_range(-1.0..1.0)).collect();
    let halves = || DeviceMemory::copy_of(cuda, DType::F16, &values);
    let (a, b, c) = (halves()?, halves()?, DeviceMemory::new(cuda, DType::F16, elements)?);
    let arguments = [a.argument(), b.argument(), c.argument()];
    let seconds = seconds(cuda, || Ok(plan.launch(cuda, &arguments)?))?;
    Ok(2.0 * f64::from(side).powi(3) / seconds)
}

/// Median time of a launch, measured by events.
fn seconds(cuda: &Cuda, mut body: impl FnMut() -> Result<()>) -> Result<f64> {
    let (start, end) = (cuda.timed_event()?, cuda.timed_event()?);
    let mut times = Vec::new();
    for run in 0..WARM_UP + RUNS {
        start.record()?;
        body()?;
        end.record()?;
        end.synchronize()?;
        if run >= WARM_UP {
            // The emulator's clock may not have advanced.
            times.push((f64::from(end.elapsed_ms(&start)?) / 1e3).max(1e-9));
        }
    }
    Ok(median(times))
}
