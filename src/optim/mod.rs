//! The optimiser and the gradient's norm, over flat arenas.

mod adamw;
mod device;
mod norm;
mod shares;

pub use adamw::{AdamW, Moments};
pub use device::{DeviceOptimiser, Record};
pub use norm::{clip_factor, gradient_norm, sum_of_squares};
pub use shares::{ShareOptimiser, Shares};
