//! What a warp's accesses cost the memory system: sectors of global memory, passes over the banks of shared memory.
//!
//! The rules are those of NVIDIA's CUDA C++ Programming Guide (compute capability 5.x and later: 32 banks of 4 bytes,
//! threads that read one word share it; global memory in sectors of 32 bytes) and, for wide accesses, its Best Practices
//! Guide's practice of half-warps for 8 bytes a lane and quarter-warps for 16.

use super::{Access, LANES, lanes};
use crate::report::Report;

/// Bytes of a sector of global memory.
const SECTOR: u64 = 32;

/// Counts a warp's load, store or atomic of global memory: the request, the distinct sectors it touches, and the sectors that
/// its distinct bytes would fill. Nothing for no lanes.
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
    let distinct =
        |unit: u64| 1 + addresses.windows(2).filter(|pair| pair[0] / unit != pair[1] / unit).count() as u64;
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
    if access.contiguous().is_some() {
        report.shared_passes += words as u64;
        return;
    }
    let part = LANES / words;
    for start in (0..LANES).step_by(part) {
        let mask = access.mask & (u32::MAX >> (LANES - part)) << start;
        if mask != 0 {
            let passes = passes(access, mask, words as u64);
            report.shared_passes += passes;
            report.bank_conflicts += passes - 1;
        }
    }
}

/// The most distinct words that any one bank has to give to these lanes.
fn passes(access: Access<'_>, mask: u32, words: u64) -> u64 {
    // For each bank a chain through the distinct words in it: `last` and `before` are places in `seen`, plus one.
    let mut seen = [(0u64, 0u8); LANES];
    let mut last = [0u8; LANES];
    let mut depth = [0u8; LANES];
    let mut count = 0;
    for word in lanes(mask).flat_map(|lane| (0..words).map(move |w| access.addresses[lane] / 4 + w)) {
        let bank = (word % LANES as u64) as usize;
        let mut place = last[bank];
        while place > 0 && seen[place as usize - 1].0 != word {
            place = seen[place as usize - 1].1;
        }
        if place == 0 {
            seen[count] = (word, last[bank]);
            count += 1;
            last[bank] = count as u8;
            depth[bank] += 1;
        }
    }
    depth.iter().copied().max().unwrap_or(1).into()
}
