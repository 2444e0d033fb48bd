//! Configuration of a training in three layers: the preset's defaults, a TOML file over them, the command line over both.
//!
//! [`TrainOptions`] is one layer, in which every field is optional; [`resolve`] merges the layers into a [`TrainConfig`], in
//! which every value is present and within its [`limits`].

mod choices;
mod file;
pub mod limits;
mod options;
mod resolve;
mod run_folder;
mod train;

pub use crate::clips::{Layout, Resize, ValueRange};
pub use crate::data::Rule;
pub(crate) use choices::choices;
pub use choices::{Comm, Device, Loss, Precision, ScheduleKind};
pub use file::{ConfigFile, nearest};
pub use options::{DEFAULT_PRESET, PRESETS, TrainConfig, TrainOptions, shown_defaults};
pub use resolve::{resolve, resolve_over};
pub use run_folder::{
    ANIMATION_FILE, CLIPS_FILE, CONFIG_FILE, LOCK_FILE, STRIP_FILE, check_run_folder, create_run_folder,
    default_run_folder, find_config, is_unused,
};
pub use train::Duration;
