//! The run folder, and the logs in it: `metrics.jsonl`, TensorBoard event files, and `starts.jsonl`.

mod events;
mod recorder;
mod run_folder;
mod starts;

pub use events::EventFile;
pub(crate) use events::host_name;
pub(crate) use recorder::MAX_LINE;
pub use recorder::{EvalRecord, METRICS_FILE, Recorder, StepRecord, is_evaluated};
pub(crate) use run_folder::MOVED;
pub use run_folder::RunFolder;
pub use starts::{STARTS_FILE, Start};
