//! The frame: 40 bytes of header, then the payload. Little-endian.
//!
//! | bytes | what |
//! | --- | --- |
//! | 0–3 | magic `SSMR` |
//! | 4 | operation |
//! | 5 | element type, 0 for none |
//! | 6–7 | root of a broadcast, otherwise 0 |
//! | 8–15 | sequence number of the collective |
//! | 16–23 | elements of the whole buffer (in [`Operation::Waiting`]: the rank waited for) |
//! | 24–27 | number of the frame in its collective |
//! | 28–31 | bytes of payload |
//! | 32–35 | CRC-32C of the payload |
//! | 36–39 | CRC-32C of bytes 0–35 |

use super::error::Fault;
use std::fmt;

/// Bytes of a header.
pub const HEADER: usize = 40;

/// The most bytes of a payload that any rank sends; a length above is refused.
pub const MOST_PAYLOAD: usize = 1 << 20;

/// The most bytes of an [`Operation::Failed`] frame's text.
pub const MOST_TEXT: usize = 512;

const MAGIC: [u8; 4] = *b"SSMR";

/// What a frame belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Operation {
    /// [`all_reduce`](super::Communicator::all_reduce) with a sum.
    AllReduceSum = 1,
    /// [`all_reduce`](super::Communicator::all_reduce) with a maximum.
    AllReduceMax = 2,
    /// [`reduce_scatter`](super::Communicator::reduce_scatter) with a sum.
    ReduceScatterSum = 3,
    /// [`reduce_scatter`](super::Communicator::reduce_scatter) with a maximum.
    ReduceScatterMax = 4,
    /// [`all_gather`](super::Communicator::all_gather).
    AllGather = 5,
    /// [`broadcast`](super::Communicator::broadcast).
    Broadcast = 6,
    /// [`barrier`](super::Communicator::barrier).
    Barrier = 7,
    /// [`shift`](super::Communicator::shift).
    Shift = 8,
    /// Says that the sender waits for a rank; has no payload and may stand between any two frames.
    Waiting = 64,
    /// Says that the sender gives up; the payload is why. The last frame of a connection.
    Failed = 65,
}

impl Operation {
    fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::AllReduceSum,
            2 => Self::AllReduceMax,
            3 => Self::ReduceScatterSum,
            4 => Self::ReduceScatterMax,
            5 => Self::AllGather,
            6 => Self::Broadcast,
            7 => Self::Barrier,
            8 => Self::Shift,
            64 => Self::Waiting,
            65 => Self::Failed,
            _ => return None,
        })
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::AllReduceSum => "all-reduce (sum)",
            Self::AllReduceMax => "all-reduce (max)",
            Self::ReduceScatterSum => "reduce-scatter (sum)",
            Self::ReduceScatterMax => "reduce-scatter (max)",
            Self::AllGather => "all-gather",
            Self::Broadcast => "broadcast",
            Self::Barrier => "barrier",
            Self::Shift => "shift",
            Self::Waiting => "waiting",
            Self::Failed => "failed",
        })
    }
}

/// Which frame of which collective: both ends compute it and must agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tag {
    /// The collective.
    pub operation: Operation,
    /// [`Element::CODE`](super::Element::CODE), or 0.
    pub element: u8,
    /// The root of a broadcast, otherwise 0.
    pub root: u16,
    /// The collective's number.
    pub sequence: u64,
    /// Elements of the whole buffer.
    pub count: u64,
    /// The frame's number in its collective, modulo 2³².
    pub index: u32,
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let element =
            ["", " f32", " f64", " u32"].get(usize::from(self.element)).copied().unwrap_or(" unknown");
        write!(f, "{} {} of {}{element}", self.operation, self.sequence, self.count)?;
        if self.operation == Operation::Broadcast {
            write!(f, " from rank {}", self.root)?;
        }
        write!(f, ", frame {}", self.index)
    }
}

/// A header that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Which frame it is.
    pub tag: Tag,
    /// Bytes of payload.
    pub bytes: u32,
    /// The payload's CRC-32C.
    pub crc: u32,
}

impl Header {
    /// The header's bytes.
    pub fn encode(&self) -> [u8; HEADER] {
        let tag = &self.tag;
        let mut bytes = [0; HEADER];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = tag.operation as u8;
        bytes[5] = tag.element;
        bytes[6..8].copy_from_slice(&tag.root.to_le_bytes());
        bytes[8..16].copy_from_slice(&tag.sequence.to_le_bytes());
        bytes[16..24].copy_from_slice(&tag.count.to_le_bytes());
        bytes[24..28].copy_from_slice(&tag.index.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.bytes.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.crc.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..36]);
        bytes[36..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a header that `peer` sent.
    ///
    /// # Errors
    /// Another magic, a wrong checksum, an unknown operation, a length above the operation's limit.
    pub fn decode(bytes: &[u8; HEADER], peer: usize) -> Result<Self, Fault> {
        let frame = |message: String| Fault::Frame { peer, message };
        if bytes[..4] != MAGIC {
            return Err(frame(format!("it begins with {:02x?}", &bytes[..4])));
        }
        let (sent, found) = (word(bytes, 36), crc32c::crc32c(&bytes[..36]));
        if sent != found {
            return Err(Fault::Checksum { peer, part: "header", sent, found });
        }
        let operation = Operation::from_code(bytes[4])
            .ok_or_else(|| frame(format!("operation {} is unknown", bytes[4])))?;
        let tag = Tag {
            operation,
            element: bytes[5],
            root: u16::from_le_bytes([bytes[6], bytes[7]]),
            sequence: long(bytes, 8),
            count: long(bytes, 16),
            index: word(bytes, 24),
        };
        let header = Self { tag, bytes: word(bytes, 28), crc: word(bytes, 32) };
        let most = match operation {
            Operation::Waiting => 0,
            Operation::Failed => MOST_TEXT,
            _ => MOST_PAYLOAD,
        };
        if header.bytes as usize > most {
            return Err(frame(format!("{tag} has {} bytes of payload, more than {most}", header.bytes)));
        }
        Ok(header)
    }
}

fn word(bytes: &[u8; HEADER], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

fn long(bytes: &[u8; HEADER], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}
