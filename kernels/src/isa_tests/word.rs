//! Host values of register types.

use crate::ptx::{B32, F16, F16x2, F32, F64, InMemory, S32, S64, U16, U32, U64};

/// A register type with its host type.
pub trait Word: InMemory<Loaded = Self> {
    /// The host type; the bits for binary16.
    type Host: Copy;
    /// Decodes a float from its bits; `None` for types that are compared bit by bit.
    const VALUE: Option<fn(u64) -> f64>;

    /// The bits of a value, zero-extended.
    fn bits(value: Self::Host) -> u64;
}

macro_rules! words {
    ($($tag:ident $host:ty, $value:expr, $bits:expr;)*) => {$(
        impl Word for $tag {
            type Host = $host;
            const VALUE: Option<fn(u64) -> f64> = $value;

            fn bits(value: $host) -> u64 {
                let bits: fn($host) -> u64 = $bits;
                bits(value)
            }
        }
    )*};
}

words! {
    U16 u16, None, u64::from;
    U32 u32, None, u64::from;
    U64 u64, None, |v| v;
    S32 i32, None, |v| v.cast_unsigned().into();
    S64 i64, None, i64::cast_unsigned;
    B32 u32, None, u64::from;
    F16 u16, Some(half_value), u64::from;
    F16x2 [u16; 2], None, |[low, high]| u64::from(low) | u64::from(high) << 16;
    F32 f32, Some(|bits| f32::from_bits(bits as u32).into()), |v| v.to_bits().into();
    F64 f64, Some(f64::from_bits), f64::to_bits;
}

/// The value of a binary16 (IEEE 754-2019, 3.6).
fn half_value(bits: u64) -> f64 {
    let (exponent, fraction) = (bits >> 10 & 0x1F, bits & 0x3FF);
    let size = match exponent {
        0 => fraction as f64 * 2f64.powi(-24),
        31 if fraction == 0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1024 + fraction) as f64 * 2f64.powi(exponent as i32 - 25),
    };
    if bits >> 15 & 1 == 1 { -size } else { size }
}

/// The bits of a number that is a normal binary16 or 0.
pub(super) fn half(value: f32) -> u16 {
    let bits = value.to_bits();
    let sign = (bits >> 16 & 0x8000) as u16;
    if value == 0.0 {
        return sign;
    }
    let exponent = (bits >> 23 & 0xFF) as i32 - 127 + 15;
    debug_assert!((1..31).contains(&exponent) && bits & 0x1FFF == 0, "{value} is not a normal binary16");
    sign | (exponent as u16) << 10 | (bits >> 13 & 0x3FF) as u16
}
