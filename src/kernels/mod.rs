//! The GPU kernels as a person looks at them: what `ptxas` makes of their text, and the table of it that comes with the
//! program.

mod ptxas;
mod resources;

pub use ptxas::{Ptxas, Usage};
pub use resources::{Difference, Resources, TABLE_PATH};
