//! Tests of the memories, each checker with a bug that it must catch beside code that it must let pass.

mod global;

use super::{LANES, Words};

/// Addresses of a warp: lane `i` at `first + i * step`.
fn strided(first: u64, step: u64) -> [u64; LANES] {
    std::array::from_fn(|lane| first + lane as u64 * step)
}

/// Words that differ from lane to lane and from word to word.
fn pattern(seed: u32) -> Words {
    std::array::from_fn(|w| {
        std::array::from_fn(|lane| {
            (seed + 1).wrapping_mul(0x9e37_79b9) ^ (w as u32 * 0x0101_0000 + lane as u32 * 0x0307)
        })
    })
}
