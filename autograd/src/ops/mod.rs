//! The operators, one folder each: the mathematics, the shapes, the forward and the backward rule in `mod.rs`, longer
//! device or CPU code in `cuda.rs` or `cpu.rs`.

pub mod batch_norm2d;
pub mod causal_conv1d;
pub mod conv2d;
pub mod conv_transpose2d;
pub mod layer_norm;
pub mod layout;
pub mod linear;
pub mod loss;
pub mod mamba_inner;
pub mod max_pool2d;
pub mod pointwise;
pub mod probe;
pub mod reduce;
pub mod selective_scan;
pub mod softmax;
pub mod upsample_nearest2d;
