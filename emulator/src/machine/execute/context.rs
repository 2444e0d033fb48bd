//! State that a warp shares with its block, and the reasons for which it stops.

use crate::machine::program::{BarrierOp, CodeAddress, Program};
use std::sync::Mutex;

use crate::error::{Fault, FaultKind};
use crate::memory::{Heap, Shared, View};
use crate::options::{Checks, TensorCore};
use crate::report::Report;

/// The memories and settings that the instructions of a block use.
pub(super) struct Context<'a> {
    pub program: &'a Program,
    /// The launch's view of global memory.
    pub view: View<'a>,
    /// The block's shared memory.
    pub shared: Shared,
    /// Bytes of the kernel's parameters.
    pub parameters: &'a [u8],
    /// The device's heap; `None` for a kernel that does not use it.
    pub heap: Option<&'a Mutex<Heap>>,
    pub checks: Checks,
    /// The tensor cores whose arithmetic `mma` has.
    pub tensor_core: TensorCore,
    /// Counts over all blocks that ran in this context.
    pub report: Report,
    /// Instructions that the current block has executed.
    pub executed: u64,
}

/// The reason why a warp stopped.
pub(super) enum Stop<'a> {
    /// Its turn ended; more instructions remain.
    Turn,
    /// It is at a barrier instruction of the block, with these lanes. The barrier advances it.
    Barrier(&'a BarrierOp, u32),
    /// All its threads have ended.
    Done,
}

/// A fault, and the instruction that caused it.
#[derive(Debug)]
pub(crate) struct Failure {
    pub fault: Fault,
    pub at: CodeAddress,
}

/// A fault of the lowest lane of `mask`, without an address.
#[cold]
pub(super) fn fault(kind: FaultKind, mask: u32, message: String) -> Fault {
    Fault { kind, lane: mask.trailing_zeros().min(31), address: None, message }
}
