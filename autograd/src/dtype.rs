//! Element types: f32 and f64 on the CPU, f16 and f32 on a GPU.

use std::{
    fmt,
    iter::Sum,
    ops::{Add, AddAssign, Div, Mul, MulAssign, Neg, Sub, SubAssign},
    sync::Arc,
};

use crate::{
    buffer::Buffer,
    simd::{Lanes, bf16::Pair, tile::Operand},
    tensor::Storage,
};

/// Element type of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// IEEE binary16: activations and weights on a GPU; no operator computes in it on the CPU.
    F16,
    /// IEEE binary32: training on the CPU; statistics, states and master weights on a GPU.
    F32,
    /// IEEE binary64: gradient checks.
    F64,
}

impl DType {
    /// "f16", "f32" or "f64".
    pub fn name(self) -> &'static str {
        match self {
            Self::F16 => "f16",
            Self::F32 => "f32",
            Self::F64 => "f64",
        }
    }

    /// Size of one element in bytes.
    pub fn bytes(self) -> usize {
        match self {
            Self::F16 => 2,
            Self::F32 => 4,
            Self::F64 => 8,
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Operations that the CPU kernels need of an element type; implemented by f32 and f64.
pub trait Element:
    Copy
    + Default
    + PartialOrd
    + Send
    + Sync
    + fmt::Debug
    + fmt::Display
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + SubAssign
    + MulAssign
    + Sum
    + bytemuck::Pod
    + Lanes
    + Operand<Part = Self, Sum = Self>
    + 'static
{
    /// The operand of products under [`Products::Bf16`]: itself where that changes nothing.
    type Low: Operand<Sum = Self>;
    /// The dtype that names this type.
    const DTYPE: DType;
    /// The number 0.
    const ZERO: Self;
    /// The number 1.
    const ONE: Self;

    /// From f64, rounded to the nearest.
    fn from_f64(x: f64) -> Self;
    /// The value as f64, which is exact.
    fn to_f64(self) -> f64;
    /// eˣ as the C library gives it.
    fn exp(self) -> Self;
    /// eˣ within 2 units in the last place, written so that the compiler vectorises it over a slice.
    fn exp_wide(self) -> Self;
    /// The natural logarithm.
    fn ln(self) -> Self;
    /// ln(1 + x) for x in [0, 1] within 2 units in the last place, for loops that the compiler vectorises.
    fn ln_1p_wide(self) -> Self;
    /// tanh x.
    fn tanh(self) -> Self;
    /// √x.
    fn sqrt(self) -> Self;
    /// |x|.
    fn abs(self) -> Self;
    /// The larger of two numbers; the other one if one is NaN.
    fn max(self, other: Self) -> Self;
    /// Whether it is NaN.
    fn is_nan(self) -> bool;

    /// The buffer of a storage, if it has this dtype.
    fn buffer(storage: &Storage) -> Option<&Arc<Buffer<Self>>>;
    /// As [`Element::buffer`], mutable.
    fn buffer_mut(storage: &mut Storage) -> Option<&mut Arc<Buffer<Self>>>;
    /// The storage around a buffer.
    fn storage(buffer: Arc<Buffer<Self>>) -> Storage;
}

macro_rules! element {
    ($t:ident, $variant:ident, $low:ident, $exp:path, $ln_1p:path) => {
        impl Element for $t {
            type Low = $low;
            const DTYPE: DType = DType::$variant;
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;

            fn from_f64(x: f64) -> Self {
                x as $t
            }
            fn to_f64(self) -> f64 {
                f64::from(self)
            }
            fn exp(self) -> Self {
                $t::exp(self)
            }
            #[inline(always)]
            fn exp_wide(self) -> Self {
                $exp(self)
            }
            fn ln(self) -> Self {
                $t::ln(self)
            }
            #[inline(always)]
            fn ln_1p_wide(self) -> Self {
                $ln_1p(self)
            }
            fn tanh(self) -> Self {
                $t::tanh(self)
            }
            #[inline(always)]
            fn sqrt(self) -> Self {
                $t::sqrt(self)
            }
            #[inline(always)]
            fn abs(self) -> Self {
                $t::abs(self)
            }
            #[inline(always)]
            fn max(self, other: Self) -> Self {
                $t::max(self, other)
            }
            #[inline(always)]
            fn is_nan(self) -> bool {
                $t::is_nan(self)
            }

            fn buffer(storage: &Storage) -> Option<&Arc<Buffer<Self>>> {
                match storage {
                    Storage::$variant(b) => Some(b),
                    _ => None,
                }
            }
            fn buffer_mut(storage: &mut Storage) -> Option<&mut Arc<Buffer<Self>>> {
                match storage {
                    Storage::$variant(b) => Some(b),
                    _ => None,
                }
            }
            fn storage(buffer: Arc<Buffer<Self>>) -> Storage {
                Storage::$variant(buffer)
            }
        }
    };
}

element!(f32, F32, Pair, crate::simd::math::exp_f32, crate::simd::math::ln_1p_f32);
element!(f64, F64, f64, f64::exp, f64::ln_1p);

/// Runs the body with `$T` as the CPU's element type of `$dtype`; returns an error from the enclosing function for a
/// dtype that the CPU does not compute in.
#[macro_export]
macro_rules! dispatch {
    ($dtype:expr, $T:ident => $body:expr) => {
        match $dtype {
            $crate::DType::F16 => {
                let (op, found, expected) = ("cpu", "f16", "f32 or f64");
                return Err($crate::Error::Dtype { op, found, expected }.into());
            }
            $crate::DType::F32 => {
                type $T = f32;
                $body
            }
            $crate::DType::F64 => {
                type $T = f64;
                $body
            }
        }
    };
}
