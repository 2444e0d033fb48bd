//! Parameters of a model: names, layouts here and in PyTorch, initial values.

use ssmv_autograd::{Arena, ArenaLayout, DType, Element, Shape, init::Init, ops::layout::permute};

use crate::Result;

/// Two layouts of one parameter: PyTorch's, in checkpoints, and the one in memory. PyTorch's shape, cut further into
/// `view`, has its axes put into `order`; the result, with axes merged, has the shape `internal`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Shape in PyTorch's layout.
    pub external: Vec<usize>,
    view: Vec<usize>,
    order: Vec<usize>,
    /// Shape in memory.
    pub internal: Vec<usize>,
}

impl Layout {
    /// The same in both.
    pub fn plain(shape: &[usize]) -> Self {
        let all = || shape.to_vec();
        Self { external: all(), view: all(), order: (0..shape.len()).collect(), internal: all() }
    }

    /// A convolution's weight: [A, B, kh, kw] there, [A, kh, kw, B] here.
    pub fn filter(a: usize, b: usize, kernel: usize) -> Self {
        let external = vec![a, b, kernel, kernel];
        Self {
            view: external.clone(),
            external,
            order: vec![0, 2, 3, 1],
            internal: vec![a, kernel, kernel, b],
        }
    }

    /// A depthwise causal convolution's weight: [D, 1, K] there, [K, D] here.
    pub fn depthwise(d: usize, taps: usize) -> Self {
        Self { external: vec![d, 1, taps], view: vec![d, taps], order: vec![1, 0], internal: vec![taps, d] }
    }

    /// A linear layer that reads a flattened map: its inputs are [C, H, W] there, [H, W, C] here.
    pub fn reads_map(out: usize, channels: usize, side: usize) -> Self {
        let cin = channels * side * side;
        Self {
            external: vec![out, cin],
            view: vec![out, channels, side * side],
            order: vec![0, 2, 1],
            internal: vec![out, cin],
        }
    }

    /// A linear layer that writes `maps` flattened maps: its outputs are [maps, C, H, W] there, [maps, H, W, C] here.
    /// Its weight if `cin` is given, else its bias.
    pub fn writes_maps(maps: usize, channels: usize, side: usize, cin: Option<usize>) -> Self {
        let out = maps * channels * side * side;
        let shape = |mut dims: Vec<usize>| {
            dims.extend(cin);
            dims
        };
        let mut order = vec![0, 2, 1];
        order.extend(cin.map(|_| 3));
        Self {
            external: shape(vec![out]),
            view: shape(vec![maps, channels, side * side]),
            order,
            internal: shape(vec![out]),
        }
    }

    /// Number of elements of the parameter.
    pub fn numel(&self) -> usize {
        self.external.iter().product()
    }

    /// From PyTorch's layout to the one in memory.
    pub fn import<T: Element>(&self, values: &[T]) -> Vec<T> {
        permute(values, &self.view, &self.order).to_vec()
    }

    /// From the layout in memory to PyTorch's.
    pub fn export<T: Element>(&self, values: &[T]) -> Vec<T> {
        let here: Vec<usize> = self.order.iter().map(|&axis| self.view[axis]).collect();
        let mut inverse = vec![0; self.order.len()];
        self.order.iter().enumerate().for_each(|(i, &axis)| inverse[axis] = i);
        permute(values, &here, &inverse).to_vec()
    }

    fn is_plain(&self) -> bool {
        self.order.is_sorted()
    }
}

/// Role of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// An operand of matrix products: decays; a GPU reads it from an f16 copy.
    Matrix,
    /// A filter of a few taps a channel: decays; f32 everywhere.
    Taps,
    /// A bias, a norm's scale, A_log, D: does not decay; f32 everywhere.
    Vector,
}

impl Role {
    /// True if weight decay applies.
    pub fn decays(self) -> bool {
        self != Self::Vector
    }

    /// True if a GPU reads it in f16.
    pub fn halved(self) -> bool {
        self == Self::Matrix
    }
}

/// Description of one parameter.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// Name in PyTorch.
    pub name: String,
    /// Layouts in PyTorch and in memory.
    pub layout: Layout,
    /// Role: decides its dtype and weight decay.
    pub role: Role,
    init: Init,
}

/// Index of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParamId(pub(super) usize);

/// Index of a batch normalisation's running statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NormId(pub(super) usize);

/// Running statistics of one batch normalisation.
#[derive(Clone, Debug, PartialEq)]
pub struct RunningStatistics {
    /// PyTorch's name of the module.
    pub name: String,
    /// Running mean of each channel.
    pub mean: Vec<f64>,
    /// Running (unbiased) variance of each channel.
    pub variance: Vec<f64>,
    /// Number of training batches in the statistics.
    pub batches: i64,
}

/// Collects the parameters of a model while it is built.
#[derive(Default)]
pub struct Builder {
    prefix: String,
    /// All parameters so far.
    pub parameters: Vec<Parameter>,
    /// All running statistics so far.
    pub norms: Vec<RunningStatistics>,
}

impl Builder {
    /// Runs `body` with `name.` before all names.
    pub fn scope<R>(&mut self, name: impl std::fmt::Display, body: impl FnOnce(&mut Self) -> R) -> R {
        let outer = self.prefix.len();
        self.prefix += &format!("{name}.");
        let made = body(self);
        self.prefix.truncate(outer);
        made
    }

    /// Adds a parameter.
    pub fn parameter(&mut self, name: &str, layout: Layout, init: Init, role: Role) -> ParamId {
        self.parameters.push(Parameter { name: format!("{}{name}", self.prefix), layout, role, init });
        ParamId(self.parameters.len() - 1)
    }

    /// Running statistics of the batch normalisation in scope: mean 0, variance 1.
    pub fn norm(&mut self, channels: usize) -> NormId {
        self.norms.push(RunningStatistics {
            name: self.prefix.trim_end_matches('.').to_owned(),
            mean: vec![0.0; channels],
            variance: vec![1.0; channels],
            batches: 0,
        });
        NormId(self.norms.len() - 1)
    }
}

/// An arena with the initial parameters of `seed`. Each parameter has its own random stream, so that a parameter of the same
/// name and shape in another preset has the same values.
pub fn initialise(parameters: &[Parameter], seed: u64, dtype: DType) -> Result<Arena> {
    let layout = ArenaLayout::new(parameters.iter().map(|p| Shape::from(&p.layout.internal)))?;
    let mut arena = Arena::new(layout, dtype)?;
    for (index, Parameter { name, layout, init, .. }) in parameters.iter().enumerate() {
        let external = init.values(&layout.external, seed, name);
        let values = if layout.is_plain() { external } else { layout.import(&external) };
        arena.set(index, &values)?;
    }
    Ok(arena)
}
