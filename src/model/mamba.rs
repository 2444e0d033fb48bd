//! The Mamba-1 mixer (Gu & Dao 2023), with the parameter names of mamba_ssm.

use ssmv_autograd::{Tensor, init::Init, ops::mamba_inner::MambaInner};

use super::{
    layers::{Context, Linear},
    parameters::{Builder, Layout, ParamId, Role},
    presets::{EXPAND, STATES, TAPS},
};
use crate::Result;

/// Sizes of a Mamba mixer.
#[derive(Clone, Copy, Debug)]
pub struct MixerSizes {
    /// Width of input and output.
    pub dim: usize,
    /// Number of states per channel.
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
    dt_proj: ParamId,
    dt_bias: ParamId,
    a_log: ParamId,
    d: ParamId,
    out_proj: Linear,
}

impl Mamba {
    /// A mixer with mamba_ssm's initialisation.
    pub fn new(b: &mut Builder, sizes: MixerSizes) -> Self {
        let MixerSizes { dim, states, taps, expand } = sizes;
        let (inner, rank) = (expand * dim, dim.div_ceil(16));
        let depthwise = Init::fan_in(taps);
        let a_log = b.parameter("A_log", Layout::plain(&[inner, states]), Init::LogStates, Role::Vector);
        let d = b.parameter("D", Layout::plain(&[inner]), Init::Constant(1.0), Role::Vector);
        let in_proj = Linear::new(b, "in_proj", dim, 2 * inner, false);
        let conv_weight = b.parameter("conv1d.weight", Layout::depthwise(inner, taps), depthwise, Role::Taps);
        let conv_bias = b.parameter("conv1d.bias", Layout::plain(&[inner]), depthwise, Role::Vector);
        let x_proj = Linear::new(b, "x_proj", inner, rank + 2 * states, false);
        let step = Init::Uniform((rank as f64).powf(-0.5));
        let dt_proj = b.parameter("dt_proj.weight", Layout::plain(&[inner, rank]), step, Role::Matrix);
        let dt_bias = b.parameter("dt_proj.bias", Layout::plain(&[inner]), Init::StepBias, Role::Vector);
        let out_proj = Linear::new(b, "out_proj", inner, dim, false);
        Self { in_proj, conv_weight, conv_bias, x_proj, dt_proj, dt_bias, a_log, d, out_proj }
    }

    /// Forward pass: [B,L,dim] → [B,L,dim].
    pub fn forward(&self, cx: &Context, x: &Tensor) -> Result<Tensor> {
        let uz = self.in_proj.forward(cx, x)?;
        let parameter = |id| cx.parameter(id);
        let (conv_weight, conv_bias) = (parameter(self.conv_weight), parameter(self.conv_bias));
        let (x_proj, dt_proj) = (self.x_proj.weight(cx), parameter(self.dt_proj));
        let (dt_bias, a_log, d) = (parameter(self.dt_bias), parameter(self.a_log), parameter(self.d));
        let y = uz.mamba_inner(&MambaInner {
            conv_weight: &conv_weight,
            conv_bias: &conv_bias,
            x_proj: &x_proj,
            dt_proj: &dt_proj,
            dt_bias: &dt_bias,
            a_log: &a_log,
            d: &d,
        })?;
        drop(uz);
        self.out_proj.forward(cx, &y)
    }
}
