//! The five sizes of the predictor.

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
}

/// Colour channels of a frame.
pub const CHANNELS: usize = 3;
/// Frames that one pass predicts.
pub const NEXT_FRAMES: usize = 2;
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
    },
];

impl Preset {
    /// The preset of that name.
    pub fn find(name: &str) -> Option<&'static Self> {
        PRESETS.iter().find(|p| p.name == name)
    }

    /// Side of the map that the decoder starts from.
    pub fn start(&self) -> usize {
        self.size >> (self.decoder.len() - 1)
    }
}
