//! Trains and runs a video predictor (ResNet encoder → Mamba → transposed-convolution decoder) on a tensor
//! engine written from scratch: [`ssmv_autograd`].

pub mod check;
pub mod checkpoint;
pub mod cli;
pub mod clips;
pub mod config;
pub mod data;
pub mod device;
mod error;
pub mod eval;
pub mod launch;
pub mod media;
pub mod model;
mod output;
pub mod record;
pub mod report;
mod text;
pub mod train;

pub use error::{Error, Result};
pub use output::OutputFile;
