//! Permutation of axes.

use super::{FAMILY, Raw, launch, thread};
use crate::{
    Error, Kernel, Result, Target, Work,
    ptx::Asm,
    size,
    span::{Real, access_width},
};

/// Most axes of a permuted array.
const MOST_AXES: usize = 6;

/// Axis i of y is axis `axes[i]` of x. The gradient uses the inverse order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Permute {
    /// Sizes of the axes of x, up to six.
    pub shape: Vec<u32>,
    /// A permutation of the axis numbers 0, 1, ….
    pub axes: Vec<usize>,
}

/// An axis of y, or several that are also neighbours in x.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Axis {
    size: u32,
    /// Distance in x from one index to the next, in elements.
    stride: u32,
}

impl Permute {
    /// The kernel that computes y. Parameters: x, y.
    ///
    /// # Errors
    /// An order that is not a permutation of the axes, more than six axes, arrays that are empty or of 2³¹ elements or
    /// more.
    pub fn kernel<T: Real>(&self, target: Target) -> Result<Kernel> {
        let n = self.check()?;
        let axes = self.merged();
        let last = axes[axes.len() - 1];
        // If the last axis stays last, all strides are multiples of its size, so runs begin at aligned addresses.
        let width = if last.stride == 1 { access_width(last.size, T::VECTOR) } else { 1 };
        let vectors = n / width;
        let work = Work { bytes: 2 * u64::from(n) * u64::from(T::BYTES), operations: 0 };
        let launch = launch(self.name::<T>(), vectors, target);
        Ok(Asm::kernel(launch, work, &format!("y = x with its axes in the order {:?}", self.axes), |asm| {
            let (x, y) = (asm.pointer::<T>("x"), asm.pointer::<T>("y"));
            let own = thread(asm, vectors);
            let (mut rest, vector) = asm.divide(own, last.size / width);
            let mut from = vector * (width * last.stride);
            for axis in axes.iter().rev().skip(1) {
                let (next, index) = asm.divide(rest, axis.size);
                from = index.mad(axis.stride, from);
                rest = next;
            }
            Raw::load(x.at(from), width).store(y.at(own * width));
        }))
    }

    fn check(&self) -> Result<u32> {
        let Self { shape, axes } = self;
        let mut sorted = axes.clone();
        sorted.sort_unstable();
        if shape.len() > MOST_AXES || sorted.into_iter().ne(0..shape.len()) {
            let message = format!("{axes:?} is not an order of the axes of {shape:?}, of up to {MOST_AXES}");
            return Err(Error::new(FAMILY, message));
        }
        size::elements(FAMILY, shape)
    }

    /// The axes of y without axes of size one, neighbours that stay neighbours merged; at least one axis.
    fn merged(&self) -> Vec<Axis> {
        let mut strides = vec![1; self.shape.len()];
        for i in (1..strides.len()).rev() {
            strides[i - 1] = strides[i] * self.shape[i];
        }
        let mut merged: Vec<Axis> = Vec::new();
        for axis in self.axes.iter().map(|&i| Axis { size: self.shape[i], stride: strides[i] }) {
            match merged.last_mut() {
                _ if axis.size == 1 => {}
                Some(before) if before.stride == axis.stride * axis.size => {
                    *before = Axis { size: before.size * axis.size, stride: axis.stride };
                }
                _ => merged.push(axis),
            }
        }
        if merged.is_empty() {
            merged.push(Axis { size: 1, stride: 1 });
        }
        merged
    }

    fn name<T: Real>(&self) -> String {
        let sizes: Vec<_> = self.shape.iter().map(u32::to_string).collect();
        let axes: String = self.axes.iter().map(usize::to_string).collect();
        format!("permute_{}_{}_axes{axes}", T::SPELLED, sizes.join("x"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(shape: &[u32], axes: &[usize]) -> Vec<(u32, u32)> {
        let permute = Permute { shape: shape.to_vec(), axes: axes.to_vec() };
        permute.merged().into_iter().map(|axis| (axis.size, axis.stride)).collect()
    }

    #[test]
    fn axes_that_stay_neighbours_are_one() {
        assert_eq!(merged(&[2, 3, 4], &[0, 1, 2]), [(24, 1)]);
        assert_eq!(merged(&[2, 3, 4], &[1, 2, 0]), [(12, 1), (2, 12)]);
        assert_eq!(merged(&[2, 3, 4, 5], &[0, 2, 1, 3]), [(2, 60), (4, 5), (3, 20), (5, 1)]);
        assert_eq!(merged(&[2, 1, 4], &[1, 2, 0]), [(4, 1), (2, 4)]);
        assert_eq!(merged(&[2, 1, 4], &[1, 0, 2]), [(8, 1)]);
        assert_eq!(merged(&[1, 1], &[1, 0]), [(1, 1)]);
        assert_eq!(merged(&[], &[]), [(1, 1)]);
    }
}
