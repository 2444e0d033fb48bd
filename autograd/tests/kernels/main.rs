//! The GPU kernels against the CPU backend, over drawn shapes (odd, tiny, tails), under all of the emulator's checks.

mod conv;
mod elements;
mod gemm;
mod harness;
mod pointwise;
mod reduce;
mod tour;
