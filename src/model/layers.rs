//! Layers: parameters with the operator that reads them.

use std::{cell::RefCell, sync::Arc};

use ssmv_autograd::{
    Arena, DType, Element, Tensor,
    init::Init,
    ops::{
        batch_norm2d::{AcrossRanks, BatchNormOptions, BatchStatistics, Statistics},
        conv_transpose2d::ConvTranspose2d,
        conv2d::Conv2d,
    },
};

use super::parameters::{Builder, Layout, NormId, ParamId, Role, RunningStatistics};
use super::{MOMENTUM, Part, PartListener, gpu::DeviceNorms};
use crate::Result;

/// PyTorch's ε of both normalisations.
const EPS: f64 = 1e-5;

/// Inputs of a forward pass besides the frames: parameters, running statistics, and the mode.
pub struct Context<'a> {
    /// Values of the parameters.
    pub arena: &'a Arena,
    /// Running statistics of the batch normalisations.
    pub norms: Norms<'a>,
    /// Normalises with the batch's statistics, and collects them in `seen` or, on a device, in the running ones.
    pub training: bool,
    /// Statistics of the batch.
    pub seen: RefCell<Vec<(NormId, BatchStatistics)>>,
    /// Callback at the output of each part.
    listener: Option<PartListener>,
    /// Ranks that share the statistics of their batches.
    ranks: Option<Arc<dyn AcrossRanks>>,
}

/// Running statistics on the device of the forward pass, by [`NormId`].
#[derive(Clone, Copy)]
pub enum Norms<'a> {
    /// Statistics in host memory.
    Host(&'a [RunningStatistics]),
    /// Statistics in device memory.
    Device(&'a DeviceNorms),
}

impl<'a> Context<'a> {
    /// A new context, without statistics of a batch.
    pub fn new(arena: &'a Arena, norms: Norms<'a>, training: bool) -> Self {
        Self { arena, norms, training, seen: RefCell::default(), listener: None, ranks: None }
    }

    /// As above, with a callback at the outputs of the parts.
    pub fn with_listener(self, listener: Option<PartListener>) -> Self {
        Self { listener, ..self }
    }

    /// As above, with the statistics of all ranks' batches.
    pub fn with_ranks(self, ranks: Option<Arc<dyn AcrossRanks>>) -> Self {
        Self { ranks, ..self }
    }

    /// Passes on a part's output, after the callback.
    pub fn passed(&self, output: Tensor, part: Part) -> Result<Tensor> {
        let Some(listener) = &self.listener else { return Ok(output) };
        let listener = Arc::clone(listener);
        Ok(output.probe(Arc::new(move |pass| listener(part, pass)))?)
    }

    /// Statistics for a batch normalisation of values in `dtype`.
    fn statistics(&self, id: NormId, dtype: DType) -> Result<Statistics> {
        Ok(match self.norms {
            Norms::Host(_) if self.training => match &self.ranks {
                Some(ranks) => Statistics::Across(Arc::clone(ranks)),
                None => Statistics::Batch,
            },
            Norms::Host(norms) => {
                let running = &norms[id.0];
                Statistics::Running(tensor(&running.mean, dtype)?, tensor(&running.variance, dtype)?)
            }
            Norms::Device(norms) if self.training => {
                let [mean, variance] = norms.pending(id)?;
                Statistics::Tracked { mean, variance, momentum: MOMENTUM }
            }
            Norms::Device(norms) => {
                let [mean, variance] = norms.kept(id)?;
                Statistics::Running(mean, variance)
            }
        })
    }

    /// A parameter as a tensor.
    pub fn parameter(&self, id: ParamId) -> Tensor {
        self.arena.parameter(id.0)
    }
}

fn tensor(values: &[f64], dtype: DType) -> Result<Tensor> {
    Ok(ssmv_autograd::dispatch!(dtype, T => {
        let values: Vec<T> = values.iter().map(|&v| <T as Element>::from_f64(v)).collect();
        Tensor::new([values.len()], &values)?
    }))
}

/// A convolution with a square kernel.
pub struct Conv {
    weight: ParamId,
    bias: Option<ParamId>,
    attributes: Conv2d,
}

impl Conv {
    /// `name.weight` and, on request, `name.bias`; padded so that stride 1 keeps the size.
    pub fn new(
        b: &mut Builder,
        name: &str,
        [cin, cout]: [usize; 2],
        kernel: usize,
        stride: usize,
        bias: bool,
    ) -> Self {
        let init = Init::fan_in(cin * kernel * kernel);
        b.scope(name, |b| Self {
            weight: b.parameter("weight", Layout::filter(cout, cin, kernel), init, Role::Matrix),
            bias: bias.then(|| b.parameter("bias", Layout::plain(&[cout]), init, Role::Vector)),
            attributes: Conv2d::square(stride, kernel / 2),
        })
    }

    /// Forward pass: [N,H,W,cin] → [N,H/stride,W/stride,cout].
    pub fn forward(&self, cx: &Context, x: &Tensor) -> Result<Tensor> {
        let bias = self.bias.map(|b| cx.parameter(b));
        Ok(x.conv2d(&cx.parameter(self.weight), bias.as_ref(), self.attributes)?)
    }
}

/// A transposed convolution that doubles the size: kernel 4, stride 2, padding 1, no bias.
pub struct Deconv {
    weight: ParamId,
    /// Number of output channels.
    pub cout: usize,
}

impl Deconv {
    /// Side of the kernel.
    pub const KERNEL: usize = 4;

    /// Parameter `name.weight` with PyTorch's default initialisation.
    pub fn new(b: &mut Builder, name: &str, cin: usize, cout: usize) -> Self {
        // PyTorch's fan-in uses the second axis of a weight, which here has the outputs.
        let init = Init::fan_in(cout * Self::KERNEL * Self::KERNEL);
        let layout = Layout::filter(cin, cout, Self::KERNEL);
        Self { weight: b.scope(name, |b| b.parameter("weight", layout, init, Role::Matrix)), cout }
    }

    /// Forward pass: [N,H,W,cin] → [N,2H,2W,cout].
    pub fn forward(&self, cx: &Context, x: &Tensor) -> Result<Tensor> {
        Ok(x.conv_transpose2d(&cx.parameter(self.weight), None, ConvTranspose2d::square(2, 1))?)
    }
}

/// Batch normalisation, fused with the addition and the ReLU after it.
pub struct Norm2d {
    weight: ParamId,
    bias: ParamId,
    statistics: NormId,
}

impl Norm2d {
    /// `name.weight`, `name.bias` and the running statistics.
    pub fn new(b: &mut Builder, name: &str, channels: usize) -> Self {
        b.scope(name, |b| Self {
            weight: b.parameter("weight", Layout::plain(&[channels]), Init::Constant(1.0), Role::Vector),
            bias: b.parameter("bias", Layout::plain(&[channels]), Init::Constant(0.0), Role::Vector),
            statistics: b.norm(channels),
        })
    }

    /// bn(x) (+ residual) (then ReLU).
    pub fn forward(&self, cx: &Context, x: &Tensor, residual: Option<&Tensor>, relu: bool) -> Result<Tensor> {
        let statistics = cx.statistics(self.statistics, x.dtype())?;
        let options = BatchNormOptions { eps: EPS, residual, relu };
        let (weight, bias) = (cx.parameter(self.weight), cx.parameter(self.bias));
        let (y, seen) = x.batch_norm2d(&weight, &bias, statistics, options)?;
        cx.seen.borrow_mut().extend(seen.map(|s| (self.statistics, s)));
        Ok(y)
    }
}

/// A linear layer over the last axis.
pub struct Linear {
    weight: ParamId,
    bias: Option<ParamId>,
}

impl Linear {
    /// `name.weight` and, on request, `name.bias`, with PyTorch's default initialisation.
    pub fn new(b: &mut Builder, name: &str, cin: usize, cout: usize, bias: bool) -> Self {
        let bias = bias.then(|| (Layout::plain(&[cout]), Init::fan_in(cin)));
        Self::with(b, name, Layout::plain(&[cout, cin]), Init::fan_in(cin), bias)
    }

    /// As above, with other layouts and initialisations.
    pub fn with(
        b: &mut Builder,
        name: &str,
        weight: Layout,
        init: Init,
        bias: Option<(Layout, Init)>,
    ) -> Self {
        b.scope(name, |b| Self {
            weight: b.parameter("weight", weight, init, Role::Matrix),
            bias: bias.map(|(layout, init)| b.parameter("bias", layout, init, Role::Vector)),
        })
    }

    /// The weight, for code that does not call [`Linear::forward`].
    pub fn weight(&self, cx: &Context) -> Tensor {
        cx.parameter(self.weight)
    }

    /// [.., cin] → [.., cout].
    pub fn forward(&self, cx: &Context, x: &Tensor) -> Result<Tensor> {
        let bias = self.bias.map(|b| cx.parameter(b));
        Ok(x.linear(&cx.parameter(self.weight), bias.as_ref())?)
    }
}

/// Layer normalisation over the last axis.
pub struct LayerNorm {
    weight: ParamId,
    bias: ParamId,
}

impl LayerNorm {
    /// Parameters `name.weight` (1) and `name.bias` (0).
    pub fn new(b: &mut Builder, name: &str, dim: usize) -> Self {
        b.scope(name, |b| Self {
            weight: b.parameter("weight", Layout::plain(&[dim]), Init::Constant(1.0), Role::Vector),
            bias: b.parameter("bias", Layout::plain(&[dim]), Init::Constant(0.0), Role::Vector),
        })
    }

    /// [.., dim] → [.., dim].
    pub fn forward(&self, cx: &Context, x: &Tensor) -> Result<Tensor> {
        Ok(x.layer_norm(&cx.parameter(self.weight), &cx.parameter(self.bias), EPS)?)
    }
}
