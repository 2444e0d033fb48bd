//! The phases of a step, for measurements.

use std::sync::Arc;

use ssmv_autograd::{Result, ops::probe::Pass};

use crate::model::{Part, PartListener};

/// A phase of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Conversion of bytes to frames in [0, 1].
    Input,
    /// Forward pass of the encoder.
    Encoder,
    /// Forward pass of the Mamba layers.
    Temporal,
    /// Forward pass of the decoder.
    Decoder,
    /// Forward and backward pass of the loss.
    Loss,
    /// Backward pass of the decoder.
    DecoderBackward,
    /// Backward pass of the Mamba layers.
    TemporalBackward,
    /// Backward pass of the encoder.
    EncoderBackward,
    /// Gradient norm, AdamW, running statistics.
    Optimiser,
}

impl Phase {
    /// All phases, in the order of a step.
    pub const ALL: [Self; 9] = [
        Self::Input,
        Self::Encoder,
        Self::Temporal,
        Self::Decoder,
        Self::Loss,
        Self::DecoderBackward,
        Self::TemporalBackward,
        Self::EncoderBackward,
        Self::Optimiser,
    ];

    /// Name of the phase in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Encoder => "encoder",
            Self::Temporal => "temporal",
            Self::Decoder => "decoder",
            Self::Loss => "loss",
            Self::DecoderBackward => "decoder backward",
            Self::TemporalBackward => "temporal backward",
            Self::EncoderBackward => "encoder backward",
            Self::Optimiser => "optimiser",
        }
    }
}

/// Called when a phase has ended; on a device, when all of it is queued.
pub(super) type OnPhase = Arc<dyn Fn(Phase) -> Result<()> + Send + Sync>;

/// Calls a listener, if there is one.
pub(super) fn ended(on_phase: &Option<OnPhase>, phase: Phase) -> Result<()> {
    on_phase.as_ref().map_or(Ok(()), |listener| listener(phase))
}

/// The model's callback, which converts parts and passes to phases for a listener.
pub(super) fn of_parts(on_phase: &Option<OnPhase>) -> Option<PartListener> {
    let listener = Arc::clone(on_phase.as_ref()?);
    Some(Arc::new(move |part, pass| {
        listener(match (pass, part) {
            (Pass::Forward, Part::Encoder) => Phase::Encoder,
            (Pass::Forward, Part::Temporal) => Phase::Temporal,
            (Pass::Forward, Part::Decoder) => Phase::Decoder,
            // The gradient has reached a part's output: the parts after it are done.
            (Pass::Backward, Part::Decoder) => Phase::Loss,
            (Pass::Backward, Part::Temporal) => Phase::DecoderBackward,
            (Pass::Backward, Part::Encoder) => Phase::TemporalBackward,
        })
    }))
}
