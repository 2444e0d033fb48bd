//! The device's heap, from which kernels take memory by `malloc`: one allocation of a module, shared out first fit.
//!
//! A part lies next to another, with a gap that nothing writes between them.

use std::collections::BTreeMap;

/// Bytes of the heap: what CUDA gives it unless told otherwise.
pub(crate) const HEAP_BYTES: u64 = 8 << 20;

/// Each part starts at a multiple of this.
const ALIGN: u64 = 16;

/// Which parts of the heap are taken.
#[derive(Debug)]
pub(crate) struct Heap {
    base: u64,
    bytes: u64,
    /// First bytes of the parts that are taken, and how many bytes each was asked for.
    taken: BTreeMap<u64, u64>,
    /// First bytes and lengths of the holes between them.
    holes: BTreeMap<u64, u64>,
}

impl Heap {
    /// A heap of `bytes` bytes at `base`.
    pub fn new(base: u64, bytes: u64) -> Self {
        Self { base, bytes, taken: BTreeMap::new(), holes: BTreeMap::from([(base, bytes)]) }
    }

    /// Where the heap begins.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// Takes `bytes` bytes; `None` where no hole has room.
    pub fn take(&mut self, bytes: u64) -> Option<u64> {
        let room = room(bytes).filter(|&room| room <= self.bytes)?;
        let (&start, &length) = self.holes.iter().find(|&(_, &length)| length >= room)?;
        self.holes.remove(&start);
        if length > room {
            self.holes.insert(start + room, length - room);
        }
        self.taken.insert(start, bytes);
        Some(start)
    }

    /// Gives a part back; how many bytes it was asked for, or `None` if it is not one that is taken.
    pub fn give(&mut self, address: u64) -> Option<u64> {
        let bytes = self.taken.remove(&address)?;
        let (mut start, mut length) = (address, room(bytes)?);
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

/// Bytes of a part with the gap behind it.
fn room(bytes: u64) -> Option<u64> {
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
                assert_eq!(heap.give(address), Some(bytes));
                assert_eq!(heap.give(address), None);
            } else if let Some(address) = heap.take(draw % 200) {
                let bytes = draw % 200;
                assert!(address.is_multiple_of(ALIGN) && address >= 0x1000 && address + bytes <= 0x2000);
                let apart =
                    |&(other, length): &(u64, u64)| address >= other + length || other >= address + bytes;
                assert!(live.iter().all(apart), "{address:#x} of {bytes} bytes");
                live.push((address, bytes));
            }
        }
        for (address, _) in live {
            assert!(heap.give(address).is_some());
        }
        // All holes are one again.
        assert_eq!(heap.holes, BTreeMap::from([(0x1000, 1 << 12)]));
        assert_eq!(heap.take(1 << 12), None);
        assert_eq!(heap.take(u64::MAX), None);
        assert!(heap.take((1 << 12) - 16).is_some());
    }
}
