//! Ranks that work on the same thing: all-reduce, reduce-scatter, all-gather, broadcast, shift and barrier over a ring of
//! TCP connections; [`gpu`] has those over the memory of GPUs.
//!
//! n ranks stand in a ring; each sends to its right neighbour, r + 1, and receives from its left, r − 1. A buffer is
//! cut into n segments, [`segment`], and an all-reduce makes two rounds (Patarasuk and Yuan 2009): reduce-scatter, after
//! which rank r has the result of segment r, then all-gather. Each rank sends 2(n−1)/n of the buffer, which no algorithm
//! beats. Segments travel in pieces, so that receiving, reducing and sending overlap.
//!
//! **Order of summation.** Segment j is added from rank j + 1 on, round the ring: ((x_{j+1} + x_{j+2}) + …) + x_j,
//! indices modulo n. It depends on the number of ranks and the buffer's length, on nothing else. The all-gather copies
//! bytes, so every rank ends with the same bits.
//!
//! **Checks.** Each frame says its operation, sequence number, type, length and place, and has a CRC-32C ([`frame`]).
//! A forwarded piece keeps the checksum of the rank that made it. Ranks that are not in the same collective find out at
//! the first frame.
//!
//! **Faults.** Whatever fails, the rank tells its right neighbour why and closes both connections, so that the failure
//! goes round the ring within milliseconds, with the message of the rank that saw it first. No rank waits longer than the
//! timeout. A rank that is not in a collective notices at its next one. A communicator that failed stays closed.

mod comm_thread;
mod communicator;
mod cut;
mod element;
pub mod environment;
mod error;
pub mod frame;
pub mod gpu;
mod link;
pub mod nccl;
pub mod rendezvous;
mod ring;
pub mod tcp;
#[cfg(test)]
mod tests;

pub use comm_thread::{CommThread, Pending};
pub use communicator::Communicator;
pub use cut::{segment, segment_of};
pub use element::{Element, Reduction};
#[cfg(test)]
pub use error::SetupError;
pub use error::{Error, Fault, Result};
pub use link::{Block, Link};

/// A line to standard error in one piece, since ranks may share it. An error here cannot be reported anywhere.
fn say(line: &str) {
    use std::io::Write;
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}
