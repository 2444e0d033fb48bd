//! A trial of a way between devices: sums of known numbers. Between GPUs whose traffic an IOMMU or the access control of PCI
//! Express switches (ACS) diverts, writes to a neighbour's memory succeed and come out wrong; no call says so.

use std::thread;
use std::time::{Duration, Instant};

use ssmv_autograd::{
    DType,
    cuda::{Cuda, DeviceMemory},
};

use super::{DeviceCollectives, Error, Region, Result};
use crate::{Communicator, Reduction};

/// Elements a rank: more than what travels as one piece, and no round number.
const SEGMENT: usize = (64 << 10) + 77;

/// With other numbers each, so that what is left of one is not a result of the next.
const ROUNDS: usize = 2;

/// Between two looks at the device.
const LOOK: Duration = Duration::from_micros(100);

/// Gives a way back once all ranks found its sums right, which must be within `timeout`.
///
/// # Errors
/// [`Error::Wrong`] on all ranks where one found a wrong sum: the way is then closed, and the control ring goes on. What the
/// device and the control ring say.
pub fn tried(
    mut way: Box<dyn DeviceCollectives>,
    cuda: &Cuda,
    control: &mut Communicator,
    timeout: Duration,
) -> Result<Box<dyn DeviceCollectives>> {
    let mut wrong = None;
    for round in 0..ROUNDS {
        let found = wrong_sum(&mut *way, cuda, control, (round, timeout))?;
        wrong = wrong.or(found);
    }
    let mut any = [u32::from(wrong.is_some())];
    control.all_reduce(&mut any, Reduction::Max)?;
    if any[0] == 0 {
        return Ok(way);
    }
    way.close(control)?;
    Err(Error::Wrong(wrong.unwrap_or_else(|| "another rank was given wrong sums, and says which".into())))
}

/// The first sum that is not what it must be.
fn wrong_sum(
    way: &mut dyn DeviceCollectives,
    cuda: &Cuda,
    control: &mut Communicator,
    (round, timeout): (usize, Duration),
) -> Result<Option<String>> {
    let (rank, ranks) = (control.rank(), control.size());
    let failed = |source| Error::Device { rank, operation: "trial", source };
    // Whole numbers far below 2^24, whose sums are exact in any order.
    let weight = |rank: usize| rank % 8 + 1;
    let known = |weight: usize, i: usize| (weight * ((i + 7 * round) % 31)) as f32;
    let own: Vec<f32> = (0..SEGMENT * ranks).map(|i| known(weight(rank), i)).collect();
    let memory = DeviceMemory::copy_of(cuda, DType::F32, &own).map_err(failed)?;
    let region = Region { memory: &memory, range: 0..own.len(), stream: cuda.compute_stream() };
    way.all_reduce_sum(control, &region)?;
    let (done, start) = (cuda.event().map_err(failed)?, Instant::now());
    done.record().map_err(failed)?;
    while !done.query().map_err(failed)? {
        if start.elapsed() >= timeout {
            // What spins on the device would keep this process from its end.
            (way.aborter())();
            let (left, seconds) = ((rank + ranks - 1) % ranks, start.elapsed().as_secs_f64());
            return Err(Error::Stalled { rank, operation: "trial", left, seconds });
        }
        thread::sleep(LOOK);
    }
    let sums = memory.download(0..own.len()).map_err(failed)?;
    let whole: usize = (0..ranks).map(weight).sum();
    let wrong = sums.iter().enumerate().find(|&(i, &sum)| sum != known(whole, i));
    Ok(wrong.map(|(i, sum)| {
        format!("rank {rank} got {sum} for sum {i} of {}, which is {}", sums.len(), known(whole, i))
    }))
}
