//! The five sizes of the predictor, and their variants for frames of another side and another number of predicted frames.

use crate::{Error, Result};

/// One stage of the encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage {
    /// Channels of its residual blocks.
    pub channels: usize,
    /// Number of residual blocks.
    pub blocks: usize,
    /// Stride of the first one.
    pub stride: usize,
}

/// Sizes of a predictor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preset {
    /// The name on the command line and in checkpoints.
    pub name: &'static str,
    /// Output channels of the 7×7 stem.
    pub stem: usize,
    /// Stages of the encoder.
    pub stages: &'static [Stage],
    /// Length of a frame's latent vector.
    pub latent: usize,
    /// Width of the Mamba layers.
    pub hidden: usize,
    /// Number of Mamba layers.
    pub depth: usize,
    /// The decoder's channels, from the reshaped latent down to the last one before the output.
    pub decoder: &'static [usize],
    /// Side of a frame in pixels.
    pub size: usize,
    /// Frames that one pass predicts.
    pub frames_out: usize,
}

/// Colour channels of a frame.
pub const CHANNELS: usize = 3;
/// Frames that one pass of a preset predicts, where no other number is asked for.
pub const FRAMES_OUT: usize = 2;
/// Most frames that one pass can predict.
pub const MOST_FRAMES_OUT: usize = 20;
/// A frame's side is a multiple of this: the product of an encoder's strides.
pub const SIZE_STEP: usize = 16;
/// Smallest and largest side of a frame in pixels.
pub const SIZES: [usize; 2] = [32, 256];
/// Last input frames whose maps the decoder's skips read; also the fewest input frames.
pub const SKIP_FRAMES: usize = 3;
/// Number of states per channel of a Mamba mixer.
pub const STATES: usize = 16;
/// Taps of a mixer's causal convolution.
pub const TAPS: usize = 4;
/// Inner width of a mixer as a multiple of its outer width.
pub const EXPAND: usize = 2;

const fn stage(channels: usize, blocks: usize, stride: usize) -> Stage {
    Stage { channels, blocks, stride }
}

/// All presets, smallest first.
pub const PRESETS: &[Preset] = &[
    Preset {
        name: "nano",
        stem: 8,
        stages: &[stage(8, 1, 1), stage(16, 1, 2)],
        latent: 128,
        hidden: 32,
        depth: 2,
        decoder: &[8, 8, 8, 8],
        size: 32,
        frames_out: FRAMES_OUT,
    },
    Preset {
        name: "tiny",
        stem: 16,
        stages: &[stage(16, 1, 1), stage(32, 1, 2), stage(64, 1, 2)],
        latent: 512,
        hidden: 128,
        depth: 2,
        decoder: &[32, 32, 32, 16, 16],
        size: 64,
        frames_out: FRAMES_OUT,
    },
    Preset {
        name: "small",
        stem: 32,
        stages: &[stage(32, 1, 1), stage(64, 1, 2), stage(128, 1, 2)],
        latent: 2048,
        hidden: 256,
        depth: 4,
        decoder: &[128, 128, 64, 32, 16],
        size: 64,
        frames_out: FRAMES_OUT,
    },
    Preset {
        name: "base",
        stem: 64,
        stages: &[stage(64, 2, 1), stage(128, 2, 2), stage(256, 2, 2), stage(512, 1, 1)],
        latent: 16384,
        hidden: 1024,
        depth: 4,
        decoder: &[1024, 512, 256, 128, 32],
        size: 64,
        frames_out: FRAMES_OUT,
    },
    Preset {
        name: "large",
        stem: 96,
        stages: &[stage(96, 2, 1), stage(192, 2, 2), stage(384, 2, 2), stage(768, 2, 1)],
        latent: 16384,
        hidden: 2048,
        depth: 8,
        decoder: &[1024, 768, 384, 192, 64],
        size: 64,
        frames_out: FRAMES_OUT,
    },
];

impl Preset {
    /// The preset of that name.
    pub fn find(name: &str) -> Option<&'static Self> {
        PRESETS.iter().find(|p| p.name == name)
    }

    /// The same model for frames of `size`×`size` pixels, of which one pass predicts `frames_out`. The latent becomes as
    /// long as the map that the decoder then starts from.
    ///
    /// # Errors
    /// [`Error::Usage`] for a size or a number of frames outside the limits; the message has the limits.
    pub fn with(&self, size: usize, frames_out: usize) -> Result<Self> {
        let [least, most] = SIZES;
        // The decoder doubles its start map, of at least one pixel, at each step.
        let least = least.max(1 << (self.decoder.len() - 1));
        if !size.is_multiple_of(SIZE_STEP) || !(least..=most).contains(&size) {
            return Err(Error::Usage(format!(
                "the model `{}` takes frames whose side is a multiple of {SIZE_STEP} from {least} to {most} pixels, not {size}",
                self.name
            )));
        }
        if !(1..=MOST_FRAMES_OUT).contains(&frames_out) {
            return Err(Error::Usage(format!(
                "one pass predicts 1 to {MOST_FRAMES_OUT} frames, not {frames_out}"
            )));
        }
        let sized = Self { size, frames_out, ..*self };
        Ok(Self { latent: sized.decoder[0] * sized.start() * sized.start(), ..sized })
    }

    /// Side of the map that the decoder starts from.
    pub fn start(&self) -> usize {
        self.size >> (self.decoder.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_numbers_of_frames_change_what_depends_on_them() {
        for preset in PRESETS {
            assert_eq!(preset.with(preset.size, FRAMES_OUT).unwrap(), *preset);
            let twice = preset.with(2 * preset.size, 5).unwrap();
            let latent = 4 * preset.latent;
            assert_eq!(twice, Preset { size: 2 * preset.size, frames_out: 5, latent, ..*preset });
            for size in [0, 16, 40, 63, 272, usize::MAX] {
                let error = preset.with(size, 2).unwrap_err().to_string();
                assert!(error.contains("multiple of 16 from 32 to 256"), "{error}");
            }
            for frames in [0, 21] {
                assert!(preset.with(64, frames).unwrap_err().to_string().contains("1 to 20 frames"));
            }
        }
        assert_eq!(Preset::find("nano").unwrap().with(48, 3).unwrap().latent, 8 * 6 * 6);
        let deep = Preset { decoder: &[8; 7], ..PRESETS[0] };
        assert!(deep.with(48, 2).unwrap_err().to_string().contains("from 64 to 256"));
    }
}
