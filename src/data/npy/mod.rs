//! NumPy's .npy files (<https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>): the header, and
//! whole arrays.

mod array;
mod header;

pub use array::{Array, ArrayFile, Values, read, write_f32, write_u8};
pub use header::{Dtype, Header, MAX_HEADER};
