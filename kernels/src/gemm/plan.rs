//! Kernels for a size: the choice of tile, and of the number of parts of k.

use super::{Epilogue, kernel::matrix_kernel, split::reduce_kernel};
use crate::{
    Error, Plan, Result, Target,
    tile::{Major, Matrix, Product},
};

/// A product: C [m, n] = f(A·B). A is stored as [m, k] ([`Major::K`]) or [k, m] ([`Major::Outer`]), B as [n, k]
/// ([`Major::K`], a linear layer's weight) or [k, n] ([`Major::Outer`]); all row-major without gaps, starting at
/// multiples of 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Gemm {
    /// Number of rows of C.
    pub m: u32,
    /// Number of columns of C.
    pub n: u32,
    /// Length of the sum.
    pub k: u32,
    /// Axis of A that is contiguous in memory.
    pub a: Major,
    /// Axis of B that is contiguous in memory.
    pub b: Major,
    /// Operations on the sums before they are stored.
    pub epilogue: Epilogue,
}

impl Gemm {
    /// One kernel, or the split product and the sum of its parts. Parameters of each: A, B, the bias and the residual
    /// if the epilogue has them, C, and the workspace unless it is empty.
    ///
    /// # Errors
    /// A size of 0, or a matrix of 2³¹ elements or more.
    pub fn plan(&self, target: Target) -> Result<Plan> {
        let Self { m, n, k, .. } = *self;
        let largest = [(m, n), (m, k), (n, k)].map(|(x, y)| u64::from(x) * u64::from(y)).into_iter().max();
        if m == 0 || n == 0 || k == 0 || largest >= Some(1 << 31) {
            let message =
                format!("m {m}, n {n}, k {k}: sizes start at 1 and matrices end below 2³¹ elements");
            return Err(Error::new("gemm", message));
        }
        // Rows that start at odd elements are copied element by element.
        let odd = [self.a_matrix(), self.b_matrix()].iter().any(|matrix| matrix.stride() % 2 == 1);
        let (sizes, majors) = ([m, n, k], [self.a, self.b]);
        let product =
            if odd { Product::choose_frugal(sizes, majors) } else { Product::choose(sizes, majors) };
        let mut kernels = vec![matrix_kernel(self, &product, target)];
        if product.splits > 1 {
            kernels.push(reduce_kernel(&product, self.epilogue, target));
        }
        Ok(Plan { kernels, workspace_bytes: product.workspace() })
    }

    pub(super) fn a_matrix(&self) -> Matrix {
        Matrix { outer: self.m, k: self.k, major: self.a }
    }

    pub(super) fn b_matrix(&self) -> Matrix {
        Matrix { outer: self.n, k: self.k, major: self.b }
    }
}
