//! The temporal part: the latents of the past to the latents of the future.

use ssmv_autograd::{Tensor, init::Init};

use super::{
    layers::{Context, LayerNorm, Linear},
    mamba::{Mamba, MixerSizes},
    parameters::{Builder, Layout},
    presets::Preset,
};
use crate::Result;

/// One residual layer: x + mixer(norm(x)).
struct Layer {
    norm: LayerNorm,
    mixer: Mamba,
}

/// Mamba layers over time; the last step's state is projected once for each future frame.
pub struct Temporal {
    in_proj: Linear,
    layers: Vec<Layer>,
    norm: LayerNorm,
    out_proj: Linear,
}

impl Temporal {
    /// Temporal part of a preset, with its parameters in `b`.
    pub fn new(b: &mut Builder, preset: &Preset) -> Self {
        let (latent, hidden) = (preset.latent, preset.hidden);
        let in_proj = Linear::new(b, "in_proj", latent, hidden, true);
        let layers = (0..preset.depth)
            .map(|i| {
                b.scope(format!("layers.{i}"), |b| Layer {
                    norm: LayerNorm::new(b, "norm", hidden),
                    mixer: b.scope("mixer", |b| Mamba::new(b, MixerSizes::standard(hidden))),
                })
            })
            .collect();
        let norm = LayerNorm::new(b, "norm", hidden);
        // The decoder reads each latent as a map, so the rows are in NHWC order.
        let (channels, side) = (preset.decoder[0], preset.start());
        let map = |cin| Layout::writes_maps(preset.frames_out, channels, side, cin);
        let init = Init::fan_in(hidden);
        let out_proj = Linear::with(b, "out_proj", map(Some(hidden)), init, Some((map(None), init)));
        Self { in_proj, layers, norm, out_proj }
    }

    /// [B,T,latent] → [B, next·latent], each latent a map [start,start,C].
    pub fn forward(&self, cx: &Context, x: &Tensor) -> Result<Tensor> {
        let mut x = self.in_proj.forward(cx, x)?;
        for layer in &self.layers {
            x = x.add(&layer.mixer.forward(cx, &layer.norm.forward(cx, &x)?)?)?;
        }
        let [batch, steps, hidden] = x.shape().dims("temporal", "[B,T,hidden]")?;
        let last = x.slice(1, steps.saturating_sub(1), 1)?.reshape([batch, hidden])?;
        self.out_proj.forward(cx, &self.norm.forward(cx, &last)?)
    }
}
