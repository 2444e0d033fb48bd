//! Where an allocation's bytes are: in memory of its own, or in memory that a caller owns (shared between processes, or
//! the host's own).

use std::{fmt, ops::Deref, ptr::NonNull, sync::Arc, sync::atomic::AtomicU64};

/// Bytes outside the emulator that an allocation can use: memory shared with another process, or pinned host memory.
///
/// # Safety
/// As long as the value lives, both methods return the same slices on every call, and nothing else accesses the words
/// other than by the host program's own risk (a copy or kernel that races with the host is the host's error).
pub unsafe trait Region: Send + Sync {
    /// The bytes, little-endian in words.
    fn words(&self) -> &[AtomicU64];
    /// One bit for each byte: whether it was ever written. At least an eighth as many words, rounded up.
    fn written(&self) -> &[AtomicU64];
}

/// A slice of words and what keeps it alive.
pub(super) struct Words {
    slice: NonNull<[AtomicU64]>,
    _owner: Owner,
}

enum Owner {
    Own { _words: Box<[AtomicU64]> },
    Other { _region: Arc<dyn Region> },
}

// SAFETY: the slice holds atomics, and both owners can be sent and shared.
unsafe impl Send for Words {}
// SAFETY: the same.
unsafe impl Sync for Words {}

impl Words {
    /// Zeroed words of its own; `None` when the machine has no memory for them.
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

impl Deref for Words {
    type Target = [AtomicU64];

    #[inline]
    fn deref(&self) -> &[AtomicU64] {
        // SAFETY: the owner is alive, and its slice stays where it is: a box does not move its content, and a region
        // promises the same slice as long as it lives. The words are atomics, so shared access is enough.
        unsafe { self.slice.as_ref() }
    }
}

impl fmt::Debug for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} words", self.len())
    }
}
