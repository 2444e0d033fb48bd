//! Batch normalisation over all axes but the channels (Ioffe & Szegedy 2015), with the residual addition and the ReLU
//! that follow it in a residual block.
//!
//! Images are NHWC, so they are matrices [rows, C] with rows = N·H·W. x̂ = (x − μ)/√(σ² + ε),
//! y = γ·x̂ + β (+ residual) (then max(·, 0)), with μ and σ² of the batch (biased) in training and the running ones in
//! evaluation. With g = dy where y > 0 (or dy): dβ = Σg, dγ = Σg·x̂, dresidual = g,
//! dx = γ/√(σ² + ε)·(g − dβ/M − x̂·dγ/M) in training, γ/√(σ² + ε)·g in evaluation; M rows.
//!
//! # Layout
//! Images are f16 or f32; γ, β, all statistics and their gradients are f32 [C], and so is the arithmetic. A thread
//! processes as many channels as one access holds; every access of a warp is one or several contiguous parts of rows.
//!
//! # Bytes and operations
//! Each pass takes about 5 operations per element and is bound by memory traffic. In f16:
//!
//! | pass | launches | bytes per element |
//! | --- | --- | --- |
//! | forward, training | [`Statistics::partials`], [`Statistics::finish`], [`Apply::kernel`] | 2 + 4 (+ 2 of the residual) |
//! | forward, evaluation | [`Apply::kernel`] | 4 (+ 2) |
//! | backward, training | [`Sums::partials`], [`Sums::finish`], [`InputGradient::kernel`] | 4 + 6 (+ 4 of the ReLU, + 2 of the residual) |
//! | backward, evaluation | the same | 4 + 4 (+ 4, + 2) |
//!
//! # Order of summation
//! Sums take two kernels: one over pieces of rows, one over the pieces' results. Their order depends on the shape alone
//! ([`ColOrder`](crate::reduce::ColOrder)), and there are no atomics: every run gives the same bits.

mod apply;
mod few;
mod gradient;
mod statistics;
mod strip;
mod sums;

pub use apply::Apply;
pub use gradient::InputGradient;
pub use statistics::Statistics;
pub use sums::Sums;

use crate::{
    Error, Kernel, Result, Target,
    ptx::{Asm, F16, F32, Global, Reg},
};

/// Family of these kernels: the start of their names.
const FAMILY: &str = "batch_norm";

/// The most channels: blocks of columns are along a grid axis that is limited to 65,535.
const MOST_CHANNELS: u32 = 1 << 20;

/// The statistics that normalise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// The batch's statistics: kernels read the mean and 1/√(σ² + ε) of each channel.
    Train,
    /// Running statistics, without a gradient: kernels read the mean and the variance of each channel.
    Eval,
}

impl Mode {
    /// Both modes, for tables and tests.
    pub const ALL: [Self; 2] = [Self::Train, Self::Eval];

    fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Eval => "eval",
        }
    }

    /// Declares the parameter with the spread of each channel: 1/√(σ² + ε) or σ².
    fn spread<'a>(self, asm: &'a Asm) -> Global<'a, F32> {
        asm.pointer(match self {
            Self::Train => "inverse",
            Self::Eval => "variance",
        })
    }

    /// 1/√(σ² + ε) from the value of that parameter.
    fn inverse<'a>(self, spread: Reg<'a, F32>, eps: Reg<'a, F32>) -> Reg<'a, F32> {
        match self {
            Self::Train => spread,
            Self::Eval => inverse(spread, eps),
        }
    }
}

/// 1/√(σ² + ε).
fn inverse<'a>(variance: Reg<'a, F32>, eps: Reg<'a, F32>) -> Reg<'a, F32> {
    (variance + eps).sqrt().reciprocal()
}

/// An error unless kernels can be written for a matrix of this size.
fn check(rows: u32, cols: u32) -> Result<()> {
    let error = |message: &str| Err(Error::new(FAMILY, format!("{rows} rows of {cols} channels: {message}")));
    if rows == 0 || cols == 0 {
        return error("there must be at least one of each");
    }
    if cols > MOST_CHANNELS {
        return error(&format!("at most {MOST_CHANNELS} channels"));
    }
    if u64::from(rows) * u64::from(cols) >= 1 << 31 {
        return error("too large for 32-bit offsets; cut the batch");
    }
    Ok(())
}

/// dy where y > 0, 0 elsewhere.
fn masked<'a>(asm: &'a Asm, dy: &[Reg<'a, F32>], y: &[Reg<'a, F32>]) -> Vec<Reg<'a, F32>> {
    dy.iter().zip(y).map(|(&dy, y)| asm.select(y.gt(0.0), dy, 0.0)).collect()
}

/// The fused operations, for kernel names.
fn fused(relu: bool, residual: bool) -> &'static str {
    match (relu, residual) {
        (false, false) => "",
        (true, false) => "_relu",
        (false, true) => "_residual",
        (true, true) => "_residual_relu",
    }
}

/// The kernels of this family at sizes of the model, and at odd sizes.
pub fn catalogue(target: Target) -> Vec<Kernel> {
    // The first and the last maps of `base`'s encoder, few channels, odd ones, few rows.
    let sizes = [(160 * 32 * 32, 64), (160 * 4 * 4, 512), (1000, 12), (99, 7), (3, 5)];
    sizes.into_iter().flat_map(|(rows, cols)| of_size(rows, cols, target)).flatten().collect()
}

/// All kernels for a matrix: in both element types, with everything fused and with nothing fused.
fn of_size(rows: u32, cols: u32, target: Target) -> Vec<Result<Kernel>> {
    let statistics = Statistics { rows, cols };
    let mut kernels = vec![
        statistics.partials::<F16>(target),
        statistics.partials::<F32>(target),
        statistics.finish(target),
    ];
    kernels.extend(Mode::ALL.map(|mode| Sums { rows, cols, relu: false }.finish(mode, target)));
    for relu in [false, true] {
        let sums = Sums { rows, cols, relu };
        kernels.extend([sums.partials::<F16>(target), sums.partials::<F32>(target)]);
        for (mode, residual) in [(Mode::Train, false), (Mode::Train, true), (Mode::Eval, true)] {
            let apply = Apply { rows, cols, mode, relu, residual };
            kernels.extend([apply.kernel::<F16>(target), apply.kernel::<F32>(target)]);
        }
        // Without a ReLU the residual's gradient is dy.
        let gradients: &[_] = match relu {
            false => &[(Mode::Train, false), (Mode::Eval, false)],
            true => &[(Mode::Train, false), (Mode::Train, true), (Mode::Eval, true)],
        };
        for &(mode, residual) in gradients {
            let gradient = InputGradient { rows, cols, mode, relu, residual };
            kernels.extend([gradient.kernel::<F16>(target), gradient.kernel::<F32>(target)]);
        }
    }
    kernels
}
