//! A warp's access to memory, and the words that it transfers.

/// Number of lanes of a warp.
pub(crate) const LANES: usize = 32;

/// One load or store of a warp: its lanes, their addresses and the width.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Access<'a> {
    /// Active lanes, bit `i` for lane `i`.
    pub mask: u32,
    /// The byte address of each lane; those of inactive lanes are ignored.
    pub addresses: &'a [u64; LANES],
    /// Bytes per lane, all elements of a vector together: 1, 2, 4, 8 or 16. The address must be a multiple of it.
    pub bytes: u32,
}

impl Access<'_> {
    /// The first lane's address if all lanes are active and their bytes are contiguous in lane order.
    #[inline]
    pub(super) fn contiguous(&self) -> Option<u64> {
        let first = self.addresses[0];
        let step = u64::from(self.bytes);
        let mut odd = u64::from(!self.mask);
        for (lane, &address) in self.addresses.iter().enumerate() {
            odd |= address ^ first.wrapping_add(lane as u64 * step);
        }
        (odd == 0).then_some(first)
    }

    /// Whether all lanes are active and have one address.
    #[inline]
    pub(super) fn uniform(&self) -> bool {
        let first = self.addresses[0];
        self.addresses.iter().fold(u64::from(!self.mask), |odd, &address| odd | address ^ first) == 0
    }
}

/// The origin of an access to shared memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Site {
    /// The warp's index in its block; lane `i` is thread `32 * warp + i`.
    pub warp: u32,
    /// The instruction's line in the PTX text.
    pub line: u32,
    /// A strong access (`.volatile`, `.relaxed`, `.acquire`, `.release`): strong and atomic accesses do not race with
    /// each other.
    pub strong: bool,
}

/// The words that a warp loads or stores: `words[w][lane]`. Accesses of fewer than 4 bytes use the low bits of
/// word 0 (loads clear the rest); 8 bytes are words 0 (low) and 1 (high).
pub(crate) type Words = [[u32; LANES]; 4];

/// Lanes of a mask, lowest first.
#[inline]
pub(crate) fn lanes(mut mask: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lane = mask.trailing_zeros();
        mask &= mask.wrapping_sub(1);
        (lane < 32).then_some(lane as usize)
    })
}

/// A mask of the lowest `bytes` bytes of 8.
#[inline]
pub(super) fn low_bytes(bytes: u32) -> u64 {
    u64::MAX >> (64 - 8 * bytes.clamp(1, 8))
}

/// The value of a lane, at most 8 bytes.
#[inline]
pub(super) fn lane_value(words: &Words, lane: usize, bytes: u32) -> u64 {
    let low = u64::from(words[0][lane]);
    if bytes >= 8 { low | u64::from(words[1][lane]) << 32 } else { low & low_bytes(bytes) }
}

/// Sets the value of a lane, at most 8 bytes.
#[inline]
pub(super) fn set_lane_value(words: &mut Words, lane: usize, bytes: u32, value: u64) {
    words[0][lane] = value as u32;
    if bytes >= 8 {
        words[1][lane] = (value >> 32) as u32;
    }
}

/// The parts of a range of bytes in groups of 64, as (group, mask of the bytes within it).
#[inline]
pub(super) fn groups(offset: usize, bytes: usize) -> impl Iterator<Item = (usize, u64)> {
    let end = offset + bytes;
    let mut at = offset;
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let (group, from) = (at / 64, at % 64);
        let count = (64 - from).min(end - at);
        at += count;
        Some((group, (u64::MAX >> (64 - count)) << from))
    })
}
