//! Where the sequences come from: Moving MNIST made on the fly from real digits, or an .npy file; and the threads that
//! make batches ahead of the training.

mod dataset;
pub mod digits;
pub mod idx;
mod loader;
mod make;
mod moving_mnist;
pub mod npy;
mod resize;

pub use dataset::{DataSource, DataSpec, Dataset};
pub use digits::Digits;
pub use loader::{Batch, Loader, LoaderSpec};
pub use make::{MakeOptions, make};
pub use moving_mnist::{MovingMnist, Rule};
pub use npy::{Layout, NpySequences};
use serde::{Deserialize, Serialize};

/// The most bytes that one sequence, or all digits together, may take: 1 GiB.
const MAX_BYTES: usize = 1 << 30;

/// Training or testing: the two never share a digit or a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// What the model learns from.
    Train,
    /// What it is judged by.
    Test,
}
