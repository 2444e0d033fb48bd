//! Memory that vector loads never find straddling two cache lines.

/// A cache line: what buffers are made of, so that vector loads never straddle two.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Line([u8; LINE]);

/// Bytes of a [`Line`].
pub(crate) const LINE: usize = 64;

// SAFETY: an array of bytes without padding; every bit pattern is one.
unsafe impl bytemuck::Zeroable for Line {}
// SAFETY: as above.
unsafe impl bytemuck::Pod for Line {}
