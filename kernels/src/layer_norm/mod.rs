//! Layer normalisation over the last axis (Ba, Kiros & Hinton 2016), forward and backward.
//!
//! For each row of a matrix [rows, N]: x̂ = (x − μ)/√(σ² + ε), y = γ·x̂ + β, with its own μ and (biased) σ². Backward, with
//! g = dy·γ: dx = (g − mean(g) − x̂·mean(g·x̂))/√(σ² + ε); over the rows dβ = Σdy, dγ = Σdy·x̂.
//!
//! # Layout
//! x, y and their gradients are f16 or f32; γ, β and their gradients are f32 [N], and so is the arithmetic.
//!
//! # Threads
//! A warp processes a row, or several short ones; above 1024 columns a block processes one row. A thread takes vectors
//! of up to 4 elements next to its neighbours' vectors, and keeps up to 32 elements in registers from one pass over the
//! row to the next. Rows of more than 16,384 columns are read again in each pass.
//!
//! The mean is computed first, then sums of the distances d from it: Σd gives the rounding error of the mean, and Σd²
//! the variance. Nothing cancels, however far the row is from 0. Only x is saved from the forward pass; the backward
//! pass recomputes the statistics.
//!
//! # Bytes and operations
//! Forward moves two elements per element, for about 10 operations. Backward moves three for dx, and reads two again
//! for dγ and dβ, most of them from the L2 cache: in f16 6 + 4 bytes, for about 25 operations. Both are bound by
//! memory.
//!
//! # Order of summation
//! A thread adds the pairwise sums of its vectors in ascending order. The threads of a row are folded as in
//! [`Asm::lanes_fold`](crate::ptx::Asm::lanes_fold) and [`Asm::block_fold`](crate::ptx::Asm::block_fold). Sums over the
//! rows are in the order of [`ColOrder`](crate::reduce::ColOrder). Both orders depend on the shape alone, and there are
//! no atomics: every run gives the same bits.

mod backward;
mod few;
mod forward;
mod sums;

use crate::{
    Error, Kernel, Plan, Result, Target,
    ptx::{Asm, F16, F32, Global, Reg},
    span::Real,
};

/// Family of these kernels: the start of their names.
const FAMILY: &str = "layer_norm";

/// Most columns of a row that is kept in registers.
const MOST_COLUMNS: u32 = 65_536;

/// Specification of a layer normalisation of a matrix [rows, cols].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LayerNorm {
    /// Rows of the matrix: the product of all axes but the last.
    pub rows: u32,
    /// Number of columns N, over which each row is normalised. Up to 65,536.
    pub cols: u32,
}

impl LayerNorm {
    /// The kernel of the forward pass. Parameters: x, gamma, beta, y, eps (f32, at the launch). y may be x.
    ///
    /// # Errors
    /// No rows, no columns, more than 65,536 columns, 2³¹ elements or more, too many rows.
    pub fn forward<T: Real>(self, target: Target) -> Result<Kernel> {
        self.check()?;
        Ok(forward::kernel::<T>(self, target))
    }

    /// The kernels of the backward pass. Parameters: x, gamma, dy; dx, dgamma, dbeta; workspace; eps (f32, at the launch).
    /// No output may overlap an input.
    ///
    /// # Errors
    /// As [`LayerNorm::forward`].
    pub fn backward<T: Real>(self, target: Target) -> Result<Plan> {
        self.check()?;
        let mut kernels = vec![backward::kernel::<T>(self, target)];
        kernels.extend(sums::kernels::<T>(self, target));
        Ok(Plan { kernels, workspace_bytes: self.workspace() * 4 })
    }

    fn check(self) -> Result<()> {
        let Self { rows, cols } = self;
        let error =
            |message: &str| Err(Error::new(FAMILY, format!("{rows} rows of {cols} columns: {message}")));
        if rows == 0 || cols == 0 {
            return error("there must be at least one of each");
        }
        if cols > MOST_COLUMNS {
            return error(&format!("at most {MOST_COLUMNS} columns"));
        }
        // Offsets in a kernel are 32 bits, and constant offsets are signed.
        if self.elements() >= 1 << 31 || self.workspace() >= 1 << 29 {
            return error("too large for 32-bit offsets; cut the batch");
        }
        Ok(())
    }

    fn elements(self) -> u64 {
        u64::from(self.rows) * u64::from(self.cols)
    }

    /// Elements of the workspace: [rows, 2] with the mean and 1/√(σ² + ε) of each row, then the part of [`sums`].
    fn workspace(self) -> u64 {
        self.statistics() + sums::workspace(self)
    }

    /// Elements of the statistics, rounded up to whole vectors.
    fn statistics(self) -> u64 {
        (2 * u64::from(self.rows)).next_multiple_of(4)
    }

    /// The name of a kernel, with sizes and options.
    fn name<T: Real>(self, pass: &str) -> String {
        format!("layer_norm_{pass}_{}_{}x{}", T::SPELLED, self.rows, self.cols)
    }
}

/// The parameters of the backward pass, in order.
#[derive(Clone, Copy)]
struct Parameters<'a, T: Real> {
    x: Global<'a, T>,
    gamma: Global<'a, F32>,
    dy: Global<'a, T>,
    dx: Global<'a, T>,
    dgamma: Global<'a, F32>,
    dbeta: Global<'a, F32>,
    workspace: Global<'a, F32>,
    eps: Reg<'a, F32>,
}

impl<'a, T: Real> Parameters<'a, T> {
    fn declare(asm: &'a Asm) -> Self {
        Self {
            x: asm.pointer("x"),
            gamma: asm.pointer("gamma"),
            dy: asm.pointer("dy"),
            dx: asm.pointer("dx"),
            dgamma: asm.pointer("dgamma"),
            dbeta: asm.pointer("dbeta"),
            workspace: asm.pointer("workspace"),
            eps: asm.parameter_f32("eps"),
        }
    }
}

/// The kernels of this family: the Mamba layers' rows, short rows, odd ones, one per block, longer than registers hold.
pub fn catalogue(target: Target) -> Vec<Kernel> {
    let sizes =
        [(1600, 1024), (160, 1024), (1000, 64), (33, 7), (1, 1), (300, 1023), (64, 4096), (3, 20_001)];
    let both = |(rows, cols)| {
        let spec = LayerNorm { rows, cols };
        let forward = [spec.forward::<F16>(target), spec.forward::<F32>(target)];
        let backward = [spec.backward::<F16>(target), spec.backward::<F32>(target)];
        forward.into_iter().flatten().chain(backward.into_iter().flatten().flat_map(|plan| plan.kernels))
    };
    sizes.into_iter().flat_map(both).collect()
}
