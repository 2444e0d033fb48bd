//! Training: the step, the run around it, and what both are made of.

pub mod bench;
mod device;
pub mod divergence;
mod engine;
pub mod interrupt;
pub mod loss_scale;
mod memory;
mod phase;
mod preview;
pub mod ranks;
mod run;
pub mod schedule;
mod setup;
mod short_run;
mod state;
mod trainer;

pub use device::{MemoryPart, StepMemory, largest_batch, step_kernels, step_memory};
pub use run::{Observer, Status, Summary, run, run_with_ranks};
pub use short_run::{ShortRun, short_run, short_run_with_ranks};
pub(crate) use state::EMA;
pub use state::TrainState;
pub use trainer::{StepFigures, Trainer};
