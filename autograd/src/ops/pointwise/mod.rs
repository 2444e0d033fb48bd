//! Operators that work element by element: one file a group, one struct a function.

mod binary;
mod unary;

pub use binary::{Add, Bias, Mul};
pub use unary::{Exp, Pointwise, Relu, Scale, Sigmoid, Silu, Softplus, Tanh, Unary};
