//! What a training run is told to do: the presets' defaults, a TOML file over them, the command line over
//! both.
//!
//! [`TrainOptions`] is one such layer, every field optional; [`resolve`] lays them over one another and gives
//! a [`TrainConfig`], in which every value is present and within its [`limits`].

mod choices;
mod file;
pub mod limits;
mod nearest;
mod options;
pub mod presets;
mod resolve;
mod run_folder;
mod train;

pub use crate::data::{Layout, Rule};
pub use choices::{Comm, Device, Loss, Precision, ScheduleKind};
pub use file::ConfigFile;
pub use nearest::nearest;
pub use options::TrainOptions;
pub use resolve::{resolve, resolve_over};
pub use run_folder::{CONFIG_FILE, check_run_folder, default_run_folder, find_config};
pub use train::{Duration, FRAMES_OUT, TrainConfig};
