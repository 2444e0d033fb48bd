//! Collectives over device memory, in the order of a stream.
//!
//! The schedule is the ring's ([`super`]): the same segments and the same order of summation, so the bits are those of
//! [`Communicator`]'s collectives. What differs is who moves the bytes:
//!
//! | what | way of the bytes |
//! | --- | --- |
//! | [`DeviceRing`] | the ring's schedule, a kernel that adds and sends on at once, over any [`DeviceLink`] |
//! | [`PeerLink`] | a link within a machine: the kernel writes the neighbour's memory |
//! | [`NcclLink`] | a link between machines: NCCL's sends and receives |
//! | [`NcclCollectives`] | NCCL's own all-reduce, to compare with |
//! | [`Staged`] | through pinned memory and the ring over TCP: where there is no better way |
//!
//! All of them are [`DeviceCollectives`]. Each takes the control ring as an argument, so that a training step uses it for
//! collectives of its own between them; all ranks must come to all of them in the same order. A collective takes one turn of
//! the control ring, in which the ranks compare what they are about to do; [`tried`] finds out whether a way gives right sums.
//!
//! **Faults.** A rank whose device fails abandons the control ring, and every other rank learns of it there. Then the
//! collective ends with an error on all ranks, and what memory it worked on is unspecified. A process that dies shows in the
//! control ring too; but what was queued to wait for its device may then wait for ever, so a rank that learns of it must not
//! wait for its own.

mod error;
mod link;
mod nccl;
mod peer;
mod ring;
mod staged;
#[cfg(test)]
mod tests;
mod trial;
mod word;

pub use error::{Error, Result};
pub use link::{Aborter, Collective, DeviceLink, Turn};
pub use nccl::{NcclCollectives, NcclLink, connect as connect_nccl};
pub use peer::{PeerLink, PeerOptions};
pub use ring::DeviceRing;
pub use staged::Staged;
pub use trial::tried;

use std::ops::Range;

use ssmv_autograd::cuda::{DeviceMemory, Stream};

use crate::Communicator;

/// Elements of device memory, and the stream in whose order a collective works on them: after what was queued there before,
/// and done when what is queued there later runs. The memory must be kept until then: its pool knows of the compute stream
/// alone.
#[derive(Debug, Clone)]
pub struct Region<'a> {
    /// The memory.
    pub memory: &'a DeviceMemory,
    /// Its elements; the same on all ranks.
    pub range: Range<usize>,
    /// The stream.
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

    /// What ends, from any thread, all that waits for a rank that is gone: a call that is under way on another thread, and
    /// what is queued as far as the device's driver lets it be ended.
    fn aborter(&self) -> Aborter;

    /// Ends it, once all ranks have come here and all queued work is done. Dropped without it, what other ranks may still
    /// write stays allocated until the process ends.
    ///
    /// # Errors
    /// As [`all_reduce_sum`](Self::all_reduce_sum).
    fn close(self: Box<Self>, control: &mut Communicator) -> Result<()>;
}
