//! The tensor-core product against the CPU's, in all four transposes.

use half::f16;
use ssmv_autograd::Tensor;
use ssmv_emulator::Report;
use ssmv_kernels::{
    Target,
    gemm::{Activation, Dtype, Epilogue, Gemm},
    tile::Major,
};

use crate::harness::{Arg, at_best_and_worst, run_all, targets};

/// Numbers that binary16 holds, of mixed sizes and signs, from a generator of its own.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn numbers(&mut self, n: usize) -> Vec<f64> {
        let mut number = || (self.next() % 4001) as f32 / 1000.0 - 2.0;
        (0..n).map(|_| f16::from_f32(number()).to_f64()).collect()
    }

    fn below(&mut self, n: u64) -> u32 {
        1 + (self.next() % n) as u32
    }
}

fn bytes(values: &[f64], dtype: Dtype) -> Vec<u8> {
    match dtype {
        Dtype::F16 => values.iter().flat_map(|&x| f16::from_f64(x).to_le_bytes()).collect(),
        Dtype::F32 => values.iter().flat_map(|&x| (x as f32).to_le_bytes()).collect(),
    }
}

fn numbers(bytes: &[u8], dtype: Dtype) -> Vec<f64> {
    match dtype {
        Dtype::F16 => bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f64()).collect(),
        Dtype::F32 => {
            bytes.chunks_exact(4).map(|b| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]]))).collect()
        }
    }
}

/// [rows, columns] as [columns, rows].
fn transposed(values: &[f64], columns: usize) -> Vec<f64> {
    (0..columns).flat_map(|c| values.iter().skip(c).step_by(columns).copied()).collect()
}

fn stored(values: &[f64], k: u32, major: Major) -> Vec<u8> {
    match major {
        Major::K => bytes(values, Dtype::F16),
        Major::Outer => bytes(&transposed(values, k as usize), Dtype::F16),
    }
}

/// Runs the product on the emulator and on the CPU in f64, and compares within what f32 sums of truncated products and
/// one rounding of the output can differ. The report is of both kernels where k is split.
fn check(gemm: Gemm, seed: u64) -> Report {
    let Gemm { m, n, k, epilogue, .. } = gemm;
    let mut draw = Draw(seed);
    let (a, b) = (draw.numbers((m * k) as usize), draw.numbers((n * k) as usize));
    let bias = epilogue.bias.map(|dtype| (draw.numbers(n as usize), dtype));
    let residual = epilogue.residual.then(|| draw.numbers((m * n) as usize));

    let (a_stored, b_stored) = (stored(&a, k, gemm.a), stored(&b, k, gemm.b));
    let bias_stored = bias.as_ref().map(|(values, dtype)| bytes(values, *dtype));
    let residual_stored = residual.as_ref().map(|values| bytes(values, epilogue.output));
    let target = targets()[seed as usize % targets().len()];
    let plan = gemm.plan(target).unwrap();
    let mut args = vec![Arg::In(&a_stored), Arg::In(&b_stored)];
    args.extend(bias_stored.as_deref().map(Arg::In));
    args.extend(residual_stored.as_deref().map(Arg::In));
    args.push(Arg::Out((m * n * epilogue.output.bytes()) as usize));
    if plan.workspace_bytes > 0 {
        args.push(Arg::Out(plan.workspace_bytes as usize));
    }
    let (outputs, report) = run_all(&plan.kernels, &args);
    let got = numbers(&outputs[0], epilogue.output);

    let tensor = |rows: u32, columns: u32, values: &[f64]| {
        Tensor::new([rows as usize, columns as usize], values).unwrap()
    };
    let product = |a: &[f64], b: &[f64]| tensor(m, k, a).linear(&tensor(n, k, b), None).unwrap();
    let magnitude = |x: &[f64]| x.iter().map(|x| x.abs()).collect::<Vec<f64>>();
    let sums = product(&a, &b);
    let bound = product(&magnitude(&a), &magnitude(&b)).to_f64().unwrap();
    let mut want = sums.to_f64().unwrap();
    for (i, x) in want.iter_mut().enumerate() {
        *x += bias.as_ref().map_or(0.0, |(values, _)| values[i % n as usize]);
        *x += residual.as_ref().map_or(0.0, |values| values[i]);
    }
    let want = tensor(m, n, &want);
    let want = match epilogue.activation {
        Activation::Identity => want,
        Activation::Relu => want.relu().unwrap(),
        Activation::Silu => want.silu().unwrap(),
        Activation::Sigmoid => want.sigmoid().unwrap(),
        Activation::Softplus => want.softplus().unwrap(),
    };
    // Each group of eight products loses up to 2⁻²³ of its largest term when it is aligned; f32 additions as much again.
    let steps = f64::from(k / 8 + 4);
    let rounding = if epilogue.output == Dtype::F16 { 2f64.powi(-11) } else { 2f64.powi(-22) };
    for (i, ((got, want), bound)) in got.iter().zip(want.to_f64().unwrap()).zip(bound).enumerate() {
        let allowed = steps * 2f64.powi(-22) * (bound + 4.0) + rounding * want.abs() + 2f64.powi(-24);
        let (row, column) = (i as u32 / n, i as u32 % n);
        assert!(
            (got - want).abs() <= allowed,
            "{gemm:?} at ({row}, {column}): {got}, want {want} ± {allowed:e}"
        );
    }
    report
}

const LAYOUTS: [[Major; 2]; 4] =
    [[Major::K, Major::K], [Major::K, Major::Outer], [Major::Outer, Major::K], [Major::Outer, Major::Outer]];

fn plain([m, n, k]: [u32; 3], [a, b]: [Major; 2]) -> Gemm {
    Gemm { m, n, k, a, b, epilogue: Epilogue::plain(Dtype::F16) }
}

#[test]
fn awkward_sizes_in_all_layouts() {
    let sizes = [
        [1, 1, 1],
        [1, 8, 16],
        [7, 5, 3],
        [16, 8, 16],
        [33, 67, 131],
        [34, 66, 130],
        [36, 68, 132],
        [40, 72, 200],
    ];
    for (i, size) in sizes.into_iter().enumerate() {
        for layout in LAYOUTS {
            check(plain(size, layout), i as u64);
        }
    }
}

#[test]
fn drawn_sizes_and_epilogues() {
    at_best_and_worst(|| {
        let mut draw = Draw(7);
        for seed in 0..24 {
            let size = [draw.below(150), draw.below(150), draw.below(300)];
            let [bias, residual, activation, output, layout] =
                [3, 2, 5, 2, 4].map(|n| draw.below(n) as usize - 1);
            let epilogue = Epilogue {
                bias: [None, Some(Dtype::F16), Some(Dtype::F32)][bias],
                residual: residual == 1,
                activation: [
                    Activation::Identity,
                    Activation::Relu,
                    Activation::Silu,
                    Activation::Sigmoid,
                    Activation::Softplus,
                ][activation],
                output: [Dtype::F16, Dtype::F32][output],
            };
            check(Gemm { epilogue, ..plain(size, LAYOUTS[layout]) }, seed);
        }
    });
}

/// Every tile that the planner can choose, k split and whole, without bank conflicts and with whole sectors.
#[test]
fn aligned_sizes_have_no_bank_conflicts_and_whole_sectors() {
    for size in
        [[160, 256, 2048], [160, 1024, 128], [256, 256, 64], [512, 768, 64], [64, 128, 96], [32, 64, 64]]
    {
        for layout in LAYOUTS {
            let report = check(plain(size, layout), 3);
            assert_eq!(report.bank_conflicts, 0, "{size:?} {layout:?}");
            assert_eq!(report.global_sectors, report.global_sectors_ideal, "{size:?} {layout:?}");
        }
    }
}

#[test]
fn the_same_bits_run_after_run() {
    let gemm = Gemm { epilogue: Epilogue::plain(Dtype::F32), ..plain([48, 64, 4096], LAYOUTS[0]) };
    let plan = gemm.plan(Target::Sm80).unwrap();
    assert_eq!(plan.kernels.len(), 2, "k is split");
    let mut draw = Draw(11);
    let (a, b) = (draw.numbers(48 * 4096), draw.numbers(64 * 4096));
    let (a, b) = (bytes(&a, Dtype::F16), bytes(&b, Dtype::F16));
    let args = [Arg::In(&a), Arg::In(&b), Arg::Out(48 * 64 * 4), Arg::Out(plan.workspace_bytes as usize)];
    assert_eq!(run_all(&plan.kernels, &args).0, run_all(&plan.kernels, &args).0);
}

#[test]
fn sizes_that_make_no_sense_are_errors() {
    for size in [[0, 1, 1], [1, 0, 1], [1, 1, 0], [1 << 16, 1 << 16, 1], [1, 1 << 30, 2]] {
        let message = plain(size, LAYOUTS[0]).plan(Target::Sm80).unwrap_err().to_string();
        assert!(message.starts_with("gemm: m ") && message.contains("2³¹"), "{message}");
    }
}

#[test]
fn no_specification_of_the_catalogue_is_refused() {
    for target in Target::ALL {
        // Twelve products, of which two have a second kernel for the parts of k.
        assert_eq!(ssmv_kernels::gemm::catalogue(target).len(), 14);
    }
}
