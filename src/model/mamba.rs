//! The Mamba-1 mixer (Gu & Dao 2023), with the parameter names of mamba_ssm.

use ssmv_autograd::Tensor;

use super::{
    layers::{Context, Linear},
    parameters::{Builder, Init, Layout, ParamId},
    presets::{EXPAND, STATES, TAPS},
};
use crate::Result;

/// Sizes of a mixer.
#[derive(Clone, Copy, Debug)]
pub struct MixerSizes {
    /// Width of input and output.
    pub dim: usize,
    /// States a channel.
    pub states: usize,
    /// Taps of the causal convolution.
    pub taps: usize,
    /// Inner width as a multiple of `dim`.
    pub expand: usize,
}

impl MixerSizes {
    /// The sizes that every preset uses at width `dim`.
    pub fn standard(dim: usize) -> Self {
        Self { dim, states: STATES, taps: TAPS, expand: EXPAND }
    }
}

/// out_proj(scan(silu(conv1d(u)), …)·silu(z)) with (u, z) = in_proj(x); Δ, B and C are projected from u.
pub struct Mamba {
    in_proj: Linear,
    conv_weight: ParamId,
    conv_bias: ParamId,
    x_proj: Linear,
    dt_proj: Linear,
    a_log: ParamId,
    d: ParamId,
    out_proj: Linear,
    sizes: MixerSizes,
    inner: usize,
    rank: usize,
}

impl Mamba {
    /// A mixer with mamba_ssm's initialisation.
    pub fn new(b: &mut Builder, sizes: MixerSizes) -> Self {
        let MixerSizes { dim, states, taps, expand } = sizes;
        let (inner, rank) = (expand * dim, dim.div_ceil(16));
        let depthwise = Init::fan_in(taps);
        Self {
            a_log: b.parameter("A_log", Layout::plain(&[inner, states]), Init::LogStates, false),
            d: b.parameter("D", Layout::plain(&[inner]), Init::Constant(1.0), false),
            in_proj: Linear::new(b, "in_proj", dim, 2 * inner, false),
            conv_weight: b.parameter("conv1d.weight", Layout::depthwise(inner, taps), depthwise, true),
            conv_bias: b.parameter("conv1d.bias", Layout::plain(&[inner]), depthwise, false),
            x_proj: Linear::new(b, "x_proj", inner, rank + 2 * states, false),
            dt_proj: Linear::with(
                b,
                "dt_proj",
                Layout::plain(&[inner, rank]),
                Init::Uniform((rank as f64).powf(-0.5)),
                Some((Layout::plain(&[inner]), Init::StepBias)),
            ),
            out_proj: Linear::new(b, "out_proj", inner, dim, false),
            sizes,
            inner,
            rank,
        }
    }

    /// [B,L,dim] → [B,L,dim].
    pub fn forward(&self, cx: &Context, x: &Tensor) -> Result<Tensor> {
        let (inner, rank, states) = (self.inner, self.rank, self.sizes.states);
        let uz = self.in_proj.forward(cx, x)?;
        let (u, z) = (uz.slice(2, 0, inner)?, uz.slice(2, inner, inner)?);
        drop(uz);
        let u = u.causal_conv1d(&cx.parameter(self.conv_weight), &cx.parameter(self.conv_bias))?.silu()?;
        let projected = self.x_proj.forward(cx, &u)?;
        let dt = projected.slice(2, 0, rank)?;
        let b = projected.slice(2, rank, states)?;
        let c = projected.slice(2, rank + states, states)?;
        let delta = self.dt_proj.forward(cx, &dt)?.softplus()?;
        let a = cx.parameter(self.a_log).exp()?.scale(-1.0)?;
        let y = u.selective_scan(&delta, &a, &b, &c, &cx.parameter(self.d))?;
        self.out_proj.forward(cx, &y.mul(&z.silu()?)?)
    }
}
