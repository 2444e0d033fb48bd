//! Decoded instructions, family by family.

use super::atomic::Atomic;
use super::matrix::{AsyncCopy, Matrix};
use super::operand::{Address, Loc, Pred, Value};
use crate::machine::lanes::{CompareFn32, CompareFn64, LaneFn32, LaneFn64, NarrowFn, ShiftFn, WidenFn};
use crate::machine::math::{Math32, Math64};
use crate::space::StateSpace;

/// A decoded instruction. A PTX instruction may be decoded into several.
#[derive(Debug, Clone)]
pub(crate) struct Inst {
    pub op: Op,
    /// The instruction runs in the lanes where the guard is true.
    pub guard: Pred,
    /// 1 for the first part of a PTX instruction, 0 for its later parts: reports count PTX instructions.
    pub counts: u32,
}

/// An operation. Results come before operands.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    /// 32-bit operands, 32-bit result.
    Lane32(LaneFn32, Loc, [Loc; 3]),
    /// 64-bit operands, 64-bit result.
    Lane64(LaneFn64, Loc, [Loc; 3]),
    /// 32-bit operands (the third 64-bit), 64-bit result.
    Widen(WidenFn, Loc, [Loc; 3]),
    /// 64-bit operands (the third 32-bit), 32-bit result.
    Narrow(NarrowFn, Loc, [Loc; 3]),
    /// A 64-bit operand and two 32-bit ones, 64-bit result.
    Shift(ShiftFn, Loc, [Loc; 3]),
    /// Floating point of up to 32 bits, and video instructions.
    Math32(Math32, Loc, [Loc; 3]),
    /// Floating point and conversions of 64 bits.
    Math64(Math64, Loc, [Loc; 3]),
    /// Comparison of 32-bit operands.
    Compare32(CompareFn32, [Loc; 2], SetPredicate),
    /// Comparison of 64-bit operands.
    Compare64(CompareFn64, [Loc; 2], SetPredicate),
    /// The first 32-bit operand where the predicate is true, else the second.
    Select32(Loc, [Loc; 2], Pred),
    /// The first 64-bit operand where the predicate is true, else the second.
    Select64(Loc, [Loc; 2], Pred),
    /// A copy of 32 bits, also of an undefined register.
    Copy32(Loc, Loc),
    /// A copy of 64 bits, also of an undefined register.
    Copy64(Loc, Loc),
    /// 64 bits into low and high halves.
    Unpack([Loc; 2], Loc),
    /// Low and high halves into 64 bits.
    Pack(Loc, [Loc; 2]),
    /// A logic operation on predicates.
    Predicate(Logic, Pred, [Pred; 2]),
    /// Addition or subtraction with the carry flag.
    Carry(Carry, Loc, [Loc; 2]),
    /// The address of a variable, from its offset in this function's frame.
    FrameAddress(Value, u64),
    /// Reads the warp's instruction counter.
    Clock(Value),
    /// `alloca`: the address, the size in bytes, and the alignment in bytes.
    Alloca(Value, Value, u64),
    /// `stacksave`: reads the top of the stack.
    StackSave(Value),
    /// `stackrestore`: frees to a saved top.
    StackRestore(Value),
    /// `malloc`: the address, and the size in bytes.
    Malloc(Loc, Loc),
    /// `free` of an address.
    Free(Loc),
    Load(Box<Transfer>),
    Store(Box<Transfer>),
    /// `cvta`: a conversion between address kinds.
    ConvertAddress(ConvertAddress),
    /// `isspacep`: whether a generic address belongs to a state space.
    InSpace(Pred, Value, StateSpace),
    /// `atom`, `red`: an atomic operation.
    Atomic(Box<Atomic>),
    /// A jump to an instruction; to a label's number until labels are resolved.
    Branch(u32, Reconvergence),
    /// `brx.idx`: the index, and the number of the table of targets.
    BranchTable(Loc, u32, Reconvergence),
    Call(Box<CallOp>),
    /// Returns from a function; ends the thread in a kernel.
    Return,
    Exit,
    Trap,
    /// `discard` of 128 bytes of global memory: they count as never written.
    Discard(Box<Address>),
    /// `membar`, `fence`: a memory fence.
    Fence,
    /// An instruction without an effect in the emulator.
    Nop,
    /// `bar`, `barrier`: a barrier of the block.
    Barrier(Box<BarrierOp>),
    /// `shfl`, `vote`, `match`, `redux`, `activemask`, `elect`
    Exchange(Box<Exchange>),
    /// `cp.async`: asynchronous copies.
    AsyncCopy(Box<AsyncCopy>),
    /// `ldmatrix`, `stmatrix`, `movmatrix`, `mma`, `wmma`
    Matrix(Box<Matrix>),
}

/// A load or store of one to four elements.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Transfer {
    pub address: Address,
    /// Size of an element in bytes.
    pub bytes: u8,
    /// Number of elements, up to 4.
    pub count: u8,
    /// A load of fewer bits than the register has extends the sign.
    pub signed: bool,
    /// `.volatile`, `.relaxed`, `.acquire`, `.release`: other threads may access the same bytes at the same time.
    pub strong: bool,
    /// `.acquire`, `.release`: orders the accesses around it.
    pub orders: bool,
    /// The registers of the elements.
    pub values: [Value; 4],
}

impl Transfer {
    /// A weak transfer of `count` elements of `bytes` bytes. The caller sets the registers.
    pub fn new(address: Address, bytes: u8, count: u8) -> Self {
        Self { address, bytes, count, signed: false, strong: false, orders: false, values: [Value::ZERO; 4] }
    }
}

/// The combination of `setp`'s comparison with a predicate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Combine {
    /// The comparison without a predicate.
    None,
    And,
    Or,
    Xor,
}

/// The destinations of a comparison.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SetPredicate {
    /// Destination of the result.
    pub first: Pred,
    /// Destination of the result for the negated comparison.
    pub second: Pred,
    pub combine: Combine,
    /// The predicate that the result is combined with.
    pub with: Pred,
}

/// A logic operation on predicates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Logic {
    Copy,
    Not,
    And,
    Or,
    Xor,
}

/// Addition and subtraction with the carry flag.
///
/// The PTX ISA says that `sub.cc` writes a borrow to the flag and that `subc` subtracts it. The chip has one adder, and
/// ptxas compiles both to it: a − b is a + not b + 1, and the flag is the carry out of that, the opposite of the borrow.
/// Chains of `sub.cc` and `subc` compute the same either way. Where they mix with `addc` and `madc`, the compiler's results
/// follow the adder (ptxas 13.5 folds constants: 7 + 0 by `addc` after 0 − 1 by `sub.cc` is 7, not 8), and so does the
/// emulator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Carry {
    /// Whether the operands have 64 bits.
    pub wide: bool,
    pub subtract: bool,
    /// Whether the flag is added; in a subtraction, in place of the 1.
    pub reads_flag: bool,
    pub writes_flag: bool,
}

/// `cvta`: from an address in a state space to the generic address, or back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConvertAddress {
    pub to: Value,
    pub from: Value,
    pub space: StateSpace,
    /// Whether the result is the generic address.
    pub generic: bool,
}

/// The reconvergence point of a branch: the first instruction of the immediate post-dominator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reconvergence(pub u32);

impl Reconvergence {
    /// The end of the function.
    pub const END: Self = Self(u32::MAX);
}

/// The place of a function's parameter or result.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Formal {
    /// A place in the function's frame.
    Frame {
        /// Offset from the start of the frame in bytes.
        offset: u64,
        bytes: u64,
    },
    Register(Value),
    Predicate(Pred),
}

/// The place of a caller's argument or result.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Argument {
    /// A variable in the caller's frame.
    Frame {
        /// Offset from the start of the frame in bytes.
        offset: u64,
        bytes: u64,
    },
    /// A register or constant.
    Value(Value),
    Predicate(Pred),
}

/// The function of a call.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Callee {
    /// A function, by its index among the program's routines.
    Direct(usize),
    /// The function whose address a register holds.
    Indirect(Loc),
}

/// A `call` with its arguments.
#[derive(Debug, Clone)]
pub(crate) struct CallOp {
    pub callee: Callee,
    pub arguments: Vec<Argument>,
    /// Destinations of the results.
    pub returns: Vec<Argument>,
}

/// The kind of a barrier instruction.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) enum BarrierKind {
    /// Arrives, then waits for the others.
    #[default]
    Sync,
    /// `bar.arrive`: arrives without waiting.
    Arrive,
    /// `bar.red.popc`: waits, and counts the threads whose predicate is true.
    Count(Loc, Pred),
    /// `bar.red.and`, `bar.red.or`: waits, and tests whether all (or any) predicates are true.
    Vote { all: bool, to: Pred, from: Pred },
    /// `bar.warp.sync` with its member mask.
    Warp(Loc),
}

/// `bar`, `barrier`: a barrier with its operands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BarrierOp {
    pub kind: BarrierKind,
    /// Number of the barrier.
    pub id: Loc,
    /// Number of threads that it waits for; `None` for all threads of the block.
    pub count: Option<Loc>,
    /// Whether the whole warp must run it together.
    pub aligned: bool,
}

impl Default for BarrierOp {
    fn default() -> Self {
        Self { kind: BarrierKind::Sync, id: Loc::ZERO, count: None, aligned: true }
    }
}

/// The source lane of `shfl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shuffle {
    /// A lower lane, by distance.
    Up,
    /// A higher lane, by distance.
    Down,
    /// The lane whose number is the xor of its own and a mask.
    Butterfly,
    /// A lane by its number.
    Index,
}

/// The result of `vote`, with its destination.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Vote {
    All(Pred),
    Any(Pred),
    /// Whether all predicates are equal.
    Uniform(Pred),
    /// The mask of the lanes whose predicate is true.
    Ballot(Loc),
}

/// The reduction of `redux`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Redux {
    Add,
    Min,
    Max,
    MinSigned,
    MaxSigned,
    And,
    Or,
    Xor,
}

/// An instruction that reads registers of other lanes. `members` is the mask of the lanes that take part; without one
/// (`shfl`, `vote`) the active lanes do.
#[derive(Debug, Clone)]
pub(crate) enum Exchange {
    /// `activemask`: the mask of active lanes.
    Active(Loc),
    /// `shfl`; `by` is the lane or distance, `limits` the clamp and segment mask.
    Shuffle { mode: Shuffle, to: Loc, p: Pred, from: Loc, by: Loc, limits: Loc, members: Option<Loc> },
    /// `vote`: a test of predicates.
    Vote { vote: Vote, p: Pred, members: Option<Loc> },
    /// `match.sync`: lanes with equal values.
    Match { all: bool, to: Loc, p: Pred, from: Value, members: Loc },
    /// `redux.sync`: a reduction over lanes.
    Redux { op: Redux, to: Loc, from: Loc, members: Loc },
    /// `elect.sync`: selects one lane.
    Elect { lane: Loc, p: Pred, members: Loc },
}

impl Exchange {
    /// The column of the member mask.
    pub fn members(&self) -> Option<Loc> {
        match *self {
            Self::Active(_) => None,
            Self::Shuffle { members, .. } | Self::Vote { members, .. } => members,
            Self::Match { members, .. } | Self::Redux { members, .. } | Self::Elect { members, .. } => {
                Some(members)
            }
        }
    }
}
