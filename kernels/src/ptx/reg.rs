//! Registers and instruction operands.

use std::marker::PhantomData;

use super::{Asm, B32, B64, F32, F64, Pred, S32, S64, Type, U16, U32, U64, types::Class};

/// A value in a register, written once by the instruction that computes it. A cheap handle.
pub struct Reg<'a, T: Type> {
    pub(crate) asm: &'a Asm,
    pub(crate) id: u32,
    tag: PhantomData<T>,
}

impl<T: Type> Clone for Reg<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: Type> Copy for Reg<'_, T> {}

impl<'a, T: Type> Reg<'a, T> {
    pub(crate) fn new(asm: &'a Asm, id: u32) -> Self {
        Self { asm, id, tag: PhantomData }
    }

    /// The assembler of this register.
    pub fn assembler(self) -> &'a Asm {
        self.asm
    }

    /// The same register under another tag of its class.
    pub(crate) fn retag<U: Type>(self) -> Reg<'a, U> {
        debug_assert!(T::CLASS == U::CLASS);
        Reg::new(self.asm, self.id)
    }

    pub(crate) fn name(self) -> String {
        name(T::CLASS, self.id)
    }
}

pub(crate) fn name(class: Class, id: u32) -> String {
    format!("{}{id}", class.prefix())
}

/// A register that is written more than once, such as a loop's accumulator. As an operand it stands for its value at
/// that point of the kernel; [`Var::get`] copies that value.
pub struct Var<'a, T: Type>(pub(crate) Reg<'a, T>);

impl<T: Type> Clone for Var<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: Type> Copy for Var<'_, T> {}

impl<'a, T: Type> Var<'a, T> {
    /// Writes the variable's register.
    pub fn set(self, value: impl Operand<'a, T>) {
        self.0.asm.emit(&format!("mov.{}", T::BITS), &[self.0.name(), value.text()]);
    }

    /// A copy of its value at this point.
    pub fn get(self) -> Reg<'a, T> {
        let copy = self.0.asm.reg::<T>();
        self.0.asm.emit(&format!("mov.{}", T::BITS), &[copy.name(), self.0.name()]);
        copy
    }
}

/// An operand of type `T`: a register, a variable, or a number that becomes an immediate.
pub trait Operand<'a, T: Type>: Copy {
    /// The operand as text.
    fn text(self) -> String;
}

impl<'a, T: Type> Operand<'a, T> for Reg<'a, T> {
    fn text(self) -> String {
        self.name()
    }
}

impl<'a, T: Type> Operand<'a, T> for Var<'a, T> {
    fn text(self) -> String {
        self.0.name()
    }
}

impl Operand<'_, F32> for f32 {
    fn text(self) -> String {
        format!("0f{:08X}", self.to_bits())
    }
}

impl Operand<'_, F64> for f64 {
    fn text(self) -> String {
        format!("0d{:016X}", self.to_bits())
    }
}

macro_rules! immediates {
    ($($host:ident as $($tag:ident)*;)*) => {$($(
        impl Operand<'_, $tag> for $host {
            fn text(self) -> String {
                self.to_string()
            }
        }
    )*)*};
}

immediates! {
    u16 as U16;
    u32 as U32 B32;
    u64 as U64 B64;
    i32 as S32;
    i64 as S64;
}

impl Operand<'_, Pred> for bool {
    fn text(self) -> String {
        u32::from(self).to_string()
    }
}

impl Asm {
    /// A variable with an initial value.
    pub fn var<'a, T: Type>(&'a self, value: impl Operand<'a, T>) -> Var<'a, T> {
        let var = Var(self.reg());
        var.set(value);
        var
    }

    /// A variable without an initial value, which an instruction must write first.
    pub fn register<T: Type>(&self) -> Var<'_, T> {
        Var(self.reg())
    }

    /// A register with the value of a number.
    pub fn value<'a, T: Type>(&'a self, value: impl Operand<'a, T>) -> Reg<'a, T> {
        self.var(value).0
    }
}
