//! Batch normalisation over all axes but the channels (Ioffe & Szegedy 2015), with the residual addition and the ReLU
//! that follow it in a residual block.
//!
//! Images are NHWC, so they are matrices [rows, C] with rows = N·H·W. x̂ = (x − μ)/√(σ² + ε),
//! y = γ·x̂ + β (+ residual) (then max(·, 0)), with μ and σ² of the batch (biased) in training and the running ones in
//! evaluation. With g = dy where y > 0 (or dy): dβ = Σg, dγ = Σg·x̂, dresidual = g,
//! dx = γ/√(σ² + ε)·(g − dβ/M − x̂·dγ/M) in training, γ/√(σ² + ε)·g in evaluation; M rows.
//!
//! Images are f16 or f32; γ, β, all statistics and their gradients are f32, and so is the arithmetic. Sums are made in two
//! kernels, pieces of rows and then the pieces' results, in an order that follows from the shape alone
//! ([`ColOrder`](crate::reduce::ColOrder)): the same bits on every run. With M elements a channel, of 2 bytes in f16:
//!
//! | pass | launches | bytes an element |
//! | --- | --- | --- |
//! | forward, training | [`Statistics::partials`], [`Statistics::finish`], [`Apply::kernel`] | 2 + 4 (+ 2 of the residual) |
//! | forward, evaluation | [`Apply::kernel`] | 4 (+ 2) |
//! | backward | [`Sums::partials`], [`Sums::finish`], [`InputGradient::kernel`] | 4 + 6 (+ 4 of the ReLU, + 2 of the residual) |

mod apply;
mod gradient;
mod statistics;
mod strip;
mod sums;

pub use apply::Apply;
pub use gradient::InputGradient;
pub use statistics::Statistics;
pub use sums::Sums;

use crate::{
    Kernel, Target,
    ptx::{Asm, F16, F32, Global, Reg, U32},
    span::{Real, load_all},
};

/// The family's name.
const FAMILY: &str = "batch_norm";

/// Which statistics normalise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// The batch's own: kernels read the mean and 1/√(σ² + ε) of each channel.
    Train,
    /// Running ones, to which no gradient flows: kernels read the mean and the variance of each channel.
    Eval,
}

impl Mode {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Train, Self::Eval];

    fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Eval => "eval",
        }
    }

    /// 1/√(σ² + ε) of `width` channels from `col` on, from what kernels read as `spread`.
    fn inverse<'k>(self, spread: Channels<'k>, eps: Reg<'k, F32>) -> Vec<Reg<'k, F32>> {
        let spread = spread.load();
        match self {
            Self::Train => spread,
            Self::Eval => spread.into_iter().map(|variance| inverse(variance, eps)).collect(),
        }
    }
}

/// 1/√(σ² + ε).
fn inverse<'k>(variance: Reg<'k, F32>, eps: Reg<'k, F32>) -> Reg<'k, F32> {
    (variance + eps).sqrt().reciprocal()
}

/// Some channels' numbers in memory.
#[derive(Clone, Copy)]
struct Channels<'k> {
    at: Global<'k, F32>,
    width: u32,
}

impl<'k> Channels<'k> {
    fn new(array: Global<'k, F32>, col: Reg<'k, U32>, width: u32) -> Self {
        Self { at: array.at(col), width }
    }

    fn load(self) -> Vec<Reg<'k, F32>> {
        load_all(self.at, self.width)
    }
}

/// `width` elements from each of some places on.
fn loads<'k, T: Real>(from: Global<'k, T>, places: &[Reg<'k, U32>], width: u32) -> Vec<Vec<Reg<'k, F32>>> {
    places.iter().map(|&place| load_all(from.at(place), width)).collect()
}

/// dy where y > 0, 0 elsewhere.
fn masked<'k>(k: &'k Asm, dy: &[Reg<'k, F32>], y: &[Reg<'k, F32>]) -> Vec<Reg<'k, F32>> {
    dy.iter().zip(y).map(|(&dy, y)| k.select(y.gt(0.0), dy, 0.0)).collect()
}

/// What is fused: in names.
fn fused(relu: bool, residual: bool) -> &'static str {
    match (relu, residual) {
        (false, false) => "",
        (true, false) => "_relu",
        (false, true) => "_residual",
        (true, true) => "_residual_relu",
    }
}

/// The kernels of this family at sizes that the model has, and at odd ones.
pub fn catalogue(target: Target) -> Vec<Kernel> {
    let mut kernels = Vec::new();
    // The first and the last maps of `base`'s encoder, few channels, odd ones.
    for (rows, cols) in [(160 * 32 * 32, 64), (160 * 4 * 4, 512), (1000, 12), (99, 7)] {
        let statistics = Statistics { rows, cols };
        kernels.extend([statistics.partials::<F16>(target), statistics.partials::<F32>(target)]);
        kernels.push(statistics.finish(target));
        for relu in [false, true] {
            let sums = Sums { rows, cols, relu };
            kernels.extend([sums.partials::<F16>(target), sums.partials::<F32>(target)]);
            if relu {
                kernels.extend(Mode::ALL.map(|mode| sums.finish(mode, target)));
            }
            for (mode, residual) in [(Mode::Train, false), (Mode::Train, true), (Mode::Eval, true)] {
                let apply = Apply { rows, cols, mode, relu, residual };
                let gradient = InputGradient { rows, cols, mode, relu, residual: relu && residual };
                kernels.extend([apply.kernel::<F16>(target), apply.kernel::<F32>(target)]);
                if relu || !residual || mode == Mode::Eval {
                    kernels.extend([gradient.kernel::<F16>(target), gradient.kernel::<F32>(target)]);
                }
            }
        }
    }
    kernels
}
