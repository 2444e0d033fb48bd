//! Floating point in integers: any format, any rounding, exact. Slow (tens of nanoseconds) and short; the rare
//! instructions use it, and the fast ones are tested against it.

use super::Rounding;

/// A binary interchange format: sign, exponent, fraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Format {
    pub bits: u32,
    /// Bits of the fraction, without the hidden one.
    pub fraction: u32,
}

/// IEEE half precision.
pub(crate) const F16: Format = Format { bits: 16, fraction: 10 };
/// The upper half of an f32.
pub(crate) const BF16: Format = Format { bits: 16, fraction: 7 };
/// IEEE single precision.
pub(crate) const F32: Format = Format { bits: 32, fraction: 23 };
/// IEEE double precision.
pub(crate) const F64: Format = Format { bits: 64, fraction: 52 };

impl Format {
    /// Bits of +∞: the exponent field, all ones.
    pub const fn infinity(self) -> u64 {
        (1 << (self.bits - 1)) - (1 << self.fraction)
    }

    /// A mask of the sign bit.
    pub const fn sign(self) -> u64 {
        1 << (self.bits - 1)
    }

    /// The NaN that instructions return: PTX keeps no payload; f64 has the NaN of an invalid operation.
    pub const fn nan(self) -> u64 {
        if self.bits == 64 { super::NAN_F64 } else { self.sign() - 1 }
    }

    /// Exponent of the last place of subnormals.
    const fn least(self) -> i32 {
        2 - (1 << (self.bits - 2 - self.fraction)) - self.fraction as i32
    }

    /// Zero with the sign of `bits`, if they are a subnormal; else `bits`.
    pub const fn flush(self, bits: u64) -> u64 {
        if bits & self.infinity() == 0 { bits & self.sign() } else { bits }
    }

    /// Whether `bits` are a NaN.
    pub const fn is_nan(self, bits: u64) -> bool {
        bits & (self.sign() - 1) > self.infinity()
    }
}

/// The decoded meaning of bits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Value {
    /// Not a number.
    Nan,
    Infinite {
        negative: bool,
    },
    /// A number, zeros included.
    Finite(Number),
}

/// ±significand·2^exponent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Number {
    pub negative: bool,
    /// Exponent of the significand's last bit.
    pub exponent: i32,
    /// An integer below 2¹²⁷. The last bit may stand for "and something below", where enough bits stand above it.
    pub significand: u128,
}

impl Value {
    /// The sign of a value that is not a NaN.
    fn negative(self) -> bool {
        match self {
            Self::Nan => false,
            Self::Infinite { negative } | Self::Finite(Number { negative, .. }) => negative,
        }
    }

    fn is_zero(self) -> bool {
        matches!(self, Self::Finite(Number { significand: 0, .. }))
    }
}

/// The value of `bits`.
pub(crate) fn unpack(format: Format, bits: u64) -> Value {
    let negative = bits & format.sign() != 0;
    let magnitude = bits & (format.sign() - 1);
    let (field, fraction) = (magnitude >> format.fraction, magnitude & ((1 << format.fraction) - 1));
    if magnitude > format.infinity() {
        Value::Nan
    } else if magnitude == format.infinity() {
        Value::Infinite { negative }
    } else {
        let hidden = u64::from(field != 0) << format.fraction;
        let exponent = format.least() + field.max(1) as i32 - 1;
        Value::Finite(Number { negative, exponent, significand: (fraction | hidden).into() })
    }
}

/// `significand >> shift`, and the increment that `rounding` requires for the dropped bits.
fn shift_round(significand: u128, shift: u32, negative: bool, rounding: Rounding) -> u128 {
    if shift == 0 {
        return significand;
    }
    let (kept, lost, half) = if shift > 127 {
        (0, significand, u128::MAX)
    } else {
        (significand >> shift, significand & ((1 << shift) - 1), 1 << (shift - 1))
    };
    let up = match rounding {
        Rounding::Nearest => lost > half || (lost == half && kept & 1 == 1),
        Rounding::Zero => false,
        Rounding::Down => negative && lost != 0,
        Rounding::Up => !negative && lost != 0,
    };
    kept + u128::from(up)
}

/// The bits of a number, rounded.
pub(crate) fn pack(format: Format, number: Number, rounding: Rounding) -> u64 {
    let Number { negative, exponent, significand } = number;
    let sign = if negative { format.sign() } else { 0 };
    if significand == 0 {
        return sign;
    }
    let width = 128 - significand.leading_zeros() as i32;
    let shift = (width - format.fraction as i32 - 1).max(format.least() - exponent);
    let kept = if shift > 0 {
        shift_round(significand, shift as u32, negative, rounding)
    } else {
        significand << -shift
    };
    // A significand that rounds up to the next power of two carries into the exponent, as it should.
    let field = (exponent + shift - format.least()) as u128;
    let magnitude = (field << format.fraction) + kept;
    if magnitude < format.infinity().into() {
        return sign | magnitude as u64;
    }
    let away = match rounding {
        Rounding::Nearest => true,
        Rounding::Zero => false,
        Rounding::Down => negative,
        Rounding::Up => !negative,
    };
    sign | (format.infinity() - u64::from(!away))
}

/// x + y, exact except for the last bit of a significand of 120 bits or more, which then means "and something below".
fn sum(x: Number, y: Number) -> Number {
    /// The same number with the leading bit at bit 125.
    fn lift(n: Number) -> Number {
        let shift = n.significand.leading_zeros() as i32 - 2;
        Number { significand: n.significand << shift, exponent: n.exponent - shift, ..n }
    }
    if x.significand == 0 {
        return y;
    }
    if y.significand == 0 {
        return x;
    }
    let (x, y) = (lift(x), lift(y));
    let (big, small) =
        if (x.exponent, x.significand) >= (y.exponent, y.significand) { (x, y) } else { (y, x) };
    let distance = (big.exponent - small.exponent) as u32;
    let moved = if distance > 126 {
        1
    } else {
        small.significand >> distance | u128::from(small.significand & ((1 << distance) - 1) != 0)
    };
    let significand =
        if big.negative == small.negative { big.significand + moved } else { big.significand - moved };
    Number { significand, ..big }
}

/// a·b + c, rounded once. Addition is this with b = 1.
pub(crate) fn fma(format: Format, a: u64, b: u64, c: u64, rounding: Rounding) -> u64 {
    let (x, y, z) = (unpack(format, a), unpack(format, b), unpack(format, c));
    let negative = x.negative() != y.negative();
    let infinity = |negative| format.infinity() | if negative { format.sign() } else { 0 };
    match (x, y, z) {
        (Value::Nan, ..) | (_, Value::Nan, _) | (.., Value::Nan) => format.nan(),
        (Value::Infinite { .. }, other, _) | (other, Value::Infinite { .. }, _) if other.is_zero() => {
            format.nan()
        }
        (Value::Infinite { .. }, ..) | (_, Value::Infinite { .. }, _) => match z {
            Value::Infinite { negative: other } if other != negative => format.nan(),
            _ => infinity(negative),
        },
        (.., Value::Infinite { negative }) => infinity(negative),
        (Value::Finite(x), Value::Finite(y), Value::Finite(z)) => {
            let product = Number {
                negative,
                exponent: x.exponent + y.exponent,
                significand: x.significand * y.significand,
            };
            let mut total = sum(product, z);
            if total.significand == 0 {
                total.negative = if negative == z.negative { negative } else { rounding == Rounding::Down };
            }
            pack(format, total, rounding)
        }
    }
}

pub(crate) fn add(format: Format, a: u64, b: u64, rounding: Rounding) -> u64 {
    let one = ((1 << (format.bits - 2 - format.fraction)) - 1) << format.fraction;
    fma(format, a, one, b, rounding)
}

/// a·b.
pub(crate) fn mul(format: Format, a: u64, b: u64, rounding: Rounding) -> u64 {
    // Adding a zero of the product's sign changes nothing.
    fma(format, a, b, (a ^ b) & format.sign(), rounding)
}

/// a ÷ b.
pub(crate) fn div(format: Format, a: u64, b: u64, rounding: Rounding) -> u64 {
    let sign = (a ^ b) & format.sign();
    match (unpack(format, a), unpack(format, b)) {
        (Value::Nan, _) | (_, Value::Nan) | (Value::Infinite { .. }, Value::Infinite { .. }) => format.nan(),
        (Value::Infinite { .. }, _) => sign | format.infinity(),
        (_, Value::Infinite { .. }) => sign,
        (Value::Finite(x), Value::Finite(y)) => {
            if y.significand == 0 {
                return if x.significand == 0 { format.nan() } else { sign | format.infinity() };
            }
            if x.significand == 0 {
                return sign;
            }
            // The quotient has 64 bits or more; its last bit is set if there is a remainder.
            let lift = x.significand.leading_zeros() as i32 - 1;
            let (dividend, divisor) = (x.significand << lift, y.significand);
            let (quotient, rest) = (dividend / divisor, dividend % divisor);
            let significand = quotient | u128::from(rest != 0);
            let exponent = x.exponent - lift - y.exponent;
            pack(format, Number { negative: sign != 0, exponent, significand }, rounding)
        }
    }
}

/// √a.
pub(crate) fn sqrt(format: Format, a: u64, rounding: Rounding) -> u64 {
    match unpack(format, a) {
        value if value.is_zero() => a,
        Value::Infinite { negative: false } => a,
        Value::Finite(x) if !x.negative => {
            // The root has 62 bits or more; the exponent must be even.
            let mut lift = x.significand.leading_zeros() as i32 - 2;
            lift += (x.exponent - lift) & 1;
            let square = x.significand << lift;
            let root = square.isqrt();
            let significand = root | u128::from(root * root != square);
            pack(format, Number { negative: false, exponent: (x.exponent - lift) / 2, significand }, rounding)
        }
        _ => format.nan(),
    }
}

/// The number rounded to a whole one, as sign and magnitude; magnitudes past 2¹²⁶ become 2¹²⁶.
pub(crate) fn to_integer(number: Number, rounding: Rounding) -> (bool, u128) {
    let Number { negative, exponent, significand } = number;
    let magnitude = if significand == 0 {
        0
    } else if exponent >= 0 {
        if exponent as u32 >= significand.leading_zeros() - 1 { 1 << 126 } else { significand << exponent }
    } else {
        shift_round(significand, exponent.unsigned_abs(), negative, rounding)
    };
    (negative, magnitude)
}
