//! Floating point: which of the [`numerics`](crate::numerics) an instruction is.

use super::lanes::{V32, V64};
use crate::numerics::approx::{self, Function};
use crate::numerics::convert::{self, Conversion};
use crate::numerics::float::{self, Flags};
use crate::numerics::half::{self, Half, HalfFlags, HalfOp};
use crate::numerics::{Rounding, wide, worst};
use crate::options::Approximation;

/// 32-bit operands, 32-bit result.
#[derive(Debug, Clone, Copy)]
pub(super) enum Math32 {
    /// Arithmetic of f32.
    Single(float::Op, Rounding, Flags),
    /// Arithmetic of f16 or bf16, of one or two of them.
    Half(Half, HalfOp, HalfFlags, bool),
    /// Approximate functions of f32.
    Function(Function, bool),
    /// Approximate functions of f16 or bf16, of one or two of them.
    HalfFunction(Half, Function, bool, bool),
    /// `div.approx`
    Divide(bool),
    /// `div.full`
    DivideFull(bool),
    /// `cvt` between types of up to 32 bits.
    Convert(Conversion),
    /// `cvt` of two f32 to a pair.
    Pack(Half, Rounding, bool),
    /// `cvt.rna.tf32.f32`
    Tensor(bool),
    /// `copysign`: the second operand with the first's sign.
    CopySign,
}

impl Math32 {
    /// Computes a column.
    pub fn run(self, approximation: Approximation, [a, b, c]: [&V32; 3], d: &mut V32) {
        if approximation == Approximation::Worst && self.run_worst(a, b, d) {
            return;
        }
        match self {
            Self::Single(op, rounding, flags) => float::f32_lanes(op, rounding, flags, [a, b, c], d),
            Self::Half(format, op, flags, pair) => half::apply_lanes(format, op, flags, pair, [a, b, c], d),
            Self::Function(function, ftz) => approx::lanes(function, ftz, a, d),
            Self::HalfFunction(format, function, ftz, pair) => {
                approx::half_lanes(format, function, ftz, pair, a, d)
            }
            Self::Divide(ftz) => wide!(for i in 0..32 {
                d[i] = approx::div(ftz, a[i], b[i]);
            }),
            Self::DivideFull(ftz) => wide!(for i in 0..32 {
                d[i] = approx::div_full(ftz, a[i], b[i]);
            }),
            Self::Convert(conversion) => conversion.lanes(a, d),
            Self::Pack(format, Rounding::Nearest, relu) => convert::pack_pair_lanes(format, relu, a, b, d),
            Self::Pack(format, rounding, relu) => {
                for i in 0..32 {
                    d[i] = convert::pack_pair_rounded(format, rounding, relu, a[i], b[i]);
                }
            }
            Self::Tensor(to_nearest_away) => {
                for i in 0..32 {
                    d[i] = tensor(a[i], to_nearest_away);
                }
            }
            Self::CopySign => {
                for i in 0..32 {
                    d[i] = b[i] & 0x7fff_ffff | a[i] & 0x8000_0000;
                }
            }
        }
    }

    /// Computes a column of an approximate function with all the error that it may have; of others, nothing: false.
    fn run_worst(self, a: &V32, b: &V32, d: &mut V32) -> bool {
        match self {
            Self::Function(function, ftz) => worst::lanes(function, ftz, a, d),
            Self::HalfFunction(format, function, ftz, pair) => {
                worst::half_lanes(format, function, ftz, pair, a, d);
            }
            Self::Divide(ftz) => worst::quotients(approx::div, ftz, a, b, d),
            Self::DivideFull(ftz) => worst::quotients(approx::div_full, ftz, a, b, d),
            _ => return false,
        }
        true
    }
}

/// f32 → tf32: 10 bits of fraction, ties away from zero or to even.
fn tensor(x: u32, away: bool) -> u32 {
    if f32::from_bits(x).is_nan() {
        return float::canonical(f32::NAN);
    }
    if x & 0x7f80_0000 == 0x7f80_0000 {
        return x;
    }
    let half = if away { 0x1000 } else { 0xfff + (x >> 13 & 1) };
    (x + half) & !0x1fff
}

/// 64-bit operands, 64-bit result.
#[derive(Debug, Clone, Copy)]
pub(super) enum Math64 {
    /// Arithmetic of f64.
    Double(float::Op, Rounding),
    /// Approximate functions of f64.
    Function(Function, bool),
    /// `cvt` between types of 64 bits.
    Convert(Conversion),
    /// `copysign`: the second operand with the first's sign.
    CopySign,
}

impl Math64 {
    /// Computes a column.
    pub fn run(self, approximation: Approximation, [a, b, c]: [&V64; 3], d: &mut V64) {
        match self {
            Self::Double(op, rounding) => wide!(for i in 0..32 {
                d[i] = float::f64(op, rounding, a[i], b[i], c[i]);
            }),
            Self::Function(function, ftz) => {
                let apply = match approximation {
                    Approximation::Nearest => approx::apply_f64,
                    Approximation::Worst => worst::apply_f64,
                };
                for i in 0..32 {
                    d[i] = apply(function, ftz, a[i]);
                }
            }
            Self::Convert(conversion) => {
                for i in 0..32 {
                    d[i] = conversion.apply(a[i]);
                }
            }
            Self::CopySign => {
                for i in 0..32 {
                    d[i] = b[i] & i64::MAX as u64 | a[i] & 1 << 63;
                }
            }
        }
    }
}
