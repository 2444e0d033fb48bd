//! What goes wrong in collectives over device memory.

use crate::error as comm;

/// A collective over device memory that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The control ring: another rank failed, or the connection.
    #[error(transparent)]
    Control(#[from] comm::Error),
    /// This rank's device.
    #[error("rank {rank}: {operation} over device memory: {source}")]
    Device {
        /// This rank.
        rank: usize,
        /// What it was doing.
        operation: &'static str,
        /// What the device says.
        source: ssmv_autograd::Error,
    },
    /// Arguments that cannot be, or that are not those of the left neighbour.
    #[error("rank {rank}: {operation} over device memory: {message}")]
    Argument {
        /// This rank.
        rank: usize,
        /// What it was to do.
        operation: &'static str,
        /// What is wrong.
        message: String,
    },
    /// The left neighbour came to no turn of a collective for all of the patience.
    #[error("rank {rank}: {operation} over device memory: rank {left} sends nothing for {seconds:.1} s")]
    Stalled {
        /// This rank.
        rank: usize,
        /// What it was doing.
        operation: &'static str,
        /// The left neighbour.
        left: usize,
        /// How long this rank waited.
        seconds: f64,
    },
    /// This rank ended the collective itself.
    #[error("rank {rank}: {operation} over device memory: given up by this rank")]
    Aborted {
        /// This rank.
        rank: usize,
        /// What it was doing.
        operation: &'static str,
    },
    /// Sums came out wrong. All ranks get this error at once and the control ring goes on: take [`Staged`] instead.
    ///
    /// [`Staged`]: super::Staged
    #[error("all-reduces of known numbers come out wrong: {0}")]
    Wrong(String),
    /// The devices cannot reach each other. All ranks get this error at once and the control ring goes on: take [`Staged`]
    /// instead.
    ///
    /// [`Staged`]: super::Staged
    #[error("the devices cannot reach each other: {0}")]
    Unreachable(String),
}

/// `Result` with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
