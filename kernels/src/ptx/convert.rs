//! Conversions between number types, with every rounding.

use super::{Asm, F16, F16x2, F32, F64, Number, Reg, S32, S64, Type, U16, U32, U64};

/// The rounding of an inexact conversion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounding {
    /// To the nearest, ties to even.
    Nearest,
    /// Toward zero.
    Zero,
    /// Toward −∞.
    Down,
    /// Toward +∞.
    Up,
}

impl Rounding {
    fn suffix(self) -> &'static str {
        match self {
            Self::Nearest => "rn",
            Self::Zero => "rz",
            Self::Down => "rm",
            Self::Up => "rp",
        }
    }
}

fn is_float<T: Number>() -> bool {
    !T::ADD.is_empty()
}

impl<'a, T: Number> Reg<'a, T> {
    /// As `U`: to the nearest between floats and from integers, toward zero from floats to integers, modulo 2ⁿ between
    /// integers.
    pub fn to<U: Number>(self) -> Reg<'a, U> {
        let to_integer = is_float::<T>() && !is_float::<U>();
        self.to_with(if to_integer { Rounding::Zero } else { Rounding::Nearest })
    }

    /// As `U`, with this rounding. Floats outside the range of an integer `U` saturate; NaN becomes 0.
    pub fn to_with<U: Number>(self, rounding: Rounding) -> Reg<'a, U> {
        let suffix = rounding.suffix();
        let rounding = match (is_float::<T>(), is_float::<U>()) {
            (true, true) if U::BYTES < T::BYTES => format!(".{suffix}"),
            (true, true) | (false, false) => String::new(),
            (false, true) => format!(".{suffix}"),
            (true, false) => format!(".{suffix}i"),
        };
        self.asm.make(&format!("cvt{rounding}.{}.{}", U::NAME, T::NAME), &[self.name()])
    }
}

impl<'a> Reg<'a, F32> {
    /// The nearest integer as a float, ties to even.
    pub fn round(self) -> Reg<'a, F32> {
        self.asm.make("cvt.rni.f32.f32", &[self.name()])
    }
}

impl<'a> Reg<'a, F16x2> {
    /// The two numbers, the low one first.
    pub fn halves(self) -> [Reg<'a, F16>; 2] {
        let (low, high) = (self.asm.reg::<F16>(), self.asm.reg::<F16>());
        self.asm.emit("mov.b32", &[format!("{{{}, {}}}", low.name(), high.name()), self.name()]);
        [low, high]
    }

    /// The two numbers as f32, exactly.
    pub fn to_f32(self) -> [Reg<'a, F32>; 2] {
        self.halves().map(Reg::to::<F32>)
    }
}

impl<'a> Reg<'a, F64> {
    /// The two 32-bit words of the bits, the low one first.
    pub fn words(self) -> [Reg<'a, U32>; 2] {
        let (low, high) = (self.asm.reg::<U32>(), self.asm.reg::<U32>());
        self.asm.emit("mov.b64", &[format!("{{{}, {}}}", low.name(), high.name()), self.name()]);
        [low, high]
    }
}

impl Asm {
    /// Two numbers rounded to the nearest binary16, the first in the low half.
    pub fn pack_f16x2<'a>(&'a self, [low, high]: [Reg<'a, F32>; 2]) -> Reg<'a, F16x2> {
        self.make("cvt.rn.f16x2.f32", &[high.name(), low.name()])
    }

    /// Packs two binary16 in one register, the first in the low half.
    pub fn pair<'a>(&'a self, [low, high]: [Reg<'a, F16>; 2]) -> Reg<'a, F16x2> {
        self.make("mov.b32", &[format!("{{{}, {}}}", low.name(), high.name())])
    }

    /// Packs two 32-bit words into one 64-bit number, the first in the low half.
    pub fn wide<'a>(&'a self, [low, high]: [Reg<'a, U32>; 2]) -> Reg<'a, U64> {
        self.make("mov.b64", &[format!("{{{}, {}}}", low.name(), high.name())])
    }
}

/// Integer types, each with the type of twice the bits.
pub trait Widen: Number {
    /// The type of twice the bits.
    type Wide: Number;
}

impl Widen for U16 {
    type Wide = U32;
}
impl Widen for U32 {
    type Wide = U64;
}
impl Widen for S32 {
    type Wide = S64;
}

impl<'a, T: Widen> Reg<'a, T> {
    /// The full product, in twice the bits.
    pub fn mul_wide(self, other: impl super::Operand<'a, T>) -> Reg<'a, T::Wide> {
        self.asm.make(&format!("mul.wide.{}", T::NAME), &[self.name(), other.text()])
    }

    /// self·b + c, with product and sum in twice the bits.
    pub fn mad_wide(
        self,
        b: impl super::Operand<'a, T>,
        c: impl super::Operand<'a, T::Wide>,
    ) -> Reg<'a, T::Wide> {
        self.asm.make(&format!("mad.wide.{}", T::NAME), &[self.name(), b.text(), c.text()])
    }
}

/// Compile-time check of a tag's size; for the tables above.
const _: () = assert!(F16x2::BYTES == 4 && F16::BYTES == 2);
