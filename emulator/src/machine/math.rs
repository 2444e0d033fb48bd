//! Instructions whose arithmetic is in [`numerics`](crate::numerics): floating point, conversions, video instructions.

use super::lanes::{V32, V64};
use crate::numerics::approx::{self, Function};
use crate::numerics::convert::{self, Conversion};
use crate::numerics::float::{self, Flags};
use crate::numerics::half::{self, Half, HalfFlags, HalfOp};
use crate::numerics::small::{Eight, Tensor};
use crate::numerics::video::Video;
use crate::numerics::{Rounding, wide, worst};
use crate::options::Approximation;

/// Operations of 32-bit operands with a 32-bit result.
#[derive(Debug, Clone, Copy)]
pub(super) enum Math32 {
    /// Arithmetic of one f32 per lane.
    Single(float::Op, Rounding, Flags),
    /// Arithmetic of f16 or bf16, of one or two of them.
    Half(Half, HalfOp, HalfFlags, bool),
    /// Approximate functions of f32.
    Function(Function, bool),
    /// Approximate functions of f16 or bf16, of one or two of them.
    HalfFunction(Half, Function, bool, bool),
    /// `div.approx` of f32.
    Divide(bool),
    /// `div.full` of f32.
    DivideFull(bool),
    /// `cvt` between types of up to 32 bits.
    Convert(Conversion),
    /// `cvt` of two f32 to a pair, to nearest, with or without `.relu`.
    Pack(Half, bool),
    /// Any other `cvt` of two f32 to a pair.
    PackBy(Conversion),
    /// `cvt` of f32 to tf32.
    Tensor(Tensor),
    /// `cvt` of two f32 to two 8-bit floats, with or without `.relu`.
    Narrow(Eight, bool),
    /// `cvt` of a pair of f16 to two 8-bit floats.
    NarrowPair(Eight, bool),
    /// `cvt` of two 8-bit floats to a pair of f16.
    Widen(Eight, bool),
    /// `copysign`: the second operand with the first's sign.
    CopySign,
    /// A video instruction on 32-bit words.
    Video(Video),
}

impl Math32 {
    /// Computes the result's column.
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
            Self::Pack(format, relu) => convert::pack_pair_lanes(format, relu, a, b, d),
            Self::PackBy(conversion) => {
                for i in 0..32 {
                    d[i] = convert::pack_pair_by(conversion, a[i], b[i]);
                }
            }
            Self::Tensor(tensor) => {
                for i in 0..32 {
                    d[i] = tensor.apply(a[i]);
                }
            }
            Self::Narrow(format, relu) => {
                for i in 0..32 {
                    d[i] = format.narrow(a[i], relu) << 8 | format.narrow(b[i], relu);
                }
            }
            Self::NarrowPair(format, relu) => {
                for i in 0..32 {
                    d[i] = format.narrow_pair(a[i], relu);
                }
            }
            Self::Widen(format, relu) => {
                for i in 0..32 {
                    d[i] = format.widen_pair(a[i], relu);
                }
            }
            Self::Video(video) => {
                for i in 0..32 {
                    d[i] = video.apply(a[i], b[i], c[i]);
                }
            }
            Self::CopySign => {
                for i in 0..32 {
                    d[i] = b[i] & 0x7fff_ffff | a[i] & 0x8000_0000;
                }
            }
        }
    }

    /// Computes a column of an approximate function with its largest error; false for other instructions.
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

/// Operations of 64-bit operands with a 64-bit result.
#[derive(Debug, Clone, Copy)]
pub(super) enum Math64 {
    /// Arithmetic of one f64 per lane.
    Double(float::Op, Rounding),
    /// Approximate functions of f64.
    Function(Function, bool),
    /// `cvt` between types of 64 bits.
    Convert(Conversion),
    /// `copysign`: the second operand with the first's sign.
    CopySign,
}

impl Math64 {
    /// Computes the result's column.
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
