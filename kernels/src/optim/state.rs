//! What the optimiser keeps in device memory.

use crate::ptx::{F32, F64, Global, U32, U64};

/// The table of the fields: from it come the host's struct, its bytes, and the device's addresses.
macro_rules! layout {
    ($bytes:literal bytes: $($(#[$doc:meta])* $offset:literal $field:ident: $host:ident as $tag:ident = $default:expr;)*) => {
        /// The optimiser's settings, its counters and the numbers of the step in hand. In device memory: [`StepState::BYTES`]
        /// bytes, little-endian, the fields in this order without gaps; the address a multiple of 16.
        #[derive(Debug, Clone, Copy, PartialEq)]
        pub struct StepState {
            $($(#[$doc])* pub $field: $host,)*
        }

        impl StepState {
            /// Bytes in device memory.
            pub const BYTES: usize = $bytes;

            /// Where each field starts, in bytes.
            pub const OFFSETS: Offsets = Offsets { $($field: $offset,)* };

            #[cfg(test)]
            const FIELDS: &[(&str, usize)] = &[$((stringify!($field), $offset),)*];

            /// As it stands in device memory.
            pub fn to_bytes(&self) -> [u8; Self::BYTES] {
                let mut bytes = [0; Self::BYTES];
                $(bytes[$offset..$offset + size_of::<$host>()].copy_from_slice(&self.$field.to_le_bytes());)*
                bytes
            }

            /// From device memory.
            pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
                Self { $($field: $host::from_le_bytes(std::array::from_fn(|i| bytes[$offset + i])),)* }
            }
        }

        /// Where each field of a [`StepState`] starts, in bytes.
        #[derive(Debug, Clone, Copy)]
        pub struct Offsets {
            $($(#[$doc])* pub $field: usize,)*
        }

        impl Default for StepState {
            /// PyTorch's numbers for AdamW and for the loss scale, a weight decay of 1e-4, no clipping; before the first
            /// step, with a rate of 0.
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }

        /// The addresses of a [`StepState`]'s fields.
        #[derive(Clone, Copy)]
        pub(super) struct OnDevice<'a>(pub Global<'a, U64>);

        impl<'a> OnDevice<'a> {
            $($(#[$doc])* pub fn $field(self) -> Global<'a, $tag> {
                self.0.cast().plus_bytes($offset)
            })*
        }
    };
}

layout! { 160 bytes:
    /// Learning rate. The host writes it before each step.
    0 rate: f64 as F64 = 0.0;
    /// β₁, the decay of the first moment.
    8 beta1: f64 as F64 = 0.9;
    /// β₂, the decay of the second moment.
    16 beta2: f64 as F64 = 0.999;
    /// ε, added to the denominator.
    24 eps: f64 as F64 = 1e-8;
    /// λ, for the parameters that decay.
    32 weight_decay: f64 as F64 = 1e-4;
    /// The most that the gradients' norm may be; above it they are scaled down. ∞ for no clipping.
    40 max_norm: f64 as F64 = f64::INFINITY;
    /// The loss scale is multiplied by this after `interval` good steps in a row.
    48 growth: f32 as F32 = 2.0;
    /// The loss scale is multiplied by this after a skipped step.
    52 backoff: f32 as F32 = 0.5;
    /// Good steps in a row after which the loss scale grows.
    56 interval: u32 as U32 = 2000;
    /// Not 0 where anything of this step was not finite besides the gradients, such as the loss: whatever finds it writes 1.
    /// The step takes note and clears it.
    60 overflow: u32 as U32 = 0;
    /// Steps, skipped ones included.
    64 steps: u64 as U64 = 0;
    /// Steps that changed the parameters: AdamW's t.
    72 updates: u64 as U64 = 0;
    /// The norm of the last step's gradients, without the loss scale, before clipping.
    80 norm: f64 as F64 = 0.0;
    /// What clipping multiplied them by; without meaning after a skipped step.
    88 clip: f64 as F64 = 1.0;
    /// What the next loss is multiplied by. 1 with growth 1 and backoff 1 switches loss scaling off.
    96 scale: f32 as F32 = 65536.0;
    /// Good steps since the scale last changed.
    100 growth_tracker: u32 as U32 = 0;
    /// Steps skipped since the last that was not.
    104 consecutive_skips: u32 as U32 = 0;
    /// 1 where the last step was skipped, 0 where it was not.
    108 found_inf: u32 as U32 = 0;
    /// The step's numbers, each rounded once: what gradients are multiplied by, clip / scale.
    112 gradient_scale: f32 as F32 = 0.0;
    /// 1 − rate·λ.
    116 keep: f32 as F32 = 1.0;
    /// rate / (1 − β₁ᵗ).
    120 step_size: f32 as F32 = 0.0;
    /// √(1 − β₂ᵗ).
    124 root: f32 as F32 = 1.0;
    /// β₂.
    128 v_keep: f32 as F32 = 0.0;
    /// 1 − β₁.
    132 m_gain: f32 as F32 = 0.0;
    /// 1 − β₂.
    136 v_gain: f32 as F32 = 0.0;
    /// ε.
    140 v_floor: f32 as F32 = 0.0;
    /// δ, the decay of the running mean of the parameters, which the first updates keep lower.
    144 ema_decay: f64 as F64 = 0.0;
    /// The parameters' share in their running mean at this step, not yet rounded to f32.
    152 ema_share: f64 as F64 = 1.0;
}

#[cfg(test)]
mod tests {
    use super::StepState;

    #[test]
    fn the_fields_lie_without_gaps() {
        let ends = StepState::FIELDS.iter().skip(1).map(|f| f.1).chain([StepState::BYTES]);
        for (&(name, start), end) in StepState::FIELDS.iter().zip(ends) {
            let size = end - start;
            assert!(matches!(size, 4 | 8) && start % size == 0, "{name} at {start}");
        }
    }

    #[test]
    fn bytes_come_back() {
        let state =
            StepState { rate: 0.25, updates: 1 << 40, scale: 3.0, v_floor: 5.0, ..StepState::default() };
        let bytes = state.to_bytes();
        assert_eq!(StepState::from_bytes(&bytes), state);
        assert_eq!(bytes[72..80], (1u64 << 40).to_le_bytes());
    }
}
