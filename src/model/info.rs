//! Parts of a preset: output shapes, parameters and multiply-accumulates.

use serde::Serialize;

use super::{CHANNELS, Preset, outline, parameters::Parameter, presets::TAPS};
use crate::{Error, Result};

/// One part of the predictor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Part {
    /// Prefix of its parameters' names in checkpoints.
    pub name: String,
    /// Shape of its output in memory: [frames, height, width, channels] or [B, T, width].
    pub output: Vec<usize>,
    /// Number of trained parameters.
    pub parameters: u64,
    /// Multiply-accumulates of one sample.
    pub macs: u64,
}

/// A preset's parts and totals.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Info {
    /// Name of the preset.
    pub preset: String,
    /// Side of a frame in pixels.
    pub size: usize,
    /// Number of input frames.
    pub frames_in: usize,
    /// Number of predicted frames.
    pub frames_out: usize,
    /// Sequences in a batch; only the shapes use it.
    pub batch_size: usize,
    /// `encoder`, `temporal` and `decoder`.
    pub groups: Vec<Part>,
    /// Parts of the groups.
    pub parts: Vec<Part>,
    /// Number of trained parameters.
    pub parameters: u64,
    /// Multiply-accumulates of one sample.
    pub macs: u64,
}

/// Describes `preset` for `batch_size` sequences of `frames_in` frames.
///
/// Multiply-accumulates are those of convolutions, transposed convolutions and linear layers, as PyTorch performs them:
/// the causal convolution over T steps counts T + 3, since it is padded at both ends and cut. Norms, activations, pooling
/// and the selective scan (about 9·16 operations per channel and step) are left out, as usual in such counts.
///
/// # Errors
/// [`Error::Usage`] for numbers whose products exceed 2⁶³.
pub fn info(preset: &Preset, frames_in: usize, batch_size: usize) -> Result<Info> {
    // More operations than a frame takes in the largest model, so that no sum below overflows.
    let macs = (frames_in as u64).checked_add(TAPS as u64).and_then(|n| n.checked_mul(1 << 52));
    if macs.is_none()
        || frames_in.checked_mul(batch_size.max(1)).is_none_or(|n| n > usize::MAX / preset.frames_out)
    {
        return Err(Error::Usage("too many frames to count; give smaller numbers".into()));
    }
    let (parameters, _) = outline(preset);
    let mut plan = Breakdown { parameters, parts: Vec::new() };
    plan.encoder(preset, frames_in, batch_size);
    plan.temporal(preset, frames_in, batch_size);
    plan.decoder(preset, batch_size);

    let parts = plan.parts;
    let of = |prefix: &str| parts.iter().filter(move |p| p.name.starts_with(prefix)).collect::<Vec<_>>();
    let group = |name: &str| {
        let inside = of(name);
        Part {
            name: name.to_owned(),
            output: inside.last().map(|p| p.output.clone()).unwrap_or_default(),
            parameters: inside.iter().map(|p| p.parameters).sum(),
            macs: inside.iter().map(|p| p.macs).sum(),
        }
    };
    let groups: Vec<Part> = ["encoder", "temporal", "decoder"].map(group).into();
    let total = |count: fn(&Part) -> u64| groups.iter().map(count).sum();
    Ok(Info {
        preset: preset.name.to_owned(),
        frames_in,
        size: preset.size,
        frames_out: preset.frames_out,
        batch_size,
        parameters: total(|p| p.parameters),
        macs: total(|p| p.macs),
        groups,
        parts,
    })
}

/// Collects parts in the order of the forward pass.
struct Breakdown {
    parameters: Vec<Parameter>,
    parts: Vec<Part>,
}

impl Breakdown {
    /// A part whose weights (not biases and norms) are each used `places(name)` times per sample.
    fn part(&mut self, name: String, output: Vec<usize>, places: impl Fn(&str) -> usize) {
        let (mut parameters, mut macs) = (0, 0);
        for p in
            self.parameters.iter().filter(|p| p.name.strip_prefix(&name).is_some_and(|n| n.starts_with('.')))
        {
            let count = p.layout.numel() as u64;
            parameters += count;
            if p.name.ends_with(".weight") && p.layout.external.len() > 1 {
                macs += count * places(&p.name) as u64;
            }
        }
        self.parts.push(Part { name, output, parameters, macs });
    }

    fn encoder(&mut self, preset: &Preset, steps: usize, batch: usize) {
        let frames = batch * steps;
        let map = |side: usize, channels| vec![frames, side, side, channels];
        let half = preset.size / 2;
        self.part("encoder.stem".into(), map(half, preset.stem), |_| steps * half * half);
        // One pooling between stem and stages.
        let mut side = half / 2;
        for (i, stage) in preset.stages.iter().enumerate() {
            side /= stage.stride;
            self.part(format!("encoder.stages.{i}"), map(side, stage.channels), |_| steps * side * side);
        }
        self.part("encoder.head".into(), vec![frames, preset.latent], |_| steps);
    }

    fn temporal(&mut self, preset: &Preset, steps: usize, batch: usize) {
        let hidden = |steps| vec![batch, steps, preset.hidden];
        self.part("temporal.in_proj".into(), hidden(steps), |_| steps);
        for i in 0..preset.depth {
            let padded = |name: &str| if name.ends_with("conv1d.weight") { steps + TAPS - 1 } else { steps };
            self.part(format!("temporal.layers.{i}"), hidden(steps), padded);
        }
        // Only the last step is used.
        self.part("temporal.norm".into(), hidden(1), |_| 1);
        self.part("temporal.out_proj".into(), vec![batch, preset.frames_out, preset.latent], |_| 1);
    }

    fn decoder(&mut self, preset: &Preset, batch: usize) {
        let frames = batch * preset.frames_out;
        let mut side = preset.start();
        for (i, channels) in preset.decoder.iter().skip(1).enumerate() {
            let small = side * side;
            side *= 2;
            // A transposed convolution and the shortcut work on each pixel of their input, for each future frame; the
            // skip on each of its output, once for all future frames.
            let places = |name: &str| {
                if name.ends_with("skip.weight") { 4 * small } else { preset.frames_out * small }
            };
            self.part(format!("decoder.up.{i}"), vec![frames, side, side, *channels], places);
        }
        let output = vec![frames, side, side, CHANNELS];
        self.part("decoder.out".into(), output, |_| preset.frames_out * side * side);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of encoder, temporal part and decoder.
    type Counts = [u64; 3];

    /// PyTorch's parameters, and multiply-accumulates at 10 and 7 frames.
    #[rustfmt::skip]
    const PYTORCH: [(&str, Counts, Counts, Counts); 5] = [
        ("nano",  [39_032, 32_608, 4_299], [4_689_920, 224_768, 1_296_384], [3_282_944, 160_256, 1_296_384]),
        ("tiny",  [604_400, 431_488, 59_251], [60_129_280, 3_024_896, 22_446_080], [42_090_496, 2_158_592, 22_446_080]),
        ("small", [4_508_640, 3_330_816, 529_811], [213_319_680, 23_437_312, 78_512_128],
                  [149_323_776, 16_728_064, 78_512_128]),
        ("base",  [140_694_208, 77_040_640, 12_311_203], [3_084_779_520, 466_518_016, 1_105_985_536],
                  [2_159_345_664, 336_658_432, 1_105_985_536]),
        ("large", [226_485_280, 312_252_416, 21_066_179], [7_560_560_640, 2_511_994_880, 2_379_743_232],
                  [5_292_392_448, 1_778_647_040, 2_379_743_232]),
    ];

    #[test]
    fn every_preset_counts_as_pytorch_does() {
        for (name, parameters, macs, macs_7) in PYTORCH {
            let info_10 = info(Preset::find(name).unwrap(), 10, 1).unwrap();
            let info_7 = info(Preset::find(name).unwrap(), 7, 4).unwrap();
            let counts =
                |info: &Info, count: fn(&Part) -> u64| info.groups.iter().map(count).collect::<Vec<_>>();
            assert_eq!(counts(&info_10, |p| p.parameters), parameters, "{name}");
            assert_eq!(counts(&info_10, |p| p.macs), macs, "{name}");
            assert_eq!(counts(&info_7, |p| p.macs), macs_7, "{name}");
            let (all, _) = outline(Preset::find(name).unwrap());
            let numel: usize = all.iter().map(|p| p.layout.numel()).sum();
            assert_eq!([info_10.parameters, numel as u64], [parameters.iter().sum::<u64>(); 2], "{name}");
        }
    }

    #[test]
    fn the_parts_of_base_are_pytorchs() {
        let base = info(Preset::find("base").unwrap(), 10, 2).unwrap();
        let parts: Vec<(&str, &[usize], u64)> =
            base.parts.iter().map(|p| (p.name.as_str(), &p.output[..], p.parameters)).collect();
        let layer = |name| (name, &[2, 10, 1024][..], 6_668_288);
        assert_eq!(
            parts,
            [
                ("encoder.stem", &[20, 32, 32, 64][..], 9_536),
                ("encoder.stages.0", &[20, 16, 16, 64], 152_192),
                ("encoder.stages.1", &[20, 8, 8, 128], 525_568),
                ("encoder.stages.2", &[20, 4, 4, 256], 2_099_712),
                ("encoder.stages.3", &[20, 4, 4, 512], 3_673_088),
                ("encoder.head", &[20, 16384], 134_234_112),
                ("temporal.in_proj", &[2, 10, 1024], 16_778_240),
                layer("temporal.layers.0"),
                layer("temporal.layers.1"),
                layer("temporal.layers.2"),
                layer("temporal.layers.3"),
                ("temporal.norm", &[2, 1, 1024], 2_048),
                ("temporal.out_proj", &[2, 2, 16384], 33_587_200),
                ("decoder.up.0", &[4, 8, 8, 512], 9_307_136),
                ("decoder.up.1", &[4, 16, 16, 256], 2_327_040),
                ("decoder.up.2", &[4, 32, 32, 128], 606_464),
                ("decoder.up.3", &[4, 64, 64, 32], 69_696),
                ("decoder.out", &[4, 64, 64, 3], 867),
            ]
        );
        assert!(info(Preset::find("base").unwrap(), usize::MAX / 2, usize::MAX).is_err());
    }
}
