//! What can go wrong: text that is not PTX, launches that make no sense, and kernels that misbehave.

use std::fmt;

/// What stopped a parse or a launch.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// Text that cannot be understood, or an instruction that the emulator does not know.
    #[error("{module}:{line}: {message}")]
    Parse {
        /// The module's name, as the caller gave it.
        module: String,
        /// Line in the text, from 1.
        line: u32,
        /// What was found and what was expected.
        message: String,
    },
    /// A launch, an allocation or a copy that makes no sense: missing arguments, absurd sizes, foreign addresses.
    #[error("{0}")]
    Usage(String),
    /// A kernel that did something wrong while it ran.
    #[error("{kernel}:{line}: block ({}, {}, {}), thread ({}, {}, {}): {fault}\n    {text}", block[0], block[1], block[2], thread[0], thread[1], thread[2])]
    Kernel {
        /// The kernel.
        kernel: String,
        /// Line of the instruction in the PTX text, from 1.
        line: u32,
        /// The instruction as it stands there.
        text: String,
        /// The block's coordinates in the grid.
        block: [u32; 3],
        /// The thread's coordinates in the block.
        thread: [u32; 3],
        /// What it did.
        fault: Box<Fault>,
    },
}

/// What a lane did wrong.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    /// The kind, for tests to match on.
    pub kind: FaultKind,
    /// The lane of the warp that is to blame (the lowest, where several are).
    pub lane: u32,
    /// The address that was accessed, where there is one.
    pub address: Option<u64>,
    /// One sentence with the numbers.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.message)
    }
}

/// The kinds of misbehaviour that are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// An access outside every live allocation, or across the end of one.
    OutOfBounds,
    /// An address that is not a multiple of the access' width.
    Misaligned,
    /// A read of memory that nothing wrote.
    UninitialisedMemory,
    /// A read of a register that this thread has not written.
    UninitialisedRegister,
    /// Two threads that touch the same byte of shared memory between barriers, one of them writing.
    Race,
    /// A barrier that a part of a warp reaches alone, or that threads of a block reach at different places or counts.
    DivergentBarrier,
    /// Threads that wait for what will never come.
    Deadlock,
    /// Data of an asynchronous copy that is read before its wait, or overwritten (at source or destination) while pending.
    PendingCopy,
    /// An instruction that needs the whole warp (or the lanes it names) under a smaller active mask.
    PartialMask,
    /// More instructions than the launch's budget.
    Budget,
    /// `trap`, a failed `assert`, division that PTX leaves undefined, a jump to nowhere.
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

/// `Result` with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
