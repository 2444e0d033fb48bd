//! The cost of a warp's accesses: sectors of global memory, passes over the banks of shared memory.
//!
//! The rules are those of NVIDIA's CUDA C++ Programming Guide (compute capability 5.x and later: 32 banks of 4 bytes,
//! threads that read one word share it; global memory in sectors of 32 bytes) and, for wide accesses, its Best Practices
//! Guide's practice of half-warps for 8 bytes per lane and quarter-warps for 16.

use super::access::{Access, LANES, lanes};
use crate::report::Report;

/// Size of a sector of global memory in bytes.
const SECTOR: u64 = 32;

/// Counts a warp's load, store or atomic of global memory: the request, the distinct sectors it touches, and the sectors that
/// its distinct bytes would fill. An access without lanes is not counted.
#[inline]
pub(crate) fn global(access: Access<'_>, report: &mut Report) {
    if access.mask == 0 {
        return;
    }
    let bytes = u64::from(access.bytes);
    report.global_requests += 1;
    if let Some(first) = access.contiguous() {
        let total = LANES as u64 * bytes;
        report.global_sectors += (first % SECTOR + total).div_ceil(SECTOR);
        report.global_sectors_ideal += total.div_ceil(SECTOR);
        return;
    }
    if access.uniform() {
        report.global_sectors += 1;
        report.global_sectors_ideal += 1;
        return;
    }
    let mut addresses = [0; LANES];
    let mut count = 0;
    for lane in lanes(access.mask) {
        addresses[count] = access.addresses[lane];
        count += 1;
    }
    let addresses = &mut addresses[..count];
    if !addresses.is_sorted() {
        addresses.sort_unstable();
    }
    // Aligned accesses of at most 16 bytes never cross a sector.
    let distinct = |unit: u64| {
        let shift = unit.trailing_zeros();
        1 + addresses.windows(2).map(|pair| u64::from(pair[0] >> shift != pair[1] >> shift)).sum::<u64>()
    };
    report.global_sectors += distinct(SECTOR);
    report.global_sectors_ideal += (distinct(bytes) * bytes).div_ceil(SECTOR);
}

/// Counts a warp's load, store or atomic of shared memory, or the shared side of its asynchronous copies. `ldmatrix` is a
/// load of 16 bytes by each lane that gives a row: 8 rows, which are one matrix, are one pass where no banks clash.
///
/// The lanes go in parts: all 32 at once for up to 4 bytes each, 16 for 8 bytes, 8 for 16 bytes. A part takes as many
/// passes as its busiest bank has distinct words; those beyond one a part are bank conflicts. Nothing for no lanes.
#[inline]
pub(crate) fn shared(access: Access<'_>, report: &mut Report) {
    if access.mask == 0 {
        return;
    }
    report.shared_requests += 1;
    let words = (access.bytes as usize).div_ceil(4);
    if access.contiguous().is_some() || access.uniform() {
        report.shared_passes += words as u64;
        return;
    }
    let part = LANES / words;
    for start in (0..LANES).step_by(part) {
        let mask = access.mask & (u32::MAX >> (LANES - part)) << start;
        if mask != 0 {
            let passes = passes(access, mask, words);
            report.shared_passes += passes;
            report.bank_conflicts += passes - 1;
        }
    }
}

/// The most distinct words of any one bank for these lanes, of `words` words each.
///
/// Lanes are aligned, so each takes one word from each of `words` neighbouring banks, or the same as another lane.
fn passes(access: Access<'_>, mask: u32, words: usize) -> u64 {
    let (shift, groups) = ((4 * words).trailing_zeros(), LANES / words);
    let unit = |lane: usize| access.addresses[lane] >> shift;
    let mut taken = 0u32;
    let mut doubt = false;
    for lane in lanes(mask) {
        let bit = 1 << (unit(lane) as usize % groups);
        doubt |= taken & bit != 0;
        taken |= bit;
    }
    if !doubt {
        return 1;
    }
    // For each group of banks a chain through the distinct units in it: places in `units`, plus one.
    let mut units = [(0u64, 0u8); LANES];
    let (mut last, mut depth) = ([0u8; LANES], [0u8; LANES]);
    let mut count = 0;
    for unit in lanes(mask).map(unit) {
        let group = unit as usize % groups;
        let mut place = last[group];
        while place > 0 && units[place as usize - 1].0 != unit {
            place = units[place as usize - 1].1;
        }
        if place == 0 {
            units[count] = (unit, last[group]);
            count += 1;
            last[group] = count as u8;
            depth[group] += 1;
        }
    }
    depth.iter().copied().max().unwrap_or(1).into()
}
