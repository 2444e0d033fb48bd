//! The optimiser and the gradient's norm, over flat arenas.

mod adamw;
mod norm;

pub use adamw::{AdamW, Moments};
pub use norm::{clip_factor, gradient_norm};
