//! Training: the step, and the run around it.
//!
//! | file | content |
//! | --- | --- |
//! | `run.rs`, `setup.rs` | a whole training: data, steps, evaluations, checkpoints, the log |
//! | `trainer.rs`, `backend.rs` | one step, whose parts a backend computes: feed, pass, reduce, update |
//! | `cpu.rs`, `gpu/` | the two backends |
//! | `precision.rs` | the precision in which each of them computes |
//! | `ranks/` | communication of both backends with the other ranks |
//! | `snapshot.rs` | the contents of a checkpoint |
//! | `epochs.rs`, `resumption.rs` | the count of epochs; changes made by a resumption |
//! | `schedule.rs`, `loss_scale.rs`, `divergence.rs` | learning rates, loss scaling, warnings |

pub mod backend;
pub mod bench;
mod cpu;
pub mod divergence;
mod epochs;
mod gpu;
pub mod interrupt;
pub mod loss_scale;
mod memory;
mod phase;
mod precision;
mod preview;
pub mod ranks;
mod resumption;
mod run;
pub mod schedule;
mod setup;
mod short_run;
mod snapshot;
mod trainer;

pub use cpu::Cpu;
pub use gpu::{Gpu, MemoryPart, StepMemory, largest_batch, step_kernels, step_memory};
pub use run::{Observer, Status, Summary, run, run_with_ranks};
pub use short_run::{ShortRun, short_run, short_run_with_ranks};
pub(crate) use snapshot::EMA;
pub use snapshot::{Snapshot, TrainState};
pub use trainer::{StepFigures, Trainer};
