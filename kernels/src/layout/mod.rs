//! Elements that move and do not change: axes in another order, a part of an axis, copies side by side.
//!
//! | file | y |
//! | --- | --- |
//! | [`permute`] | x with its axes in another order |
//! | [`slice`] | a range of one axis; back into its place, with zeros around it or into an array that is there |
//! | [`repeat`] | copies side by side, and the sum over them |
//!
//! # Layout
//! Arrays are row-major without gaps, of the element type, and begin at multiples of 16 bytes. Elements keep their bits.
//!
//! # Threads
//! A thread writes up to 16 neighbouring bytes in one access, so that a warp's writes are side by side. The access is as
//! wide as the runs that stay together allow: where those have an odd number of elements, or begin at an odd one, elements
//! go one by one.
//!
//! # Bytes and operations
//! What is read and what is written, each once; no operations but the sum's of [`Repeat`]: bound by memory. Where a
//! permutation moves the last axis, a warp reads one element from each of up to 32 sectors, and the rest of a sector comes
//! from a cache or once more.

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

/// Threads of a block.
const BLOCK: u32 = 256;

/// Neighbouring elements on their way from one array to another, by their bits.
#[derive(Clone)]
pub(crate) enum Raw<'a> {
    /// A single one of 16 bits.
    Half(Reg<'a, U16>),
    /// Any other: 1, 2 or 4 words.
    Words(Vec<Reg<'a, U32>>),
}

impl<'a> Raw<'a> {
    /// `len` elements in one access, for a power of two up to [`Real::VECTOR`].
    pub fn load<T: Real>(at: Global<'a, T>, len: u32) -> Self {
        let words = at.cast::<U32>();
        match len * T::BYTES {
            2 => Self::Half(at.cast::<U16>().load()),
            4 => Self::Words(vec![words.load()]),
            8 => Self::Words(words.load_vector::<2>().into()),
            _ => Self::Words(words.load_vector::<4>().into()),
        }
    }

    /// `len` zeros.
    fn zeros<T: Real>(asm: &'a Asm, len: u32) -> Self {
        match len * T::BYTES {
            2 => Self::Half(asm.value::<U16>(0)),
            bytes => Self::Words(vec![asm.value::<U32>(0); bytes as usize / 4]),
        }
    }

    /// Writes them in one access.
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

/// A launch with a thread for each of `count` vectors.
fn launch(name: String, count: u32, target: Target) -> Launch {
    Launch::new(FAMILY, name, target).threads(BLOCK, count.into())
}

/// This thread's number; those from `count` on end here.
fn thread(asm: &Asm, count: u32) -> Reg<'_, U32> {
    let thread = asm.global_thread();
    asm.exit_if(thread.ge(count));
    thread
}

/// The kernels of this family: what `base` and the smallest preset move, and odd ones.
pub fn catalogue(target: Target) -> Vec<Kernel> {
    let mut kernels = Vec::new();
    let permutes: [(&[u32], &[usize]); 5] = [
        // The decoder's frames from its channels, and the skips' frames into them.
        (&[16, 64, 64, 2, 32], &[0, 3, 1, 2, 4]),
        (&[16, 3, 8, 8, 256], &[0, 2, 3, 1, 4]),
        // Channels last from channels first.
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
