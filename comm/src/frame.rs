//! The frame of the TCP ring: a header of 40 bytes, then the payload. Little-endian.
//!
//! | bytes | content |
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
//!
//! On a connection with MACs, two codes of 32 bytes stand between header and payload: of the payload, and of the frame's number
//! on this connection (8 bytes), the first code and the header.

use super::error::Fault;
use std::fmt;

/// Size of a header in bytes.
pub const HEADER: usize = 40;

/// Size limit of a payload in bytes.
pub const MOST_PAYLOAD: usize = 1 << 20;

/// Size limit of the text in an [`Operation::Failed`] frame in bytes.
pub const MOST_TEXT: usize = 512;

const MAGIC: [u8; 4] = *b"SSMR";

/// Bytes 4 to 27 of a header.
const TAG: usize = 24;

/// The collective of a frame, or its purpose outside of a collective.
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
    /// The sender waits for a rank. Has no payload and is sent between any two frames.
    Waiting = 64,
    /// The sender gives up; the payload is the reason. The last frame of a connection.
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

impl Operation {
    /// The operation's name in messages.
    pub fn name(self) -> &'static str {
        match self {
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
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Identifies a frame of a collective. Both ends compute it and must agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tag {
    /// The collective that the frame belongs to.
    pub operation: Operation,
    /// [`Element::CODE`](super::Element::CODE), [`F16`] in device memory, or 0 for none.
    pub element: u8,
    /// The root of a broadcast, otherwise 0.
    pub root: u16,
    /// The number of the collective; the first of a communicator is 1.
    pub sequence: u64,
    /// The number of elements of the whole buffer.
    pub count: u64,
    /// The frame's number in its collective, modulo 2³².
    pub index: u32,
}

/// The code of f16 elements, which only device memory has.
pub const F16: u8 = 4;

impl Tag {
    pub(crate) fn encode(&self) -> [u8; TAG] {
        let mut bytes = [0; TAG];
        bytes[0] = self.operation as u8;
        bytes[1] = self.element;
        bytes[2..4].copy_from_slice(&self.root.to_le_bytes());
        bytes[4..12].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[12..20].copy_from_slice(&self.count.to_le_bytes());
        bytes[20..].copy_from_slice(&self.index.to_le_bytes());
        bytes
    }

    /// The operation with this code; `None` for an unknown one.
    pub(crate) fn decode(bytes: &[u8; TAG]) -> Option<Self> {
        Some(Self {
            operation: Operation::from_code(bytes[0])?,
            element: bytes[1],
            root: u16::from_le_bytes([bytes[2], bytes[3]]),
            sequence: long(bytes, 4),
            count: long(bytes, 12),
            index: word(bytes, 20),
        })
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let element = ["", " f32", " f64", " u32", " f16"]
            .get(usize::from(self.element))
            .copied()
            .unwrap_or(" unknown");
        write!(f, "{} {} of {}{element}", self.operation, self.sequence, self.count)?;
        if self.operation == Operation::Broadcast {
            write!(f, " from rank {}", self.root)?;
        }
        write!(f, ", frame {}", self.index)
    }
}

/// A frame's header in decoded form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Identifies the frame in its collective.
    pub tag: Tag,
    /// Size of the payload in bytes.
    pub bytes: u32,
    /// CRC-32C of the frame's payload.
    pub crc: u32,
}

impl Header {
    /// Encodes the header as bytes.
    pub fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..28].copy_from_slice(&self.tag.encode());
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
        let unknown = || frame(format!("operation {} is unknown", bytes[4]));
        let tag = Tag::decode(&std::array::from_fn(|i| bytes[4 + i])).ok_or_else(unknown)?;
        let header = Self { tag, bytes: word(bytes, 28), crc: word(bytes, 32) };
        let most = match tag.operation {
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

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}
