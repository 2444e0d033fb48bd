//! The GPU kernels against the CPU backend, over drawn shapes (odd, tiny, tails), under all of the emulator's checks.

mod batch_norm;
mod broadcast;
mod causal_conv1d;
mod conv;
mod elements;
mod gemm;
mod harness;
mod isa;
mod layer_norm;
mod layout;
mod loss;
mod max_pool;
mod normalise;
mod optim;
mod pointwise;
mod reduce;
mod reduce_copy;
mod selective_scan;
mod softmax;
mod upsample;
