//! Shapes: the sizes of a contiguous row-major tensor.

use std::{fmt, ops::Deref};

use crate::{Error, Result};

/// Sizes of a tensor, outermost first. A scalar has none. Always row-major and contiguous.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Shape(Vec<usize>);

impl Shape {
    /// The shape of a single number: no axes.
    pub fn scalar() -> Self {
        Self(Vec::new())
    }

    /// The number of elements; an error where the product does not fit the address space.
    pub fn checked_numel(&self, op: &'static str) -> Result<usize> {
        self.0
            .iter()
            .try_fold(1usize, |n, &d| n.checked_mul(d))
            .filter(|&n| n <= isize::MAX as usize / 16)
            .ok_or_else(|| Error::shape(op, format!("{self} has too many elements")))
    }

    /// The number of elements.
    pub fn numel(&self) -> usize {
        self.0.iter().product()
    }

    /// The sizes as a fixed array; an error that names `op` when the rank differs.
    pub fn dims<const N: usize>(&self, op: &'static str, layout: &str) -> Result<[usize; N]> {
        <[usize; N]>::try_from(self.0.as_slice())
            .map_err(|_| Error::shape(op, format!("{self} given where {layout} is expected")))
    }

    /// Product of the sizes before, the size of, and product of the sizes after `axis`.
    pub fn around(&self, axis: usize) -> (usize, usize, usize) {
        (self.0[..axis].iter().product(), self.0[axis], self.0[axis + 1..].iter().product())
    }

    /// Rows and columns when all but the last axis are folded together; a scalar is 1×1.
    pub fn rows_cols(&self) -> (usize, usize) {
        match self.0.split_last() {
            Some((&cols, outer)) => (outer.iter().product(), cols),
            None => (1, 1),
        }
    }

    /// The same shape with another last size.
    pub fn with_last(&self, last: usize) -> Self {
        let mut dims = self.0.clone();
        dims.pop();
        dims.push(last);
        Self(dims)
    }
}

impl Deref for Shape {
    type Target = [usize];

    fn deref(&self) -> &[usize] {
        &self.0
    }
}

impl<T: AsRef<[usize]>> From<T> for Shape {
    fn from(dims: T) -> Self {
        Self(dims.as_ref().to_vec())
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}
