//! The decoded form of a module: instructions with their operands resolved to columns.

use super::lanes::{Compare32, Compare64, F32, F64, Narrow, Shift, V32, V64, Widen};
use super::math::{Math32, Math64};

/// Where a column is: a register of the frame, a constant of the module, or a special register of the warp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Loc(u32);

/// A [`Loc`], taken apart.
pub(super) enum Place {
    /// Register of the frame.
    Register(usize),
    /// Constant of the module.
    Constant(usize),
    /// Special register of the warp.
    Special(usize),
}

impl Loc {
    const CONSTANT: u32 = 1 << 31;
    const SPECIAL: u32 = 1 << 30;
    /// The constant 0 of either width: the first of each pool.
    pub const ZERO: Self = Self(Self::CONSTANT);

    /// A register of the frame.
    pub fn register(index: usize) -> Self {
        Self(index as u32)
    }

    /// A constant of the module.
    pub fn constant(index: usize) -> Self {
        Self(index as u32 | Self::CONSTANT)
    }

    /// A special register of the warp.
    pub fn special(which: Special) -> Self {
        Self(which as u32 | Self::SPECIAL)
    }

    /// Which of the three it is.
    #[inline(always)]
    pub fn place(self) -> Place {
        if self.0 & (Self::CONSTANT | Self::SPECIAL) == 0 {
            Place::Register(self.0 as usize)
        } else if self.0 & Self::CONSTANT != 0 {
            Place::Constant((self.0 & !Self::CONSTANT) as usize)
        } else {
            Place::Special((self.0 & !Self::SPECIAL) as usize)
        }
    }

    /// A register's index, if it is one.
    #[inline(always)]
    pub fn index(self) -> Option<usize> {
        (self.0 & (Self::CONSTANT | Self::SPECIAL) == 0).then_some(self.0 as usize)
    }
}

/// A predicate register of the frame, possibly negated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pred {
    /// Its index.
    pub index: u32,
    /// Read as its negation.
    pub negated: bool,
}

impl Pred {
    /// Always true as a guard or operand; nowhere as a destination.
    pub const NONE: Self = Self { index: u32::MAX, negated: false };
    /// Always false as an operand.
    pub const FALSE: Self = Self { index: u32::MAX, negated: true };

    /// Neither a register to read nor one to write.
    #[inline(always)]
    pub fn is_none(self) -> bool {
        self.index == u32::MAX
    }
}

/// 32-bit special registers, as columns that a warp holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub(super) enum Special {
    TidX,
    TidY,
    TidZ,
    NtidX,
    NtidY,
    NtidZ,
    CtaidX,
    CtaidY,
    CtaidZ,
    NctaidX,
    NctaidY,
    NctaidZ,
    Lane,
    MaskEq,
    MaskLe,
    MaskLt,
    MaskGe,
    MaskGt,
    Warp,
    DynamicShared,
    TotalShared,
}

/// Number of [`Special`]s.
pub(super) const SPECIALS: usize = Special::TotalShared as usize + 1;

/// The spaces that `isspacep` tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Window {
    /// Global memory.
    Global,
    /// The module's constants.
    Const,
    /// Shared memory of the block.
    Shared,
    /// A thread's own memory.
    Local,
    /// The kernel's parameters.
    Param,
}

/// Where an access goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StateSpace {
    /// Global and constant memory.
    Global,
    /// Shared memory of the block.
    Shared,
    /// A thread's own memory; addresses count from the bottom of its stack.
    Local,
    /// A thread's own memory; addresses count from this function's frame.
    Frame,
    /// The kernel's parameters.
    Param,
    /// Any of them, told apart by the address.
    Generic,
}

/// The address operand of an access.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Address {
    /// Where it goes.
    pub room: StateSpace,
    /// The base's column.
    pub base: Loc,
    /// The base is 64 bits wide.
    pub wide: bool,
    /// Added to the base.
    pub offset: i64,
}

/// A load or store.
#[derive(Debug, Clone, Copy)]
pub(super) struct Transfer {
    /// The address.
    pub address: Address,
    /// Bytes of an element.
    pub bytes: u8,
    /// Elements.
    pub count: u8,
    /// Loads of fewer bits than the register fill it with the sign.
    pub signed: bool,
    /// Other threads may access the same place at once: `.volatile`, `.relaxed`, `.acquire`, `.release`.
    pub strong: bool,
    /// Orders what is around it: `.acquire`, `.release`.
    pub orders: bool,
    /// The registers.
    pub values: [Value; 4],
}

/// A register or constant with its width.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Value {
    /// Its column.
    pub loc: Loc,
    /// 64 bits wide.
    pub wide: bool,
    /// Only 16 bits wide.
    pub sixteen: bool,
}

impl Value {
    /// The constant 0, or nowhere.
    pub const ZERO: Self = Self::new(Loc::ZERO, false);

    /// A column of 32 or 64 bits.
    pub const fn new(loc: Loc, wide: bool) -> Self {
        Self { loc, wide, sixteen: false }
    }
}

impl Transfer {
    /// A plain one of `count` elements of `bytes` bytes; its registers are still to be set.
    pub fn new(address: Address, bytes: u8, count: u8) -> Self {
        Self { address, bytes, count, signed: false, strong: false, orders: false, values: [Value::ZERO; 4] }
    }
}

/// How `setp` combines its comparison with a predicate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Combine {
    /// Not at all.
    None,
    /// Both.
    And,
    /// Either.
    Or,
    /// One of the two.
    Xor,
}

/// The destinations and the combination of a comparison.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outcome {
    /// Where the result goes.
    pub first: Pred,
    /// Where the result with the comparison negated goes.
    pub second: Pred,
    /// How it is combined with `with`.
    pub combine: Combine,
    /// The predicate that it is combined with.
    pub with: Pred,
}

/// Logic on predicates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Logic {
    /// The operand itself.
    Copy,
    /// Its negation.
    Not,
    /// Both.
    And,
    /// Either.
    Or,
    /// One of the two.
    Xor,
}

/// Adding and subtracting with the carry flag.
///
/// PTX's text says that `sub.cc` writes a borrow to the flag and that `subc` subtracts it. The chip has one adder, and
/// ptxas compiles both so: a − b is a + not b + 1, and the flag is the carry out of that, the borrow's opposite. Chains of
/// `sub.cc` and `subc` compute the same either way. Where they mix with `addc` and `madc`, the compiler's results (ptxas
/// 13.5 folds constants: 7 + 0 by `addc` after 0 − 1 by `sub.cc` is 7, not 8) follow the adder, and so do these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Carry {
    /// 64 bits.
    pub wide: bool,
    /// Subtracts.
    pub subtract: bool,
    /// Adds the flag (in a subtraction, in the place of the 1).
    pub takes: bool,
    /// Writes the flag.
    pub gives: bool,
}

/// What an instruction does.
#[derive(Debug, Clone)]
pub(super) enum Op {
    /// 32-bit operands, 32-bit result.
    Lane32(F32, Loc, [Loc; 3]),
    /// 64-bit operands, 64-bit result.
    Lane64(F64, Loc, [Loc; 3]),
    /// 32-bit operands (the third 64-bit), 64-bit result.
    Widen(Widen, Loc, [Loc; 3]),
    /// 64-bit operands (the third 32-bit), 32-bit result.
    Narrow(Narrow, Loc, [Loc; 3]),
    /// A 64-bit operand and two 32-bit ones, 64-bit result.
    Shift(Shift, Loc, [Loc; 3]),
    /// Floating point of up to 32 bits, and video instructions.
    Math32(Math32, Loc, [Loc; 3]),
    /// Floating point and conversions of 64 bits.
    Math64(Math64, Loc, [Loc; 3]),
    /// Compares 32-bit operands.
    Compare32(Compare32, [Loc; 2], Outcome),
    /// Compares 64-bit operands.
    Compare64(Compare64, [Loc; 2], Outcome),
    /// Takes one of two 32-bit operands by a predicate.
    Select32(Loc, [Loc; 2], Pred),
    /// Takes one of two 64-bit operands by a predicate.
    Select64(Loc, [Loc; 2], Pred),
    /// Copies 32 bits, defined or not.
    Copy32(Loc, Loc),
    /// Copies 64 bits, defined or not.
    Copy64(Loc, Loc),
    /// 64 bits into low and high halves.
    Split([Loc; 2], Loc),
    /// Low and high halves into 64 bits.
    Join(Loc, [Loc; 2]),
    /// Logic on predicates.
    Predicate(Logic, Pred, [Pred; 2]),
    /// Addition or subtraction with the carry flag.
    Carry(Carry, Loc, [Loc; 2]),
    /// Address of a variable in this function's frame.
    FrameAddress(Value, u64),
    /// The instruction counter.
    Clock(Value),
    /// Takes memory from the top of the thread's own: where its address goes, how many bytes, at a multiple of what.
    Take(Value, Value, u64),
    /// `malloc`: where the address goes, and how many bytes of the device's heap.
    Allocate(Loc, Loc),
    /// `free`
    Free(Loc),
    /// Where the memory that was taken so far begins.
    Top(Value),
    /// Gives back what was taken since it began there.
    SetTop(Value),
    /// Loads.
    Load(Box<Transfer>),
    /// Stores.
    Store(Box<Transfer>),
    /// Generic address of a variable's space address, or back.
    Convert(ConvertAddress),
    /// Whether a generic address lies in a space.
    InSpace(Pred, Value, Window),
    /// Atomic read, change and write.
    Atomic(Box<super::atomic::Atomic>),
    /// Jumps.
    Branch(u32, Join),
    /// Jumps to one of a table's targets.
    BranchTable(Loc, u32, Join),
    /// Calls a function.
    Call(Box<super::call::CallOp>),
    /// Returns from a function; ends the thread in a kernel.
    Return,
    /// Ends the thread.
    Exit,
    /// Stops the kernel with an error.
    Trap,
    /// Gives up a line of global memory: its bytes count as never written.
    Discard(Box<Address>),
    /// Orders accesses of memory.
    Fence,
    /// Does nothing that can be seen here.
    Nothing,
    /// Waits at a barrier of the block.
    Barrier(Box<super::barrier::BarrierOp>),
    /// Exchanges registers and votes between lanes.
    Warp(Box<super::exchange::Exchange>),
    /// Copies asynchronously, loads matrices, multiplies them.
    Tile(Box<super::tile::Tile>),
}

/// Generic address ↔ address in a space.
#[derive(Debug, Clone, Copy)]
pub(super) struct ConvertAddress {
    /// Result.
    pub to: Value,
    /// Operand.
    pub from: Value,
    /// The space.
    pub room: StateSpace,
    /// To the generic address, not from it.
    pub generic: bool,
}

/// Where the lanes of a branch meet again: the immediate post-dominator's first instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Join(pub u32);

impl Join {
    /// Only where the function ends.
    pub const END: Self = Self(u32::MAX);
}

/// An instruction.
#[derive(Debug, Clone)]
pub(super) struct Inst {
    /// What it does.
    pub op: Op,
    /// The lanes that it runs for.
    pub guard: Pred,
    /// 1, or 0 for the second and later parts of an instruction that is decoded into several.
    pub counts: u32,
}

/// Where an instruction stands in the text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Site {
    /// Line, from 1.
    pub line: u32,
    /// First byte.
    pub start: usize,
    /// Past the last byte.
    pub end: usize,
}

/// A kernel or function.
#[derive(Debug, Clone, Default)]
pub(super) struct Routine {
    /// Line of its declaration.
    pub line: u32,
    /// Its instructions; the last is a return.
    pub code: Vec<Inst>,
    /// Where they stand.
    pub sites: Vec<Site>,
    /// Names of its 32-bit registers, 64-bit registers and predicates.
    pub names: [Vec<String>; 3],
    /// Bytes of its frame in local memory.
    pub frame: u64,
    /// Targets of `brx.idx`.
    pub tables: Vec<Vec<u32>>,
    /// Where results and arguments lie; empty for kernels.
    pub returns: Vec<super::call::Formal>,
    /// Where arguments lie; empty for kernels.
    pub parameters: Vec<super::call::Formal>,
    /// Defined, not only declared.
    pub defined: bool,
}

/// An address that is known only when the module is loaded.
#[derive(Debug, Clone, Copy)]
pub(super) struct Relocation {
    /// The 64-bit constant to set.
    pub constant: usize,
    /// The variable whose address it is, by its place in the unit's.
    pub variable: usize,
    /// Plus so much.
    pub offset: i64,
}

/// All of a module's code.
#[derive(Debug, Clone, Default)]
pub(super) struct Program {
    /// Kernels and functions.
    pub routines: Vec<Routine>,
    /// 32-bit constants.
    pub constants32: Vec<V32>,
    /// 64-bit constants.
    pub constants64: Vec<V64>,
    /// Constants that are addresses.
    pub relocations: Vec<Relocation>,
    /// The place among the routines of each of the module's functions that is there.
    pub places: Vec<Option<usize>>,
    /// Something takes memory from the device's heap or gives it back.
    pub heap: bool,
    /// Bytes of a thread's variables outside functions: the bottom of its memory.
    pub locals: u64,
    /// First addresses and bytes of the module's constants, once it is loaded.
    pub constant_ranges: Vec<(u64, u64)>,
}
