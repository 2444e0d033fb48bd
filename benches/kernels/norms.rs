//! The normalisations at the shapes of `base`: whole passes, all their launches together.

use ssmv_kernels::{
    Kernel, Target, Work,
    batch_norm::{Apply, InputGradient, Mode, Statistics, Sums},
    layer_norm::LayerNorm,
    ptx::F16,
    softmax::Softmax,
};

use crate::cases::{Arg, Case, Content, Launch, Size};

const EPS: Arg = Arg::F32(1e-5);

/// Batch normalisation of the first and the last maps of the encoder, layer normalisation of the Mamba layers' rows, softmax of
/// rows of the same size.
pub fn cases(size: Size, target: Target) -> Vec<Case> {
    let maps = [(size.of(160 * 32 * 32, 1024), 64), (size.of(160 * 4 * 4, 256), 512)];
    let maps = maps.into_iter().flat_map(|(rows, cols)| batch_norm(rows, cols, target));
    let (rows, cols) = (size.of(1600, 16), 1024);
    maps.chain(layer_norm(LayerNorm { rows, cols }, target)).chain(softmax(rows, cols, target)).collect()
}

/// A launch with buffers, and then numbers.
fn launch(kernel: ssmv_kernels::Result<Kernel>, buffers: &[usize], numbers: &[Arg]) -> Launch {
    let args = buffers.iter().copied().map(Arg::Buffer).chain(numbers.iter().copied()).collect();
    Launch { kernel: kernel.expect("the shapes are in range"), args }
}

fn case(
    family: &'static str,
    what: &str,
    spec: [u32; 2],
    launches: Vec<Launch>,
    buffers: &[Content],
) -> Case {
    let [rows, cols] = spec;
    // Each launch reads again what the one before read: its sums must be known first.
    let work = launches.iter().map(|launch| launch.kernel.work).fold(Work::default(), |sum, work| Work {
        bytes: sum.bytes + work.bytes,
        operations: sum.operations + work.operations,
    });
    Case {
        family,
        what: what.to_owned(),
        shape: format!("{rows}×{cols}"),
        before: vec![],
        launches,
        buffers: buffers.to_vec(),
        work,
        tensor: false,
    }
}

/// Forward in training and in evaluation, and backward, as a residual block ends: with its residual and a ReLU.
fn batch_norm(rows: u32, cols: u32, target: Target) -> Vec<Case> {
    use Content::{Halves, Positive, Singles, Stale};
    let (relu, residual) = (true, true);
    let statistics = Statistics { rows, cols };
    let sums = Sums { rows, cols, relu };
    let apply = |mode| Apply { rows, cols, mode, relu, residual }.kernel::<F16>(target);
    let gradient = InputGradient { rows, cols, mode: Mode::Train, relu, residual };
    let (count, channels) = (u64::from(rows) * u64::from(cols), u64::from(cols));
    let of_channels = || Singles(channels);

    // x, residual, y; γ, β, running mean and variance, mean, 1/√(σ² + ε); groups.
    let forward = [
        Halves(count),
        Halves(count),
        Stale(2 * count),
        of_channels(),
        of_channels(),
        of_channels(),
        Positive(channels),
        Stale(4 * channels),
        Stale(4 * channels),
        Stale(statistics.workspace_bytes()),
    ];
    let training = vec![
        launch(statistics.partials::<F16>(target), &[0, 9], &[]),
        launch(statistics.finish(target), &[9, 5, 6, 7, 8], &[EPS, Arg::F32(0.1)]),
        launch(apply(Mode::Train), &[0, 3, 4, 7, 8, 1, 2], &[EPS]),
    ];
    let evaluation = vec![launch(apply(Mode::Eval), &[0, 3, 4, 5, 6, 1, 2], &[EPS])];

    // dy, x, y, dx, the residual's gradient; γ, mean, 1/√(σ² + ε), dγ, dβ; sums.
    let backward = [
        Halves(count),
        Halves(count),
        Halves(count),
        Stale(2 * count),
        Stale(2 * count),
        of_channels(),
        of_channels(),
        Positive(channels),
        Stale(4 * channels),
        Stale(4 * channels),
        Stale(sums.workspace_bytes()),
    ];
    let gradients = vec![
        launch(sums.partials::<F16>(target), &[0, 1, 2, 6, 10], &[]),
        launch(sums.finish(Mode::Train, target), &[10, 7, 8, 9], &[EPS]),
        launch(gradient.kernel::<F16>(target), &[0, 1, 2, 5, 6, 7, 8, 9, 3, 4], &[EPS]),
    ];
    let case = |what, launches, buffers: &[_]| case("batch_norm", what, [rows, cols], launches, buffers);
    vec![
        case("batch norm, residual, relu f16, training", training, &forward),
        case("batch norm, residual, relu f16, evaluation", evaluation, &forward),
        case("batch norm, residual, relu f16, backward", gradients, &backward),
    ]
}

fn layer_norm(spec: LayerNorm, target: Target) -> [Case; 2] {
    use Content::{Halves, Singles, Stale};
    let LayerNorm { rows, cols } = spec;
    let (count, n) = (u64::from(rows) * u64::from(cols), u64::from(cols));
    let forward = vec![launch(spec.forward::<F16>(target), &[0, 1, 2, 3], &[EPS])];
    let plan = spec.backward::<F16>(target).expect("the shapes are in range");
    let backward = plan.kernels.into_iter().map(|kernel| launch(Ok(kernel), &[0, 1, 2, 3, 4, 5, 6], &[EPS]));
    let gradients = [
        Halves(count),
        Singles(n),
        Halves(count),
        Stale(2 * count),
        Stale(4 * n),
        Stale(4 * n),
        Stale(plan.workspace_bytes),
    ];
    let case = |what, launches, buffers: &[_]| case("layer_norm", what, [rows, cols], launches, buffers);
    [
        case("layer norm f16", forward, &[Halves(count), Singles(n), Singles(n), Stale(2 * count)]),
        case("layer norm f16, backward", backward.collect(), &gradients),
    ]
}

fn softmax(rows: u32, cols: u32, target: Target) -> [Case; 2] {
    use Content::{Halves, Stale};
    let (spec, count) = (Softmax { rows, cols, log: false }, u64::from(rows) * u64::from(cols));
    let case = |what, launches, buffers: &[_]| case("softmax", what, [rows, cols], launches, buffers);
    let forward = vec![launch(spec.forward::<F16>(target), &[0, 1], &[])];
    let backward = vec![launch(spec.backward::<F16>(target), &[0, 1, 2], &[])];
    [
        case("softmax f16", forward, &[Halves(count), Stale(2 * count)]),
        case("softmax f16, backward", backward, &[Halves(count), Halves(count), Stale(2 * count)]),
    ]
}
