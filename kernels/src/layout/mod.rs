//! Copies that rearrange elements: permuted axes, a part of an axis, repeated copies.
//!
//! | file | y |
//! | --- | --- |
//! | [`permute`] | x with its axes permuted |
//! | [`slice`] | a range of one axis; or its inverse, into zeros or into an existing array |
//! | [`repeat`] | repeated copies along an axis, and the sum over them |
//!
//! # Layout
//! Arrays are row-major without gaps, of the element type, and begin at multiples of 16 bytes. Elements keep their bits.
//!
//! # Threads
//! A thread writes up to 16 neighbouring bytes in one access, so that a warp's writes are contiguous. The access is as
//! wide as the contiguous runs allow: runs with an odd length or an odd start are copied element by element.
//!
//! # Bytes and operations
//! Every element is read once and written once; only [`Repeat`]'s sum computes: bound by memory. If a permutation moves
//! the last axis, a warp reads one element from each of up to 32 sectors, and the rest of a sector comes from a cache
//! or is read again.

pub mod permute;
pub mod repeat;
pub mod slice;

pub use permute::Permute;
pub use repeat::Repeat;
pub use slice::Slice;

use crate::{
    Kernel, Target,
    ptx::{Asm, F16, F32, Global, Launch, Reg, U16, U32},
    span::Real,
};

/// Family of these kernels: the start of their names.
const FAMILY: &str = "layout";

/// Number of threads per block.
const BLOCK: u32 = 256;

/// Neighbouring elements in registers, as raw bits.
#[derive(Clone)]
pub(crate) enum Raw<'a> {
    /// One element of 16 bits.
    Half(Reg<'a, U16>),
    /// Elements as 1, 2 or 4 words of 32 bits.
    Words(Vec<Reg<'a, U32>>),
}

impl<'a> Raw<'a> {
    /// Loads `len` elements in one access, for a power of two up to [`Real::VECTOR`].
    pub fn load<T: Real>(at: Global<'a, T>, len: u32) -> Self {
        let words = at.cast::<U32>();
        match len * T::BYTES {
            2 => Self::Half(at.cast::<U16>().load()),
            4 => Self::Words(vec![words.load()]),
            8 => Self::Words(words.load_vector::<2>().into()),
            _ => Self::Words(words.load_vector::<4>().into()),
        }
    }

    /// `len` elements that are zero.
    fn zeros<T: Real>(asm: &'a Asm, len: u32) -> Self {
        match len * T::BYTES {
            2 => Self::Half(asm.value::<U16>(0)),
            bytes => Self::Words(vec![asm.value::<U32>(0); bytes as usize / 4]),
        }
    }

    /// Stores them in one access.
    pub fn store<T: Real>(self, at: Global<'a, T>) {
        let to = at.cast::<U32>();
        match self {
            Self::Half(half) => at.cast::<U16>().store(half),
            Self::Words(words) => match words[..] {
                [a, b] => to.store_vector([a, b]),
                [a, b, c, d] => to.store_vector([a, b, c, d]),
                _ => to.store(words[0]),
            },
        }
    }
}

/// A launch with one thread for each of `count` vectors.
fn launch(name: String, count: u32, target: Target) -> Launch {
    Launch::new(FAMILY, name, target).threads(BLOCK, count.into())
}

/// This thread's index; threads from `count` on exit here.
fn thread(asm: &Asm, count: u32) -> Reg<'_, U32> {
    let thread = asm.global_thread();
    asm.exit_if(thread.ge(count));
    thread
}

/// The kernels of this family: shapes of `base` and of the smallest preset, and odd ones.
pub fn catalogue(target: Target) -> Vec<Kernel> {
    let mut kernels = Vec::new();
    let permutes: [(&[u32], &[usize]); 5] = [
        // From the decoder's channels to frames, and from the skips' frames to channels.
        (&[16, 64, 64, 2, 32], &[0, 3, 1, 2, 4]),
        (&[16, 3, 8, 8, 256], &[0, 2, 3, 1, 4]),
        // From NCHW to NHWC.
        (&[160, 3, 64, 64], &[0, 2, 3, 1]),
        (&[2, 3, 5, 7], &[3, 1, 0, 2]),
        (&[33, 7], &[0, 1]),
    ];
    for (shape, axes) in permutes {
        let permute = Permute { shape: shape.to_vec(), axes: axes.to_vec() };
        kernels.extend([permute.kernel::<F16>(target), permute.kernel::<F32>(target)]);
    }
    let slices = [
        // The second half of a projection; a rank, then states; the last step; three channels as four; an odd one.
        Slice { outer: 160, from: 4096, start: 2048, len: 2048, inner: 1 },
        Slice { outer: 160, from: 96, start: 64, len: 16, inner: 1 },
        Slice { outer: 16, from: 10, start: 9, len: 1, inner: 1024 },
        Slice { outer: 160 * 64 * 64, from: 4, start: 0, len: 3, inner: 1 },
        Slice { outer: 3, from: 7, start: 1, len: 5, inner: 3 },
    ];
    for slice in slices {
        kernels.extend([slice.take::<F16>(target), slice.take::<F32>(target)]);
        kernels.extend([slice.pad::<F16>(target), slice.pad::<F32>(target)]);
        kernels.extend([slice.place::<F16>(target), slice.place::<F32>(target)]);
    }
    for (outer, count, inner) in [(16, 2, 1024), (160, 4096, 64), (3, 5, 7)] {
        let repeat = Repeat { outer, count, inner };
        kernels.extend([repeat.forward::<F16>(target), repeat.forward::<F32>(target)]);
        kernels.extend([repeat.backward::<F16>(target), repeat.backward::<F32>(target)]);
    }
    kernels.into_iter().flatten().collect()
}
