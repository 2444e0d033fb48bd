//! One allocation: its bytes, and a mark for each byte that was written.
//!
//! Bytes live in relaxed 64-bit atomics: blocks run at the same time, and neighbours in a word must not be lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::AcqRel, Ordering::Relaxed};

use super::access::{groups, low_bytes};
use super::region::{AtomicWords, Region};

/// One allocation. Offsets are from its base and were checked against [`Allocation::offset`].
#[derive(Debug)]
pub(super) struct Allocation {
    /// Address of the first byte, a multiple of 256.
    pub base: u64,
    /// Number of bytes that may be accessed.
    pub bytes: u64,
    /// Whether the host freed it; earlier views may still hold it.
    pub freed: AtomicBool,
    words: AtomicWords,
    /// One bit per byte.
    written: AtomicWords,
}

impl Allocation {
    /// Zeroed and unwritten; `None` if the host is out of memory.
    pub fn new(base: u64, bytes: u64) -> Option<Self> {
        let words = usize::try_from(bytes.div_ceil(8)).ok()?;
        Some(Self {
            base,
            bytes,
            freed: AtomicBool::new(false),
            words: AtomicWords::zeroed(words)?,
            written: AtomicWords::zeroed(words.div_ceil(8))?,
        })
    }

    /// An allocation in a region; `None` if the region is too short.
    pub fn over(base: u64, bytes: u64, region: &Arc<dyn Region>) -> Option<Self> {
        let needed = usize::try_from(bytes.div_ceil(8)).ok()?;
        let (words, written) = AtomicWords::of_region(region);
        let fits = words.len() >= needed && written.len() >= needed.div_ceil(8);
        fits.then(|| Self { base, bytes, freed: AtomicBool::new(false), words, written })
    }

    /// The offset of `bytes` bytes at `address` if all of them are inside.
    #[inline]
    pub fn offset(&self, address: u64, bytes: u64) -> Option<usize> {
        let offset = address.wrapping_sub(self.base);
        (offset < self.bytes && bytes <= self.bytes - offset).then_some(offset as usize)
    }

    /// The aligned 8-byte words from an offset on.
    #[inline]
    pub fn words(&self, offset: usize) -> &[AtomicU64] {
        &self.words[offset / 8..]
    }

    /// A naturally aligned value of 1, 2, 4 or 8 bytes.
    #[inline]
    pub fn get(&self, offset: usize, bytes: u32) -> u64 {
        self.words[offset / 8].load(Relaxed) >> (offset % 8 * 8) & low_bytes(bytes)
    }

    /// Sets a naturally aligned value of 1, 2, 4 or 8 bytes; its neighbours in the word stay.
    #[inline]
    pub fn set(&self, offset: usize, bytes: u32, value: u64) {
        let (mask, shift) = (low_bytes(bytes), offset % 8 * 8);
        self.merge(offset, mask << shift, (value & mask) << shift);
    }

    /// Sets the bits of `mask` in the 8-byte word around an offset to those of `value`, which has no others.
    #[inline]
    pub fn merge(&self, offset: usize, mask: u64, value: u64) {
        let word = &self.words[offset / 8];
        if mask == u64::MAX {
            return word.store(value, Relaxed);
        }
        let _ = word.fetch_update(Relaxed, Relaxed, |old| Some(old & !mask | value));
    }

    /// Replaces a naturally aligned value of 1, 2, 4 or 8 bytes in one step; returns the old one.
    #[inline]
    pub fn update(&self, offset: usize, bytes: u32, new: impl Fn(u64) -> u64) -> u64 {
        let (mask, shift) = (low_bytes(bytes), offset % 8 * 8);
        let word = &self.words[offset / 8];
        let old = word.fetch_update(AcqRel, Relaxed, |old| {
            Some(old & !(mask << shift) | (new(old >> shift & mask) & mask) << shift)
        });
        old.unwrap_or_else(|same| same) >> shift & mask
    }

    /// Copies bytes out of the allocation.
    pub fn read(&self, offset: usize, out: &mut [u8]) {
        let head = out.len().min(offset.wrapping_neg() % 8);
        let (first, rest) = out.split_at_mut(head);
        for (i, byte) in first.iter_mut().enumerate() {
            *byte = self.get(offset + i, 1) as u8;
        }
        for (word, eight) in self.words[(offset + head) / 8..].iter().zip(rest.chunks_mut(8)) {
            let bytes = word.load(Relaxed).to_le_bytes();
            eight.copy_from_slice(&bytes[..eight.len()]);
        }
    }

    /// Copies bytes into the allocation without marking them.
    pub fn write(&self, offset: usize, data: &[u8]) {
        let head = data.len().min(offset.wrapping_neg() % 8);
        let (first, rest) = data.split_at(head);
        for (i, &byte) in first.iter().enumerate() {
            self.set(offset + i, 1, byte.into());
        }
        let at = offset + head;
        let (words, last) = rest.as_chunks::<8>();
        for (word, &eight) in self.words[at / 8..].iter().zip(words) {
            word.store(u64::from_le_bytes(eight), Relaxed);
        }
        for (i, &byte) in last.iter().enumerate() {
            self.set(at + words.len() * 8 + i, 1, byte.into());
        }
    }

    /// The offset of the first byte of a range that was never written.
    #[inline]
    pub fn unwritten(&self, offset: usize, bytes: usize) -> Option<usize> {
        for (group, mask) in groups(offset, bytes) {
            let missing = mask & !self.written[group].load(Relaxed);
            if missing != 0 {
                return Some(group * 64 + missing.trailing_zeros() as usize);
            }
        }
        None
    }

    /// Whether an aligned access of at most 16 bytes was written whole.
    #[inline]
    pub fn has(&self, offset: usize, bytes: u32) -> bool {
        let mask = (1u64 << bytes) - 1;
        self.written[offset / 64].load(Relaxed) >> (offset % 64) & mask == mask
    }

    /// Marks a range as written.
    #[inline]
    pub fn mark(&self, offset: usize, bytes: usize) {
        for (group, mask) in groups(offset, bytes) {
            // Most stores go to bytes that were written before: looking is cheaper than an atomic change.
            if self.written[group].load(Relaxed) & mask != mask {
                self.written[group].fetch_or(mask, Relaxed);
            }
        }
    }

    /// Marks a range as never written.
    pub fn mark_unwritten(&self, offset: usize, bytes: usize) {
        for (group, mask) in groups(offset, bytes) {
            self.written[group].fetch_and(!mask, Relaxed);
        }
    }

    /// Takes `bytes` bytes from another allocation's `from`, with their marks. The ranges do not overlap.
    pub fn copy(&self, to: usize, source: &Self, from: usize, bytes: usize) {
        let mut buffer = [0; 4096];
        let mut done = 0;
        while done < bytes {
            let count = buffer.len().min(bytes - done);
            source.read(from + done, &mut buffer[..count]);
            self.write(to + done, &buffer[..count]);
            done += count;
        }
        self.mark(to, bytes);
        let mut at = 0;
        while let Some(hole) = source.unwritten(from + at, bytes - at) {
            let group_end = (hole + 1).next_multiple_of(64).min(from + bytes);
            let length = (hole..group_end).take_while(|&byte| source.unwritten(byte, 1).is_some()).count();
            self.mark_unwritten(to + hole - from, length);
            at = hole + length - from;
        }
    }
}
