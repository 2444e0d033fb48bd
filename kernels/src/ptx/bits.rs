//! Bit operations: logic, shifts, and reinterpretation.

use std::ops::{BitAnd, BitOr, BitXor, Not, Shl, Shr};

use super::{
    Asm, B16, B32, B64, F16, F16x2, F32, F64, Integer, Operand, Pred, Reg, S32, S64, Type, U16, U32, U64,
};

/// Types with logic operations.
pub trait Bits: Type {}
impl Bits for B16 {}
impl Bits for B32 {}
impl Bits for B64 {}
impl Bits for U16 {}
impl Bits for U32 {}
impl Bits for U64 {}
impl Bits for S32 {}
impl Bits for S64 {}
impl Bits for Pred {}

fn suffix<T: Type>() -> &'static str {
    match T::BYTES {
        0 => "pred",
        2 => "b16",
        4 => "b32",
        _ => "b64",
    }
}

macro_rules! logic {
    ($($trait:ident $method:ident $mnemonic:literal;)*) => {$(
        impl<'a, T: Bits, R: Operand<'a, T>> $trait<R> for Reg<'a, T> {
            type Output = Self;

            fn $method(self, other: R) -> Self {
                self.asm.make(&format!("{}.{}", $mnemonic, suffix::<T>()), &[self.name(), other.text()])
            }
        }
    )*};
}

logic! {
    BitAnd bitand "and";
    BitOr bitor "or";
    BitXor bitxor "xor";
}

impl<T: Bits> Not for Reg<'_, T> {
    type Output = Self;

    fn not(self) -> Self {
        self.asm.make(&format!("not.{}", suffix::<T>()), &[self.name()])
    }
}

impl<'a, T: Integer, R: Operand<'a, U32>> Shl<R> for Reg<'a, T> {
    type Output = Self;

    fn shl(self, by: R) -> Self {
        if by.text() == "0" {
            return self;
        }
        self.asm.make(&format!("shl.{}", suffix::<T>()), &[self.name(), by.text()])
    }
}

/// Right shift: arithmetic for signed, logical for unsigned numbers.
impl<'a, T: Integer, R: Operand<'a, U32>> Shr<R> for Reg<'a, T> {
    type Output = Self;

    fn shr(self, by: R) -> Self {
        if by.text() == "0" {
            return self;
        }
        self.asm.make(&format!("shr.{}", T::NAME), &[self.name(), by.text()])
    }
}

/// Types whose registers hold the same number of bits.
pub trait Reinterpret<U: Type>: Type {}

macro_rules! reinterpret {
    ($($a:ident $b:ident),*) => {$(
        impl Reinterpret<$b> for $a {}
        impl Reinterpret<$a> for $b {}
    )*};
}

reinterpret!(
    F32 B32, F32 U32, F32 S32, F16x2 B32, F16x2 U32, U32 S32, U32 B32, S32 B32, U64 S64, U64 B64, S64 B64, F64 B64,
    F64 U64, F16 B16, F16 U16, U16 B16
);

impl<'a, T: Type> Reg<'a, T> {
    /// Reinterprets the bits as another type.
    pub fn bits_as<U: Type>(self) -> Reg<'a, U>
    where
        T: Reinterpret<U>,
    {
        if T::CLASS == U::CLASS {
            return self.retag();
        }
        self.asm.make(&format!("mov.{}", suffix::<T>()), &[self.name()])
    }
}

impl<'a> Reg<'a, U32> {
    /// Number of set bits.
    pub fn popc(self) -> Reg<'a, U32> {
        self.asm.make("popc.b32", &[self.name()])
    }

    /// Number of zeros above the highest set bit; 32 for 0.
    pub fn clz(self) -> Reg<'a, U32> {
        self.asm.make("clz.b32", &[self.name()])
    }

    /// Extracts `length` bits from bit `start` on.
    pub fn bit_field(self, start: u32, length: u32) -> Reg<'a, U32> {
        self.asm.make("bfe.u32", &[self.name(), start.to_string(), length.to_string()])
    }

    /// Selects four bytes from the eight of (other, self), with a nibble of `selector` for each (`prmt`).
    pub fn permute_bytes(self, other: impl Operand<'a, U32>, selector: u32) -> Reg<'a, U32> {
        self.asm.make("prmt.b32", &[self.name(), other.text(), format!("0x{selector:04X}")])
    }
}

impl Asm {
    /// A register with the binary16 number that has these bits.
    pub fn f16_bits(&self, bits: u16) -> Reg<'_, F16> {
        self.make("mov.b16", &[format!("0x{bits:04X}")])
    }

    /// A register with two binary16 numbers that have these bits, the first in the low half.
    pub fn f16x2_bits(&self, [low, high]: [u16; 2]) -> Reg<'_, F16x2> {
        self.make("mov.b32", &[format!("0x{high:04X}{low:04X}")])
    }
}
