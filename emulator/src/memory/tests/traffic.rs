use std::collections::HashSet;

use proptest::prelude::*;

use super::{ALL, strided};
use crate::memory::{Access, LANES, traffic};
use crate::report::Report;

/// Number of sectors and of ideal sectors.
fn global(addresses: [u64; LANES], mask: u32, bytes: u32) -> (u64, u64) {
    let mut report = Report::default();
    traffic::global(Access { mask, addresses: &addresses, bytes }, &mut report);
    (report.global_sectors, report.global_sectors_ideal)
}

/// Number of passes and of bank conflicts.
fn shared(addresses: [u64; LANES], mask: u32, bytes: u32) -> (u64, u64) {
    let mut report = Report::default();
    traffic::shared(Access { mask, addresses: &addresses, bytes }, &mut report);
    (report.shared_passes, report.bank_conflicts)
}

#[test]
fn sectors_of_global_memory() {
    assert_eq!(global(strided(4096, 4), ALL, 4), (4, 4));
    assert_eq!(global(strided(4096, 16), ALL, 16), (16, 16));
    assert_eq!(global(strided(4096, 2), ALL, 2), (2, 2));
    // One element off the sector: one more.
    assert_eq!(global(strided(4100, 4), ALL, 4), (5, 4));
    // Strided, and all in one place.
    assert_eq!(global(strided(4096, 8), ALL, 4), (8, 4));
    assert_eq!(global(strided(4096, 512), ALL, 4), (32, 4));
    assert_eq!(global([4096; LANES], ALL, 4), (1, 1));
    // Backwards is as good as forwards.
    assert_eq!(global(strided(0, 4).map(|address| 4096 - address), 0xff, 4), (2, 1));
    assert_eq!(global(strided(4096, 4), 0x3, 4), (1, 1));
    assert_eq!(global(strided(4096, 4), 0, 4), (0, 0));
}

#[test]
fn banks_of_shared_memory() {
    // A row of floats; one word for all; a column without and with a column of padding.
    assert_eq!(shared(strided(0, 4), ALL, 4), (1, 0));
    assert_eq!(shared([64; LANES], ALL, 4), (1, 0));
    assert_eq!(shared(strided(0, 128), ALL, 4), (32, 31));
    assert_eq!(shared(strided(0, 132), ALL, 4), (1, 0));
    assert_eq!(shared(strided(0, 8), ALL, 4), (2, 1));
    assert_eq!(shared(strided(0, 128), 0xf, 4), (4, 3));
    // Halves share words.
    assert_eq!(shared(strided(0, 2), ALL, 2), (1, 0));
    assert_eq!(shared(strided(1, 1), ALL, 1), (1, 0));
    // Pairs go by half-warps, fours by quarter-warps.
    assert_eq!(shared(strided(0, 8), ALL, 8), (2, 0));
    assert_eq!(shared(strided(0, 16), ALL, 16), (4, 0));
    assert_eq!(shared(strided(0, 16), ALL, 8), (4, 2));
    assert_eq!(shared(strided(0, 32), ALL, 16), (8, 4));
    assert_eq!(shared(strided(0, 4), 0, 4), (0, 0));
}

#[test]
fn rows_of_matrices() {
    // `ldmatrix.x4` of rows that are 128 bytes apart: all eight rows of a matrix in the same four banks.
    assert_eq!(shared(strided(0, 128), ALL, 16), (32, 28));
    // The same with 16-byte chunks swizzled by the row.
    assert_eq!(shared(std::array::from_fn(|row| 128 * row as u64 + 16 * (row as u64 % 8)), ALL, 16), (4, 0));
    // And with 16 bytes of padding a row; one matrix is one pass.
    assert_eq!(shared(strided(0, 144), ALL, 16), (4, 0));
    assert_eq!(shared(strided(0, 144), 0xff, 16), (1, 0));
}

proptest! {
    #[test]
    fn counts_agree_with_sets(
        lanes in proptest::array::uniform32(0u64..256),
        mask in any::<u32>(),
        log in 0u32..5,
    ) {
        let bytes = 1u32 << log;
        let addresses = lanes.map(|lane| lane * u64::from(bytes));
        let active: Vec<usize> = (0..LANES).filter(|lane| mask >> lane & 1 != 0).collect();
        let all: HashSet<u64> =
            active.iter().flat_map(|&lane| addresses[lane]..addresses[lane] + u64::from(bytes)).collect();
        let sectors: HashSet<u64> = all.iter().map(|byte| byte / 32).collect();
        prop_assert_eq!(global(addresses, mask, bytes), (sectors.len() as u64, (all.len() as u64).div_ceil(32)));
        let part = LANES / (bytes as usize).div_ceil(4);
        let mut expected = (0, 0);
        for start in (0..LANES).step_by(part) {
            let words: HashSet<u64> = active
                .iter()
                .filter(|&&lane| lane / part == start / part)
                .flat_map(|&lane| addresses[lane]..addresses[lane] + u64::from(bytes))
                .map(|byte| byte / 4)
                .collect();
            let passes = (0..32).map(|bank| words.iter().filter(|&word| word % 32 == bank).count() as u64).max();
            if let Some(passes) = passes.filter(|&passes| passes > 0) {
                expected = (expected.0 + passes, expected.1 + passes - 1);
            }
        }
        prop_assert_eq!(shared(addresses, mask, bytes), expected);
    }
}
