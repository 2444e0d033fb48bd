//! The interface between the ring and a transport.

use super::element::Element;
use super::error::Fault;
use super::frame::Tag;

/// A rank's two connections: it sends to its right neighbour, rank + 1, and receives from its left, rank − 1.
///
/// [`send`](Link::send) only queues, so that a rank receives and reduces one frame while another is sent. The ring limits the
/// queue: it has only a few frames in flight.
pub trait Link: Send {
    /// Queues a frame for the right neighbour.
    ///
    /// # Errors
    /// This frame or an earlier one cannot be sent.
    fn send(&mut self, tag: Tag, block: Block) -> Result<(), Fault>;

    /// Waits for the next frame of the left neighbour, which must be `tag` with a payload that fills `payload`. Returns
    /// the payload's CRC-32C, which was checked.
    ///
    /// # Errors
    /// Another frame, damaged bytes, a closed connection, the timeout, or an earlier failed send.
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

    /// Checks the connections to both neighbours without sending.
    ///
    /// # Errors
    /// A neighbour has closed its connection or failed.
    fn check(&mut self) -> Result<(), Fault>;

    /// A block of `bytes` with unspecified contents.
    fn block(&mut self, bytes: usize) -> Block;

    /// Returns a block for reuse.
    fn recycle(&mut self, block: Block);

    /// Sends the reason to the right neighbour, if possible, and closes both connections.
    fn close(&mut self, why: &str);
}

/// The payload of a frame: bytes with the alignment of every [`Element`].
#[derive(Debug, Default)]
pub struct Block {
    words: Vec<u64>,
    bytes: usize,
    /// The received CRC-32C, until the bytes are changed. A forwarded block keeps the checksum of the rank that made it.
    crc: Option<u32>,
}

impl Block {
    /// Sets the length in bytes; the contents are then unspecified.
    pub fn resize(&mut self, bytes: usize) {
        self.words.resize(bytes.div_ceil(8), 0);
        (self.bytes, self.crc) = (bytes, None);
    }

    /// The bytes of the payload.
    pub fn bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.words)[..self.bytes]
    }

    /// The bytes of the payload, mutable.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.crc = None;
        &mut bytemuck::cast_slice_mut(&mut self.words)[..self.bytes]
    }

    /// The payload as elements, without an incomplete element at the end.
    pub fn elements<T: Element>(&self) -> &[T] {
        let complete = self.bytes / size_of::<T>() * size_of::<T>();
        bytemuck::cast_slice(&self.bytes()[..complete])
    }

    /// As [`elements`](Self::elements), mutable.
    pub fn elements_mut<T: Element>(&mut self) -> &mut [T] {
        let complete = self.bytes / size_of::<T>() * size_of::<T>();
        bytemuck::cast_slice_mut(&mut self.bytes_mut()[..complete])
    }

    /// CRC-32C of the payload.
    pub fn crc(&self) -> u32 {
        self.crc.unwrap_or_else(|| crc32c::crc32c(self.bytes()))
    }

    /// Sets the CRC-32C of the payload, after it was checked.
    pub fn vouch(&mut self, crc: u32) {
        self.crc = Some(crc);
    }
}
