//! The rows of Mamba's mixer: the causal convolution and the selective scan.

use ssmv_kernels::{Target, causal_conv1d::CausalConv1d, ptx::F16, selective_scan::SelectiveScan};

use crate::cases::{
    Case,
    Content::{Halves, Singles, Stale},
    Size, planned,
};

const IN_RANGE: &str = "the shapes are in range";

/// Sequences, steps, channels: those of `base` at two batch sizes, and long ones.
const SHAPES: [[u32; 3]; 3] = [[16, 10, 2048], [64, 10, 2048], [4, 1000, 512]];

/// The rows.
pub fn cases(size: Size, target: Target) -> Vec<Case> {
    let small = |[batch, length, channels]: [u32; 3]| {
        [size.of(batch, 1), size.of(length, length.min(40)), size.of(channels, 64)]
    };
    let shapes = SHAPES.map(small);
    let convolutions = shapes.iter().flat_map(|&shape| convolution(shape, target));
    convolutions.chain(shapes.iter().flat_map(|&shape| scan(shape, target))).collect()
}

fn convolution([batch, length, channels]: [u32; 3], target: Target) -> [Case; 2] {
    let spec = CausalConv1d::mixer(batch, length, channels);
    let n = u64::from(batch) * u64::from(length) * u64::from(channels);
    let (bias, weight) = (u64::from(channels), u64::from(spec.taps) * u64::from(channels));
    let shape = format!("{batch}×{length}×{channels}");
    let forward = spec.forward::<F16>(target).expect(IN_RANGE);
    let plan = spec.backward::<F16>(target).expect(IN_RANGE);
    let inputs = vec![Halves(n), Singles(weight), Singles(bias)];
    let there = [inputs.clone(), vec![Stale(2 * n)]].concat();
    let back = [inputs, vec![Halves(n), Stale(2 * n), Stale(4 * weight), Stale(4 * bias)]].concat();
    let operations = [forward.work.operations, plan.kernels[0].work.operations];
    let (family, what) = ("causal_conv1d", "causal conv1d, silu f16");
    [
        planned(family, what, shape.clone(), vec![forward], there, None, operations[0]),
        planned(
            family,
            &format!("{what}, backward"),
            shape,
            plan.kernels.into(),
            back,
            Some(plan.workspace_bytes),
            operations[1],
        ),
    ]
}

fn scan([batch, length, channels]: [u32; 3], target: Target) -> [Case; 2] {
    const STATES: u32 = 16;
    let spec = SelectiveScan::mixer(batch, length, channels, STATES);
    let rows = u64::from(batch) * u64::from(length);
    let (d, states) = (u64::from(channels), u64::from(STATES));
    let (wide, narrow) = (rows * d, rows * states);
    let shape = format!("{batch}×{length}×{channels}×{STATES}");
    let forward = spec.forward::<F16>(target).expect(IN_RANGE);
    let plan = spec.backward::<F16>(target).expect(IN_RANGE);
    // u, delta, bias, A_log, B, C, D, z.
    let inputs = vec![
        Halves(wide),
        Halves(wide),
        Singles(d),
        Singles(d * states),
        Halves(narrow),
        Halves(narrow),
        Singles(d),
        Halves(wide),
    ];
    let there = [inputs.clone(), vec![Stale(2 * wide)]].concat();
    // dy, and a gradient for each input.
    let gradients = [2 * wide, 2 * wide, 4 * d, 4 * d * states, 2 * narrow, 2 * narrow, 4 * d, 2 * wide];
    let back = [inputs, vec![Halves(wide)], gradients.map(Stale).to_vec()].concat();
    let operations = [forward.work.operations, plan.kernels[0].work.operations];
    let (family, what) = ("selective_scan", "selective scan, all fused, f16");
    [
        planned(family, what, shape.clone(), vec![forward], there, None, operations[0]),
        planned(
            family,
            &format!("{what}, backward"),
            shape,
            plan.kernels.into(),
            back,
            Some(plan.workspace_bytes),
            operations[1],
        ),
    ]
}
