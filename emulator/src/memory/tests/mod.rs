//! Tests of the memories. Each checker gets a bug that it must detect, and code that it must accept.

mod copies;
mod global;
mod happens_before;
mod local;
mod races;
mod shared;
mod traffic;

use super::{Access, LANES, Shared, Site, Words};
use crate::error::Fault;
use crate::options::Checks;

/// The mask of all lanes.
const ALL: u32 = u32::MAX;

/// A column of zeros.
const ZERO: Words = [[0; LANES]; 4];

/// A block that runs one access after another, each with its own line.
struct Block {
    shared: Shared,
    line: u32,
}

impl Block {
    fn new(bytes: u32, threads: u32, checks: Checks) -> Self {
        Self { shared: Shared::new(bytes, threads, checks).unwrap(), line: 0 }
    }

    fn site(&mut self, warp: u32) -> Site {
        self.line += 1;
        Site { warp, line: self.line, strong: false }
    }

    fn load(&mut self, warp: u32, mask: u32, addresses: [u64; LANES], bytes: u32) -> Result<Words, Fault> {
        let mut out = ZERO;
        let site = self.site(warp);
        self.shared.load(site, Access { mask, addresses: &addresses, bytes }, &mut out).map(|()| out)
    }

    fn store(
        &mut self,
        warp: u32,
        mask: u32,
        addresses: [u64; LANES],
        bytes: u32,
        words: &Words,
    ) -> Result<(), Fault> {
        let site = self.site(warp);
        self.shared.store(site, Access { mask, addresses: &addresses, bytes }, words)
    }

    /// An atomic in which every lane adds 1.
    fn add(&mut self, warp: u32, mask: u32, addresses: [u64; LANES], bytes: u32) -> Result<Words, Fault> {
        let mut out = ZERO;
        let site = self.site(warp);
        let access = Access { mask, addresses: &addresses, bytes };
        self.shared.atomic(site, access, &mut out, |_, old| old + 1).map(|()| out)
    }

    /// A `bar.sync` of the warps of a mask.
    fn barrier(&mut self, warps: u32) {
        super::access::lanes(warps).for_each(|warp| self.shared.arrive(0, warp as u32));
        self.shared.release(0, warps);
    }
}

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
