//! The rows of what works on images: convolutions, pooling, upsampling, moved axes, losses.

use ssmv_kernels::{
    Plan, Target,
    conv::Conv,
    gemm::{Dtype, Epilogue},
    layout::{Permute, Repeat, Slice},
    loss::{Loss, LossKind},
    max_pool::MaxPool,
    ptx::F16,
    upsample::Nearest,
};

use crate::cases::{
    Case,
    Content::{Bytes, Halves, Singles, Stale},
    Size, plain, planned,
};

const IN_RANGE: &str = "the shapes are in range";

/// The rows, at the shapes of `base` for 16 sequences of 10 frames.
pub fn cases(size: Size, target: Target) -> Vec<Case> {
    [conv_cases, pool_cases, upsample_cases, layout_cases, loss_cases]
        .iter()
        .flat_map(|f| f(size, target))
        .collect()
}

/// The stem, a convolution of each stage, and the one of the decoder that a transposed convolution is the adjoint of.
fn conv_cases(size: Size, target: Target) -> Vec<Case> {
    let conv = |count, side, [cin, cout]: [u32; 2], kernel, stride, padding| Conv {
        count: size.of(count, 1),
        input: [side; 2],
        cin,
        cout,
        kernel: [kernel; 2],
        stride: [stride; 2],
        padding: [padding; 2],
    };
    let convs = [
        conv(160, 64, [3, 64], 7, 2, 3),
        conv(160, 16, [64, 64], 3, 1, 1),
        conv(160, 16, [64, 128], 3, 2, 1),
        conv(160, 8, [128, 128], 3, 1, 1),
        conv(160, 4, [256, 256], 3, 1, 1),
        conv(160, 4, [256, 512], 3, 1, 1),
        conv(32, 16, [256, 512], 4, 2, 1),
    ];
    convs.iter().flat_map(|conv| conv_passes(conv, target)).collect()
}

fn conv_passes(conv: &Conv, target: Target) -> Vec<Case> {
    let Conv { count, input: [height, width], cin, cout, kernel: [side, _], stride: [stride, _], .. } = *conv;
    let product = |sizes: [u32; 4]| sizes.iter().map(|&n| u64::from(n)).product::<u64>();
    let [rows, columns] = conv.output();
    let (x, y) = (product([count, height, width, cin]), product([count, rows, columns, cout]));
    let w = product([cout, side, side, cin]);
    let operations = 2 * y * product([side, side, cin, 1]);
    let half = Epilogue::plain(Dtype::F16);
    let passes = [
        ("", conv.fprop(half, target), vec![Halves(x), Halves(w), Stale(2 * y)]),
        (", dx", conv.dgrad(half, target), vec![Halves(y), Halves(w), Stale(2 * x)]),
        (
            ", dw in f32",
            conv.wgrad(Epilogue::plain(Dtype::F32), target),
            vec![Halves(y), Halves(x), Stale(4 * w)],
        ),
    ];
    let case = |(pass, plan, buffers)| {
        let plan: Plan = Result::expect(plan, IN_RANGE);
        let what = format!("conv {side}×{side}/{stride} {cin}→{cout}{pass}");
        let workspace = (plan.workspace_bytes > 0).then_some(plan.workspace_bytes);
        let shape = format!("{count}×{height}×{width}");
        Case { tensor: true, ..planned("conv", &what, shape, plan.kernels, buffers, workspace, operations) }
    };
    passes.into_iter().map(case).collect()
}

/// Behind the stem.
fn pool_cases(size: Size, target: Target) -> Vec<Case> {
    let spec =
        MaxPool { count: size.of(160, 2), input: [32; 2], channels: 64, kernel: 3, stride: 2, padding: 1 };
    let x = u64::from(spec.count) * 32 * 32 * 64;
    let (y, shape) = (x / 4, format!("{}×32×32×64", spec.count));
    let forward = spec.forward::<F16>(target).expect(IN_RANGE);
    let backward = spec.backward::<F16>(target).expect(IN_RANGE);
    let buffers = vec![Halves(x), Stale(2 * y), Stale(y)];
    let back = vec![Halves(y), Bytes(y), Stale(2 * x)];
    vec![
        plain("max_pool", "max-pool 3/2/1 f16", shape.clone(), forward, buffers),
        plain("max_pool", "max-pool 3/2/1 f16, backward", shape, backward, back),
    ]
}

/// The decoder's first and last.
fn upsample_cases(size: Size, target: Target) -> Vec<Case> {
    let mut cases = Vec::new();
    for (side, channels) in [(4, 512), (32, 32)] {
        let spec = Nearest { count: size.of(32, 1), input: [side; 2], channels, factor: 2 };
        let x = u64::from(spec.count) * u64::from(side * side * channels);
        let shape = format!("{}×{side}×{side}×{channels}", spec.count);
        let forward = spec.forward::<F16>(target).expect(IN_RANGE);
        let backward = spec.backward::<F16>(target).expect(IN_RANGE);
        let (there, back) = (vec![Halves(x), Stale(8 * x)], vec![Halves(4 * x), Stale(2 * x)]);
        cases.push(plain("upsample", "nearest ×2 f16", shape.clone(), forward, there));
        cases.push(plain("upsample", "nearest ×2 f16, backward", shape, backward, back));
    }
    cases
}

/// Frames out of channels, channels last, the skips' frames, a column range, copies.
fn layout_cases(size: Size, target: Target) -> Vec<Case> {
    let batch = size.of(16, 1);
    let mut cases = Vec::new();
    for (shape, axes) in
        [(vec![batch, 64, 64, 2, 32], vec![0, 3, 1, 2, 4]), (vec![10 * batch, 3, 64, 64], vec![0, 2, 3, 1])]
    {
        let n = shape.iter().map(|&n| u64::from(n)).product();
        let what = format!("permute {axes:?} f16");
        let sizes = shape.iter().map(u32::to_string).collect::<Vec<_>>().join("×");
        let kernel = Permute { shape, axes }.kernel::<F16>(target).expect(IN_RANGE);
        cases.push(plain("layout", &what, sizes, kernel, vec![Halves(n), Stale(2 * n)]));
    }
    let slices = [
        ("the last frames", Slice { outer: batch, from: 10, start: 7, len: 3, inner: 16 * 16 * 64 }),
        ("half of each row", Slice { outer: 10 * batch, from: 4096, start: 2048, len: 2048, inner: 1 }),
    ];
    for (name, slice) in slices {
        let Slice { outer, from, start, len, inner } = slice;
        let of = |axis: u32| u64::from(outer) * u64::from(axis) * u64::from(inner);
        let shape = format!("{outer}×{from}×{inner}, {start} to {}", start + len - 1);
        let (take, pad) =
            (slice.take::<F16>(target).expect(IN_RANGE), slice.pad::<F16>(target).expect(IN_RANGE));
        let buffers = vec![Halves(of(from)), Stale(2 * of(len))];
        cases.push(plain("layout", &format!("slice f16, {name}"), shape.clone(), take, buffers));
        let buffers = vec![Halves(of(len)), Stale(2 * of(from))];
        cases.push(plain("layout", &format!("pad f16, {name}"), shape, pad, buffers));
    }
    let repeat = Repeat { outer: batch, count: 2, inner: 16_384 };
    let x = u64::from(batch) * 16_384;
    let shape = format!("{batch}×2×16384");
    let (there, back) =
        (repeat.forward::<F16>(target).expect(IN_RANGE), repeat.backward::<F16>(target).expect(IN_RANGE));
    cases.push(plain("layout", "repeat f16", shape.clone(), there, vec![Halves(x), Stale(4 * x)]));
    cases.push(plain("layout", "repeat f16, backward", shape, back, vec![Halves(2 * x), Stale(2 * x)]));
    cases
}

/// Of two frames of each sequence.
fn loss_cases(size: Size, target: Target) -> Vec<Case> {
    let n = size.of(16, 1) * 2 * 64 * 64 * 3;
    let count = u64::from(n);
    let mut cases = Vec::new();
    for kind in LossKind::ALL {
        let loss = Loss { kind, n };
        let plan = loss.forward::<F16>(target).expect(IN_RANGE);
        let backward = loss.backward::<F16>(target).expect(IN_RANGE);
        let buffers = vec![Halves(count), Halves(count), Stale(4)];
        let (workspace, what) = (Some(plan.workspace_bytes), format!("{kind:?} f16"));
        let shape = format!("{n}");
        cases.push(planned("loss", &what, shape.clone(), plan.kernels, buffers, workspace, 3 * count));
        let buffers = vec![Halves(count), Halves(count), Singles(1), Stale(2 * count)];
        cases.push(plain("loss", &format!("{what}, backward"), shape, backward, buffers));
    }
    cases
}
