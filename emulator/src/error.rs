//! Errors: of PTX text, of calls, and of kernels.

use std::fmt;

/// An error of a call to the emulator.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// Text that is not PTX, or an instruction that the emulator does not support.
    #[error("{module}:{line}: {message}")]
    Parse {
        /// Name of the module, as the caller gave it.
        module: String,
        /// Line in the text, from 1.
        line: u32,
        /// The token found and the token expected.
        message: String,
    },
    /// A wrong call: missing arguments, sizes over a limit, addresses outside all allocations.
    #[error("{0}")]
    Usage(String),
    /// An error of a kernel while it ran.
    #[error("{kernel}:{line}: block ({}, {}, {}), thread ({}, {}, {}): {fault}\n    {text}", block[0], block[1], block[2], thread[0], thread[1], thread[2])]
    Kernel {
        /// Name of the kernel.
        kernel: String,
        /// Line of the instruction in the PTX text, from 1.
        line: u32,
        /// Text of the instruction.
        text: String,
        /// The block's coordinates in the grid.
        block: [u32; 3],
        /// The thread's coordinates in the block.
        thread: [u32; 3],
        /// The fault, with its lane and address.
        fault: Box<Fault>,
    },
}

/// A fault of a thread.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    /// Kind of the fault, for tests to match on.
    pub kind: FaultKind,
    /// The lane of the warp that caused the fault; the lowest of several.
    pub lane: u32,
    /// Address of the access, for faults of memory.
    pub address: Option<u64>,
    /// Message with addresses, sizes and lines.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.message)
    }
}

/// The kinds of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// An access outside every live allocation, or across the end of one.
    OutOfBounds,
    /// An address that is not a multiple of the access' width.
    Misaligned,
    /// A read of memory that was never written.
    UninitialisedMemory,
    /// A read of a register that this thread has not written.
    UninitialisedRegister,
    /// Two threads access a byte of shared memory without synchronisation, and at least one writes.
    Race,
    /// A barrier that only part of a warp reaches, or that warps reach at different instructions or with different counts.
    DivergentBarrier,
    /// A deadlock: all threads wait.
    Deadlock,
    /// Data of an asynchronous copy that is read before its wait, or overwritten (at source or destination) while pending.
    PendingCopy,
    /// An instruction that needs the whole warp (or the lanes it names) under a smaller active mask.
    PartialMask,
    /// More instructions than the launch's budget.
    Budget,
    /// `trap`, a failed `assert`, or a jump or call to an invalid address.
    Trap,
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OutOfBounds => "out of bounds",
            Self::Misaligned => "misaligned",
            Self::UninitialisedMemory => "uninitialised memory",
            Self::UninitialisedRegister => "uninitialised register",
            Self::Race => "shared-memory race",
            Self::DivergentBarrier => "divergent barrier",
            Self::Deadlock => "deadlock",
            Self::PendingCopy => "pending asynchronous copy",
            Self::PartialMask => "partial mask",
            Self::Budget => "instruction budget",
            Self::Trap => "trap",
        })
    }
}

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
