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

use crate::{
    Kernel, Target, Work,
    ptx::{Asm, F32, F64, Global, Launch, Reg, U32, Var},
    span::Real,
};

/// Partial sums side by side.
pub(super) const LANES: u32 = 256;

/// Elements that one sum of squares covers.
const PIECE: u32 = 8192;

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
pub fn grad_norm<G: Real>(n: u32, target: Target) -> Kernel {
    let count = partial_sums(n);
    let launch = Launch::new("grad_norm", format!("grad_norm_{}_n{n}", G::SPELLED), target)
        .threads(BLOCK, u64::from(count) * 32);
    let work = Work {
        bytes: u64::from(n) * u64::from(G::BYTES) + u64::from(count) * 8,
        operations: 2 * u64::from(n),
    };
    Asm::kernel(launch, work, "partials[j] = the sum of g^2 over piece j", |asm| {
        let (gradients, partials) = (asm.pointer::<G>("gradients"), asm.pointer::<F64>("partials"));
        let piece = asm.global_thread() >> 5;
        asm.exit_if(piece.ge(count));
        let share = Share::new(asm, gradients.at(piece * PIECE));
        let (whole, rest) = (n / PIECE, n % PIECE);
        if whole > 0 {
            asm.if_(piece.lt(whole), || share.add_rows(PIECE / LANES, ROWS));
        }
        if rest > 0 {
            asm.step("the last piece");
            asm.if_(piece.eq(whole), || {
                share.add_rows(rest / LANES, 1);
                share.add_part(rest / LANES, rest % LANES);
            });
        }
        asm.step("pairs of neighbours: in the vectors, over the lanes, then the vectors");
        let total = share.total();
        asm.if_(share.lane.eq(0), || partials.at(piece).store(total));
    })
}

/// A lane's share of a piece: of each row the vectors of 16 bytes that stand a warp's width apart, one of f16 or two of
/// f32, and the partial sums that they are added to.
struct Share<'a, G: Real> {
    asm: &'a Asm,
    lane: Reg<'a, U32>,
    first: Global<'a, G>,
    sums: Vec<Var<'a, F64>>,
}

impl<'a, G: Real> Share<'a, G> {
    /// Of the piece that starts at `piece`.
    fn new(asm: &'a Asm, piece: Global<'a, G>) -> Self {
        let lane = asm.lane();
        let sums = (0..LANES / 32).map(|_| asm.var::<F64>(0.0)).collect();
        Self { asm, lane, first: piece.at(lane * G::VECTOR), sums }
    }

    /// Where the lane's vectors of a row start, in elements from `first`.
    fn vectors(row: u32) -> impl Iterator<Item = i64> {
        (0..LANES).step_by(32 * G::VECTOR as usize).map(move |part| i64::from(row * LANES + part))
    }

    /// Adds the squares of `rows` rows, of which `together` are loaded before the first is added.
    fn add_rows(&self, rows: u32, together: u32) {
        if rows == 0 {
            return;
        }
        self.asm.for_range(0, rows * LANES, together * LANES, |offset| {
            let at = self.first.at(offset);
            let load = |row| Self::vectors(row).flat_map(|i| G::load(at.plus(i), G::VECTOR)).collect();
            let rows: Vec<Vec<_>> = (0..together).map(load).collect();
            rows.iter().for_each(|row| add_squares(&self.sums, row));
        });
    }

    /// Adds the squares of the first `len` elements of a row.
    fn add_part(&self, row: u32, len: u32) {
        let (vectors, tail) = (len / G::VECTOR, len % G::VECTOR);
        let each = Self::vectors(row).zip(self.sums.chunks_exact(G::VECTOR as usize));
        for ((i, sums), before) in each.zip((0..).step_by(32)) {
            // The lane's vector is number `before + lane` of the row.
            let at = self.first.plus(i);
            if vectors > before {
                let whole = self.lane.lt(vectors - before);
                self.asm.if_(whole, || add_squares(sums, &G::load(at, G::VECTOR)));
            }
            if tail > 0 && (before..before + 32).contains(&vectors) {
                let cut = self.lane.eq(vectors - before);
                let ones = || (0..tail).flat_map(|j| G::load(at.plus(j.into()), 1)).collect::<Vec<_>>();
                self.asm.if_(cut, || add_squares(sums, &ones()));
            }
        }
    }

    /// The sum over the warp, in every lane.
    fn total(&self) -> Reg<'a, F64> {
        let mut sums: Vec<_> = self.sums.iter().map(|sum| sum.get()).collect();
        for _ in 0..G::VECTOR.ilog2() {
            sums = pairs(&sums);
        }
        sums.iter_mut().for_each(|sum| *sum = over_lanes(*sum));
        while sums.len() > 1 {
            sums = pairs(&sums);
        }
        sums[0]
    }
}

/// sums[i] += x[i]², for as many as there are.
fn add_squares<'a>(sums: &[Var<'a, F64>], row: &[Reg<'a, F32>]) {
    let row: Vec<_> = row.iter().map(|x| x.to::<F64>()).collect();
    sums.iter().zip(row).for_each(|(sum, x)| sum.add_product(x, x));
}

/// Neighbours added up.
pub(super) fn pairs<'a>(sums: &[Reg<'a, F64>]) -> Vec<Reg<'a, F64>> {
    sums.chunks_exact(2).map(|pair| pair[0] + pair[1]).collect()
}

/// The 32 lanes' values, added up in pairs of neighbours; in every lane.
pub(super) fn over_lanes(mut sum: Reg<F64>) -> Reg<F64> {
    for mask in [1, 2, 4, 8, 16] {
        sum = sum + sum.shuffle_xor(mask);
    }
    sum
}
