//! Operators that work element by element: one file a group, one struct a function.

mod binary;
pub(crate) mod cuda;
mod unary;

pub use binary::{Add, Bias, Mul};
pub use cuda::Function;
pub use unary::{Exp, Pointwise, Relu, Scale, Sigmoid, Silu, Softplus, Tanh, Unary};
