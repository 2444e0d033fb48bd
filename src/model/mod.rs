//! The predictor: ResNet encoder → Mamba → transposed-convolution decoder.

pub mod adopt;
pub mod decoder;
pub mod encoder;
pub mod frames;
pub mod gpu;
pub mod info;
pub mod layers;
pub mod mamba;
pub mod parameters;
pub mod presets;
pub mod state;
pub mod temporal;

use std::sync::Arc;

use ssmv_autograd::{
    Arena, ArenaLayout, DType, Products, Shape, Tensor, no_grad,
    ops::{
        batch_norm2d::{AcrossRanks, BatchStatistics},
        probe::Pass,
    },
    with_products,
};

pub use gpu::DevicePredictor;
pub use presets::{CHANNELS, FRAMES_OUT, PRESETS, Preset, SKIP_FRAMES};

use crate::{Result, device::in_pool};
use decoder::Decoder;
use encoder::Encoder;
use layers::{Context, Norms};
pub use parameters::RunningStatistics;
use parameters::{Builder, Parameter, initialise};
use temporal::Temporal;

/// Weight of a batch's statistics in the running ones (PyTorch's momentum).
pub(crate) const MOMENTUM: f64 = 0.1;

/// A part of the predictor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Encoder: frames to latents.
    Encoder,
    /// Temporal part: past latents to future latents.
    Temporal,
    /// Decoder: latents to frames.
    Decoder,
}

/// Callback when a pass reaches a part's output: forward, the part is done; backward, all parts after it are done.
pub type PartListener = Arc<dyn Fn(Part, Pass) -> ssmv_autograd::Result<()> + Send + Sync>;

/// The parts, without their parameters' values.
pub struct Network {
    encoder: Encoder,
    temporal: Temporal,
    decoder: Decoder,
}

impl Network {
    /// frames [B,T,S,S,3] in [0,1], T ≥ 3 → the next frames [B,next,S,S,3].
    fn forward(&self, cx: &Context, preset: &Preset, frames: &Tensor) -> Result<Tensor> {
        let [batch, steps, h, w, c] = frames.shape().dims("predictor", "frames [B,T,S,S,3]")?;
        let (latent, maps) = self.encoder.forward(cx, &frames.reshape([batch * steps, h, w, c])?)?;
        let latent = cx.passed(latent.reshape([batch, steps, preset.latent])?, Part::Encoder)?;
        let future = cx.passed(self.temporal.forward(cx, &latent)?, Part::Temporal)?;
        let (start, channels) = (preset.start(), preset.decoder[0]);
        let future = future.reshape([batch * preset.frames_out, start, start, channels])?;
        let y = self.decoder.forward(cx, &future, &maps, batch)?;
        cx.passed(y.reshape([batch, preset.frames_out, h, w, c])?, Part::Decoder)
    }
}

/// A predictor: its parts, parameters and running statistics.
pub struct Predictor {
    /// Preset of the model, with its sizes.
    pub preset: Preset,
    /// Names and layouts of the parameters, in the arena's order.
    pub parameters: Vec<Parameter>,
    /// Values of the parameters.
    pub arena: Arena,
    /// Running statistics of the batch normalisations.
    pub norms: Vec<RunningStatistics>,
    network: Arc<Network>,
}

/// A model that predicts, on any device.
pub trait Predict {
    /// Preset of the model.
    fn preset(&self) -> &Preset;

    /// frames [B,T,S,S,3] on the CPU, in [0,1], T ≥ 3 → the next frames [B,next,S,S,3], on the CPU. With running statistics;
    /// nothing is recorded and nothing changes.
    fn predict(&self, frames: &Tensor) -> Result<Tensor>;
}

impl Predict for Predictor {
    fn preset(&self) -> &Preset {
        &self.preset
    }

    fn predict(&self, frames: &Tensor) -> Result<Tensor> {
        in_pool(|| {
            with_products(Products::F32, || {
                let cx = Context::new(&self.arena, Norms::Host(&self.norms), false);
                no_grad(|| self.network.forward(&cx, &self.preset, frames))
            })?
        })
    }
}

impl Predictor {
    /// A predictor with the initial parameters of `seed`.
    pub fn new(preset: &Preset, seed: u64, dtype: DType) -> Result<Self> {
        let (network, builder) = build(preset);
        let arena = initialise(&builder.parameters, seed, dtype)?;
        Ok(Self { preset: *preset, parameters: builder.parameters, arena, norms: builder.norms, network })
    }

    /// A predictor whose parameters are zero, for a checkpoint to set.
    pub fn zeros(preset: &Preset, dtype: DType) -> Result<Self> {
        let (network, builder) = build(preset);
        let shapes = builder.parameters.iter().map(|p| Shape::from(&p.layout.internal));
        let arena = Arena::new(ArenaLayout::new(shapes)?, dtype)?;
        Ok(Self { preset: *preset, parameters: builder.parameters, arena, norms: builder.norms, network })
    }

    /// frames [B,T,S,S,3] in [0,1], T ≥ 3 → the next frames [B,next,S,S,3], recorded for a backward pass. Batch
    /// normalisations use the batch's statistics and update the running ones.
    pub fn train(&mut self, frames: &Tensor) -> Result<Tensor> {
        self.train_with_hook(frames, None)
    }

    /// As above, with a callback at the outputs of the parts.
    pub fn train_with_hook(&mut self, frames: &Tensor, listener: Option<PartListener>) -> Result<Tensor> {
        self.train_with(frames, listener, None)
    }

    /// As above, normalised with the statistics of all ranks' batches if `ranks` are given.
    pub fn train_with(
        &mut self,
        frames: &Tensor,
        listener: Option<PartListener>,
        ranks: Option<Arc<dyn AcrossRanks>>,
    ) -> Result<Tensor> {
        let cx = Context::new(&self.arena, Norms::Host(&self.norms), true)
            .with_listener(listener)
            .with_ranks(ranks);
        let y = self.network.forward(&cx, &self.preset, frames)?;
        for (id, seen) in cx.seen.into_inner() {
            carry(&mut self.norms[id.0], &seen, self.arena.dtype());
        }
        Ok(y)
    }

    /// Number of parameters.
    pub fn parameter_count(&self) -> usize {
        self.parameters.iter().map(|p| p.layout.numel()).sum()
    }
}

/// A preset's parameters and running statistics by name and shape, without the parameters' values.
pub fn outline(preset: &Preset) -> (Vec<Parameter>, Vec<RunningStatistics>) {
    let (_, builder) = build(preset);
    (builder.parameters, builder.norms)
}

fn build(preset: &Preset) -> (Arc<Network>, Builder) {
    let mut b = Builder::default();
    let network = Network {
        encoder: b.scope("encoder", |b| Encoder::new(b, preset)),
        temporal: b.scope("temporal", |b| Temporal::new(b, preset)),
        decoder: b.scope("decoder", |b| Decoder::new(b, preset)),
    };
    (Arc::new(network), b)
}

/// Blends a batch's statistics into the running ones, rounded as in a checkpoint, so that a resumed run has the
/// same bits.
fn carry(running: &mut RunningStatistics, seen: &BatchStatistics, dtype: DType) {
    let blend = |old: &mut Vec<f64>, new: &[f64]| {
        for (o, n) in old.iter_mut().zip(new) {
            *o += MOMENTUM * (n - *o);
            if dtype == DType::F32 {
                *o = f64::from(*o as f32);
            }
        }
    };
    blend(&mut running.mean, &seen.mean);
    blend(&mut running.variance, &seen.variance);
    running.batches += 1;
}
