//! What is measured: each family's kernels at the shapes of `base`, with the buffers that they take.

use ssmv_kernels::{
    Kernel, Target, Work,
    gemm::{Activation, Dtype, Epilogue, Gemm},
    optim::{StepState, adamw, decay_bitmap, grad_norm, optimiser_step, partial_sums},
    pointwise::{self, ACTIVATIONS, Arithmetic, Frames},
    ptx::{F16, F32},
    reduce,
    span::Real,
    tile::Major,
};
use ssmv_raw::model::Preset;

use crate::{images, norms, sequences};

/// What a buffer holds at first; counts are of elements.
#[derive(Clone, Debug)]
pub enum Content {
    /// Random f16 from −1 to 1.
    Halves(u64),
    /// Random f32 from −1 to 1.
    Singles(u64),
    /// Random f32 from 0 to 1.
    Positive(u64),
    /// Random bytes.
    Bytes(u64),
    /// Whatever there is, this many bytes: a kernel writes them.
    Stale(u64),
    /// Exactly this.
    Exactly(Vec<u8>),
}

impl Content {
    fn bytes(&self) -> u64 {
        match self {
            Self::Halves(n) => 2 * n,
            Self::Singles(n) | Self::Positive(n) => 4 * n,
            Self::Bytes(n) | Self::Stale(n) => *n,
            Self::Exactly(bytes) => bytes.len() as u64,
        }
    }
}

/// An argument of a launch.
#[derive(Clone, Copy, Debug)]
pub enum Arg {
    /// The buffer of this number.
    Buffer(usize),
    /// A number as a 32-bit float.
    F32(f32),
}

/// A kernel with its arguments.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Kernel that is launched.
    pub kernel: Kernel,
    /// One a parameter.
    pub args: Vec<Arg>,
}

/// One row of the table: launches that are timed together.
#[derive(Clone, Debug)]
pub struct Case {
    /// Family of the kernels.
    pub family: &'static str,
    /// Name of the computation.
    pub what: String,
    /// Shape of the operands.
    pub shape: String,
    /// Launches that come once, before.
    pub before: Vec<Launch>,
    /// The launches.
    pub launches: Vec<Launch>,
    /// Their buffers.
    pub buffers: Vec<Content>,
    /// The least that the whole must move and do; where an intermediate result is moved, it is not counted.
    pub work: Work,
    /// Whether tensor cores do the operations.
    pub tensor: bool,
}

/// How large the shapes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// The model's own sizes.
    Full,
    /// What an emulator does in moments.
    Small,
}

impl Size {
    /// A number of a shape.
    pub fn of(self, full: u32, small: u32) -> u32 {
        if self == Self::Full { full } else { small }
    }
}

/// The rows of all families.
pub fn cases(size: Size, target: Target) -> Vec<Case> {
    let families = [
        pointwise_cases,
        reduce_cases,
        optimiser_cases,
        gemm_cases,
        images::cases,
        norms::cases,
        sequences::cases,
    ];
    families.iter().flat_map(|f| f(size, target)).collect()
}

/// A case of one kernel whose parameters are its buffers in order.
pub fn plain(family: &'static str, what: &str, shape: String, kernel: Kernel, buffers: Vec<Content>) -> Case {
    let work = kernel.work;
    Case { work, ..planned(family, what, shape, vec![kernel], buffers, None, work.operations) }
}

/// A case of kernels of which each takes the same buffers in order, and behind them a workspace of so many bytes where
/// there is one. What must be moved is every buffer once, but not the workspace.
pub fn planned(
    family: &'static str,
    what: &str,
    shape: String,
    kernels: Vec<Kernel>,
    mut buffers: Vec<Content>,
    workspace: Option<u64>,
    operations: u64,
) -> Case {
    let work = Work { bytes: buffers.iter().map(Content::bytes).sum(), operations };
    buffers.extend(workspace.map(|bytes| Content::Stale(bytes.max(4))));
    let args: Vec<_> = (0..buffers.len()).map(Arg::Buffer).collect();
    let launches = kernels.into_iter().map(|kernel| Launch { kernel, args: args.clone() }).collect();
    Case { family, what: what.to_owned(), shape, before: vec![], launches, buffers, work, tensor: false }
}

/// The first feature maps of `base`: 160 frames of 64×64 with 64 channels.
fn pointwise_cases(size: Size, target: Target) -> Vec<Case> {
    use Content::{Bytes, Halves, Singles, Stale};
    let n = size.of(160 * 64 * 64 * 64, 1 << 16);
    let (count, shape) = (u64::from(n), format!("{n}"));
    let case = |what: &str, kernel, buffers| plain("pointwise", what, shape.clone(), kernel, buffers);
    let mut cases = Vec::new();
    for f in ACTIVATIONS.iter().filter(|f| ["relu", "silu", "softplus"].contains(&f.name)) {
        let name = f.name;
        let (forward, backward) = (f.forward::<F16>(n, target), f.backward::<F16>(n, target));
        cases.push(case(&format!("{name} f16"), forward, vec![Halves(count), Stale(2 * count)]));
        let buffers = vec![Halves(count), Halves(count), Stale(2 * count)];
        cases.push(case(&format!("{name} f16, backward"), backward, buffers));
    }
    let (sum, onto) = (Arithmetic::Add.kernel::<F16>(n, target), pointwise::accumulate::<F16>(n, target));
    cases.push(case("add f16", sum, vec![Halves(count), Halves(count), Stale(2 * count)]));
    cases.push(case("f32 += f16", onto, vec![Halves(count), Singles(count)]));
    let (down, up) = (pointwise::cast::<F32, F16>(n, target), pointwise::cast::<F16, F32>(n, target));
    cases.push(case("f32 to f16", down, vec![Singles(count), Stale(2 * count)]));
    cases.push(case("f16 to f32", up, vec![Halves(count), Stale(4 * count)]));
    let mut scale =
        case("scale f16", pointwise::scale::<F16>(n, target), vec![Halves(count), Stale(2 * count)]);
    scale.launches.iter_mut().for_each(|launch| launch.args.push(Arg::F32(0.37)));
    cases.push(scale);

    let (rows, cols) = (160, size.of(16_384, 1024));
    let count = u64::from(rows * cols);
    let bias = pointwise::bias::<F16>(rows, cols, target);
    let buffers = vec![Halves(count), Halves(cols.into()), Stale(2 * count)];
    cases.push(plain("pointwise", "bias f16", format!("{rows}×{cols}"), bias, buffers));
    let sequences = size.of(16, 1);
    let frames =
        Frames { sequences, steps: 12, first: 0, count: 10, frame_bytes: 64 * 64, grey_to_rgb: true };
    let bytes = u64::from(sequences) * 12 * 64 * 64;
    let buffers = vec![Bytes(bytes), Stale(bytes / 12 * 10 * 3 * 2)];
    let shape = format!("{sequences}×10×64×64");
    cases.push(plain("pointwise", "frames to f16 RGB", shape, frames.normalise::<F16>(target), buffers));
    cases
}

/// Arrays, rows and columns.
fn reduce_cases(size: Size, target: Target) -> Vec<Case> {
    let n = size.of(160 * 64 * 64 * 64, 1 << 16);
    let whole = |reduction, what: &str| {
        let plan = reduce::whole::<F16>(reduction, n, target);
        reduction_case(&format!("{what} f16"), plan, format!("{n}"), u64::from(n), 1)
    };
    let mut cases = vec![
        whole(reduce::SUM, "sum"),
        whole(reduce::MAX_ABS, "max |x|"),
        whole(reduce::NON_FINITE, "finite?"),
    ];
    for [rows, cols] in [[160, 16_384], [size.of(160 * 64 * 64, 1024), 64]] {
        let (shape, count) = (format!("{rows}×{cols}"), u64::from(rows) * u64::from(cols));
        let (over_rows, over_cols) =
            (reduce::row_sums::<F16>(rows, cols, target), reduce::col_sums::<F16>(rows, cols, target));
        cases.push(reduction_case("row sums f16", over_rows, shape.clone(), count, rows.into()));
        cases.push(reduction_case("column sums f16", over_cols, shape, count, cols.into()));
    }
    cases
}

/// A plan of one or two launches, on f16.
fn reduction_case(what: &str, plan: ssmv_kernels::Plan, shape: String, count: u64, results: u64) -> Case {
    let work = Work { bytes: 2 * count + 4 * results, operations: count };
    let buffers = vec![
        Content::Halves(count),
        Content::Stale(plan.workspace_bytes.max(4)),
        Content::Stale(4 * results),
    ];
    let launch = |kernel, from, to| Launch { kernel, args: vec![Arg::Buffer(from), Arg::Buffer(to)] };
    let mut kernels = plan.kernels.into_iter();
    let launches = match (kernels.next(), kernels.next()) {
        (Some(first), Some(second)) => vec![launch(first, 0, 1), launch(second, 1, 2)],
        (first, _) => first.into_iter().map(|only| launch(only, 0, 2)).collect(),
    };
    Case {
        family: "reduce",
        what: what.to_owned(),
        shape,
        before: vec![],
        launches,
        buffers,
        work,
        tensor: false,
    }
}

/// A step of the optimiser over the parameters of `base`: its parts, and the whole.
fn optimiser_cases(size: Size, target: Target) -> Vec<Case> {
    let n = size.of(230_046_080, 76_800);
    vec![
        adamw_case::<F16>("AdamW, f16 gradients and copy", n, true, target),
        adamw_case::<F32>("AdamW, f32 gradients", n, false, target),
        optimiser_case(n, target),
    ]
}

/// Parameters, both moments, gradients, the copy, the map of decay, the state, the norm's partial sums.
fn arenas<G: Real>(n: u32) -> Vec<Content> {
    let count = u64::from(n);
    let all = 0..n as usize;
    let decaying = decay_bitmap(n, &[all]).expect("the whole arena can decay");
    let gradients = if G::BYTES == 2 { Content::Halves(count) } else { Content::Singles(count) };
    vec![
        Content::Singles(count),
        Content::Singles(count),
        Content::Positive(count),
        gradients,
        Content::Stale(2 * count),
        Content::Exactly(decaying.iter().flat_map(|word| word.to_le_bytes()).collect()),
        Content::Exactly(StepState { rate: 1e-4, ..StepState::default() }.to_bytes().to_vec()),
        Content::Stale(8 * u64::from(partial_sums(n))),
    ]
}

fn norm_and_step<G: Real>(n: u32, target: Target) -> [Launch; 2] {
    [
        Launch { kernel: grad_norm::<G>(n, target), args: [3, 7].map(Arg::Buffer).into() },
        Launch { kernel: optimiser_step(n, target), args: [7, 6].map(Arg::Buffer).into() },
    ]
}

fn adamw_launch<G: Real>(n: u32, copy: bool, target: Target) -> Launch {
    let buffers: &[usize] = if copy { &[0, 1, 2, 3, 4, 5, 6] } else { &[0, 1, 2, 3, 5, 6] };
    Launch { kernel: adamw::<G>(n, copy, target), args: buffers.iter().copied().map(Arg::Buffer).collect() }
}

fn adamw_case<G: Real>(what: &str, n: u32, copy: bool, target: Target) -> Case {
    let launch = adamw_launch::<G>(n, copy, target);
    Case {
        family: "adamw",
        what: what.to_owned(),
        shape: format!("{n}"),
        before: norm_and_step::<G>(n, target).into(),
        work: launch.kernel.work,
        launches: vec![launch],
        buffers: arenas::<G>(n),
        tensor: false,
    }
}

fn optimiser_case(n: u32, target: Target) -> Case {
    let launches: Vec<_> =
        norm_and_step::<F16>(n, target).into_iter().chain([adamw_launch::<F16>(n, true, target)]).collect();
    // The gradients are read twice: the norm must be known before the first parameter changes.
    let work = launches.iter().fold(Work::default(), |sum, launch| Work {
        bytes: sum.bytes + launch.kernel.work.bytes,
        operations: sum.operations + launch.kernel.work.operations,
    });
    Case {
        family: "adamw",
        what: "norm, step and AdamW, f16".to_owned(),
        shape: format!("{n}"),
        before: vec![],
        launches,
        buffers: arenas::<F16>(n),
        work,
        tensor: false,
    }
}

/// 4096³, the linear layers of `base`, and its encoder's convolutions as the products that they are, for 16 sequences of
/// 10 frames.
fn gemm_cases(size: Size, target: Target) -> Vec<Case> {
    use Major::{K, Outer};
    let linear = |what: &str, m, k, n| (what.to_owned(), [m, n, k], [K, K], Epilogue::plain(Dtype::F16));
    let mut rows = vec![
        linear("square", 4096, 4096, 4096),
        ("square, B not transposed".to_owned(), [4096; 3], [K, Outer], Epilogue::plain(Dtype::F16)),
        linear("linear 16384→1024", 160, 16_384, 1024),
        linear("linear 1024→16384", 160, 1024, 16_384),
        linear("linear 1024→4096", 160, 1024, 4096),
        linear("linear 2048→1024", 160, 2048, 1024),
    ];
    let fused =
        Epilogue { bias: Some(Dtype::F16), activation: Activation::Silu, ..Epilogue::plain(Dtype::F16) };
    rows.push(("linear 1024→4096, bias, silu".to_owned(), [160, 4096, 1024], [K, K], fused));
    let weight = Epilogue { residual: true, ..Epilogue::plain(Dtype::F32) };
    rows.push(("weights' gradient, f32 +=".to_owned(), [1024, 16_384, 160], [Outer, Outer], weight));
    rows.extend(convolutions().into_iter().map(|(what, m, k, n)| linear(&what, m, k, n)));
    rows.into_iter()
        .map(|(what, mnk, majors, epilogue)| gemm_case(&what, mnk, majors, epilogue, size, target))
        .collect()
}

/// The encoder's convolutions as products [m, k]·[k, n]: a row of A is the patch under a pixel of the output.
fn convolutions() -> Vec<(String, u32, u32, u32)> {
    const FRAMES: usize = 16 * 10;
    let base = Preset::find("base").expect("there is a preset `base`");
    let mut found = Vec::new();
    let mut add = |side: usize, cin: usize, cout: usize, kernel: usize| {
        let what = format!("conv {kernel}×{kernel} {cin}→{cout}, {side}×{side}");
        let row = (what, (FRAMES * side * side) as u32, (kernel * kernel * cin) as u32, cout as u32);
        if !found.contains(&row) {
            found.push(row);
        }
    };
    add(base.size / 2, ssmv_raw::model::CHANNELS, base.stem, 7);
    let (mut channels, mut side) = (base.stem, base.size / 4);
    for stage in base.stages {
        side /= stage.stride;
        add(side, channels, stage.channels, 3);
        add(side, stage.channels, stage.channels, 3);
        channels = stage.channels;
    }
    found
}

fn gemm_case(
    what: &str,
    full: [u32; 3],
    [a, b]: [Major; 2],
    epilogue: Epilogue,
    size: Size,
    target: Target,
) -> Case {
    let [m, n, k] = full.map(|x| size.of(x, x.min(192)));
    let plan = Gemm { m, n, k, a, b, epilogue }.plan(target).expect("the shapes are in range");
    let [m, n, k] = [m, n, k].map(u64::from);
    let output = u64::from(epilogue.output.bytes()) * m * n;
    let mut buffers = vec![Content::Halves(m * k), Content::Halves(n * k)];
    let mut bytes = 2 * (m * k + n * k) + output;
    if epilogue.bias.is_some() {
        buffers.push(Content::Halves(n));
        bytes += 2 * n;
    }
    let mut args: Vec<_> = (0..buffers.len()).map(Arg::Buffer).collect();
    let c = if epilogue.residual { Content::Singles(m * n) } else { Content::Stale(output) };
    // The residual is C itself.
    args.extend(epilogue.residual.then_some(Arg::Buffer(buffers.len())));
    bytes += if epilogue.residual { output } else { 0 };
    args.push(Arg::Buffer(buffers.len()));
    buffers.push(c);
    if plan.workspace_bytes > 0 {
        args.push(Arg::Buffer(buffers.len()));
        buffers.push(Content::Stale(plan.workspace_bytes));
    }
    let launches = plan.kernels.into_iter().map(|kernel| Launch { kernel, args: args.clone() }).collect();
    Case {
        family: "gemm",
        what: what.to_owned(),
        shape: format!("{m}×{n}×{k}"),
        before: vec![],
        launches,
        buffers,
        work: Work { bytes, operations: 2 * m * n * k },
        tensor: true,
    }
}
