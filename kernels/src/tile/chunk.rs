//! The copy of one 16-byte chunk from global to shared memory.

use super::shared::CHUNK;
use crate::ptx::{Asm, F16, F16x2, Global, Pred, Reg, Shared, U16, U32};

/// Elements per asynchronous copy for rows whose starts and runs are multiples of `run` elements: 8, 4 or 2; 1 if none
/// is possible.
/// where none can.
pub(super) fn granule(run: u32) -> u32 {
    1 << run.trailing_zeros().min(3)
}

/// Starts the copy of a granule's elements; those past `bytes` become zeros.
pub(super) fn copy_granule<'a>(
    asm: &'a Asm,
    granule: u32,
    to: Shared<'a, F16>,
    from: Global<'a, F16>,
    bytes: Reg<'a, U32>,
) {
    match granule {
        CHUNK => asm.copy_async_16_zero_fill(to, from, bytes),
        _ => asm.copy_async_small(to, from, granule * 2, bytes),
    }
}

/// Copies a chunk that asynchronous copies cannot: element by element into registers, then at once into shared memory.
/// `element` returns the address of the j-th element and whether it is inside; those outside become zeros.
pub(super) fn copy_elements<'a>(
    asm: &'a Asm,
    to: Shared<'a, F16>,
    element: impl Fn(u32) -> (Global<'a, F16>, Reg<'a, Pred>),
) {
    let halves = std::array::from_fn::<_, { CHUNK as usize }, _>(|j| {
        let (from, inside) = element(j as u32);
        let half = asm.var::<U16>(0u16);
        asm.when(inside, || half.set(from.cast::<U16>().load()));
        half.get().bits_as::<F16>()
    });
    let pair = |i: usize| asm.pair([halves[2 * i], halves[2 * i + 1]]);
    to.cast::<F16x2>().store_vector([pair(0), pair(1), pair(2), pair(3)]);
}
