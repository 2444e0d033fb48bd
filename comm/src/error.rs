//! Failures of collectives, with the rank, the collective and its sequence number.

use super::frame::{Operation, Tag};
use std::time::Duration;

/// A failure of a collective.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("rank {rank}: {operation} {sequence}: {fault}")]
pub struct Error {
    /// The rank that reports the error.
    pub rank: usize,
    /// Name of the failed collective.
    pub operation: Operation,
    /// The number of the collective; the first of a communicator is 1.
    pub sequence: u64,
    /// The cause of the failure.
    pub fault: Fault,
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The cause of a failure.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Fault {
    /// The neighbour closed the connection.
    #[error("rank {peer} closed the connection: it ended, was killed or failed; its own message says why")]
    Closed {
        /// Rank of the neighbour.
        peer: usize,
    },
    /// No bytes were sent or received until the timeout.
    #[error("{}", timeout_text(*.peer, *.sending, *.waited, *.blamed))]
    Timeout {
        /// Rank of the neighbour.
        peer: usize,
        /// Whether this rank was sending (to its right) or receiving (from its left).
        sending: bool,
        /// The time without a byte.
        waited: Duration,
        /// The rank that the neighbour reported to wait for.
        blamed: Option<usize>,
    },
    /// Bytes do not match their checksum.
    #[error("the {part} from rank {peer} is damaged: CRC-32C {found:08x} where {sent:08x} was sent")]
    Checksum {
        /// Rank of the neighbour.
        peer: usize,
        /// The part of the frame: "header" or "payload".
        part: &'static str,
        /// The checksum in the frame.
        sent: u32,
        /// The checksum of the received bytes.
        found: u32,
    },
    /// A frame does not have the code of its connection's key and of its place.
    #[error(
        "the {part} of frame {number} from rank {peer} has a wrong MAC: it was changed, repeated, removed or reordered \
         between the ranks"
    )]
    Forged {
        /// Rank of the neighbour.
        peer: usize,
        /// The part of the frame: "header" or "payload".
        part: &'static str,
        /// The number of the expected frame on this connection, from 0.
        number: u64,
    },
    /// The neighbour sent bytes that are not a frame.
    #[error("rank {peer} sent bytes that are not a frame: {message}")]
    Frame {
        /// Rank of the neighbour.
        peer: usize,
        /// The reason why it is not a frame.
        message: String,
    },
    /// The ranks are not in the same collective, or not with the same buffer.
    #[error(
        "rank {peer} is in {theirs}, this rank in {ours}: all must call the same collectives in the same order"
    )]
    Mismatch {
        /// Rank of the neighbour.
        peer: usize,
        /// Tag of the received frame.
        theirs: Tag,
        /// Tag of the expected frame.
        ours: Tag,
    },
    /// Another rank failed; the text is the message of the rank that detected it first.
    #[error("stopped, because {text}")]
    Reported {
        /// The message of the first rank.
        text: String,
    },
    /// The operating system cannot read or write.
    #[error("the connection with rank {peer} fails: {message}")]
    System {
        /// Rank of the neighbour.
        peer: usize,
        /// Message of the operating system.
        message: String,
    },
    /// An argument is invalid for this number of ranks.
    #[error("{0}")]
    Argument(String),
    /// The communicator failed earlier and is closed.
    #[error("the ring is closed since an earlier failure: {0}")]
    Earlier(String),
}

/// The ring of a test could not be connected.
#[cfg(test)]
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("rank {rank}: cannot join the ring of {size}: {message}")]
pub struct SetupError {
    /// The rank that reports the error.
    pub rank: usize,
    /// Number of ranks of the ring.
    pub size: usize,
    /// The reason, with the address.
    pub message: String,
}

fn timeout_text(peer: usize, sending: bool, waited: Duration, blamed: Option<usize>) -> String {
    let what = if sending { "takes nothing" } else { "sends nothing" };
    let seconds = waited.as_secs_f64();
    match blamed {
        Some(blamed) => format!("rank {peer} {what} for {seconds:.1} s; it waits for rank {blamed}"),
        None => format!("rank {peer} {what} for {seconds:.1} s"),
    }
}
