//! Collectives over device memory, in the order of a stream.
//!
//! The schedule is the ring's ([`super`]): the same segments and the same order of summation, so the bits are those of
//! [`Communicator`]'s collectives. The transports differ:
//!
//! | type | transport |
//! | --- | --- |
//! | [`DeviceRing`] | the ring's schedule, with a kernel that adds and forwards, over any [`DeviceLink`] |
//! | [`PeerLink`] | a link within a machine: the kernel writes the neighbour's memory |
//! | [`NcclLink`] | a link between machines: NCCL's send and receive |
//! | [`NcclCollectives`] | NCCL's own all-reduce, to compare with |
//! | [`Staged`] | pinned memory and the ring over TCP, if there is nothing better |
//!
//! All of them implement [`DeviceCollectives`]. Each takes the control ring as an argument, because a training step also uses it
//! for collectives of its own. All ranks must call all collectives in the same order. A collective takes one turn of the control
//! ring, in which the ranks compare their arguments; [`tried`] checks that a transport gives right sums.
//!
//! **Faults.** A rank whose device fails abandons the control ring, which informs every other rank. The collective then ends with
//! an error on all ranks, and the contents of its memory are unspecified. If a process dies, the control ring fails too; but work
//! that is queued to wait for its device may wait forever, so a rank that learns of it must not wait for its own
//! device.

mod link;
mod nccl;
mod peer;
mod ring;
mod staged;
#[cfg(test)]
mod tests;
mod word;

pub use link::{Aborter, DeviceLink, Turn};
pub use nccl::{NcclCollectives, NcclLink, connect as connect_nccl};
pub use peer::{PeerLink, PeerOptions};
pub use ring::DeviceRing;
pub use staged::Staged;

use std::{
    ops::Range,
    thread,
    time::{Duration, Instant},
};

use ssmv_autograd::{
    DType,
    cuda::{Cuda, DeviceMemory, Stream},
};

use crate::{Communicator, ReduceOp};

/// Elements of device memory, and the stream of a collective on them: it runs after the work that was queued there before, and
/// before the work that is queued there later. Keep the memory until it is done: its pool orders reuse by the compute stream only.
#[derive(Debug, Clone)]
pub struct Region<'a> {
    /// The device memory with the elements.
    pub memory: &'a DeviceMemory,
    /// The elements, by index in the memory; the same on all ranks.
    pub range: Range<usize>,
    /// The stream in whose order the collective runs.
    pub stream: Stream,
}

/// Collectives over device memory. All ranks call the same ones in the same order, with the same range and dtype.
pub trait DeviceCollectives: Send {
    /// Makes the elements, which are f32, the sum of all ranks', the same bits on every rank.
    ///
    /// # Errors
    /// A fault of any rank; the elements are then unspecified, and so are all later collectives.
    fn all_reduce_sum(&mut self, control: &mut Communicator, region: &Region) -> Result<()>;

    /// Makes this rank's [`segment`](super::segment) of the elements, which are f32, the sum of all ranks'; the rest stays as
    /// it is. Returns the segment as elements of the memory.
    ///
    /// # Errors
    /// As [`all_reduce_sum`](Self::all_reduce_sum).
    fn reduce_scatter_sum(&mut self, control: &mut Communicator, region: &Region) -> Result<Range<usize>>;

    /// Copies each rank's [`segment`](super::segment) of the elements, f16 or f32, to all ranks.
    ///
    /// # Errors
    /// As [`all_reduce_sum`](Self::all_reduce_sum).
    fn all_gather(&mut self, control: &mut Communicator, region: &Region) -> Result<()>;

    /// Copies `root`'s elements, f16 or f32, to all ranks.
    ///
    /// # Errors
    /// As [`all_reduce_sum`](Self::all_reduce_sum), and a root that is not a rank.
    fn broadcast(&mut self, control: &mut Communicator, region: &Region, root: usize) -> Result<()>;

    /// Ends, from any thread, all that waits for a rank that is gone: calls on other threads, and queued work as far as the
    /// driver can end it.
    fn aborter(&self) -> Aborter;

    /// Ends the collectives. All ranks must call this; it waits for them and for the queued work. Without it, memory that other
    /// ranks may write stays allocated until the process ends.
    ///
    /// # Errors
    /// As [`all_reduce_sum`](Self::all_reduce_sum).
    fn close(self: Box<Self>, control: &mut Communicator) -> Result<()>;
}

/// A failure of a collective over device memory.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The control ring failed: another rank, or a connection.
    #[error(transparent)]
    Control(#[from] crate::Error),
    /// This rank's device failed.
    #[error("rank {rank}: {operation} over device memory: {source}")]
    Device {
        /// The rank that reports the error.
        rank: usize,
        /// Name of the collective or of another step.
        operation: &'static str,
        /// The error of the device's driver.
        source: ssmv_autograd::Error,
    },
    /// Arguments that are invalid or differ from the left neighbour's.
    #[error("rank {rank}: {operation} over device memory: {message}")]
    Argument {
        /// The rank that reports the error.
        rank: usize,
        /// The collective that was called.
        operation: &'static str,
        /// The reason for the refusal.
        message: String,
    },
    /// The left neighbour did not end a turn of a collective before the timeout.
    #[error("rank {rank}: {operation} over device memory: rank {left} sends nothing for {seconds:.1} s")]
    Stalled {
        /// The rank that reports the error.
        rank: usize,
        /// Name of the collective or of another step.
        operation: &'static str,
        /// The left neighbour's rank.
        left: usize,
        /// How long this rank waited, in seconds.
        seconds: f64,
    },
    /// An [`Aborter`] of this rank ended the collective.
    #[error("rank {rank}: {operation} over device memory: aborted by this rank")]
    Aborted {
        /// The rank that reports the error.
        rank: usize,
        /// Name of the collective or of another step.
        operation: &'static str,
    },
    /// Sums of known numbers are wrong. All ranks get this error and the control ring still works: use [`Staged`].
    #[error("all-reduces of known numbers are wrong: {0}")]
    Wrong(String),
    /// The devices cannot reach each other. All ranks get this error and the control ring still works: use [`Staged`].
    #[error("the devices cannot reach each other: {0}")]
    Unreachable(String),
}

/// `Result` with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Elements of a segment in the trial: more than a piece, and not a round number.
const SEGMENT: usize = (64 << 10) + 77;

/// Rounds of the trial, each with other numbers, so that old data is not mistaken for a result.
const ROUNDS: usize = 2;

/// Pause between two queries of the device.
const POLL: Duration = Duration::from_micros(100);

/// Returns `collectives` after a trial: all-reduces of known numbers, which must be right on all ranks within `timeout`. Between
/// GPUs whose traffic is diverted by an IOMMU or the access control of PCI Express switches (ACS), writes to a neighbour's memory
/// succeed with wrong data, and no call reports it.
///
/// # Errors
/// [`Error::Wrong`] on all ranks if a sum is wrong on one of them: `collectives` is then closed, and the control ring still works.
/// Errors of the device and the control ring.
pub fn tried(
    mut collectives: Box<dyn DeviceCollectives>,
    cuda: &Cuda,
    control: &mut Communicator,
    timeout: Duration,
) -> Result<Box<dyn DeviceCollectives>> {
    let mut wrong = None;
    for round in 0..ROUNDS {
        let found = wrong_sum(&mut *collectives, cuda, control, (round, timeout))?;
        wrong = wrong.or(found);
    }
    let mut any = [u32::from(wrong.is_some())];
    control.all_reduce(&mut any, ReduceOp::Max)?;
    if any[0] == 0 {
        return Ok(collectives);
    }
    collectives.close(control)?;
    Err(Error::Wrong(wrong.unwrap_or_else(|| "another rank has wrong sums; see its error".into())))
}

/// A message about the first wrong sum.
fn wrong_sum(
    collectives: &mut dyn DeviceCollectives,
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
    collectives.all_reduce_sum(control, &region)?;
    let (done, start) = (cuda.event().map_err(failed)?, Instant::now());
    done.record().map_err(failed)?;
    while !done.query().map_err(failed)? {
        if start.elapsed() >= timeout {
            // Work that spins on the device would keep this process from ending.
            (collectives.aborter())();
            let (left, seconds) = ((rank + ranks - 1) % ranks, start.elapsed().as_secs_f64());
            return Err(Error::Stalled { rank, operation: "trial", left, seconds });
        }
        thread::sleep(POLL);
    }
    let sums = memory.download(0..own.len()).map_err(failed)?;
    let total: usize = (0..ranks).map(weight).sum();
    let wrong = sums.iter().enumerate().find(|&(i, &sum)| sum != known(total, i));
    Ok(wrong.map(|(i, sum)| {
        format!("rank {rank} got {sum} for sum {i} of {}, which is {}", sums.len(), known(total, i))
    }))
}
