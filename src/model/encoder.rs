//! The ResNet encoder: a frame to a latent vector, and the maps that the decoder's skips read.

use ssmv_autograd::{Tensor, init::Init};

use super::{
    layers::{Context, Conv, Linear, Norm2d},
    parameters::{Builder, Layout},
    presets::{CHANNELS, Preset},
};
use crate::Result;

/// relu(bn2(conv2(relu(bn1(conv1(x))))) + side), where side is x or bn(conv(x)) (He et al. 2015).
pub struct Residual {
    conv1: Conv,
    bn1: Norm2d,
    conv2: Conv,
    bn2: Norm2d,
    shortcut: Option<(Conv, Norm2d)>,
}

impl Residual {
    /// 3×3 convolutions; the first has the stride, and a projection of the shortcut goes with `project`.
    pub fn new(b: &mut Builder, [cin, cout]: [usize; 2], stride: usize, project: bool) -> Self {
        Self {
            conv1: Conv::new(b, "conv1", [cin, cout], 3, stride, false),
            bn1: Norm2d::new(b, "bn1", cout),
            conv2: Conv::new(b, "conv2", [cout, cout], 3, 1, false),
            bn2: Norm2d::new(b, "bn2", cout),
            shortcut: project.then(|| {
                b.scope("shortcut", |b| {
                    (Conv::new(b, "conv", [cin, cout], 1, stride, false), Norm2d::new(b, "bn", cout))
                })
            }),
        }
    }

    /// Forward pass: [N,H,W,cin] → [N,H/stride,W/stride,cout].
    pub fn forward(&self, cx: &Context, x: &Tensor) -> Result<Tensor> {
        let side = match &self.shortcut {
            Some((conv, bn)) => bn.forward(cx, &conv.forward(cx, x)?, None, false)?,
            None => x.clone(),
        };
        let y = self.bn1.forward(cx, &self.conv1.forward(cx, x)?, None, true)?;
        self.bn2.forward(cx, &self.conv2.forward(cx, &y)?, Some(&side), true)
    }
}

/// Stem, pooling, stages, and the linear head that makes the latent.
pub struct Encoder {
    stem: Conv,
    bn: Norm2d,
    stages: Vec<Vec<Residual>>,
    head: Linear,
}

/// A map of all frames and its side: [B·T, side, side, C].
pub type Maps = Vec<(usize, Tensor)>;

impl Encoder {
    /// Encoder of a preset, with its parameters in `b`.
    pub fn new(b: &mut Builder, preset: &Preset) -> Self {
        let (stem, bn) = b.scope("stem", |b| {
            (Conv::new(b, "conv", [CHANNELS, preset.stem], 7, 2, false), Norm2d::new(b, "bn", preset.stem))
        });
        let (mut channels, mut side) = (preset.stem, preset.size / 4);
        let mut stages = Vec::new();
        for (i, stage) in preset.stages.iter().enumerate() {
            let blocks = (0..stage.blocks).map(|j| {
                let (cin, stride) = if j == 0 { (channels, stage.stride) } else { (stage.channels, 1) };
                b.scope(format!("stages.{i}.{j}"), |b| {
                    Residual::new(b, [cin, stage.channels], stride, j == 0)
                })
            });
            stages.push(blocks.collect());
            (channels, side) = (stage.channels, side / stage.stride);
        }
        let layout = Layout::reads_map(preset.latent, channels, side);
        let init = Init::fan_in(channels * side * side);
        let bias = Some((Layout::plain(&[preset.latent]), init));
        let head = Linear::with(b, "head", layout, init, bias);
        Self { stem, bn, stages, head }
    }

    /// [N,S,S,3] → latent [N, latent], and the stem's and each stage's maps.
    pub fn forward(&self, cx: &Context, x: &Tensor) -> Result<(Tensor, Maps)> {
        let y = self.bn.forward(cx, &self.stem.forward(cx, x)?, None, true)?;
        let mut maps = vec![(y.shape()[1], y.clone())];
        let mut y = y.max_pool2d(3, 2, 1)?;
        for stage in &self.stages {
            for block in stage {
                y = block.forward(cx, &y)?;
            }
            maps.push((y.shape()[1], y.clone()));
        }
        let n = y.shape()[0];
        let flat = y.reshape([n, y.numel() / n.max(1)])?;
        Ok((self.head.forward(cx, &flat)?, maps))
    }
}
