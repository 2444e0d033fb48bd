//! The GPU kernels against the CPU backend, over drawn shapes (odd, tiny, tails), under all of the emulator's checks.

mod gemm;
mod harness;
