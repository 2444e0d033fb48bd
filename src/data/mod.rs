//! Sequences: Moving MNIST generated from real digits, or windows of clips; and the threads that prepare batches ahead of the
//! training.

mod dataset;
pub mod digits;
pub mod idx;
mod loader;
mod make;
mod moving_mnist;
pub mod npy;
mod windows;

pub use dataset::{DataSource, DataSpec, Dataset};
pub use digits::Digits;
pub use loader::{Batch, Loader, LoaderSpec};
pub use make::{MakeOptions, make};
pub use moving_mnist::{MovingMnist, Rule};
use serde::{Deserialize, Serialize};

/// Maximum size in bytes of one sequence, or of all digits together: 1 GiB.
const MAX_BYTES: usize = 1 << 30;

/// Training or test data. The two never share a digit or a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// Data that the model is trained on.
    Train,
    /// Data that the model is evaluated on.
    Test,
}
