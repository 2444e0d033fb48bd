//! Formats that only conversions and tensor cores support: tf32, and the 8-bit floats e4m3 and e5m2 (PTX ISA, "cvt";
//! Micikevicius et al., "FP8 formats for deep learning", 2022).
//!
//! tf32 is an f32 whose low 13 bits are 0. e5m2 is an IEEE format. e4m3 has no infinity: its largest exponent has numbers up
//! to 448, and one NaN, 0x7f. Conversions to 8 bits exist with `.satfinite` alone: infinities too become the largest number.

use super::float::canonical;
use super::half::{Half, f16_to_f32};
use super::{NAN_16, NAN_F32};

/// `cvt` of f32 to tf32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Tensor {
    pub rounding: TensorRounding,
    /// `.relu`: negative results become +0.
    pub relu: bool,
    /// `.satfinite`: infinities become the largest number.
    pub finite: bool,
}

/// The rounding of f32 to tf32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum TensorRounding {
    /// `.rna`: to nearest, ties away from zero.
    Away,
    /// `.rn`: to nearest, ties to even.
    Even,
    /// `.rz`: toward zero.
    Zero,
}

impl Tensor {
    /// The tf32 of an f32, as an f32.
    pub fn apply(self, x: u32) -> u32 {
        if f32::from_bits(x).is_nan() {
            return canonical(f32::NAN);
        }
        let half = match self.rounding {
            TensorRounding::Away => 0x1000,
            TensorRounding::Even => 0xfff + (x >> 13 & 1),
            TensorRounding::Zero => 0,
        };
        let infinite = x & 0x7f80_0000 == 0x7f80_0000;
        let mut bits = if infinite { x } else { (x + half) & !0x1fff };
        if self.finite && bits & 0x7fff_ffff == 0x7f80_0000 {
            bits -= 0x2000;
        }
        if self.relu && bits >> 31 == 1 { 0 } else { bits }
    }
}

/// The two 8-bit floating-point formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Eight {
    /// 4 bits of exponent, 3 of fraction.
    E4m3,
    /// 5 bits of exponent, 2 of fraction.
    E5m2,
}

impl Eight {
    /// Bits of the fraction, bias of the exponent, bits of the largest number.
    pub const fn layout(self) -> (u32, i32, u32) {
        match self {
            Self::E4m3 => (3, 7, 0x7e),
            Self::E5m2 => (2, 15, 0x7b),
        }
    }

    /// f32 → 8 bits, to nearest even, to the largest number at most. A NaN gives 0x7f.
    pub fn narrow(self, x: u32, relu: bool) -> u32 {
        let (fraction, bias, largest) = self.layout();
        let magnitude = x & 0x7fff_ffff;
        if magnitude > 0x7f80_0000 {
            return 0x7f;
        }
        let field = (magnitude >> 23) as i32;
        let significand = u64::from(magnitude & 0x7f_ffff | if field > 0 { 1 << 23 } else { 0 });
        // In units of the result's last place, whose exponent is that of the number, or of the least normal one.
        let exponent = (field.max(1) - 127).max(1 - bias);
        let shift = (exponent - fraction as i32) - (field.max(1) - 127 - 23);
        let units = match u32::try_from(shift) {
            Ok(shift @ 1..=62) => {
                let (kept, lost, tie) =
                    (significand >> shift, significand & ((1 << shift) - 1), 1 << (shift - 1));
                kept + u64::from(lost > tie || lost == tie && kept & 1 == 1)
            }
            _ => 0,
        };
        // The hidden bit adds 1 to the exponent's field of the least normal number.
        let bits = ((exponent + bias - 1) as u64) << fraction;
        let bits = (bits + units).min(largest.into()) as u32;
        match (x >> 31, relu) {
            (0, _) => bits,
            (_, true) => 0,
            _ => bits | 0x80,
        }
    }

    /// Both halves of a pair of f16.
    pub fn narrow_pair(self, x: u32, relu: bool) -> u32 {
        let one = |h: u32| self.narrow(f16_to_f32(h & 0xffff), relu);
        one(x >> 16) << 8 | one(x)
    }

    /// 8 bits → f32, exact.
    pub fn widen(self, x: u32) -> u32 {
        let (fraction, bias, largest) = self.layout();
        let magnitude = x & 0x7f;
        let sign = (x & 0x80) << 24;
        if magnitude > largest {
            // e5m2 has an infinity next to its largest number.
            let infinite = self == Self::E5m2 && magnitude == largest + 1;
            return if infinite { sign | 0x7f80_0000 } else { NAN_F32 };
        }
        let (field, low) = ((magnitude >> fraction) as i32, magnitude & ((1 << fraction) - 1));
        let significand = low | if field > 0 { 1 << fraction } else { 0 };
        let exponent = field.max(1) - bias - fraction as i32;
        sign | (significand as f32 * f32::from_bits(((exponent + 127) as u32) << 23)).to_bits()
    }

    /// A pair of 8-bit floats → a pair of f16, exact.
    pub fn widen_pair(self, x: u32, relu: bool) -> u32 {
        let one = |x: u32| {
            let h = Half::F16.narrow(f32::from_bits(self.widen(x)));
            if relu && h & 0x8000 != 0 && h != NAN_16 { 0 } else { h }
        };
        one(x >> 8) << 16 | one(x)
    }
}
