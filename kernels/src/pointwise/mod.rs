//! Element-wise kernels, bound by memory. A thread loads one span of up to 16 bytes of each array, computes in f32 and
//! stores it, so that a warp moves whole sectors; the remaining elements at the end are processed one by one.
//!
//! Input and output may be the same array if their types are equal: the thread that writes an element has read it
//! before.
//!
//! | file | kernels |
//! | --- | --- |
//! | [`unary`] | y = f(x) and dx = dy·f′, for every function of [`ACTIVATIONS`]; scale |
//! | [`binary`] | a + b, a − b, a·b, a/b; y += x |
//! | [`broadcast_binary`] | the same for arrays that repeat along axes which they lack |
//! | [`broadcast`] | x + b of a row; a value, a column or a row repeated over a matrix |
//! | [`cast`] | f16 ↔ f32; fill |
//! | [`frames`] | bytes → numbers in [0, 1], grey repeated to three channels |

pub mod binary;
pub mod broadcast;
pub mod broadcast_binary;
pub mod cast;
pub mod frames;
pub mod unary;

pub use binary::{Arithmetic, accumulate};
pub use broadcast::{Along, bias, spread};
pub use broadcast_binary::{Axis, Broadcast};
pub use cast::{cast, fill};
pub use frames::Frames;
pub use unary::{ACTIVATIONS, Activation, scale};

use crate::{
    Kernel, Target, Work,
    ptx::{Asm, F16, F32, Launch},
};

/// Family of these kernels: the start of their names.
const FAMILY: &str = "pointwise";

/// Number of threads per block.
const BLOCK: u32 = 256;

/// Common part of this family's kernels: a name, n elements, `width` of them per thread.
struct Elementwise<'a> {
    name: String,
    /// The formula as one line of text.
    summary: &'a str,
    n: u32,
    width: u32,
    target: Target,
    /// Memory traffic in bytes, and operations, per element.
    bytes: u32,
    operations: u32,
    /// Further memory traffic in bytes: of a row that all elements share.
    other_bytes: u64,
}

impl Elementwise<'_> {
    /// Builds the kernel of `body`, which declares the parameters and calls [`Asm::each_span`].
    fn kernel(self, body: impl FnOnce(&Asm)) -> Kernel {
        let (n, threads) = (u64::from(self.n), self.n.div_ceil(self.width));
        let work = Work {
            bytes: n * u64::from(self.bytes) + self.other_bytes,
            operations: n * u64::from(self.operations),
        };
        let launch = Launch::new(FAMILY, self.name, self.target).threads(BLOCK, threads.into());
        Asm::kernel(launch, work, self.summary, body)
    }
}

/// The kernels of this family at sizes of the model, and at one odd size each.
pub fn catalogue(target: Target) -> Vec<Kernel> {
    // The first feature maps of `base` (160 frames of 64×64 with 64 channels), its latents, a size with a tail.
    const SIZES: [u32; 3] = [160 * 64 * 64 * 64, 160 * 1024, 1003];
    let mut kernels = Vec::new();
    for n in SIZES {
        for f in &ACTIVATIONS {
            kernels.extend([f.forward::<F16>(n, target), f.forward::<F32>(n, target)]);
            kernels.extend([f.backward::<F16>(n, target), f.backward::<F32>(n, target)]);
        }
        kernels.extend([scale::<F16>(n, target), scale::<F32>(n, target)]);
        for f in Arithmetic::ALL {
            kernels.extend([f.kernel::<F16>(n, target), f.kernel::<F32>(n, target)]);
        }
        kernels.extend([accumulate::<F16>(n, target), accumulate::<F32>(n, target)]);
        kernels.extend([cast::<F32, F16>(n, target), cast::<F16, F32>(n, target)]);
        kernels.extend([fill::<F16>(n, target), fill::<F32>(n, target)]);
    }
    for (rows, cols) in [(160, 16_384), (1600, 1024), (7, 33)] {
        kernels.extend([bias::<F16>(rows, cols, target), bias::<F32>(rows, cols, target)]);
        for along in Along::ALL {
            kernels.push(spread::<F16>(along, rows, cols, target));
            kernels.push(spread::<F32>(along, rows, cols, target));
        }
    }
    // A row and a column with a matrix, a number per channel with NCHW images, and an outer product.
    let axis = |size, a, b| Axis { size, a, b };
    let both = |size| axis(size, true, true);
    let shapes = [
        vec![axis(1600, true, false), both(1024)],
        vec![both(160), axis(16_384, false, true)],
        vec![axis(16, true, false), both(64), axis(32 * 32, true, false)],
        vec![axis(7, false, true), axis(33, true, false)],
    ];
    for (operation, axes) in Arithmetic::ALL.into_iter().zip(shapes) {
        let spec = Broadcast { operation, axes };
        kernels.extend([spec.kernel::<F16>(target), spec.kernel::<F32>(target)].into_iter().flatten());
    }
    // Batches of 16 sequences of 12 frames: the 10 input frames, and the 2 frames to predict.
    let grey =
        Frames { sequences: 16, steps: 12, first: 0, count: 10, frame_bytes: 64 * 64, grey_to_rgb: true };
    let expected = Frames { first: 10, count: 2, ..grey };
    let colour = Frames { frame_bytes: 64 * 64 * 3, grey_to_rgb: false, ..grey };
    let odd = Frames { sequences: 2, steps: 3, first: 1, count: 2, frame_bytes: 7 * 7, grey_to_rgb: true };
    for frames in [grey, expected, colour, odd] {
        kernels.extend([frames.normalise::<F16>(target), frames.normalise::<F32>(target)]);
    }
    kernels
}
