//! Matrix products of words by the register tile: for the operands that the `gemm` crate does not have.

use rayon::prelude::*;

use super::{
    matmul::Matrix,
    tile::{Level, Operand, Panel, panel_width},
    wide,
};
use crate::{Element, buffer::Buffer};

/// Columns of a panel of `a` that is packed like `b`: a multiple of the tile's height.
const A_WIDTH: usize = 48;
/// Elements along the depth that are converted at a time, before they are transposed in the nearest cache.
const STRETCH: usize = 256;
/// Panels that a task packs at most.
const GROUP: usize = 8;
/// Rows of the tallest tile of two registers.
const TILE: usize = 12;
/// Rows of a task at most: each is a page of the result.
const ROWS: usize = 8 * TILE;

/// c = a·b + bias, or c += a·b + bias with `add`: operands rounded to words, sums in `W::Sum`. c is row-major
/// [a.rows, b.cols], and the bias is b.cols long.
pub(crate) fn multiply<W: Operand>(
    a: Matrix<W::Sum>,
    b: Matrix<W::Sum>,
    bias: Option<&[W::Sum]>,
    c: &mut [W::Sum],
    add: bool,
) {
    let (m, depth, n) = (a.rows(), a.cols(), b.cols());
    assert!(depth == b.rows() && c.len() == m * n);
    if c.is_empty() {
        return;
    }
    let (words, width) = (depth.div_ceil(W::PARTS), panel_width::<W>(n));
    let b = panels::<W>(b, width);
    // Rows of `a`, whose parts lie side by side, or panels of its columns.
    let distance = row_distance(words);
    let (a, step) = match a.along_rows() {
        true => (rows::<W>(a, distance), 1),
        false => (panels::<W>(a.t(), A_WIDTH), A_WIDTH),
    };
    let a: &[W::Part] = bytemuck::cast_slice(&a);
    let offset = |row: usize| match step {
        1 => row * distance * W::PARTS,
        _ => (row / A_WIDTH * words * A_WIDTH + row % A_WIDTH) * W::PARTS,
    };
    let chunk = m.div_ceil(rayon::current_num_threads()).next_multiple_of(TILE).min(ROWS);
    c.par_chunks_mut(chunk * n).enumerate().for_each(|(i, c)| {
        let rows: Vec<usize> = (i * chunk..i * chunk + c.len() / n).map(offset).collect();
        let c_rows: Vec<usize> = (0..rows.len()).map(|row| row * n).collect();
        for (panel, first) in (0..n).step_by(width).enumerate() {
            Panel {
                a,
                rows: &rows,
                b: &b[panel * words * width..(panel + 1) * words * width],
                walk: [Level::ONCE, Level::ONCE, Level { count: words, a: step * W::PARTS, b: width }],
                width,
                cols: width.min(n - first),
                init: bias.map(|bias| &bias[first..]),
                add,
                c,
                c_rows: &c_rows,
                c_shift: first,
            }
            .run();
        }
    });
}

/// Words from a row to the next: an odd number of cache lines, so that the rows of a tile lie in different sets of the cache.
fn row_distance(words: usize) -> usize {
    const LINE: usize = 16;
    (words.div_ceil(LINE) | 1) * LINE
}

/// The rows of a matrix whose rows are contiguous, as words `distance` apart.
fn rows<W: Operand>(matrix: Matrix<W::Sum>, distance: usize) -> Buffer<W> {
    let words = matrix.cols().div_ceil(W::PARTS);
    let mut out = Buffer::<W>::uninit(matrix.rows() * distance);
    let rows = out.par_chunks_mut(distance).enumerate();
    rows.for_each(|(i, out)| convert(matrix.row(i), &mut out[..words]));
    out
}

/// Neighbouring elements as words, the last one padded with a zero.
fn convert<W: Operand>(elements: &[W::Sum], out: &mut [W]) {
    let whole = elements.len() / W::PARTS;
    W::convert(&elements[..whole * W::PARTS], bytemuck::cast_slice_mut(&mut out[..whole]));
    if let [last] = elements[whole * W::PARTS..] {
        out[whole] = W::word([last, W::Sum::ZERO]);
    }
}

/// A matrix [depth, cols] as panels of `width` columns of words: [panel][words][width], with zeros past the last column.
fn panels<W: Operand>(matrix: Matrix<W::Sum>, width: usize) -> Buffer<W> {
    let (depth, cols) = (matrix.rows(), matrix.cols());
    let (words, count) = (depth.div_ceil(W::PARTS), cols.div_ceil(width));
    let mut out = Buffer::<W>::uninit(count * words * width);
    // A task's panels lie side by side in the matrix, so that it reads long pieces of its rows.
    let group = count.div_ceil(2 * rayon::current_num_threads()).clamp(1, GROUP);
    out.par_chunks_mut((group * words * width).max(1)).enumerate().for_each(|(i, out)| {
        let first = i * group * width;
        if matrix.along_rows() {
            interleave(matrix, first, out, width);
            return;
        }
        let matrix = matrix.t();
        let mut side = Buffer::<W>::uninit(width * STRETCH / W::PARTS);
        for (panel, out) in out.chunks_exact_mut(words * width).enumerate() {
            let columns = first + panel * width..cols.min(first + (panel + 1) * width);
            if columns.len() < width {
                out.fill(bytemuck::Zeroable::zeroed());
            }
            for first in (0..depth).step_by(STRETCH) {
                let stretch = first..depth.min(first + STRETCH);
                let count = stretch.len().div_ceil(W::PARTS);
                for (side, column) in side.chunks_exact_mut(count).zip(columns.clone()) {
                    convert(&matrix.row(column)[stretch.clone()], side);
                }
                transpose(&side[..columns.len() * count], count, &mut out[first / W::PARTS * width..], width);
            }
        }
    });
    out
}

/// The columns from `first` on, of a matrix whose rows are contiguous, as panels: a word has elements of neighbouring rows.
fn interleave<W: Operand>(matrix: Matrix<W::Sum>, first: usize, out: &mut [W], width: usize) {
    let words = matrix.rows().div_ceil(W::PARTS);
    let zeros = vec![W::Sum::ZERO; matrix.cols()];
    wide!({
        for word in 0..words {
            let above = matrix.row(word * W::PARTS);
            let below = word * W::PARTS + 1;
            let below = if below < matrix.rows() { matrix.row(below) } else { &zeros[..] };
            for (panel, out) in out.chunks_exact_mut(words * width).enumerate() {
                let from = first + panel * width;
                let kept = width.min(matrix.cols() - from);
                let (above, below) = (&above[from..from + kept], &below[from..from + kept]);
                let (out, padding) = out[word * width..(word + 1) * width].split_at_mut(kept);
                for (out, (&a, &b)) in out.iter_mut().zip(above.iter().zip(below)) {
                    *out = W::word([a, b]);
                }
                padding.fill(bytemuck::Zeroable::zeroed());
            }
        }
    });
}

/// out[i·width + j] = from[j·count + i]: rows of `count` words become columns.
fn transpose<W: Operand>(from: &[W], count: usize, out: &mut [W], width: usize) {
    /// Words of a row that share a cache line.
    const LINE: usize = 16;
    for first in (0..count).step_by(LINE) {
        for (j, row) in from.chunks_exact(count).enumerate() {
            for (i, &word) in row[first..count.min(first + LINE)].iter().enumerate() {
                out[(first + i) * width + j] = word;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(n: usize, seed: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 37 + seed) % 101) as f32 / 16.0 - 3.0).collect()
    }

    fn check<W: Operand<Sum = f32>>() {
        for (m, k, n) in [(1, 1, 1), (13, 7, 5), (50, 64, 33), (97, 259, 70), (160, 300, 48)] {
            for (a_turned, b_turned, add) in
                [(false, false, false), (false, true, true), (true, false, false), (true, true, true)]
            {
                let (a, b, bias) = (values(m * k, 3), values(k * n, 11), values(n, 5));
                let view = |data, rows, cols, turned| match turned {
                    true => Matrix::new(data, cols, rows).t(),
                    false => Matrix::new(data, rows, cols),
                };
                let at = |data: &[f32], [i, j]: [usize; 2], [rows, cols]: [usize; 2], turned| {
                    f64::from(if turned { data[j * rows + i] } else { data[i * cols + j] })
                };
                let mut c = vec![2.0f32; m * n];
                let operands = (view(&a, m, k, a_turned), view(&b, k, n, b_turned));
                multiply::<W>(operands.0, operands.1, add.then_some(&bias[..]), &mut c, add);
                for (i, j) in (0..m).flat_map(|i| (0..n).map(move |j| (i, j))) {
                    let product = |q| at(&a, [i, q], [m, k], a_turned) * at(&b, [q, j], [k, n], b_turned);
                    let start = if add { 2.0 + f64::from(bias[j]) } else { 0.0 };
                    let want: f64 = start + (0..k).map(product).sum::<f64>();
                    let got = f64::from(c[i * n + j]);
                    // The operands are multiples of 1/16 below 4: exact in bf16.
                    assert!(
                        (got - want).abs() <= 1e-5 * k as f64,
                        "[{i}, {j}] of {m}×{k}×{n}: {got} for {want}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_product_is_the_sum_of_products_however_its_operands_lie() {
        check::<f32>();
        if crate::bf16_available() {
            check::<crate::simd::bf16::Pair>();
        }
    }
}
