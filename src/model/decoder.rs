//! The decoder: each future latent to a frame, through transposed convolutions that double the size.

use ssmv_autograd::Tensor;

use super::{
    encoder::Maps,
    layers::{Context, Conv, Deconv, Norm2d},
    parameters::Builder,
    presets::{CHANNELS, Preset, SKIP_FRAMES},
};
use crate::{Error, Result};

/// relu(bn(deconv(x)) + nearest(conv1×1(x)) + skip): twice the size.
///
/// The skip reads the encoder's maps of that size for the last frames, which show the velocity, and has separate channels
/// for each future frame.
pub struct Up {
    deconv: Deconv,
    bn: Norm2d,
    shortcut: Conv,
    skip: Option<Conv>,
    frames_out: usize,
}

impl Up {
    /// `skip`: number of channels from the encoder's maps, or 0.
    pub fn new(b: &mut Builder, [cin, cout]: [usize; 2], skip: usize, frames_out: usize) -> Self {
        Self {
            deconv: Deconv::new(b, "deconv", cin, cout),
            bn: Norm2d::new(b, "bn", cout),
            shortcut: Conv::new(b, "shortcut", [cin, cout], 1, 1, false),
            skip: (skip > 0).then(|| Conv::new(b, "skip", [skip, frames_out * cout], 1, 1, false)),
            frames_out,
        }
    }

    /// x [B·next,H,W,cin], feature [B,2H,2W,skip] → [B·next,2H,2W,cout].
    pub fn forward(&self, cx: &Context, x: &Tensor, feature: Option<&Tensor>) -> Result<Tensor> {
        let mut side = self.shortcut.forward(cx, x)?.upsample_nearest2d(2)?;
        if let (Some(skip), Some(feature)) = (&self.skip, feature) {
            let maps = skip.forward(cx, feature)?;
            let [batch, h, w, _] = maps.shape().dims("up", "[B,H,W,C]")?;
            let cout = self.deconv.cout;
            let next = self.frames_out;
            let maps = maps.reshape([batch, h, w, next, cout])?.permute(&[0, 3, 1, 2, 4])?;
            side = side.add(&maps.reshape([batch * next, h, w, cout])?)?;
        }
        self.bn.forward(cx, &self.deconv.forward(cx, x)?, Some(&side), true)
    }
}

/// Up blocks and a 3×3 convolution to colours. The output has no sigmoid, which would saturate at black under an
/// L1 loss and stop the learning. Metrics and pictures clip it.
pub struct Decoder {
    up: Vec<Up>,
    out: Conv,
    /// Sides of the up blocks' outputs.
    sides: Vec<usize>,
}

impl Decoder {
    /// Decoder of a preset, with its parameters in `b`.
    pub fn new(b: &mut Builder, preset: &Preset) -> Self {
        let mut widths = vec![(preset.size / 2, preset.stem)];
        let mut side = preset.size / 4;
        for stage in preset.stages {
            side /= stage.stride;
            widths.push((side, stage.channels));
        }
        // A later map of the same side replaces an earlier one.
        let width = |side| widths.iter().rev().find(|(s, _)| *s == side).map_or(0, |(_, c)| *c);
        let sides: Vec<usize> = (1..preset.decoder.len()).map(|i| preset.start() << i).collect();
        let up = preset.decoder.windows(2).zip(&sides).enumerate();
        let up = up.map(|(i, (channels, &side))| {
            let skip = SKIP_FRAMES * width(side);
            b.scope(format!("up.{i}"), |b| Up::new(b, [channels[0], channels[1]], skip, preset.frames_out))
        });
        let up = up.collect();
        let last = preset.decoder.last().copied().unwrap_or(0);
        Self { up, out: Conv::new(b, "out", [last, CHANNELS], 3, 1, true), sides }
    }

    /// x [B·next,start,start,C] and the encoder's maps of `batch` sequences → [B·next,S,S,3].
    pub fn forward(&self, cx: &Context, x: &Tensor, maps: &Maps, batch: usize) -> Result<Tensor> {
        let mut x = x.clone();
        for (up, &side) in self.up.iter().zip(&self.sides) {
            let map = maps.iter().rev().find(|(s, _)| *s == side);
            let feature =
                map.filter(|_| up.skip.is_some()).map(|(_, m)| last_frames(m, batch)).transpose()?;
            x = up.forward(cx, &x, feature.as_ref())?;
        }
        self.out.forward(cx, &x)
    }
}

/// The maps of each sequence's last frames, side by side as channels: [B·T,S,S,C] → [B,S,S,3·C].
fn last_frames(map: &Tensor, batch: usize) -> Result<Tensor> {
    let [frames, h, w, c] = map.shape().dims("skip", "[B·T,S,S,C]")?;
    let steps = frames / batch.max(1);
    if steps < SKIP_FRAMES {
        let message = format!("{steps} input frames; the predictor needs at least {SKIP_FRAMES}");
        return Err(Error::Failure(message));
    }
    let maps = map.reshape([batch, steps, h, w, c])?.slice(1, steps - SKIP_FRAMES, SKIP_FRAMES)?;
    Ok(maps.permute(&[0, 2, 3, 1, 4])?.reshape([batch, h, w, SKIP_FRAMES * c])?)
}
