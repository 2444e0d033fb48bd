//! Atomic operations (PTX ISA, "atom" and "red").

use super::operand::{Address, Value};
use crate::numerics::Rounding;
use crate::numerics::float::{self, Flags};
use crate::numerics::half::{self, Half, HalfFlags, HalfOp};

/// The new value from the old value `a` and the operands `b` and `c`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AtomicOp {
    /// Sum: a + b.
    Add(u32),
    /// The smaller of two signed values of that many bits.
    MinSigned(u32),
    /// The larger of two signed values of that many bits.
    MaxSigned(u32),
    /// The smaller of two unsigned values.
    Min,
    /// The larger of two unsigned values.
    Max,
    /// a + 1, or 0 from b on.
    Increment,
    /// a − 1, or b at 0 and above b.
    Decrement,
    /// Bitwise a and b.
    And,
    /// Bitwise a or b.
    Or,
    /// Bitwise a xor b.
    Xor,
    /// Exchange: b.
    Exchange,
    /// Compare and swap: c if a is b, otherwise a.
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
    /// Whether the order of several operations does not change the final value.
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

    /// The new value for the old value `a`.
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

/// An atomic operation with its operands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Atomic {
    pub op: AtomicOp,
    pub address: Address,
    /// Size of the value in bytes.
    pub bytes: u32,
    /// Alignment of the address in bytes: the size of the whole vector for its first element.
    pub align: u32,
    /// `.acquire`, `.release`, `.acq_rel`: orders the accesses around it.
    pub orders: bool,
    /// Destination of the old value; `None` for `red`.
    pub to: Option<Value>,
    pub values: [Value; 2],
}
