//! The gradients' norm: the sum of their squares, piece by piece.
//!
//! # The order of summation
//! Sums are in f64. The square of an f32 is exact there, so a fused multiply-add gives what a product and a sum give.
//! - The arena is cut into pieces of 8192 elements. In a piece, element i is added to partial sum i mod 256, in
//!   ascending order, from 0 on.
//! - The 256 partial sums are added up in pairs of neighbours, the 128 results again, until one is left.
//! - The pieces' sums are added up alike: piece j to partial sum j mod 256, then the pairs.
//!
//! A warp takes a piece: each lane has 8 of the partial sums in registers, and five of the eight rounds of pairs are
//! shuffles. A CPU adds rows of 256 elements to 256 sums, which vectorises at any width.

use super::adamw::ArenaElement;
use crate::{
    Kernel, Target, Work,
    ptx::{Asm, F32, F64, Launch, Reg, Var},
};

/// Partial sums side by side.
pub(super) const LANES: u32 = 256;

/// Elements that one sum of squares covers.
const PIECE: u32 = 8192;

/// Partial sums of a lane.
const EACH: u32 = LANES / 32;

/// Threads of a block: 8 pieces.
const BLOCK: u32 = 256;

/// Rows of 256 elements whose loads are under way together.
const ROWS: u32 = 4;

/// Sums of squares of an arena of `n` elements, one a piece.
pub fn partial_sums(n: u32) -> u32 {
    n.div_ceil(PIECE)
}

/// partials[j] = Σ g², the sum over piece j of the `n` gradients, in f64, in the order above. Not finite where an
/// element is not: squares cannot cancel, and f64 holds any sum of squares of finite f32.
///
/// Parameters: gradients (`n` of `G`), partials ([`partial_sums`] f64).
/// Reads the gradients once, 2 or 4 bytes an element: bound by memory.
pub fn grad_norm<G: ArenaElement>(n: u32, target: Target) -> Kernel {
    let count = partial_sums(n);
    let launch = Launch::new("grad_norm", format!("grad_norm_{}_n{n}", G::SPELLED), target)
        .threads(BLOCK, u64::from(count) * 32);
    let work = Work {
        bytes: u64::from(n) * u64::from(G::BYTES) + u64::from(count) * 8,
        operations: 2 * u64::from(n),
    };
    Asm::kernel(launch, work, "partials[j] = the sum of g² over piece j", |k| {
        let (gradients, partials) = (k.pointer::<G>("gradients"), k.pointer::<F64>("partials"));
        let (piece, lane) = (k.global_thread() >> 5, k.lane());
        k.exit_if(piece.ge(count));
        let sums: Vec<_> = (0..EACH).map(|_| k.var::<F64>(0.0)).collect();
        let (whole, rest) = (n / PIECE, n % PIECE);

        // Of each row a lane takes vectors of 16 bytes, a warp's width apart: one of f16, two of f32.
        let stride = 32 * G::VECTOR;
        let first = gradients.at(piece * PIECE + lane * G::VECTOR);
        let vectors =
            |row: u32| (0..LANES).step_by(stride as usize).map(move |part| i64::from(row * LANES + part));
        if whole > 0 {
            k.if_(piece.lt(whole), || {
                k.for_range(0, PIECE, ROWS * LANES, |offset| {
                    let at = first.at(offset);
                    let rows: Vec<Vec<_>> = (0..ROWS)
                        .map(|row| vectors(row).flat_map(|i| G::load_vector(at.plus(i))).collect())
                        .collect();
                    rows.iter().for_each(|row| add_squares(&sums, row));
                });
            });
        }
        if rest > 0 {
            k.step("the last piece, row by row");
            k.if_(piece.eq(whole), || {
                let (rows, left) = (rest / LANES, rest % LANES);
                if rows > 0 {
                    k.for_range(0, rows * LANES, LANES, |offset| {
                        let at = first.at(offset);
                        let row: Vec<_> = vectors(0).flat_map(|i| G::load_vector(at.plus(i))).collect();
                        add_squares(&sums, &row);
                    });
                }
                let each = sums.chunks_exact(G::VECTOR as usize);
                for ((i, part), sums) in vectors(rows).zip((0..).step_by(32)).zip(each) {
                    let (full, tail) = ((left / G::VECTOR).saturating_sub(part), left % G::VECTOR);
                    if full > 0 {
                        k.if_(lane.lt(full), || add_squares(sums, &G::load_vector(first.plus(i))));
                    }
                    if tail > 0 && (part..part + 32).contains(&(left / G::VECTOR)) {
                        k.if_(lane.eq(full), || {
                            let ones: Vec<_> =
                                (0..tail).map(|j| G::load_one(first.plus(i + i64::from(j)))).collect();
                            add_squares(sums, &ones);
                        });
                    }
                }
            });
        }

        k.step("pairs of neighbours: in the vectors, over the lanes, then the vectors");
        let mut sums: Vec<_> = sums.iter().map(|sum| sum.get()).collect();
        while sums.len() > (EACH / G::VECTOR) as usize {
            sums = pairs(&sums);
        }
        sums.iter_mut().for_each(|sum| *sum = over_lanes(*sum));
        while sums.len() > 1 {
            sums = pairs(&sums);
        }
        k.if_(lane.eq(0), || partials.at(piece).store(sums[0]));
    })
}

/// sums[i] += x[i]²; there may be more sums.
fn add_squares<'k>(sums: &[Var<'k, F64>], row: &[Reg<'k, F32>]) {
    let row: Vec<_> = row.iter().map(|x| x.to::<F64>()).collect();
    sums.iter().zip(row).for_each(|(sum, x)| sum.add_product(x, x));
}

/// Neighbours added up.
pub(super) fn pairs<'k>(sums: &[Reg<'k, F64>]) -> Vec<Reg<'k, F64>> {
    sums.chunks_exact(2).map(|pair| pair[0] + pair[1]).collect()
}

/// The 32 lanes' values, added up in pairs of neighbours; in every lane.
pub(super) fn over_lanes(mut sum: Reg<F64>) -> Reg<F64> {
    for mask in [1, 2, 4, 8, 16] {
        sum = sum + sum.shuffle_xor(mask);
    }
    sum
}
