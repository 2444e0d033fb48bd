//! What kernels share above single instructions.

pub mod reduce;
