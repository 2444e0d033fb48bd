//! Optimisers over flat arenas: AdamW on the CPU and on a GPU, the gradients' norm, and clipping by it.
//!
//! An optimiser owns its state: the moments, the count of its steps, and which parameters decay.

mod adamw;
#[cfg(feature = "cuda")]
mod cuda;
mod ema;
mod norm;
#[cfg(feature = "cuda")]
mod zero;

pub use adamw::{AdamW, AdamWOptions};
#[cfg(feature = "cuda")]
pub use cuda::{DeviceAdamW, StepRecord};
pub use ema::{average, ema_share};
pub use norm::{clip_factor, gradient_norm, sum_of_squares};
#[cfg(feature = "cuda")]
pub use zero::{ShardedAdamW, Shares};
