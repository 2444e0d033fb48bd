//! How the commands that take a checkpoint, or none, read clips.

use std::path::Path;

use clap::Args;

use crate::Result;
use crate::clips::{self, ClipOptions};
use crate::config::{Layout, Resize, TrainConfig, ValueRange, limits};

/// Command-line arguments for the reading of clips. Defaults are those of the checkpoint's training, if there is one.
#[derive(Args, Clone, Debug, Default)]
pub struct ClipArgs {
    /// Order of an array's axes [default: as trained where it fits, else auto]
    #[arg(long, hide_possible_values = true, value_name = "auto|thw|…|ntchw", help_heading = "Clips")]
    pub layout: Option<Layout>,
    /// Values of an array that are black and white; others are clamped [default: as trained, else auto]
    #[arg(long, value_name = "auto|BLACK,WHITE", allow_hyphen_values = true, help_heading = "Clips")]
    pub range: Option<ValueRange>,
    /// How frames of another size become the model's [default: as trained, else fill]
    #[arg(long, help_heading = "Clips")]
    pub resize: Option<Resize>,
    /// Frames a second to take from animations and videos [default: as trained, else all]
    #[arg(long, value_name = "N", value_parser = limits::number("fps"), help_heading = "Clips")]
    pub fps: Option<f64>,
}

impl ClipArgs {
    /// The options for the clips at `path` and a model that was trained by `trained`.
    ///
    /// # Errors
    /// An array that cannot be read.
    pub fn options(&self, path: &Path, trained: Option<&TrainConfig>) -> Result<ClipOptions> {
        let trained = trained.map(TrainConfig::clip_options).unwrap_or_default();
        // A layout that was found for one array need not fit another.
        let fits = self.layout.is_some() || clips::layout_fits(path, trained.layout)?;
        Ok(ClipOptions {
            layout: self.layout.unwrap_or(if fits { trained.layout } else { Layout::Auto }),
            range: self.range.unwrap_or(trained.range),
            resize: self.resize.unwrap_or(trained.resize),
            fps: self.fps.or(trained.fps),
        })
    }
}
