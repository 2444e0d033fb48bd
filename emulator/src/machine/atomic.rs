//! Atomic operations (PTX ISA, "atom" and "red").

use super::program::{Address, Value};
use crate::numerics::Rounding;
use crate::numerics::float::{self, Flags};
use crate::numerics::half::{self, Half, HalfFlags, HalfOp};
use crate::syntax::{Kind, Type};

/// What is done to the old value `a` with the operands `b` and `c`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AtomicOp {
    /// a + b.
    Add(u32),
    /// The smaller, of signed values of that many bits.
    MinSigned(u32),
    /// The larger, of signed values of that many bits.
    MaxSigned(u32),
    /// The smaller.
    Min,
    /// The larger.
    Max,
    /// a + 1, or 0 from b on.
    Increment,
    /// a − 1, or b at 0 and above b.
    Decrement,
    /// a and b.
    And,
    /// a or b.
    Or,
    /// a xor b.
    Xor,
    /// b.
    Exchange,
    /// c where a is b.
    CompareSwap,
    /// a + b in f32.
    Single,
    /// a + b in f64.
    Double,
    /// a + b in f16 or bf16, of one or two of them.
    Half(Half, bool),
    /// The smaller or larger f16 or bf16, of one or two of them.
    HalfExtreme(Half, bool, bool),
}

impl AtomicOp {
    /// The operation `name` of a type.
    pub fn named(name: &str, ty: Type) -> Option<Self> {
        let bits = ty.width();
        let integer = ty.integer() && !ty.pair && matches!(bits, 32 | 64);
        let untyped = ty.kind == Kind::Bits && matches!(bits, 32 | 64);
        let half = match (ty.kind, ty.bits) {
            (Kind::Float, 16) => Some(Half::F16),
            (Kind::Brain, 16) => Some(Half::Bf16),
            _ => None,
        };
        Some(match name {
            "add" if integer && ty.kind != Kind::Bits => Self::Add(bits),
            "add" if ty.kind == Kind::Float && bits == 32 && !ty.pair => Self::Single,
            "add" if ty.kind == Kind::Float && bits == 64 => Self::Double,
            "add" => Self::Half(half?, ty.pair),
            "min" | "max" if half.is_some() => Self::HalfExtreme(half?, name == "max", ty.pair),
            "min" if integer && ty.signed() => Self::MinSigned(bits),
            "max" if integer && ty.signed() => Self::MaxSigned(bits),
            "min" if integer && ty.kind == Kind::Unsigned => Self::Min,
            "max" if integer && ty.kind == Kind::Unsigned => Self::Max,
            "inc" if ty.kind == Kind::Unsigned && bits == 32 => Self::Increment,
            "dec" if ty.kind == Kind::Unsigned && bits == 32 => Self::Decrement,
            "and" if untyped => Self::And,
            "or" if untyped => Self::Or,
            "xor" if untyped => Self::Xor,
            "exch" if untyped => Self::Exchange,
            "cas" if untyped || ty.kind == Kind::Bits && bits == 16 => Self::CompareSwap,
            _ => return None,
        })
    }

    /// Whether the last value is the same in any order.
    pub fn commutes(self) -> bool {
        matches!(
            self,
            Self::Add(_)
                | Self::MinSigned(_)
                | Self::MaxSigned(_)
                | Self::Min
                | Self::Max
                | Self::And
                | Self::Or
                | Self::Xor
        )
    }

    /// The new value.
    pub fn apply(self, a: u64, b: u64, c: u64) -> u64 {
        let signed = |x: u64, bits: u32| (x << (64 - bits)) as i64 >> (64 - bits);
        let near = Rounding::Nearest;
        match self {
            Self::Add(32) => u64::from((a as u32).wrapping_add(b as u32)),
            Self::Add(_) => a.wrapping_add(b),
            Self::MinSigned(bits) => {
                if signed(b, bits) < signed(a, bits) {
                    b
                } else {
                    a
                }
            }
            Self::MaxSigned(bits) => {
                if signed(b, bits) > signed(a, bits) {
                    b
                } else {
                    a
                }
            }
            Self::Min => a.min(b),
            Self::Max => a.max(b),
            Self::Increment => {
                if a >= b {
                    0
                } else {
                    a + 1
                }
            }
            Self::Decrement => {
                if a == 0 || a > b {
                    b
                } else {
                    a - 1
                }
            }
            Self::And => a & b,
            Self::Or => a | b,
            Self::Xor => a ^ b,
            Self::Exchange => b,
            Self::CompareSwap => {
                if a == b {
                    c
                } else {
                    a
                }
            }
            Self::Single => float::f32(float::Op::Add, near, Flags::default(), a as u32, b as u32, 0).into(),
            Self::Double => float::f64(float::Op::Add, near, a, b, 0),
            Self::Half(format, pair) => halves(format, HalfOp::Add, pair, a, b),
            Self::HalfExtreme(format, true, pair) => halves(format, HalfOp::Max, pair, a, b),
            Self::HalfExtreme(format, false, pair) => halves(format, HalfOp::Min, pair, a, b),
        }
    }
}

fn halves(format: Half, op: HalfOp, pair: bool, a: u64, b: u64) -> u64 {
    let f = if pair { half::apply_pair } else { half::apply };
    f(format, op, HalfFlags::default(), a as u32, b as u32, 0).into()
}

/// An atomic operation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Atomic {
    /// What it does.
    pub op: AtomicOp,
    /// Where.
    pub address: Address,
    /// Bytes of the value.
    pub bytes: u32,
    /// The address must be a multiple of it: the bytes of all elements, for the first of a vector.
    pub align: u32,
    /// Orders what is around it: `.acquire`, `.release`, `.acq_rel`.
    pub orders: bool,
    /// Where the old value goes.
    pub to: Option<Value>,
    /// The operands.
    pub values: [Value; 2],
}
