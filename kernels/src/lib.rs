//! GPU kernels, each a Rust function from a specification to PTX text and its launch geometry.
