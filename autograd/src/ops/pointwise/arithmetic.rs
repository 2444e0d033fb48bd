//! `+`, `-`, `*` and `/` between tensors, and between a tensor and an `f64`, and unary `-`.
//!
//! An operator returns a `Result`, as its method does, because shapes may not fit and a device may fail: `(&a + &b)?`.
//! Operands are tensors or references to them, so that results chain: `((&a + &b)? * &c)?`.
//!
//! A number is first rounded to the tensor's dtype, except in `x * k` and `x / k`, which are [`Tensor::scale`] by k and
//! by 1/k, and in `k * x`: on a device these multiply in f32.

use std::ops::{Add, Div, Mul, Neg, Sub};

#[cfg(feature = "cuda")]
use super::cuda;
use crate::{Device, Result, Tensor};

impl Tensor {
    /// A tensor of shape [] with a number, on this tensor's device and in its dtype.
    fn number(&self, value: f64) -> Result<Tensor> {
        match self.device() {
            Device::Cpu => Tensor::scalar(value, self.dtype()),
            #[cfg(feature = "cuda")]
            Device::Cuda => cuda::number(self, value),
        }
    }
}

/// An operator between tensors, owned or not.
macro_rules! between {
    ($trait:ident $method:ident: $($left:ty, $right:ty;)*) => {$(
        impl $trait<$right> for $left {
            type Output = Result<Tensor>;

            fn $method(self, other: $right) -> Result<Tensor> {
                Tensor::$method(&self, &other)
            }
        }
    )*};
}

/// An operator between tensors, of a tensor x and a number k, and of a number and a tensor.
macro_rules! operators {
    ($($trait:ident $method:ident ($x:ident, $k:ident) $right:expr, $left:expr;)*) => {$(
        between!($trait $method: &Tensor, &Tensor; &Tensor, Tensor; Tensor, &Tensor; Tensor, Tensor;);
        operators!(@number $trait $method ($x, $k) $right, $left; &Tensor);
        operators!(@number $trait $method ($x, $k) $right, $left; Tensor);
    )*};
    (@number $trait:ident $method:ident ($x:ident, $k:ident) $right:expr, $left:expr; $tensor:ty) => {
        impl $trait<f64> for $tensor {
            type Output = Result<Tensor>;

            fn $method(self, $k: f64) -> Result<Tensor> {
                let $x = &self;
                $right
            }
        }

        impl $trait<$tensor> for f64 {
            type Output = Result<Tensor>;

            fn $method(self, $x: $tensor) -> Result<Tensor> {
                let ($k, $x) = (self, &$x);
                $left
            }
        }
    };
}

operators! {
    Add add (x, k) Tensor::add(x, &x.number(k)?), Tensor::add(&x.number(k)?, x);
    Sub sub (x, k) Tensor::sub(x, &x.number(k)?), Tensor::sub(&x.number(k)?, x);
    Mul mul (x, k) x.scale(k), x.scale(k);
    Div div (x, k) x.scale(1.0 / k), Tensor::div(&x.number(k)?, x);
}

impl Neg for &Tensor {
    type Output = Result<Tensor>;

    fn neg(self) -> Result<Tensor> {
        Tensor::neg(self)
    }
}

impl Neg for Tensor {
    type Output = Result<Tensor>;

    fn neg(self) -> Result<Tensor> {
        Tensor::neg(&self)
    }
}
