//! Device memory without contents: addresses and sizes only.

use crate::cuda::driver::Address;

/// The first address; host pointers do not reach it.
const FIRST: u64 = 1 << 44;
/// Addresses are multiples of this, as a GPU driver's are.
const GRAIN: u64 = 256;
/// The granularity at which a GPU's memory is allocated (`cuMemGetAllocationGranularity`).
const PAGE: u64 = 2 << 20;
/// Requests of at least this size get pages of their own; smaller ones share pages.
const OWN_PAGE: u64 = PAGE / 2;

/// Bookkeeping of the allocated blocks.
#[derive(Debug)]
pub(super) struct Blocks {
    limit: u64,
    next: u64,
    /// Bytes in whole pages, and bytes of the blocks that share pages.
    whole: u64,
    shared: u64,
    peak: u64,
}

impl Blocks {
    /// An empty device memory of `limit` bytes.
    pub fn new(limit: u64) -> Self {
        Self { limit, next: FIRST, whole: 0, shared: 0, peak: 0 }
    }

    /// Bytes of allocated pages: now, and the most at once.
    pub fn used(&self) -> (u64, u64) {
        (self.whole + self.shared.next_multiple_of(PAGE), self.peak)
    }

    /// Allocates a block; `None` where it does not fit. Addresses are never reused.
    pub fn take(&mut self, bytes: u64) -> Option<Address> {
        let (whole, shared) = cost(bytes)?;
        let (whole, shared) = (self.whole.checked_add(whole)?, self.shared.checked_add(shared)?);
        let used = whole.checked_add(shared.checked_next_multiple_of(PAGE)?)?;
        if used > self.limit {
            return None;
        }
        let address = self.next;
        // A gap, so that an overrun does not reach another block.
        self.next = address.checked_add(bytes)?.checked_next_multiple_of(GRAIN)?.checked_add(GRAIN)?;
        (self.whole, self.shared, self.peak) = (whole, shared, self.peak.max(used));
        Some(Address(address))
    }

    /// Frees a block of `bytes`.
    pub fn give(&mut self, bytes: u64) {
        let (whole, shared) = cost(bytes).unwrap_or_default();
        self.whole -= whole;
        self.shared -= shared;
    }
}

/// Bytes that a request takes of whole pages and of shared pages.
fn cost(bytes: u64) -> Option<(u64, u64)> {
    match bytes {
        0..OWN_PAGE => Some((0, bytes.max(1).next_multiple_of(GRAIN))),
        _ => Some((bytes.checked_next_multiple_of(PAGE)?, 0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_counted_in_pages_and_given_back() {
        let mut blocks = Blocks::new(4 * PAGE);
        blocks.take(100).unwrap();
        assert_eq!(blocks.used(), (PAGE, PAGE));
        blocks.take(PAGE + 1).unwrap();
        assert_eq!(blocks.used(), (3 * PAGE, 3 * PAGE));
        assert!(blocks.take(PAGE + 1).is_none() && blocks.take(u64::MAX).is_none());
        blocks.give(PAGE + 1);
        blocks.give(100);
        assert_eq!(blocks.used(), (0, 3 * PAGE));
    }
}
