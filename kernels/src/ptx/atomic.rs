//! Integer atomics. Float atomics are left out: their sum would depend on the order of arrival.

use super::{Asm, InMemory, Integer, Operand, Pointer, Reg, Space, U32};

/// The operation of an atomic on memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtomicOp {
    /// Adds the operand to memory.
    Add,
    /// Keeps the smaller of operand and memory.
    Min,
    /// Keeps the larger of operand and memory.
    Max,
    /// Sets the bits that are set in the operand.
    Or,
    /// Clears the bits that are not set in the operand.
    And,
    /// Writes the operand and returns the old value.
    Exchange,
    /// Adds 1, and wraps to 0 after reaching the operand: for counters that reset themselves.
    Increment,
}

impl AtomicOp {
    fn name(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Min => "min",
            Self::Max => "max",
            Self::Or => "or",
            Self::And => "and",
            Self::Exchange => "exch",
            Self::Increment => "inc",
        }
    }

    fn suffix<T: Integer>(self) -> &'static str {
        match (self, T::BYTES) {
            (Self::Or | Self::And | Self::Exchange, 4) => "b32",
            (Self::Or | Self::And | Self::Exchange, _) => "b64",
            _ => T::NAME,
        }
    }
}

impl Asm {
    /// Applies `op` with `value` and returns the old value.
    pub fn atomic<'a, S: Space, T: Integer + InMemory>(
        &'a self,
        op: AtomicOp,
        at: Pointer<'a, S, T>,
        value: impl Operand<'a, T>,
    ) -> Reg<'a, T> {
        let mnemonic = format!("atom.{}.{}.{}", S::NAME, op.name(), op.suffix::<T>());
        self.make(&mnemonic, &[at.address(), value.text()])
    }

    /// Writes `value` if memory holds `expected`, and returns the old value.
    pub fn compare_and_swap<'a, S: Space>(
        &'a self,
        at: Pointer<'a, S, U32>,
        expected: impl Operand<'a, U32>,
        value: impl Operand<'a, U32>,
    ) -> Reg<'a, U32> {
        self.make(&format!("atom.{}.cas.b32", S::NAME), &[at.address(), expected.text(), value.text()])
    }

    /// Applies `op` with `value`, without returning the old value.
    pub fn reduce<'a, S: Space, T: Integer + InMemory>(
        &'a self,
        op: AtomicOp,
        at: Pointer<'a, S, T>,
        value: impl Operand<'a, T>,
    ) {
        let mnemonic = format!("red.{}.{}.{}", S::NAME, op.name(), op.suffix::<T>());
        self.emit(&mnemonic, &[at.address(), value.text()]);
    }
}
