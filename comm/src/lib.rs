//! Collectives between the ranks of a job: all-reduce, reduce-scatter, all-gather, broadcast, shift and barrier over a ring of
//! TCP connections; [`gpu`] has those over the memory of GPUs.
//!
//! n ranks form a ring; rank r sends to its right neighbour, r + 1, and receives from its left, r − 1. A buffer is cut into n
//! segments, [`segment`], and an all-reduce has two rounds (Patarasuk and Yuan 2009): reduce-scatter, after which rank r has the
//! result of segment r, then all-gather. Each rank sends 2(n−1)/n of the buffer, which is the minimum. Segments are sent in
//! pieces, so that receiving, reducing and sending overlap.
//!
//! **Order of summation.** Segment j is added from rank j + 1 on, round the ring: ((x_{j+1} + x_{j+2}) + …) + x_j,
//! indices modulo n. It depends on the number of ranks and the buffer's length only. The all-gather copies bytes, so every
//! rank ends with the same bits.
//!
//! **Checks.** Each frame has its operation, sequence number, type, length and number, and a CRC-32C ([`frame`]). A forwarded
//! piece keeps the checksum of the rank that made it. Ranks in different collectives get an error at the first frame. On a
//! connection with MACs ([`rendezvous`]), each frame also has two keyed BLAKE3 codes with its number on that connection, so a
//! frame that was changed, repeated, removed or reordered is an error.
//!
//! **Faults.** On any failure a rank sends the reason to its right neighbour and closes both connections. So the
//! failure travels round the ring within milliseconds, with the message of the rank that detected it first. No rank
//! waits longer than the timeout. A rank outside of a collective gets the error at its next one. A communicator that
//! failed stays closed.

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
mod seal;
pub mod tcp;
#[cfg(test)]
mod tests;

pub use comm_thread::{CommThread, Pending};
pub use communicator::Communicator;
pub use cut::{segment, segment_of};
pub use element::{Element, ReduceOp};
#[cfg(test)]
pub use error::SetupError;
pub use error::{Error, Fault, Result};
pub use link::{Block, Link};

/// Writes a line to standard error with one write, since ranks may share it. An error here cannot be reported.
fn say(line: &str) {
    use std::io::Write;
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}
