//! Mamba's depthwise convolution along time over past values only (Gu & Dao 2023, arXiv 2312.00752, section 3.4), with
//! its bias and SiLU fused in, forward and backward.
//!
//! y_t = silu(p_t) with p_t = bias + Σ_k w_k·x_{t−(K−1)+k}, zero before the beginning, for each sequence and channel.
//! With g_t = dy_t·silu′(p_t), zero after the end: dx_t = Σ_k w_k·g_{t+(K−1)−k}, dw_k = Σ g_t·x_{t−(K−1)+k}, dbias = Σ g_t.
//!
//! # Layout
//! x, y [B, L, D] of the element type and their gradients too; weight [K, D] and bias [D] in f32, and their gradients. x
//! may be columns of a wider matrix ([`x_row`](CausalConv1d::x_row)), as it is in the mixer, where x and z are one
//! projection. Everything is computed in f32 and rounded once. No output may overlap an input.
//!
//! # Threads
//! A thread has two neighbouring channels (4 bytes per row in f16, 128 bytes per warp) and a piece of the sequence of
//! up to 16 steps, whose rows it loads once and keeps in registers. With wider accesses a batch of the model, a million
//! bytes, would have too few threads. The K − 1 rows around a piece are also loaded by the neighbouring thread, from a
//! cache.
//!
//! # Bytes and operations
//! Forward moves two elements per element, for 2·K + 8 operations; backward three, for about 6·K + 24: bound by memory.
//!
//! # Order of summation
//! dw and dbias are sums over sequences and steps. A thread sums the steps of its piece, from first to last, into a
//! workspace. A second kernel adds the pieces in order, first sequence first. No atomics: every run gives the same
//! bits.

mod backward;
mod forward;
mod thread;

use crate::{
    Error, Kernel, Plan, Result, Target,
    pointwise::unary::SILU,
    ptx::{Asm, F16, F32, Launch, Reg},
    span::{Real, access_width},
};

/// Family of these kernels: the start of their names.
const FAMILY: &str = "causal_conv1d";

/// Number of threads per block.
const BLOCK: u32 = 128;

/// Most taps of the filter, which is kept in registers.
const MOST_TAPS: u32 = 8;

/// Most steps per piece.
const MOST_STEPS: u32 = 16;

/// Specification of a causal depthwise convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CausalConv1d {
    /// Number of sequences B.
    pub batch: u32,
    /// Steps per sequence, L.
    pub length: u32,
    /// Number of channels D of the mixer.
    pub channels: u32,
    /// Number of taps K, up to 8.
    pub taps: u32,
    /// Whether SiLU is applied to the sum.
    pub silu: bool,
    /// Elements from one row of x (and of dx) to the next: D, or the width of the matrix that contains these columns.
    /// If both are even, x must begin at an even element.
    pub x_row: u32,
}

/// A sequence cut into pieces; one thread processes a vector of channels of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pieces {
    /// Number of pieces per sequence.
    count: u32,
    /// Steps of each piece except the last one.
    steps: u32,
    /// Steps of the last piece.
    last: u32,
}

impl CausalConv1d {
    /// The convolution of Mamba's mixer: four taps, with SiLU.
    pub fn mixer(batch: u32, length: u32, channels: u32) -> Self {
        Self { batch, length, channels, taps: 4, silu: true, x_row: channels }
    }

    /// The kernel of the forward pass. Parameters: x, weight, bias, y.
    ///
    /// # Errors
    /// Empty arrays, rows that are too short, and arrays that are too large to index.
    pub fn forward<T: Real>(&self, target: Target) -> Result<Kernel> {
        self.check()?;
        Ok(forward::kernel::<T>(self, target))
    }

    /// The kernels of the backward pass. Parameters: x, weight, bias, dy; dx, dweight, dbias; workspace.
    ///
    /// # Errors
    /// As [`CausalConv1d::forward`].
    pub fn backward<T: Real>(&self, target: Target) -> Result<Plan> {
        self.check()?;
        let kernels = [backward::kernel::<T>(self, target), backward::finish::<T>(self, target)];
        Ok(Plan { kernels: kernels.into(), workspace_bytes: self.workspace() * 4 })
    }

    fn check(&self) -> Result<()> {
        let Self { batch, length, channels, taps, x_row, .. } = *self;
        let sizes = format!("{batch} sequences of {length} steps, {channels} channels and {taps} taps");
        let error = |message: String| Err(Error::new(FAMILY, format!("{sizes}: {message}")));
        if [batch, length, channels, taps].contains(&0) {
            return error("there must be at least one of each".into());
        }
        if taps > MOST_TAPS {
            return error(format!("at most {MOST_TAPS} taps"));
        }
        if x_row < channels {
            return error(format!("rows of {x_row} elements are too short"));
        }
        // Offsets in a kernel are 32 bits, and constant offsets are signed.
        let elements = (u64::from(batch) * u64::from(length)).saturating_mul(x_row.into());
        if elements >= 1 << 31 || self.workspace() >= 1 << 29 {
            return error("too large for 32-bit offsets; cut the batch".into());
        }
        Ok(())
    }

    fn pieces(&self) -> Pieces {
        let steps = self.length.div_ceil(self.length.div_ceil(MOST_STEPS));
        let count = self.length.div_ceil(steps);
        Pieces { count, steps, last: self.length - (count - 1) * steps }
    }

    /// Elements of the workspace, [B, pieces, K + 1, D]: a piece's part of dw, then its part of dbias.
    fn workspace(&self) -> u64 {
        let Self { batch, channels, taps, .. } = *self;
        let pieces = u64::from(batch) * u64::from(self.pieces().count);
        pieces.saturating_mul(u64::from(taps + 1) * u64::from(channels))
    }

    /// Number of channels per thread.
    fn width(&self) -> u32 {
        access_width(self.channels | self.x_row, 2)
    }

    /// Number of elements of [B, L, D].
    fn elements(&self) -> u64 {
        u64::from(self.batch) * u64::from(self.length) * u64::from(self.channels)
    }

    /// Size of weight and bias, or of their gradients, in bytes.
    fn weight_bytes(&self) -> u64 {
        u64::from(self.taps + 1) * u64::from(self.channels) * 4
    }

    /// A launch with one thread for each piece of each vector of channels.
    fn launch<T: Real>(&self, pass: &str, target: Target) -> Launch {
        let vectors = u64::from(self.channels / self.width());
        let count = vectors * u64::from(self.batch) * u64::from(self.pieces().count);
        Launch::new(FAMILY, self.name::<T>(pass), target).threads(BLOCK, count)
    }

    /// The kernels' name, with sizes and options.
    fn name<T: Real>(&self, pass: &str) -> String {
        let Self { batch, length, channels, taps, silu, x_row } = *self;
        let silu = if silu { "_silu" } else { "" };
        let mut name =
            format!("causal_conv1d_{pass}_{}_{batch}x{length}x{channels}_k{taps}{silu}", T::SPELLED);
        if x_row != channels {
            name += &format!("_xrow{x_row}");
        }
        name
    }

    /// The function applied to the sum: SiLU or identity.
    fn activate<'a>(&self, asm: &'a Asm, p: Reg<'a, F32>) -> Reg<'a, F32> {
        if self.silu { (SILU.value)(asm, p) } else { p }
    }

    /// dy times the derivative of that function.
    fn activate_back<'a>(&self, asm: &'a Asm, p: Reg<'a, F32>, dy: Reg<'a, F32>) -> Reg<'a, F32> {
        if self.silu { dy * (SILU.derivative)(asm, p) } else { dy }
    }
}

/// The kernels of this family: the mixers of `base` and of the smallest preset, a long sequence, and odd sizes.
pub fn catalogue(target: Target) -> Vec<Kernel> {
    let base = CausalConv1d::mixer(16, 10, 2048);
    let specs = [
        base,
        // In the mixer x and z are halves of one projection.
        CausalConv1d { x_row: 2 * 2048, ..base },
        CausalConv1d { batch: 64, x_row: 2 * 2048, ..base },
        CausalConv1d { silu: false, ..base },
        CausalConv1d::mixer(16, 7, 128),
        CausalConv1d::mixer(16, 20, 2048),
        CausalConv1d::mixer(4, 1000, 512),
        CausalConv1d { taps: 8, ..CausalConv1d::mixer(3, 37, 33) },
        CausalConv1d { taps: 1, ..CausalConv1d::mixer(1, 1, 1) },
    ];
    let both = |spec: &CausalConv1d| {
        let kernels = [
            (spec.forward::<F16>(target), spec.backward::<F16>(target)),
            (spec.forward::<F32>(target), spec.backward::<F32>(target)),
        ];
        kernels.into_iter().flat_map(|(forward, backward)| {
            forward.into_iter().chain(backward.into_iter().flat_map(|plan| plan.kernels))
        })
    };
    specs.iter().flat_map(both).collect()
}
