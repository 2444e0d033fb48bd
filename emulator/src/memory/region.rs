//! The bytes of an allocation: owned by it, or by a caller (memory shared between processes, pinned host memory).

use std::{fmt, ops::Deref, ptr::NonNull, sync::Arc, sync::atomic::AtomicU64};

/// Bytes outside the emulator that an allocation can use: memory shared with another process, or pinned host memory.
///
/// # Safety
/// As long as the value lives, both methods return the same slices on every call. Other accesses to the words must be atomic,
/// or happen while no copy or kernel accesses them.
pub unsafe trait Region: Send + Sync {
    /// The bytes, little-endian in words.
    fn words(&self) -> &[AtomicU64];
    /// One bit for each byte: whether it was ever written. It has at least one word for eight words of bytes.
    fn written(&self) -> &[AtomicU64];
}

/// A slice of words and what keeps it alive.
pub(super) struct AtomicWords {
    slice: NonNull<[AtomicU64]>,
    _owner: Owner,
}

enum Owner {
    Own { _words: Box<[AtomicU64]> },
    Other { _region: Arc<dyn Region> },
}

// SAFETY: the slice holds atomics, and both owners can be sent and shared.
unsafe impl Send for AtomicWords {}
// SAFETY: the same.
unsafe impl Sync for AtomicWords {}

impl AtomicWords {
    /// Zeroed words, owned by the allocation; `None` if the host has too little memory.
    pub fn zeroed(len: usize) -> Option<Self> {
        let words: Box<[AtomicU64]> = bytemuck::allocation::try_zeroed_slice_box(len).ok()?;
        Some(Self { slice: NonNull::from(&*words), _owner: Owner::Own { _words: words } })
    }

    /// The bytes of a region, and its marks.
    pub fn of_region(region: &Arc<dyn Region>) -> (Self, Self) {
        let both = |slice: &[AtomicU64]| Self {
            slice: NonNull::from(slice),
            _owner: Owner::Other { _region: Arc::clone(region) },
        };
        (both(region.words()), both(region.written()))
    }
}

impl Deref for AtomicWords {
    type Target = [AtomicU64];

    #[inline]
    fn deref(&self) -> &[AtomicU64] {
        // SAFETY: the owner is alive, and its slice stays where it is: a box does not move its content, and a region
        // promises the same slice as long as it lives. The words are atomics, so shared access is enough.
        unsafe { self.slice.as_ref() }
    }
}

impl fmt::Debug for AtomicWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} words", self.len())
    }
}
