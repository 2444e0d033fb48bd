//! The arithmetic that PTX defines and Rust lacks: conversions with every rounding, approximate functions, f16 pairs, and
//! the tensor cores' sums.
