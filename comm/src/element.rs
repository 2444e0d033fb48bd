//! The elements of collectives and their reductions.

/// The operation that combines the ranks' elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReduceOp {
    /// The sum, in the order of [the ring](super). Integers wrap.
    Sum,
    /// The maximum. Any NaN gives the NaN `0x7fc00000` (f64: `0x7ff8000000000000`), and +0 is larger than −0,
    /// so that the result does not depend on the order.
    Max,
}

/// A number that can be reduced: f32, f64 and u32. On the wire it is little-endian, as in the memory of every machine
/// that the program runs on.
pub trait Element: bytemuck::Pod + PartialEq + Send + private::Sealed {
    /// Code of the type in a frame's header.
    const CODE: u8;

    /// Returns a + b; integers wrap.
    fn sum(a: Self, b: Self) -> Self;

    /// Returns the maximum, as [`ReduceOp::Max`] defines it.
    fn max(a: Self, b: Self) -> Self;
}

mod private {
    /// Only types with a code can be elements.
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
    impl Sealed for u32 {}
}

macro_rules! float {
    ($type:ty, $code:literal) => {
        impl Element for $type {
            const CODE: u8 = $code;

            fn sum(a: Self, b: Self) -> Self {
                a + b
            }

            fn max(a: Self, b: Self) -> Self {
                let larger = if a > b || (a == b && a.is_sign_positive()) { a } else { b };
                if a.is_nan() || b.is_nan() { Self::NAN } else { larger }
            }
        }
    };
}

float!(f32, 1);
float!(f64, 2);

impl Element for u32 {
    const CODE: u8 = 3;

    fn sum(a: Self, b: Self) -> Self {
        a.wrapping_add(b)
    }

    fn max(a: Self, b: Self) -> Self {
        a.max(b)
    }
}

impl ReduceOp {
    /// partial[i] = partial[i] ∘ own[i].
    pub(super) fn apply<T: Element>(self, partial: &mut [T], own: &[T]) {
        match self {
            Self::Sum => partial.iter_mut().zip(own).for_each(|(a, b)| *a = T::sum(*a, *b)),
            Self::Max => partial.iter_mut().zip(own).for_each(|(a, b)| *a = T::max(*a, *b)),
        }
    }
}
