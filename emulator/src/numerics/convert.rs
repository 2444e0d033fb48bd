//! `cvt`: between all floats and integers, with every rounding (PTX ISA, "cvt").
//!
//! - Float to integer: rounded as asked, then clamped to the integer's range. A NaN gives 0, but the integer's
//!   highest bit alone where the source is f64 or the integer has 64 bits.
//! - Float to float: a NaN gives the target's canonical NaN; f32 → f64 keeps the payload, and f16 → f64 goes by way of f32. `.sat` clamps to [0, 1],
//!   NaN to +0. `.relu` makes negatives +0 and keeps NaN.
//! - `.ftz` counts where either type is f32: subnormal f32 inputs and results become zeros of their sign.
//! - Integer to integer: the low bits, or with `.sat` the nearest value of the target's range.

use super::float::{canonical, flush, narrow, saturate};
use super::half::{self, Half};
use super::soft::{self, Format, Number, Value};
use super::{Lanes, Rounding, wide};

/// The NaN of f32 as an f64 with the same payload: halves become f64 by way of f32.
const WIDENED_NAN: u64 = 0x7fff_ffff_e000_0000;

/// Source and destination types of `cvt`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Type {
    /// Unsigned, of that many bits (8, 16, 32 or 64).
    Unsigned(u32),
    /// Signed, of that many bits (8, 16, 32 or 64).
    Signed(u32),
    /// IEEE half precision.
    F16,
    /// The upper half of an f32.
    Bf16,
    /// IEEE single precision.
    F32,
    /// IEEE double precision.
    F64,
}

impl Type {
    /// The format of a float.
    const fn format(self) -> Option<Format> {
        match self {
            Self::F16 => Some(soft::F16),
            Self::Bf16 => Some(soft::BF16),
            Self::F32 => Some(soft::F32),
            Self::F64 => Some(soft::F64),
            _ => None,
        }
    }

    /// The least and the largest value of an integer type.
    const fn range(self) -> (i128, i128) {
        match self {
            Self::Unsigned(bits) => (0, (1 << bits) - 1),
            Self::Signed(bits) => (-(1 << (bits - 1)), (1 << (bits - 1)) - 1),
            _ => (0, 0),
        }
    }

    /// The value of an integer's bits; higher bits are ignored.
    #[inline(always)]
    const fn value(self, bits: u64) -> i128 {
        match self {
            Self::Unsigned(width) => (bits << (64 - width) >> (64 - width)) as i128,
            Self::Signed(width) => ((bits << (64 - width)) as i64 >> (64 - width)) as i128,
            _ => 0,
        }
    }
}

/// One form of `cvt` with its modifiers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Conversion {
    /// Type of the result.
    pub to: Type,
    /// Type of the argument.
    pub from: Type,
    /// Rounding: `.rn`, `.rz`, `.rm`, `.rp`, or the same with an `i`; nearest if there is none.
    pub rounding: Rounding,
    /// `.rni`, `.rzi`, `.rmi`, `.rpi`: a float result is rounded to a whole number.
    pub integral: bool,
    /// Whether `.ftz` is given.
    pub ftz: bool,
    /// Whether `.sat` is given.
    pub sat: bool,
    /// Whether `.relu` is given.
    pub relu: bool,
    /// `.satfinite`: infinite results become the largest number of their sign.
    pub finite: bool,
}

impl Conversion {
    /// The plain conversion: to nearest, no modifiers.
    pub const fn new(to: Type, from: Type) -> Self {
        let (integral, ftz, sat, relu, finite) = (false, false, false, false, false);
        Self { to, from, rounding: Rounding::Nearest, integral, ftz, sat, relu, finite }
    }

    /// Converts the low bits of `bits`. Signed results narrower than 64 bits are sign-extended to 64, all others
    /// zero-extended, as a wider destination register requires.
    #[inline]
    pub fn apply(self, bits: u64) -> u64 {
        match (self.from.format(), self.to.format()) {
            (None, None) => self.integers(bits),
            (None, Some(to)) => self.integer_to_float(to, bits),
            (Some(from), None) => self.float_to_integer(from, bits),
            (Some(from), Some(to)) => self.floats(from, to, bits),
        }
    }

    fn integers(self, bits: u64) -> u64 {
        let value = self.from.value(bits);
        let (least, most) = self.to.range();
        let value = if self.sat { value.clamp(least, most) } else { value };
        self.to.value(value as u64) as u64
    }

    fn integer_to_float(self, to: Format, bits: u64) -> u64 {
        let value = self.from.value(bits);
        let signed = matches!(self.from, Type::Signed(_));
        let result = match (self.to, self.rounding) {
            (Type::F32, Rounding::Nearest) if signed => (value as i64 as f32).to_bits().into(),
            (Type::F32, Rounding::Nearest) => (value as u64 as f32).to_bits().into(),
            (Type::F64, Rounding::Nearest) if signed => (value as i64 as f64).to_bits(),
            (Type::F64, Rounding::Nearest) => (value as u64 as f64).to_bits(),
            _ => {
                let number = Number { negative: value < 0, exponent: 0, significand: value.unsigned_abs() };
                soft::pack(to, number, self.rounding)
            }
        };
        self.finish(to, result)
    }

    fn float_to_integer(self, from: Format, bits: u64) -> u64 {
        let bits = self.flush(from, bits);
        let (least, most) = self.to.range();
        let value = match soft::unpack(from, bits) {
            Value::Nan => {
                let width = match self.to {
                    Type::Unsigned(width) | Type::Signed(width) => width,
                    _ => 64,
                };
                if self.from == Type::F64 || width == 64 { 1 << (width - 1) } else { 0 }
            }
            Value::Infinite { negative } => {
                if negative {
                    least
                } else {
                    most
                }
            }
            Value::Finite(number) => {
                let (negative, magnitude) = soft::to_integer(number, self.rounding);
                let value = if negative { -(magnitude as i128) } else { magnitude as i128 };
                value.clamp(least, most)
            }
        };
        self.to.value(value as u64) as u64
    }

    fn floats(self, from: Format, to: Format, bits: u64) -> u64 {
        let bits = self.flush(from, bits);
        let result = match (self.from, self.to) {
            (from, to) if from == to && !self.integral => bits,
            (Type::F32, Type::F64) => f64::from(f32::from_bits(bits as u32)).to_bits(),
            (Type::F64, Type::F32) if !self.integral => {
                canonical(narrow(f64::from_bits(bits), self.rounding)).into()
            }
            _ => match soft::unpack(from, bits) {
                Value::Nan if to == soft::F64 && from != soft::F64 => WIDENED_NAN,
                Value::Nan => to.nan(),
                Value::Infinite { negative } => to.infinity() | if negative { to.sign() } else { 0 },
                Value::Finite(number) => {
                    let number = if self.integral && number.exponent < 0 {
                        let (negative, significand) = soft::to_integer(number, self.rounding);
                        Number { negative, exponent: 0, significand }
                    } else {
                        number
                    };
                    soft::pack(to, number, self.rounding)
                }
            },
        };
        self.finish(to, result)
    }

    /// Applies `.ftz` to f32 arguments.
    fn flush(self, from: Format, bits: u64) -> u64 {
        let bits = bits & (from.sign() | (from.sign() - 1));
        if self.ftz && from == soft::F32 { from.flush(bits) } else { bits }
    }

    /// Applies the modifiers to a result.
    fn finish(self, to: Format, mut bits: u64) -> u64 {
        let nan = to.is_nan(bits);
        if self.ftz && to == soft::F32 {
            bits = to.flush(bits);
        }
        if nan && to != soft::F64 {
            bits = to.nan();
        }
        if self.finite && bits & !to.sign() == to.infinity() {
            bits -= 1;
        }
        if self.relu && !nan && bits & to.sign() != 0 {
            bits = 0;
        }
        if self.sat {
            let one = ((1 << (to.bits - 2 - to.fraction)) - 1) << to.fraction;
            bits = if nan || bits & to.sign() != 0 { 0 } else { bits.min(one) };
        }
        bits
    }

    /// [`apply`](Self::apply) in all lanes, for types of up to 32 bits. Common forms vectorise.
    pub fn lanes(self, a: &Lanes, d: &mut Lanes) {
        macro_rules! each {
            ($f:expr) => {
                wide!(for lane in 0..32 {
                    #[allow(clippy::redundant_closure_call)]
                    let bits = $f(a[lane]);
                    d[lane] = bits;
                })
            };
        }
        let plain = !self.integral && !self.relu && !self.sat && !self.finite;
        let near = self.rounding == Rounding::Nearest;
        match (self.to, self.from) {
            (Type::F32, Type::F16) if plain && !self.ftz => half::f16_to_f32_lanes(a, d),
            (Type::F16, Type::F32) if plain && near && !self.ftz => half::f32_to_f16_lanes(a, d),
            (Type::F32, Type::Bf16) if plain && !self.ftz => each!(|h| half::bf16_to_f32(h & 0xffff)),
            (Type::Bf16, Type::F32) if plain && near && !self.ftz => each!(half::f32_to_bf16),
            (Type::F32, Type::Signed(32)) if plain && near => each!(|i| (i as i32 as f32).to_bits()),
            (Type::F32, Type::Unsigned(32)) if plain && near => each!(|i| (i as f32).to_bits()),
            (Type::F32, Type::F32) if !self.relu && !self.integral && !self.finite => each!(|x| {
                let x = canonical(f32::from_bits(if self.ftz { flush(x) } else { x }));
                if self.sat { saturate(x) } else { x }
            }),
            (Type::Signed(32), Type::F32) if self.rounding == Rounding::Zero => {
                each!(|x| f32::from_bits(x) as i32 as u32)
            }
            (Type::Unsigned(32), Type::F32) if self.rounding == Rounding::Zero => {
                each!(|x| f32::from_bits(x) as u32)
            }
            _ => {
                for lane in 0..32 {
                    d[lane] = self.apply(a[lane].into()) as u32;
                }
            }
        }
    }
}

/// `cvt.rn.f16x2.f32` and the like: `a` becomes the upper half, `b` the lower.
#[inline(always)]
pub(crate) fn pack_pair(format: Half, relu: bool, a: u32, b: u32) -> u32 {
    let one = |x: u32| {
        let h = format.narrow(f32::from_bits(x));
        if relu && h & 0x8000 != 0 { 0 } else { h }
    };
    one(a) << 16 | one(b)
}

/// `cvt.rz.f16x2.f32` and the like, any conversion of f32 to halves: `a` becomes the upper half, `b` the lower.
pub(crate) fn pack_pair_by(conversion: Conversion, a: u32, b: u32) -> u32 {
    (conversion.apply(a.into()) << 16 | conversion.apply(b.into())) as u32
}

/// [`pack_pair`] in all lanes.
pub(crate) fn pack_pair_lanes(format: Half, relu: bool, a: &Lanes, b: &Lanes, d: &mut Lanes) {
    macro_rules! each {
        ($format:expr) => {
            wide!(for lane in 0..32 {
                d[lane] = pack_pair($format, relu, a[lane], b[lane]);
            })
        };
    }
    match format {
        Half::F16 => each!(Half::F16),
        Half::Bf16 => each!(Half::Bf16),
    }
}
