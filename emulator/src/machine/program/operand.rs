//! Operands of decoded instructions. A value is a column: 32 lanes, one for each thread of the warp.

use std::ops::{Index, IndexMut};

use crate::space::StateSpace;

/// The three register files of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RegisterFile {
    /// Registers of up to 32 bits.
    Bits32,
    /// Registers of 64 bits.
    Bits64,
    Predicate,
}

impl RegisterFile {
    pub const ALL: [Self; 3] = [Self::Bits32, Self::Bits64, Self::Predicate];

    /// The register file of a value, by whether it has 64 bits.
    #[inline(always)]
    pub fn of_width(wide: bool) -> Self {
        if wide { Self::Bits64 } else { Self::Bits32 }
    }
}

/// One value for each register file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PerFile<T>(pub [T; 3]);

impl<T> Index<RegisterFile> for PerFile<T> {
    type Output = T;

    #[inline(always)]
    fn index(&self, file: RegisterFile) -> &T {
        &self.0[file as usize]
    }
}

impl<T> IndexMut<RegisterFile> for PerFile<T> {
    #[inline(always)]
    fn index_mut(&mut self, file: RegisterFile) -> &mut T {
        &mut self.0[file as usize]
    }
}

/// The place of a column: a register of the frame, a constant of the module, or a special register of the warp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Loc(u32);

/// A [`Loc`], decoded. Each variant holds an index.
pub(crate) enum LocKind {
    /// A register of the frame.
    Register(usize),
    /// A constant of the module.
    Constant(usize),
    /// A special register of the warp.
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

    /// The file and index of the column.
    #[inline(always)]
    pub fn kind(self) -> LocKind {
        if self.0 & (Self::CONSTANT | Self::SPECIAL) == 0 {
            LocKind::Register(self.0 as usize)
        } else if self.0 & Self::CONSTANT != 0 {
            LocKind::Constant((self.0 & !Self::CONSTANT) as usize)
        } else {
            LocKind::Special((self.0 & !Self::SPECIAL) as usize)
        }
    }

    /// The index of a register; `None` for constants and special registers.
    #[inline(always)]
    pub fn register_index(self) -> Option<usize> {
        (self.0 & (Self::CONSTANT | Self::SPECIAL) == 0).then_some(self.0 as usize)
    }
}

/// A predicate register of the frame, possibly negated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pred {
    /// Index in the file of predicates.
    pub index: u32,
    /// Whether the instruction reads the predicate's negation.
    pub negated: bool,
}

impl Pred {
    /// Always true as a guard or operand; discards the value as a destination.
    pub const NONE: Self = Self { index: u32::MAX, negated: false };
    /// Always false as an operand.
    pub const FALSE: Self = Self { index: u32::MAX, negated: true };

    /// True for the constants [`NONE`](Self::NONE) and [`FALSE`](Self::FALSE).
    #[inline(always)]
    pub fn is_none(self) -> bool {
        self.index == u32::MAX
    }
}

/// 32-bit special registers, as columns that a warp holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub(crate) enum Special {
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

/// Number of variants of [`Special`].
pub(crate) const SPECIALS: usize = Special::TotalShared as usize + 1;

/// A register or constant with its width.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Value {
    pub loc: Loc,
    /// Whether it has 64 bits.
    pub wide: bool,
    /// Whether it has 16 bits, in a register of the 32-bit file.
    pub sixteen: bool,
}

impl Value {
    /// The 32-bit constant 0; a write to it has no effect.
    pub const ZERO: Self = Self::new(Loc::ZERO, false);

    /// A column of 32 or 64 bits.
    pub const fn new(loc: Loc, wide: bool) -> Self {
        Self { loc, wide, sixteen: false }
    }

    /// The register file that the value is in.
    #[inline(always)]
    pub fn file(self) -> RegisterFile {
        RegisterFile::of_width(self.wide)
    }
}

/// The address operand of an access.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Address {
    /// The state space; `None` for a generic address.
    pub space: Option<StateSpace>,
    /// Whether the address is relative to the local frame of the running function.
    pub in_frame: bool,
    pub base: Loc,
    /// Whether the base has 64 bits.
    pub wide: bool,
    /// Bytes to add to the base.
    pub offset: i64,
}

impl Address {
    /// An address in a register or constant.
    pub fn new(space: Option<StateSpace>, base: Loc, wide: bool, offset: i64) -> Self {
        Self { space, in_frame: false, base, wide, offset }
    }

    /// A fixed address within a state space.
    pub fn fixed(space: Option<StateSpace>, offset: i64) -> Self {
        Self::new(space, Loc::ZERO, true, offset)
    }

    /// A variable in the local frame of the running function.
    pub fn in_frame(offset: i64) -> Self {
        Self { in_frame: true, ..Self::fixed(Some(StateSpace::Local), offset) }
    }

    /// Whether it may be in global memory.
    pub fn may_be_global(&self) -> bool {
        matches!(self.space, None | Some(StateSpace::Global))
    }

    /// Whether it may be in shared memory.
    pub fn may_be_shared(&self) -> bool {
        matches!(self.space, None | Some(StateSpace::Shared))
    }
}
