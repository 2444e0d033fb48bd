//! NumPy's .npy files (<https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>): the header, whole
//! arrays, and video sequences of any size.

mod array;
mod header;
mod sequences;

pub use array::{Array, ArrayFile, Values, read, write_f32, write_u8};
pub use header::{Dtype, Header};
pub use sequences::{Layout, NpySequences};
