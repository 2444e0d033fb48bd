//! The run folder, and the log in it: `metrics.jsonl` and TensorBoard event files.

mod events;
mod recorder;
mod run_folder;

pub use events::EventFile;
pub use recorder::{EvalRecord, METRICS_FILE, Recorder, StepRecord, is_evaluated};
pub(crate) use run_folder::MOVED;
pub use run_folder::RunFolder;
