//! What goes wrong between ranks, always with the rank, the collective and its sequence number.

use super::frame::{Operation, Tag};
use std::time::Duration;

/// A collective that failed: who noticed, in which operation, and what it saw.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("rank {rank}: {operation} {sequence}: {fault}")]
pub struct Error {
    /// The rank that noticed.
    pub rank: usize,
    /// The collective that it was in.
    pub operation: Operation,
    /// The collective's number: the first of a communicator is 1.
    pub sequence: u64,
    /// What it saw.
    pub fault: Fault,
}

/// `Result` with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a rank saw of its neighbours.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Fault {
    /// The connection ended.
    #[error("rank {peer} closed the connection: it ended, was killed or failed; its own message says why")]
    Closed {
        /// The neighbour.
        peer: usize,
    },
    /// Nothing moved for the whole timeout.
    #[error("{}", timeout_text(*.peer, *.sending, *.waited, *.blamed))]
    Timeout {
        /// The neighbour.
        peer: usize,
        /// Whether this rank was sending (to its right) or receiving (from its left).
        sending: bool,
        /// How long nothing moved.
        waited: Duration,
        /// The rank that the neighbour said it was waiting for itself.
        blamed: Option<usize>,
    },
    /// Bytes that do not have their checksum.
    #[error("the {part} from rank {peer} is damaged: CRC-32C {found:08x} where {sent:08x} was sent")]
    Checksum {
        /// The neighbour.
        peer: usize,
        /// "header" or "payload".
        part: &'static str,
        /// The checksum in the frame.
        sent: u32,
        /// The checksum of the bytes that came.
        found: u32,
    },
    /// Bytes that are not a frame.
    #[error("rank {peer} sent bytes that are not a frame: {message}")]
    Frame {
        /// The neighbour.
        peer: usize,
        /// What is wrong with it.
        message: String,
    },
    /// The ranks are not in the same collective, or not with the same buffer.
    #[error(
        "rank {peer} is in {theirs}, this rank in {ours}: all must call the same collectives in the same order"
    )]
    Mismatch {
        /// The neighbour.
        peer: usize,
        /// What its frame says.
        theirs: Tag,
        /// What was expected.
        ours: Tag,
    },
    /// A failure elsewhere in the ring, in the words of the rank that saw it first.
    #[error("stopped, because {text}")]
    Told {
        /// The first rank's message.
        text: String,
    },
    /// The operating system refused to read or write.
    #[error("the connection with rank {peer} fails: {message}")]
    System {
        /// The neighbour.
        peer: usize,
        /// The system's words.
        message: String,
    },
    /// An argument that no communicator of this size can take.
    #[error("{0}")]
    Argument(String),
    /// The communicator failed before and is closed.
    #[error("the ring is closed since an earlier failure: {0}")]
    Earlier(String),
}

/// A ring that does not come about.
#[cfg(test)]
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("rank {rank}: cannot join the ring of {size}: {message}")]
pub struct SetupError {
    /// The rank that tried.
    pub rank: usize,
    /// The number of ranks.
    pub size: usize,
    /// What is in the way, with the address.
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
