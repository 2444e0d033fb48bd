//! What the ring over device memory needs of a transport.

use std::sync::Arc;

use ssmv_autograd::cuda::{Address, Stream};

use super::{Region, error::Result};
use crate::Communicator;

/// A collective over device memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Collective {
    /// [`all_reduce_sum`](super::DeviceCollectives::all_reduce_sum).
    AllReduce = 0,
    /// [`reduce_scatter_sum`](super::DeviceCollectives::reduce_scatter_sum).
    ReduceScatter = 1,
    /// [`all_gather`](super::DeviceCollectives::all_gather).
    AllGather = 2,
    /// [`broadcast`](super::DeviceCollectives::broadcast).
    Broadcast = 3,
    /// A number that another rank sent and this program has no collective for.
    Unknown = u32::MAX,
}

impl Collective {
    /// Its name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::AllReduce => "all-reduce",
            Self::ReduceScatter => "reduce-scatter",
            Self::AllGather => "all-gather",
            Self::Broadcast => "broadcast",
            Self::Unknown => "an unknown collective",
        }
    }

    /// Whether it adds elements up.
    pub(super) fn adds(self) -> bool {
        matches!(self, Self::AllReduce | Self::ReduceScatter)
    }

    fn from_number(number: u32) -> Self {
        let known = [Self::AllReduce, Self::ReduceScatter, Self::AllGather, Self::Broadcast];
        known.get(number as usize).copied().unwrap_or(Self::Unknown)
    }
}

/// What a rank says before the ring turns: all ranks must say the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// The collective.
    pub collective: Collective,
    /// Bytes of an element.
    pub bytes: u32,
    /// The root of a broadcast, otherwise 0.
    pub root: u32,
    /// The first element in its memory.
    pub first: u64,
    /// Elements.
    pub count: u64,
    /// The turn's number in the collective.
    pub index: u32,
}

impl Turn {
    /// The first of a collective.
    pub(super) fn first(collective: Collective, root: usize, region: &Region) -> Self {
        Self {
            collective,
            bytes: region.memory.dtype().bytes() as u32,
            root: root as u32,
            first: region.range.start as u64,
            count: region.range.len() as u64,
            index: 0,
        }
    }

    /// The collective's name.
    pub fn name(&self) -> &'static str {
        self.collective.name()
    }

    /// As words.
    pub fn words(&self) -> [u32; 8] {
        let [first, count] = [self.first, self.count].map(|x| [x as u32, (x >> 32) as u32]);
        [self.collective as u32, self.bytes, self.root, first[0], first[1], count[0], count[1], self.index]
    }

    /// From words.
    pub fn from_words(words: [u32; 8]) -> Self {
        let [collective, bytes, root, first, first_high, count, count_high, index] = words;
        let wide = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        let (first, count) = (wide(first, first_high), wide(count, count_high));
        let collective = Collective::from_number(collective);
        Self { collective, bytes, root, first, count, index }
    }
}

impl std::fmt::Display for Turn {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let Self { bytes, root, first, count, index, .. } = self;
        write!(f, "{} of {count} elements of {bytes} bytes from {first} on", self.name())?;
        if self.collective == Collective::Broadcast {
            write!(f, " from rank {root}")?;
        }
        write!(f, ", turn {index}")
    }
}

/// Ends what waits for other ranks, from any thread.
pub type Aborter = Arc<dyn Fn() + Send + Sync>;

/// A rank's way to its neighbours in the ring for device memory.
///
/// The ring turns again and again: each rank writes up to [`width`](Self::width) pieces for its right neighbour
/// ([`place`](Self::place), [`send`](Self::send)), then [`turn`](Self::turn)s, then reads those of its left neighbour
/// ([`receive`](Self::receive)) and [`release`](Self::release)s them, while it writes the next ones. All of it is queued in
/// streams; nothing here waits for a device.
pub trait DeviceLink: Send {
    /// This rank.
    fn rank(&self) -> usize;

    /// The number of ranks, at least 2.
    fn ranks(&self) -> usize;

    /// Pieces a turn.
    fn width(&self) -> usize;

    /// Bytes that a piece has at most.
    fn most(&self) -> usize;

    /// Where piece `piece` of the coming turn is to be written, by what is queued in the stream later. The address is a
    /// multiple of 256; so is what [`receive`](Self::receive) gives, and 15 bytes more than [`most`](Self::most) are there.
    ///
    /// # Errors
    /// What the device says.
    fn place(&mut self, piece: usize, stream: Stream) -> ssmv_autograd::Result<Address>;

    /// Says that what is queued in the stream so far writes the first `bytes` of the piece.
    ///
    /// # Errors
    /// What the device says.
    fn send(&mut self, piece: usize, bytes: usize, stream: Stream) -> ssmv_autograd::Result<()>;

    /// Turns the ring, in a collective's first turn once the ranks have compared it: what was sent is on its way, and what the left neighbour sent, `incoming` bytes a piece, can be
    /// received.
    ///
    /// # Errors
    /// What the control ring or the device says; a left neighbour that is elsewhere.
    fn turn(
        &mut self,
        control: &mut Communicator,
        turn: Turn,
        incoming: &[usize],
        stream: Stream,
    ) -> Result<()>;

    /// Where piece `piece` of the left neighbour lies, for what is queued in the stream later. Only for pieces that are not
    /// empty.
    ///
    /// # Errors
    /// What the device says.
    fn receive(&mut self, piece: usize, stream: Stream) -> ssmv_autograd::Result<Address>;

    /// Says that what is queued in the stream so far is all that reads the pieces of the last turn.
    ///
    /// # Errors
    /// What the device says.
    fn release(&mut self, stream: Stream) -> ssmv_autograd::Result<()>;

    /// As [`DeviceCollectives::aborter`](super::DeviceCollectives::aborter).
    fn aborter(&self) -> Aborter;

    /// Ends the link, once all ranks have come here and all work is done.
    ///
    /// # Errors
    /// What the control ring or the device says.
    fn close(self: Box<Self>, control: &mut Communicator) -> Result<()>;
}
