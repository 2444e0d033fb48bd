//! The device's memories: global with bounds, and each block's shared memory, with what the checks remember of every byte.
//!
//! A warp's access is one call: addresses of all lanes in, words out, so that contiguous accesses cost little.

/// Lanes of a warp.
pub(crate) const LANES: usize = 32;

/// One load or store of a warp: which lanes, where, how many bytes each.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Access<'a> {
    /// Active lanes, bit `i` for lane `i`.
    pub mask: u32,
    /// Each lane's byte address; those of inactive lanes are not looked at.
    pub addresses: &'a [u64; LANES],
    /// Bytes a lane, all elements of a vector together: 1, 2, 4, 8 or 16. The address must be a multiple of it.
    pub bytes: u32,
}

/// What a warp's lanes load or store, word by word: `words[w][lane]`. Accesses of fewer than 4 bytes use the low bits of
/// word 0 (loads clear the rest); 8 bytes are words 0 (low) and 1 (high).
pub(crate) type Words = [[u32; LANES]; 4];
