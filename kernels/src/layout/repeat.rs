//! Repeated copies along an axis, and the sum over them.

use super::{FAMILY, Raw, launch, thread};
use crate::{
    Kernel, Result, Target, Work,
    ptx::{Asm, F32, Global},
    size,
    span::{Real, access_width},
};

/// Loads that a thread issues at once.
const UNROLL: u32 = 4;

/// x [outer, inner] and y [outer, count, inner], where each y[o, i] is a copy of x[o].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Repeat {
    /// Product of the sizes of the axes before.
    pub outer: u32,
    /// Number of copies along the axis.
    pub count: u32,
    /// Product of the sizes of the axes after.
    pub inner: u32,
}

impl Repeat {
    /// y[o, i, :] = x[o, :]. Parameters: x, y.
    ///
    /// # Errors
    /// Empty arrays, arrays of 2³¹ elements or more.
    pub fn forward<T: Real>(&self, target: Target) -> Result<Kernel> {
        let large = self.check()?;
        let width = access_width(self.inner, T::VECTOR);
        let vectors = large / width;
        let run = self.inner / width;
        let launch = launch(self.name::<T>("repeat"), vectors, target);
        let work = Work { bytes: self.bytes::<T>(), operations: 0 };
        Ok(Asm::kernel(launch, work, "y[o, i] = x[o]", |asm| {
            let (x, y) = (asm.pointer::<T>("x"), asm.pointer::<T>("y"));
            let own = thread(asm, vectors);
            let (copy, in_run) = asm.divide(own, run);
            let (outer, _) = asm.divide(copy, self.count);
            Raw::load(x.at(outer.mad(run, in_run) * width), width).store(y.at(own * width));
        }))
    }

    /// dx[o, :] = Σ dy[o, i, :] for i = 0, 1, … in this order, in f32 starting from 0, rounded once. Parameters: dy,
    /// dx.
    ///
    /// # Errors
    /// As [`Repeat::forward`].
    pub fn backward<T: Real>(&self, target: Target) -> Result<Kernel> {
        let large = self.check()?;
        let Self { outer, count, inner } = *self;
        let width = access_width(inner, T::VECTOR);
        let vectors = outer * inner / width;
        let launch = launch(self.name::<T>("repeat_backward"), vectors, target);
        let work = Work { bytes: self.bytes::<T>(), operations: large.into() };
        Ok(Asm::kernel(launch, work, "dx[o] = the sum of dy[o, i]", |asm| {
            let (dy, dx) = (asm.pointer::<T>("dy"), asm.pointer::<T>("dx"));
            let own = thread(asm, vectors);
            let (outer, in_run) = asm.divide(own, inner / width);
            let first = dy.at(outer.mad(count * inner, in_run * width));
            let sums: Vec<_> = (0..width).map(|_| asm.var::<F32>(0.0)).collect();
            // The distance of rows may exceed an instruction's constant offset.
            let add = |at: Global<'_, T>, copies: u32| {
                let copies: Vec<_> =
                    (0..copies).map(|i| T::load(at.at(asm.value(i * inner)), width)).collect();
                copies.iter().flat_map(|copy| sums.iter().zip(copy)).for_each(|(sum, &dy)| sum.add(dy));
            };
            let unrolled = count / UNROLL * UNROLL;
            if unrolled > 0 {
                asm.for_range(0, unrolled, UNROLL, |i| add(first.at(i * inner), UNROLL));
            }
            add(first.at(asm.value(unrolled * inner)), count - unrolled);
            T::store(dx.at(own * width), &sums.iter().map(|sum| sum.get()).collect::<Vec<_>>());
        }))
    }

    /// Number of elements of y.
    fn check(&self) -> Result<u32> {
        size::elements(FAMILY, &[self.outer, self.count, self.inner])
    }

    /// The memory traffic of either pass.
    fn bytes<T: Real>(&self) -> u64 {
        let small = u64::from(self.outer) * u64::from(self.inner);
        small * (u64::from(self.count) + 1) * u64::from(T::BYTES)
    }

    fn name<T: Real>(&self, what: &str) -> String {
        let Self { outer, count, inner } = self;
        format!("{what}_{}_{outer}x{count}x{inner}", T::SPELLED)
    }
}
