//! What the ring needs of a transport.

use super::element::Element;
use super::error::Fault;
use super::frame::Tag;

/// A rank's two connections: it sends to its right neighbour, rank + 1, and receives from its left, rank − 1.
///
/// [`send`](Link::send) only queues, so that a rank receives and reduces one frame while another leaves. How much is
/// queued is the ring's business: it never has more than a few frames on the way.
pub trait Link: Send {
    /// Queues a frame for the right neighbour.
    ///
    /// # Errors
    /// This or an earlier frame cannot be sent.
    fn send(&mut self, tag: Tag, block: Block) -> Result<(), Fault>;

    /// Waits for the next frame of the left neighbour, which must be `tag` with a payload that fills `payload`. Returns
    /// the payload's CRC-32C, which was checked.
    ///
    /// # Errors
    /// Another frame, damaged bytes, a closed connection, nothing for the whole timeout; a failed send before that.
    fn receive(&mut self, tag: Tag, payload: &mut [u8]) -> Result<u32, Fault>;

    /// As [`receive`](Self::receive), into a block of `bytes`.
    ///
    /// # Errors
    /// As [`receive`](Self::receive).
    fn receive_block(&mut self, tag: Tag, bytes: usize) -> Result<Block, Fault> {
        let mut block = self.block(bytes);
        let crc = self.receive(tag, block.bytes_mut())?;
        block.vouch(crc);
        Ok(block)
    }

    /// Whether both neighbours are there, as far as can be seen without a word to them.
    ///
    /// # Errors
    /// One that is gone.
    fn check(&mut self) -> Result<(), Fault>;

    /// A block of `bytes` to fill; what it holds is unspecified.
    fn block(&mut self, bytes: usize) -> Block;

    /// Gives a block back for reuse.
    fn recycle(&mut self, block: Block);

    /// Tells the right neighbour why, as far as that is still possible, and closes both connections.
    fn close(&mut self, why: &str);
}

/// The payload of a frame: bytes that are aligned for every [`Element`].
#[derive(Debug, Default)]
pub struct Block {
    words: Vec<u64>,
    bytes: usize,
    /// The CRC-32C that the bytes came with, until they are changed. A forwarded block keeps the checksum of the rank
    /// that made it.
    crc: Option<u32>,
}

impl Block {
    /// Makes it `bytes` long; what it holds is unspecified.
    pub fn resize(&mut self, bytes: usize) {
        self.words.resize(bytes.div_ceil(8), 0);
        (self.bytes, self.crc) = (bytes, None);
    }

    /// The payload.
    pub fn bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.words)[..self.bytes]
    }

    /// The payload, to change.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.crc = None;
        &mut bytemuck::cast_slice_mut(&mut self.words)[..self.bytes]
    }

    /// The payload as numbers; bytes that make no whole number at the end are left out.
    pub fn elements<T: Element>(&self) -> &[T] {
        let whole = self.bytes / size_of::<T>() * size_of::<T>();
        bytemuck::cast_slice(&self.bytes()[..whole])
    }

    /// As [`elements`](Self::elements), to change.
    pub fn elements_mut<T: Element>(&mut self) -> &mut [T] {
        let whole = self.bytes / size_of::<T>() * size_of::<T>();
        bytemuck::cast_slice_mut(&mut self.bytes_mut()[..whole])
    }

    /// The payload's CRC-32C.
    pub fn crc(&self) -> u32 {
        self.crc.unwrap_or_else(|| crc32c::crc32c(self.bytes()))
    }

    /// Says that the payload has this CRC-32C, because it was checked where it came from.
    pub fn vouch(&mut self, crc: u32) {
        self.crc = Some(crc);
    }
}
