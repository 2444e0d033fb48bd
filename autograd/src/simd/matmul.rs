//! Matrix products: through the `gemm` crate, or of bf16 operands by the register tile.

use super::tiled;
use crate::{Element, products::low};

/// Products with fewer multiply-adds run on one core.
const PARALLEL_FROM: usize = 1 << 17;
/// Products with a shorter side or depth stay f32 under [`crate::Products::Bf16`]: the conversion would take as long as it
/// saves.
const LOW_FROM: usize = 64;

/// A strided matrix over a slice.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a, T> {
    data: &'a [T],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a, T> Matrix<'a, T> {
    /// A contiguous, row-major matrix over `data`.
    pub fn new(data: &'a [T], rows: usize, cols: usize) -> Self {
        assert!(data.len() >= rows * cols);
        Self { data, rows, cols, row_stride: cols, col_stride: 1 }
    }

    /// The transpose, as a view of the same slice.
    pub fn t(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Whether a row's elements are neighbours; otherwise a column's are.
    pub fn along_rows(&self) -> bool {
        self.col_stride == 1
    }

    /// A row of a matrix that lies along its rows.
    pub fn row(&self, row: usize) -> &'a [T] {
        debug_assert!(self.along_rows());
        &self.data[row * self.row_stride..][..self.cols]
    }
}

/// Whether a product of [m, depth] by [depth, n] has bf16 operands now.
pub(crate) fn takes_low<T: Element>([m, depth, n]: [usize; 3]) -> bool {
    low::<T>() && m.min(depth).min(n) >= LOW_FROM
}

/// c = a·b, or c += a·b with `add`; c is row-major [a.rows, b.cols].
pub(crate) fn multiply<T: Element>(a: Matrix<T>, b: Matrix<T>, c: &mut [T], add: bool) {
    assert!(a.cols == b.rows && c.len() == a.rows * b.cols);
    if takes_low::<T>([a.rows, a.cols, b.cols]) {
        return tiled::multiply::<T::Low>(a, b, None, c, add);
    }
    if c.is_empty() {
        return;
    }
    if a.cols == 0 {
        if !add {
            c.fill(T::ZERO);
        }
        return;
    }
    let work = a.rows * a.cols * b.cols;
    let threads = if work < PARALLEL_FROM { 1 } else { rayon::current_num_threads() };
    let parallelism = if threads == 1 { gemm::Parallelism::None } else { gemm::Parallelism::Rayon(threads) };
    let alpha = if add { T::ONE } else { T::ZERO };
    // SAFETY: the three matrices lie inside their slices: `new` checked the operands, the assertion above `c`.
    unsafe {
        gemm::gemm(
            a.rows,
            b.cols,
            a.cols,
            c.as_mut_ptr(),
            1,
            b.cols as isize,
            add,
            a.data.as_ptr(),
            a.col_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.col_stride as isize,
            b.row_stride as isize,
            alpha,
            T::ONE,
            false,
            false,
            false,
            parallelism,
        );
    }
}
