//! Cache-line-aligned memory.

/// A cache line. Buffers are arrays of it, so that no vector load crosses two lines.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Line([u8; LINE]);

/// Size of a [`Line`] in bytes.
pub(crate) const LINE: usize = 64;

// SAFETY: an array of bytes without padding; every bit pattern is one.
unsafe impl bytemuck::Zeroable for Line {}
// SAFETY: as above.
unsafe impl bytemuck::Pod for Line {}
