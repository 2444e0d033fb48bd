//! The rows of Mamba's mixer: the causal convolution and the selective scan.

use ssmv_kernels::{Kernel, Target, causal_conv1d::CausalConv1d, ptx::F16, selective_scan::SelectiveScan};

use crate::cases::{
    Case,
    Content::{self, Halves, Singles, Stale},
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
    let backward = (plan.kernels, plan.workspace_bytes);
    both("causal_conv1d", "causal conv1d, silu f16", &shape, (forward, there), (backward, back))
}

/// The rows of both passes: a forward kernel, and a backward plan with its workspace; each with its buffers.
fn both(
    family: &'static str,
    what: &str,
    shape: &str,
    (forward, there): (Kernel, Vec<Content>),
    ((kernels, workspace), back): ((Vec<Kernel>, u64), Vec<Content>),
) -> [Case; 2] {
    let operations = [forward.work.operations, kernels[0].work.operations];
    let backward = format!("{what}, backward");
    [
        planned(family, what, shape.to_owned(), vec![forward], there, None, operations[0]),
        planned(family, &backward, shape.to_owned(), kernels, back, Some(workspace), operations[1]),
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
    let backward = (plan.kernels, plan.workspace_bytes);
    both("selective_scan", "selective scan, all fused, f16", &shape, (forward, there), (backward, back))
}
