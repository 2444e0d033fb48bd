//! The device's heap for `malloc`: one allocation of a module, divided first fit.
//!
//! Blocks are neighbours, with an unwritten gap between them.

use std::collections::BTreeMap;

/// Size of the heap in bytes: CUDA's default.
pub(crate) const HEAP_BYTES: u64 = 8 << 20;

/// Alignment of a block in bytes.
const ALIGN: u64 = 16;

/// Allocated blocks and holes of the heap.
#[derive(Debug)]
pub(crate) struct Heap {
    base: u64,
    bytes: u64,
    /// First address and requested size in bytes of each allocated block.
    taken: BTreeMap<u64, u64>,
    /// First address and length in bytes of each hole between them.
    holes: BTreeMap<u64, u64>,
}

impl Heap {
    /// A heap of `bytes` bytes at `base`.
    pub fn new(base: u64, bytes: u64) -> Self {
        Self { base, bytes, taken: BTreeMap::new(), holes: BTreeMap::from([(base, bytes)]) }
    }

    /// First address of the heap.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// Allocates `bytes` bytes; `None` if no hole is large enough.
    pub fn allocate(&mut self, bytes: u64) -> Option<u64> {
        let footprint = footprint(bytes).filter(|&footprint| footprint <= self.bytes)?;
        let (&start, &length) = self.holes.iter().find(|&(_, &length)| length >= footprint)?;
        self.holes.remove(&start);
        if length > footprint {
            self.holes.insert(start + footprint, length - footprint);
        }
        self.taken.insert(start, bytes);
        Some(start)
    }

    /// Frees a block; returns its requested size, or `None` if no allocated block starts at the address.
    pub fn free(&mut self, address: u64) -> Option<u64> {
        let bytes = self.taken.remove(&address)?;
        let (mut start, mut length) = (address, footprint(bytes)?);
        if let Some(after) = self.holes.remove(&(start + length)) {
            length += after;
        }
        if let Some((&before, &gap)) = self.holes.range(..start).next_back()
            && before + gap == start
        {
            start = before;
            length += gap;
        }
        self.holes.insert(start, length);
        Some(bytes)
    }
}

/// Size of a block with the gap after it, in bytes.
fn footprint(bytes: u64) -> Option<u64> {
    bytes.checked_add(ALIGN)?.checked_next_multiple_of(ALIGN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_neither_overlap_nor_get_lost() {
        let mut heap = Heap::new(0x1000, 1 << 12);
        let mut live: Vec<(u64, u64)> = Vec::new();
        let mut seed = 7u64;
        for _ in 0..2000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let draw = seed >> 33;
            if draw.is_multiple_of(3) && !live.is_empty() {
                let (address, bytes) = live.swap_remove(draw as usize % live.len());
                assert_eq!(heap.free(address), Some(bytes));
                assert_eq!(heap.free(address), None);
            } else if let Some(address) = heap.allocate(draw % 200) {
                let bytes = draw % 200;
                assert!(address.is_multiple_of(ALIGN) && address >= 0x1000 && address + bytes <= 0x2000);
                let apart =
                    |&(other, length): &(u64, u64)| address >= other + length || other >= address + bytes;
                assert!(live.iter().all(apart), "{address:#x} of {bytes} bytes");
                live.push((address, bytes));
            }
        }
        for (address, _) in live {
            assert!(heap.free(address).is_some());
        }
        // All holes are one again.
        assert_eq!(heap.holes, BTreeMap::from([(0x1000, 1 << 12)]));
        assert_eq!(heap.allocate(1 << 12), None);
        assert_eq!(heap.allocate(u64::MAX), None);
        assert!(heap.allocate((1 << 12) - 16).is_some());
    }
}
