//! The SIMD layer: instruction-set dispatch at run time, the register tile under convolutions and bf16 products, and
//! the exponential. All `unsafe` of the CPU kernels is here.

pub(crate) mod bf16;
pub(crate) mod dot;
pub(crate) mod line;
pub(crate) mod math;
pub(crate) mod matmul;
pub(crate) mod rates;
pub(crate) mod tile;
pub(crate) mod tiled;

use pulp::{Arch, Simd};

/// Runs a closure that is compiled for each instruction set.
#[inline(always)]
pub(crate) fn run_wide<R>(body: impl FnOnce() -> R) -> R {
    Arch::new().dispatch(body)
}

/// Evaluates an expression compiled for the widest instruction set of this machine, so that its loops vectorise fully.
/// This applies to code that is inlined into it: write `for` loops, since a closure passed to an iterator may stay a
/// function of its own, compiled for the baseline instruction set.
macro_rules! wide {
    ($body:expr) => {
        $crate::simd::run_wide(
            #[inline(always)]
            || $body,
        )
    };
}

pub(crate) use wide;

/// An element type's vector operations.
pub trait Lanes: Sized + Copy {
    /// A register of elements.
    type V<S: Simd>: Copy;

    /// Elements in a register.
    fn lanes<S: Simd>() -> usize {
        size_of::<Self::V<S>>() / size_of::<Self>()
    }
    /// All lanes equal to `x`.
    fn splat<S: Simd>(simd: S, x: Self) -> Self::V<S>;
    /// a·b + c.
    fn mul_add<S: Simd>(simd: S, a: Self::V<S>, b: Self::V<S>, c: Self::V<S>) -> Self::V<S>;
    /// a + b.
    fn add<S: Simd>(simd: S, a: Self::V<S>, b: Self::V<S>) -> Self::V<S>;
    /// The sum of all lanes, in an order that the number of lanes fixes.
    fn reduce_sum<S: Simd>(simd: S, a: Self::V<S>) -> Self;
}

macro_rules! lanes {
    ($t:ident, $v:ident, $splat:ident, $mul_add:ident, $add:ident, $sum:ident) => {
        impl Lanes for $t {
            type V<S: Simd> = S::$v;

            #[inline(always)]
            fn splat<S: Simd>(simd: S, x: Self) -> S::$v {
                simd.$splat(x)
            }
            #[inline(always)]
            fn mul_add<S: Simd>(simd: S, a: S::$v, b: S::$v, c: S::$v) -> S::$v {
                simd.$mul_add(a, b, c)
            }
            #[inline(always)]
            fn add<S: Simd>(simd: S, a: S::$v, b: S::$v) -> S::$v {
                simd.$add(a, b)
            }
            #[inline(always)]
            fn reduce_sum<S: Simd>(simd: S, a: S::$v) -> Self {
                simd.$sum(a)
            }
        }
    };
}

lanes!(f32, f32s, splat_f32s, mul_add_e_f32s, add_f32s, reduce_sum_f32s);
lanes!(f64, f64s, splat_f64s, mul_add_e_f64s, add_f64s, reduce_sum_f64s);

/// Elements of `T` in a register of the instruction set that [`wide!`](crate::wide) picks.
pub(crate) fn native_lanes<T: Lanes>() -> usize {
    struct Count<T>(std::marker::PhantomData<T>);
    impl<T: Lanes> pulp::WithSimd for Count<T> {
        type Output = usize;
        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> usize {
            T::lanes::<S>()
        }
    }
    Arch::new().dispatch(Count::<T>(std::marker::PhantomData))
}
