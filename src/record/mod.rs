//! The log of a run: `metrics.jsonl` and TensorBoard event files.

mod events;
mod recorder;

pub use events::EventFile;
pub use recorder::{EvalRecord, METRICS_FILE, Recorder, StepRecord};
