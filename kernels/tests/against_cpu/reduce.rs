//! Reductions, against sums on the host in the order that is documented: to the bit.

use ssmv_autograd::Tensor;
use ssmv_emulator::Report;
use ssmv_kernels::{
    Plan, Target,
    ptx::F32,
    reduce::{
        self, ColOrder, Finish, MAX_ABS, MEAN, NON_FINITE, REDUCTIONS, Reduce, Reduction, RowOrder, SUM,
    },
    span::Real,
    tile::reduce::Fold,
};

use crate::{
    elements::{Half, Host, Random, Single, Tolerance, assert_coalesced, compare},
    harness::{Arg, run},
};

const TARGET: Target = Target::Sm80;

/// Runs a plan; what its output holds before is for reductions that fold onto it.
fn launch(plan: &Plan, x: &[u8], results: usize, before: Option<&[u8]>) -> (Vec<u8>, Vec<Report>) {
    let mut reports = Vec::new();
    let mut input = x.to_vec();
    if let Some(second) = plan.kernels.get(1) {
        let (outputs, report) =
            run(&plan.kernels[0], &[Arg::In(&input), Arg::Out(plan.workspace_bytes as usize)]);
        input = outputs.into_iter().next().unwrap();
        reports.push(report);
        assert_eq!(second.parameters.len(), plan.kernels[0].parameters.len());
    } else {
        assert_eq!(plan.workspace_bytes, 0);
    }
    let last = plan.kernels.get(1).unwrap_or(&plan.kernels[0]);
    let output = before.map_or(Arg::Out(results * 4), Arg::InOut);
    let (outputs, report) = run(last, &[Arg::In(&input), output]);
    reports.push(report);
    (outputs.into_iter().next().unwrap(), reports)
}

// The documented orders, once more. Elements that do not exist are 0.

fn fold(how: Fold, a: f32, b: f32) -> f32 {
    match how {
        Fold::Sum => a + b,
        Fold::Max if a.is_nan() || b.is_nan() => f32::NAN,
        Fold::Max => a.max(b),
    }
}

fn lift(reduction: &Reduction, x: f32) -> f32 {
    match reduction.name {
        "max_abs" => x.abs(),
        "non_finite" => x * 0.0,
        _ => x,
    }
}

/// ((x₀ ∘ x₁) ∘ (x₂ ∘ x₃)) ∘ …
fn pairwise(how: Fold, mut x: Vec<f32>) -> f32 {
    while x.len() > 1 {
        x = x.chunks(2).map(|c| if c.len() == 2 { fold(how, c[0], c[1]) } else { c[0] }).collect();
    }
    x[0]
}

/// Lane l takes x[l] ∘ x[l XOR m] for m = below / 2, …, from.
fn lanes(how: Fold, mut x: Vec<f32>, from: usize, below: usize) -> Vec<f32> {
    let mut mask = below / 2;
    while mask >= from {
        x = (0..x.len()).map(|l| fold(how, x[l], x[l ^ mask])).collect();
        mask /= 2;
    }
    x
}

fn in_order(how: Fold, x: impl Iterator<Item = f32>) -> f32 {
    x.reduce(|a, b| fold(how, a, b)).unwrap()
}

fn row(how: Fold, order: RowOrder, x: &[f32]) -> Vec<f32> {
    let [width, team, rounds] = [order.width, order.team, order.rounds].map(|n| n as usize);
    let thread = |piece: usize, t: usize| {
        let element = |i: usize, j: usize| ((piece * rounds + i) * team + t) * width + j;
        let terms = |j| (0..rounds).map(move |i| x.get(element(i, j)).copied().unwrap_or(0.0));
        pairwise(how, (0..width).map(|j| in_order(how, [0.0].into_iter().chain(terms(j)))).collect())
    };
    let piece = |s| {
        let threads: Vec<_> = (0..team).map(|t| thread(s, t)).collect();
        in_order(how, threads.chunks(32).map(|w| lanes(how, w.to_vec(), 1, w.len())[0]))
    };
    (0..order.splits as usize).map(piece).collect()
}

fn over_rows<T: Real>(reduction: &Reduction, rows: usize, cols: usize, x: &[f32]) -> Vec<f32> {
    let order = RowOrder::new(rows as u32, cols as u32, T::VECTOR);
    let again = RowOrder::new(rows as u32, order.splits, F32::VECTOR);
    let lifted: Vec<_> = x.iter().map(|&x| lift(reduction, x)).collect();
    (0..rows)
        .map(|r| {
            let pieces = row(reduction.fold, order, &lifted[r * cols..(r + 1) * cols]);
            let folded = if order.splits > 1 { row(reduction.fold, again, &pieces) } else { pieces };
            assert_eq!(folded.len(), 1, "the second kernel leaves one number a row");
            finish(reduction, folded[0], cols)
        })
        .collect()
}

/// Pieces of column `c` of a matrix.
fn col(how: Fold, order: ColOrder, x: &[f32], cols: usize, c: usize) -> Vec<f32> {
    let [across, down, rounds] = [order.across, order.down, order.rounds].map(|n| n as usize);
    let thread = |piece: usize, d: usize| {
        let row = move |i| (piece * rounds + i) * down + d;
        let terms = (0..rounds).map(|i| x.get(row(i) * cols + c).copied().unwrap_or(0.0));
        in_order(how, [0.0].into_iter().chain(terms))
    };
    let piece = |s| {
        let in_warp = 32 / across;
        let warps = (0..8).map(|w| {
            let threads: Vec<_> = (0..32).map(|l| thread(s, w * in_warp + l / across)).collect();
            lanes(how, threads, across, 32)[0]
        });
        in_order(how, warps)
    };
    (0..order.splits as usize).map(piece).collect()
}

fn over_cols(reduction: &Reduction, rows: usize, cols: usize, x: &[f32]) -> Vec<f32> {
    let order = ColOrder::new(rows as u32, cols as u32);
    let again = ColOrder::second(order.splits, cols as u32);
    let lifted: Vec<_> = x.iter().map(|&x| lift(reduction, x)).collect();
    (0..cols)
        .map(|c| {
            let pieces = col(reduction.fold, order, &lifted, cols, c);
            let folded = if order.splits > 1 { col(reduction.fold, again, &pieces, 1, 0) } else { pieces };
            assert_eq!(folded.len(), 1, "the second kernel leaves one number a column");
            finish(reduction, folded[0], rows)
        })
        .collect()
}

/// Flags as the numbers whose bits they are.
fn finish(reduction: &Reduction, x: f32, terms: usize) -> f32 {
    match reduction.finish {
        Finish::AsIs => x,
        Finish::Mean => x * (1.0 / terms.max(1) as f32),
        Finish::IsNan => f32::from_bits(x.is_nan().into()),
    }
}

fn as_f64(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| x.into()).collect()
}

fn rows_agree<H: Host>(reduction: &Reduction, rows: usize, cols: usize, x: &[f32]) -> Vec<f32> {
    let spec = Reduce { reduction: *reduction, rows: rows as u32, cols: cols as u32, onto: false };
    let plan = spec.over_rows::<H::Gpu>(TARGET);
    let (y, reports) = launch(&plan, &H::encode(x), rows, None);
    let y = Single::decode(&y);
    let want = over_rows::<H::Gpu>(reduction, rows, cols, x);
    compare::<Single>(&plan.kernels[0].name, &y, &as_f64(&want), Tolerance::Exact);
    if cols.is_multiple_of(64) && rows > 0 && cols > 0 {
        reports.iter().for_each(|report| assert_coalesced(&plan.kernels[0].name, report));
    }
    y
}

fn cols_agree<H: Host>(reduction: &Reduction, rows: usize, cols: usize, x: &[f32]) -> Vec<f32> {
    let spec = Reduce { reduction: *reduction, rows: rows as u32, cols: cols as u32, onto: false };
    let plan = spec.over_cols::<H::Gpu>(TARGET);
    let (y, reports) = launch(&plan, &H::encode(x), cols, None);
    let y = Single::decode(&y);
    let want = over_cols(reduction, rows, cols, x);
    compare::<Single>(&plan.kernels[0].name, &y, &as_f64(&want), Tolerance::Exact);
    if cols.is_multiple_of(64) && rows > 0 && cols > 0 {
        reports.iter().for_each(|report| assert_coalesced(&plan.kernels[0].name, report));
    }
    y
}

/// Against the CPU backend's sums in f64: f32's rounding of a tree of sums is a few units of the sum of the magnitudes.
fn near_cpu(got: &[f32], [rows, cols]: [usize; 2], x: &[f32], reduction: &Reduction, axis: usize) {
    let on_cpu = |x: &[f64]| {
        let x = Tensor::new([rows, cols], x).unwrap();
        let y = if reduction.finish == Finish::Mean { x.mean(&[axis]) } else { x.sum(&[axis]) };
        y.unwrap().to_f64().unwrap()
    };
    let x = as_f64(x);
    let magnitudes: Vec<_> = x.iter().map(|x| x.abs()).collect();
    for (i, (want, magnitude)) in on_cpu(&x).into_iter().zip(on_cpu(&magnitudes)).enumerate() {
        let error = (f64::from(got[i]) - want).abs();
        let case = format!("{} {i} of {rows}×{cols} over axis {axis}", reduction.name);
        assert!(error <= magnitude * 2f64.powi(-20), "{case}: {} is off by {error:e}", got[i]);
    }
}

fn whole_arrays_agree<H: Host>() {
    for n in [0, 1, 2, 7, 8, 9, 31, 255, 256, 257, 1003, 2048, 2049, 4096, 8193, 65_537, 300_001] {
        let mut random = Random(500 + n as u64);
        let plain = random.plain::<H>(n);
        for reduction in &REDUCTIONS {
            let y = rows_agree::<H>(reduction, 1, n, &plain);
            let largest = plain.iter().fold(0.0, |a: f32, x| a.max(x.abs()));
            match reduction.name {
                "max_abs" => assert_eq!(y[0], largest, "max_abs of {n}"),
                "non_finite" => assert_eq!(y[0].to_bits(), 0, "non_finite of {n} finite numbers"),
                _ => near_cpu(&y, [1, n], &plain, reduction, 1),
            }
            rows_agree::<H>(reduction, 1, n, &random.with_corners::<H>(n));
        }
    }
}

#[test]
fn whole_arrays_agree_in_f16() {
    whole_arrays_agree::<Half>();
}

#[test]
fn whole_arrays_agree_in_f32() {
    whole_arrays_agree::<Single>();
}

/// Every place in an array counts: first, last, and in each piece.
#[test]
fn one_bad_element_is_found_wherever_it_is() {
    let n = 20_011;
    for at in [0, 1, 2047, 2048, 8191, 8192, 16_383, 16_384, n - 2, n - 1] {
        for bad in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
            let mut x = vec![1.0; n];
            x[at] = bad;
            let plan = reduce::whole::<<Half as Host>::Gpu>(NON_FINITE, n as u32, TARGET);
            assert_eq!(launch(&plan, &Half::encode(&x), 1, None).0, 1u32.to_le_bytes(), "{bad} at {at}");
            let plan = reduce::whole::<<Half as Host>::Gpu>(MAX_ABS, n as u32, TARGET);
            let largest = Single::decode(&launch(&plan, &Half::encode(&x), 1, None).0)[0];
            assert!(largest.is_nan() == bad.is_nan() && !largest.is_finite(), "{bad} at {at}: {largest}");
        }
    }
}

/// Rows shorter than a vector, a warp, a block, and split ones; few and many of them.
const MATRICES: [(usize, usize); 22] = [
    (0, 5),
    (5, 0),
    (1, 1),
    (7, 1),
    (2, 2),
    (3, 7),
    (31, 9),
    (5, 33),
    (300, 8),
    (257, 12),
    (9, 64),
    (64, 128),
    (33, 130),
    (6, 257),
    (4, 1003),
    (3, 2048),
    (1000, 64),
    (160, 320),
    (3, 2112),
    (2, 65_536),
    (5000, 3),
    (2, 20_003),
];

fn matrices_agree<H: Host>() {
    for (rows, cols) in MATRICES {
        let mut random = Random(600 + (rows * cols) as u64);
        let x = random.plain::<H>(rows * cols);
        for reduction in [&SUM, &MEAN] {
            near_cpu(&rows_agree::<H>(reduction, rows, cols, &x), [rows, cols], &x, reduction, 1);
            near_cpu(&cols_agree::<H>(reduction, rows, cols, &x), [rows, cols], &x, reduction, 0);
        }
        let corners = random.with_corners::<H>(rows * cols);
        for reduction in [&SUM, &MAX_ABS, &NON_FINITE] {
            rows_agree::<H>(reduction, rows, cols, &corners);
            cols_agree::<H>(reduction, rows, cols, &corners);
        }
    }
}

#[test]
fn matrices_agree_in_f16() {
    matrices_agree::<Half>();
}

#[test]
fn matrices_agree_in_f32() {
    matrices_agree::<Single>();
}

#[test]
fn results_are_folded_onto_what_is_there() {
    // One kernel, and two.
    for (rows, cols) in [(6, 40), (3000, 40)] {
        let mut random = Random(700 + rows as u64);
        let x = random.plain::<Half>(rows * cols);
        for reduction in REDUCTIONS {
            let spec = Reduce { reduction, rows: rows as u32, cols: cols as u32, onto: true };
            let want = over_cols(&reduction, rows, cols, &x);
            let flags = reduction.finish == Finish::IsNan;
            let before: Vec<f32> = match flags {
                true => (0..cols as u32).map(|c| f32::from_bits(c % 2)).collect(),
                false => random.plain::<Single>(cols),
            };
            let plan = spec.over_cols::<<Half as Host>::Gpu>(TARGET);
            let y = launch(&plan, &Half::encode(&x), cols, Some(&Single::encode(&before))).0;
            let joined = |(&old, &new): (&f32, &f32)| match flags {
                true => f32::from_bits(old.to_bits() | new.to_bits()),
                false => fold(reduction.fold, old, new),
            };
            let want: Vec<_> = before.iter().zip(&want).map(joined).collect();
            compare::<Single>(&plan.kernels[0].name, &Single::decode(&y), &as_f64(&want), Tolerance::Exact);
        }
    }
}
