//! The interface between the ring over device memory and a transport.

use std::sync::Arc;

use ssmv_autograd::{
    DType,
    cuda::{Address, Stream},
};

use super::{Error, Region, Result};
use crate::{
    Communicator, Element,
    frame::{self, Operation, Tag},
};

/// A rank's position in a collective over device memory. All ranks must be at the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// The collective, and the number of the turn in it. Its sequence number is that of the control ring.
    pub tag: Tag,
    /// Index of the first element in its memory.
    pub first: u64,
}

impl Turn {
    /// The first turn of this collective.
    pub(super) fn first(operation: Operation, root: usize, region: &Region, control: &Communicator) -> Self {
        let element = if region.memory.dtype() == DType::F16 { frame::F16 } else { f32::CODE };
        let (sequence, count) = (control.sequence(), region.range.len() as u64);
        // Roots that do not fit are refused before anything is sent.
        let tag = Tag { operation, element, root: root as u16, sequence, count, index: 0 };
        Self { tag, first: region.range.start as u64 }
    }

    /// The collective's name in messages.
    pub fn name(&self) -> &'static str {
        self.tag.operation.name()
    }

    /// Compares this rank's turn with the left neighbour's. Without this, different collectives would hang or mix up numbers.
    ///
    /// # Errors
    /// [`Error::Argument`] if they differ; errors of the control ring.
    pub(super) fn compare(&self, control: &mut Communicator) -> Result<()> {
        let mut bytes = [0; 32];
        bytes[..24].copy_from_slice(&self.tag.encode());
        bytes[24..].copy_from_slice(&self.first.to_le_bytes());
        let mut words: [u32; 8] = bytemuck::cast(bytes);
        control.shift(&mut words)?;
        if words == bytemuck::cast::<_, [u32; 8]>(bytes) {
            return Ok(());
        }
        let (rank, left) = (control.rank(), (control.rank() + control.size() - 1) % control.size());
        let bytes: [u8; 32] = bytemuck::cast(words);
        let first = u64::from_le_bytes(std::array::from_fn(|i| bytes[24 + i]));
        let theirs = Tag::decode(&std::array::from_fn(|i| bytes[i])).map(|tag| Self { tag, first });
        let theirs = theirs.map_or_else(|| "an unknown collective".into(), |theirs| theirs.to_string());
        let message = format!(
            "rank {left} is in {theirs}, this rank in {self}: all must call the same collectives in the same order"
        );
        Err(Error::Argument { rank, operation: self.name(), message })
    }
}

impl std::fmt::Display for Turn {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "{} from element {} on", self.tag, self.first)
    }
}

/// Ends work that waits for other ranks; callable from any thread.
pub type Aborter = Arc<dyn Fn() + Send + Sync>;

/// The connections between a rank's device and its neighbours in the ring.
///
/// A collective is a sequence of turns. In a turn each rank writes up to [`width`](Self::width) pieces for its right neighbour
/// ([`outbox`](Self::outbox), [`send`](Self::send)), then calls [`turn`](Self::turn), then reads the pieces of its left
/// neighbour ([`receive`](Self::receive)) while it writes the next ones, and calls [`release`](Self::release). All work is
/// queued in streams; nothing here waits for a device.
pub trait DeviceLink: Send {
    /// This rank, from 0.
    fn rank(&self) -> usize;

    /// The number of ranks, at least 2.
    fn ranks(&self) -> usize;

    /// The number of pieces of a turn.
    fn width(&self) -> usize;

    /// Size limit of a piece in bytes.
    fn most(&self) -> usize;

    /// The address for piece `piece` of the next turn. Work that is queued in the stream from now on may write there. The
    /// address is a multiple of 256, as that of [`receive`](Self::receive), and has space for 15 bytes more than
    /// [`most`](Self::most).
    ///
    /// # Errors
    /// Errors of the device.
    fn outbox(&mut self, piece: usize, stream: Stream) -> ssmv_autograd::Result<Address>;

    /// Sends the first `bytes` of the piece, after the work that is queued in the stream so far.
    ///
    /// # Errors
    /// Errors of the device.
    fn send(&mut self, piece: usize, bytes: usize, stream: Stream) -> ssmv_autograd::Result<()>;

    /// Ends the turn: the sent pieces go to the right neighbour, and the pieces of the left neighbour, of the sizes `incoming`
    /// in bytes, can be received. In the first turn of a collective the ranks compare their turns.
    ///
    /// # Errors
    /// Errors of the control ring or the device; a left neighbour in another collective.
    fn turn(
        &mut self,
        control: &mut Communicator,
        turn: Turn,
        incoming: &[usize],
        stream: Stream,
    ) -> Result<()>;

    /// The address of the left neighbour's piece `piece`, which must not be empty. Work that is queued in the stream from now on
    /// may read it.
    ///
    /// # Errors
    /// Errors of the device.
    fn receive(&mut self, piece: usize, stream: Stream) -> ssmv_autograd::Result<Address>;

    /// Frees the pieces of the last turn, after the work that is queued in the stream so far.
    ///
    /// # Errors
    /// Errors of the device.
    fn release(&mut self, stream: Stream) -> ssmv_autograd::Result<()>;

    /// As [`DeviceCollectives::aborter`](super::DeviceCollectives::aborter).
    fn aborter(&self) -> Aborter;

    /// Ends the link. All ranks must call this; it waits for them and for the queued work.
    ///
    /// # Errors
    /// Errors of the control ring or the device.
    fn close(self: Box<Self>, control: &mut Communicator) -> Result<()>;
}
