//! The convolutions' passes against the CPU backend's.

use ssmv_autograd::{
    Gradients, Tensor,
    ops::{conv_transpose2d::ConvTranspose2d, conv2d::Conv2d},
};
use ssmv_emulator::Report;
use ssmv_kernels::{
    Plan, Target,
    conv::Conv,
    gemm::{Dtype, Epilogue},
};

use crate::{
    elements::{Half, Host, Single},
    harness::{Arg, run_all, targets},
};

/// Numbers that binary16 holds.
fn numbers(n: u32, seed: u64) -> Vec<f64> {
    let mut state = seed;
    let mut number = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        f64::from(Half::round(((state >> 33) % 4001) as f32 / 1000.0 - 2.0))
    };
    (0..n).map(|_| number()).collect()
}

fn half(values: &[f64]) -> Vec<u8> {
    Half::encode(&values.iter().map(|&x| x as f32).collect::<Vec<_>>())
}

fn tensor(shape: &[u32], values: &[f64]) -> Tensor {
    let shape: Vec<usize> = shape.iter().map(|&n| n as usize).collect();
    Tensor::new(shape, values).unwrap()
}

/// A case: its numbers, and what the CPU makes of them in f64.
struct Case {
    conv: Conv,
    x: Vec<f64>,
    w: Vec<f64>,
    dy: Vec<f64>,
}

impl Case {
    fn new(conv: Conv, seed: u64) -> Self {
        let [h, w] = conv.output();
        Self {
            x: numbers(conv.count * conv.input[0] * conv.input[1] * conv.cin, seed),
            w: numbers(conv.cout * conv.kernel[0] * conv.kernel[1] * conv.cin, seed + 1),
            dy: numbers(conv.count * h * w * conv.cout, seed + 2),
            conv,
        }
    }

    /// y, dx and dw.
    fn expected(&self, [x, w, dy]: [&[f64]; 3]) -> [Vec<f64>; 3] {
        let Conv { count, input, cin, cout, kernel, stride, padding } = self.conv;
        let [height, width] = self.conv.output();
        let attributes = Conv2d { stride: stride.map(|s| s as usize), padding: padding.map(|p| p as usize) };
        let x = tensor(&[count, input[0], input[1], cin], x).leaf();
        let w = tensor(&[cout, kernel[0], kernel[1], cin], w).leaf();
        let y = x.conv2d(&w, None, attributes).unwrap();
        let mut gradients = Gradients::of_leaves();
        y.backward_from(tensor(&[count, height, width, cout], dy), &mut gradients).unwrap();
        [
            y.to_f64().unwrap(),
            gradients.of(&x).unwrap().to_f64().unwrap(),
            gradients.of(&w).unwrap().to_f64().unwrap(),
        ]
    }
}

/// Runs a plan, and compares within what f32 sums of truncated products and one rounding of the output can differ.
fn check(
    what: &str,
    plan: &Plan,
    [a, b]: [&[f64]; 2],
    [want, bound]: [&[f64]; 2],
    terms: u32,
    output: Dtype,
) -> Report {
    let (a, b) = (half(a), half(b));
    let mut args = vec![Arg::In(&a), Arg::In(&b), Arg::Out(want.len() * output.bytes() as usize)];
    if plan.workspace_bytes > 0 {
        args.push(Arg::Out(plan.workspace_bytes as usize));
    }
    let (outputs, report) = run_all(&plan.kernels, &args);
    let got = match output {
        Dtype::F16 => Half::decode(&outputs[0]),
        Dtype::F32 => Single::decode(&outputs[0]),
    };
    assert_eq!(got.len(), want.len());
    let steps = f64::from(terms / 8 + 4);
    let rounding = if output == Dtype::F16 { 2f64.powi(-11) } else { 2f64.powi(-22) };
    for (i, ((&got, want), bound)) in got.iter().zip(want).zip(bound).enumerate() {
        let allowed = steps * 2f64.powi(-22) * bound + rounding * want.abs() + 2f64.powi(-24);
        let got = f64::from(got);
        assert!((got - want).abs() <= allowed, "{what} at {i}: {got}, want {want} ± {allowed:e}");
    }
    report
}

/// All three passes; their reports.
fn check_all(conv: Conv, seed: u64) -> [Report; 3] {
    let case = Case::new(conv, seed);
    let magnitude = |x: &[f64]| x.iter().map(|x| x.abs()).collect::<Vec<f64>>();
    let [y, dx, dw] = case.expected([&case.x, &case.w, &case.dy]);
    let [y_bound, dx_bound, dw_bound] =
        case.expected([&magnitude(&case.x), &magnitude(&case.w), &magnitude(&case.dy)]);
    let target = targets()[seed as usize % targets().len()];
    let (half, single) = (Epilogue::plain(Dtype::F16), Epilogue::plain(Dtype::F32));
    let Conv { count, cin, cout, kernel, .. } = conv;
    let taps = kernel[0] * kernel[1];
    let pixels = count * conv.output()[0] * conv.output()[1];
    let pass = |pass: &str, plan: &Plan, operands, expected, terms, output| {
        check(&format!("{pass} of {conv:?}"), plan, operands, expected, terms, output)
    };
    [
        pass(
            "fprop",
            &conv.fprop(half, target).unwrap(),
            [&case.x, &case.w],
            [&y, &y_bound],
            taps * cin,
            Dtype::F16,
        ),
        pass(
            "dgrad",
            &conv.dgrad(half, target).unwrap(),
            [&case.dy, &case.w],
            [&dx, &dx_bound],
            taps * cout,
            Dtype::F16,
        ),
        pass(
            "wgrad",
            &conv.wgrad(single, target).unwrap(),
            [&case.dy, &case.x],
            [&dw, &dw_bound],
            pixels,
            Dtype::F32,
        ),
    ]
}

fn square(count: u32, side: u32, [cin, cout]: [u32; 2], [kernel, stride, padding]: [u32; 3]) -> Conv {
    Conv {
        count,
        input: [side; 2],
        cin,
        cout,
        kernel: [kernel; 2],
        stride: [stride; 2],
        padding: [padding; 2],
    }
}

#[test]
fn the_models_kinds() {
    for (seed, conv) in [
        square(2, 12, [3, 8], [7, 2, 3]),
        square(2, 8, [8, 16], [3, 1, 1]),
        square(2, 8, [16, 24], [3, 2, 1]),
        square(2, 8, [16, 8], [1, 2, 0]),
        square(2, 8, [16, 8], [1, 1, 0]),
        square(2, 8, [8, 16], [4, 2, 1]),
        square(1, 6, [3, 3], [3, 1, 1]),
    ]
    .into_iter()
    .enumerate()
    {
        check_all(conv, seed as u64);
    }
}

#[test]
fn awkward_kinds() {
    let odd =
        Conv { count: 3, input: [7, 10], cin: 6, cout: 10, kernel: [2, 5], stride: [3, 1], padding: [0, 2] };
    let cases = [
        odd,
        Conv { cin: 5, cout: 7, ..odd },
        Conv { cin: 1, cout: 1, ..odd },
        Conv { stride: [1, 4], ..odd },
        Conv { count: 1, input: [1, 1], kernel: [1, 1], stride: [1, 1], padding: [3, 3], ..odd },
        Conv { input: [5, 5], kernel: [1, 1], stride: [3, 3], padding: [0, 0], ..odd },
    ];
    for (seed, conv) in cases.into_iter().enumerate() {
        check_all(conv, 100 + seed as u64);
    }
}

/// A transposed convolution's forward pass is the dgrad of the convolution that leads back.
#[test]
fn a_transposed_convolution_is_a_dgrad() {
    let conv = square(2, 8, [8, 16], [4, 2, 1]);
    let [height, width] = conv.output();
    let (x, w) = (numbers(2 * height * width * 16, 5), numbers(16 * 16 * 8, 6));
    let run = |x: &[f64], w: &[f64]| {
        let x = tensor(&[2, height, width, 16], x);
        x.conv_transpose2d(&tensor(&[16, 4, 4, 8], w), None, ConvTranspose2d::square(2, 1))
            .unwrap()
            .to_f64()
            .unwrap()
    };
    let magnitude = |x: &[f64]| x.iter().map(|x| x.abs()).collect::<Vec<f64>>();
    let (want, bound) = (run(&x, &w), run(&magnitude(&x), &magnitude(&w)));
    let plan = conv.dgrad(Epilogue::plain(Dtype::F16), targets()[0]).unwrap();
    check("conv_transpose2d", &plan, [&x, &w], [&want, &bound], 16 * 16, Dtype::F16);
}

#[test]
fn many_channels_have_no_bank_conflicts() {
    for conv in [square(2, 8, [64, 64], [3, 1, 1]), square(2, 8, [64, 128], [3, 2, 1])] {
        for report in check_all(conv, 9) {
            assert_eq!(report.bank_conflicts, 0, "{conv:?}");
        }
    }
}

#[test]
fn sizes_that_make_no_sense_are_errors() {
    let good = square(2, 8, [8, 8], [3, 1, 1]);
    for conv in [
        Conv { count: 0, ..good },
        Conv { cin: 0, ..good },
        Conv { stride: [0, 1], ..good },
        Conv { kernel: [11, 3], ..good },
        Conv { count: 1 << 30, ..good },
        Conv { padding: [u32::MAX, 1], ..good },
    ] {
        for plan in [
            conv.fprop(Epilogue::plain(Dtype::F16), targets()[0]),
            conv.dgrad(Epilogue::plain(Dtype::F16), targets()[0]),
            conv.wgrad(Epilogue::plain(Dtype::F16), targets()[0]),
        ] {
            assert!(plan.unwrap_err().to_string().starts_with("conv: "));
        }
    }
}

#[test]
fn no_specification_of_the_catalogue_is_refused() {
    for target in Target::ALL {
        // Eight convolutions: fprop, wgrad, a dgrad a phase of the stride, and six sums of parts.
        assert_eq!(ssmv_kernels::conv::catalogue(target).len(), 45);
    }
}
