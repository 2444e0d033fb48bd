//! Arithmetic and comparisons. Floats round to nearest; only [`Reg::mad`] fuses a product and a sum.

use std::ops::{Add, Div, Mul, Neg, Rem, Sub};

use super::{F16, F16x2, F32, F64, Float, Integer, Number, Operand, Pred, Reg, S32, S64, Var};

/// Whether an instruction leaves its first operand unchanged: integers plus or minus the constant 0.
fn adds_nothing(mnemonic: &str, rounding: &str, operand: &str) -> bool {
    matches!(mnemonic, "add" | "sub") && rounding.is_empty() && operand == "0"
}

macro_rules! operators {
    ($($trait:ident $method:ident $bound:ident ($mnemonic:literal, $T:ident => $carry:expr);)*) => {$(
        impl<'a, $T: $bound, R: Operand<'a, $T>> $trait<R> for Reg<'a, $T> {
            type Output = Reg<'a, $T>;

            fn $method(self, other: R) -> Reg<'a, $T> {
                if adds_nothing($mnemonic, $T::ADD, &other.text()) {
                    return self;
                }
                let mnemonic = format!("{}{}.{}", $mnemonic, $carry, $T::NAME);
                self.asm.make(&mnemonic, &[self.name(), other.text()])
            }
        }

        impl<'a, $T: $bound, R: Operand<'a, $T>> $trait<R> for Var<'a, $T> {
            type Output = Reg<'a, $T>;

            fn $method(self, other: R) -> Reg<'a, $T> {
                // The variable may change before the result is used, so even + 0 makes a copy.
                let value = if adds_nothing($mnemonic, $T::ADD, &other.text()) { self.get() } else { self.0 };
                $trait::$method(value, other)
            }
        }
    )*};
}

operators! {
    Add add Number ("add", T => T::ADD);
    Sub sub Number ("sub", T => T::ADD);
    Mul mul Number ("mul", T => T::MUL);
    Rem rem Integer ("rem", T => "");
}

/// Types that PTX can divide: integers, f32 and f64 (correctly rounded).
pub trait Divide: Number {}
impl Divide for F32 {}
impl Divide for F64 {}
impl Divide for super::U16 {}
impl Divide for super::U32 {}
impl Divide for super::U64 {}
impl Divide for S32 {}
impl Divide for S64 {}

operators! {
    Div div Divide ("div", T => T::DIV);
}

/// Signed and floating-point types.
pub trait Signed: Number {}
impl Signed for F16 {}
impl Signed for F16x2 {}
impl Signed for F32 {}
impl Signed for F64 {}
impl Signed for S32 {}
impl Signed for S64 {}

impl<'a, T: Signed> Neg for Reg<'a, T> {
    type Output = Self;

    fn neg(self) -> Self {
        self.asm.make(&format!("neg.{}", T::NAME), &[self.name()])
    }
}

/// Comparison operators. With NaN all are false except [`Compare::Ne`] of floats, which is the unordered one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compare {
    /// Equal (`eq`).
    Eq,
    /// Different; true with NaN.
    Ne,
    /// Less than.
    Lt,
    /// Less or equal.
    Le,
    /// Greater than.
    Gt,
    /// Greater or equal.
    Ge,
}

impl Compare {
    fn name(self, float: bool) -> &'static str {
        match self {
            Self::Eq => "eq",
            Self::Ne if float => "neu",
            Self::Ne => "ne",
            Self::Lt => "lt",
            Self::Le => "le",
            Self::Gt => "gt",
            Self::Ge => "ge",
        }
    }
}

impl<'a, T: Number> Reg<'a, T> {
    /// self·b + c: one rounding for floats (`fma.rn`), the low half for integers (`mad.lo`).
    pub fn mad(self, b: impl Operand<'a, T>, c: impl Operand<'a, T>) -> Reg<'a, T> {
        let d = self.asm.reg::<T>();
        self.mad_into(d, b, c);
        d
    }

    fn mad_into(self, d: Reg<'a, T>, b: impl Operand<'a, T>, c: impl Operand<'a, T>) {
        let mnemonic = if T::ADD.is_empty() { "mad.lo" } else { "fma.rn" };
        self.asm.emit(&format!("{mnemonic}.{}", T::NAME), &[d.name(), self.name(), b.text(), c.text()]);
    }

    fn compare(self, how: Compare, other: impl Operand<'a, T>) -> Reg<'a, Pred> {
        let mnemonic = format!("setp.{}.{}", how.name(!T::ADD.is_empty()), T::NAME);
        self.asm.make(&mnemonic, &[self.name(), other.text()])
    }

    /// self = other.
    pub fn eq(self, other: impl Operand<'a, T>) -> Reg<'a, Pred> {
        self.compare(Compare::Eq, other)
    }

    /// self ≠ other; true where one is NaN.
    pub fn ne(self, other: impl Operand<'a, T>) -> Reg<'a, Pred> {
        self.compare(Compare::Ne, other)
    }

    /// self < other.
    pub fn lt(self, other: impl Operand<'a, T>) -> Reg<'a, Pred> {
        self.compare(Compare::Lt, other)
    }

    /// self ≤ other.
    pub fn le(self, other: impl Operand<'a, T>) -> Reg<'a, Pred> {
        self.compare(Compare::Le, other)
    }

    /// self > other.
    pub fn gt(self, other: impl Operand<'a, T>) -> Reg<'a, Pred> {
        self.compare(Compare::Gt, other)
    }

    /// self ≥ other.
    pub fn ge(self, other: impl Operand<'a, T>) -> Reg<'a, Pred> {
        self.compare(Compare::Ge, other)
    }

    /// The smaller one; if one is NaN, the other.
    pub fn min(self, other: impl Operand<'a, T>) -> Reg<'a, T> {
        self.asm.make(&format!("min.{}", T::NAME), &[self.name(), other.text()])
    }

    /// The larger one; if one is NaN, the other.
    pub fn max(self, other: impl Operand<'a, T>) -> Reg<'a, T> {
        self.asm.make(&format!("max.{}", T::NAME), &[self.name(), other.text()])
    }
}

impl<'a, T: Signed> Reg<'a, T> {
    /// |self|.
    pub fn abs(self) -> Reg<'a, T> {
        self.asm.make(&format!("abs.{}", T::NAME), &[self.name()])
    }
}

impl<'a, T: Float> Reg<'a, T> {
    /// The larger one; NaN if one is NaN (sm_80).
    pub fn max_nan(self, other: impl Operand<'a, T>) -> Reg<'a, T> {
        self.asm.make(&format!("max.NaN.{}", T::NAME), &[self.name(), other.text()])
    }
}

impl<'a, T: Integer> Reg<'a, T> {
    /// The high half of the product.
    pub fn mul_hi(self, other: impl Operand<'a, T>) -> Reg<'a, T> {
        self.asm.make(&format!("mul.hi.{}", T::NAME), &[self.name(), other.text()])
    }
}

impl<'a, T: Number> Var<'a, T> {
    /// self ← self + x.
    pub fn add(self, x: impl Operand<'a, T>) {
        let mnemonic = format!("add{}.{}", T::ADD, T::NAME);
        self.0.asm.emit(&mnemonic, &[self.0.name(), self.0.name(), x.text()]);
    }

    /// self ← the larger of self and x; NaN if one is NaN (sm_80).
    pub fn max_nan(self, x: impl Operand<'a, T>)
    where
        T: Float,
    {
        let mnemonic = format!("max.NaN.{}", T::NAME);
        self.0.asm.emit(&mnemonic, &[self.0.name(), self.0.name(), x.text()]);
    }

    /// self ← a·b + self, with one rounding for floats.
    pub fn add_product(self, a: Reg<'a, T>, b: impl Operand<'a, T>) {
        a.mad_into(self.0, b, self);
    }
}
