//! A range of one axis: copied out of an array, and back into it.

use super::{FAMILY, Raw, launch, thread};
use crate::{
    Error, Kernel, Result, Target, Work,
    ptx::Asm,
    size,
    span::{Real, access_width},
};

/// Indices `start` to `start + len` − 1 of the middle axis of x [outer, from, inner]; y [outer, len, inner] holds only
/// these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Slice {
    /// Product of the sizes of the axes before.
    pub outer: u32,
    /// Size of the axis in x.
    pub from: u32,
    /// First index of the slice along its axis.
    pub start: u32,
    /// Number of indices: the size of the axis in y.
    pub len: u32,
    /// Product of the sizes of the axes after.
    pub inner: u32,
}

/// The array as contiguous runs of elements: each run of y is part of a row of x.
#[derive(Debug, Clone, Copy)]
struct Runs {
    /// Number of elements per access.
    width: u32,
    /// Vectors per row of x.
    row: u32,
    /// Vectors of the row before the run.
    start: u32,
    /// Number of vectors per run.
    run: u32,
}

impl Slice {
    /// y[o, i, :] = x[o, start + i, :]. Parameters: x, y.
    ///
    /// # Errors
    /// Empty arrays, arrays of 2³¹ elements or more, a range outside of the axis.
    pub fn take<T: Real>(&self, target: Target) -> Result<Kernel> {
        self.moved::<T>("take", ["x", "y"], "y[o, i] = x[o, start + i]", target)
    }

    /// x[o, start + i, :] = y[o, i, :]; the rest of x is unchanged. Concatenation runs this for each input.
    /// Parameters: y, x.
    ///
    /// # Errors
    /// As [`Slice::take`].
    pub fn place<T: Real>(&self, target: Target) -> Result<Kernel> {
        self.moved::<T>("place", ["y", "x"], "x[o, start + i] = y[o, i]", target)
    }

    /// x[o, start + i, :] = y[o, i, :], and zeros in the rest of x: the gradient of [`Slice::take`]. Parameters: y, x.
    ///
    /// # Errors
    /// As [`Slice::take`].
    pub fn pad<T: Real>(&self, target: Target) -> Result<Kernel> {
        let (large, small) = self.check()?;
        let Runs { width, row, start, run } = self.runs::<T>();
        let vectors = large / width;
        let work = Work { bytes: (u64::from(large) + u64::from(small)) * u64::from(T::BYTES), operations: 0 };
        let launch = launch(self.name::<T>("pad"), vectors, target);
        Ok(Asm::kernel(launch, work, "x[o, start + i] = y[o, i], zeros elsewhere", |asm| {
            let (y, x) = (asm.pointer::<T>("y"), asm.pointer::<T>("x"));
            let own = thread(asm, vectors);
            let (outer, in_row) = asm.divide(own, row);
            let to = x.at(own * width);
            // Indices before the run wrap to numbers past its end.
            let in_run = in_row - start;
            asm.if_else(
                in_run.lt(run),
                || Raw::load(y.at(outer.mad(run, in_run) * width), width).store(to),
                || Raw::zeros::<T>(asm, width).store(to),
            );
        }))
    }

    /// Copies each element between y and its place in x.
    fn moved<T: Real>(
        &self,
        what: &str,
        [from, to]: [&str; 2],
        summary: &str,
        target: Target,
    ) -> Result<Kernel> {
        let (_, small) = self.check()?;
        let Runs { width, row, start, run } = self.runs::<T>();
        let vectors = small / width;
        let work = Work { bytes: 2 * u64::from(small) * u64::from(T::BYTES), operations: 0 };
        Ok(Asm::kernel(launch(self.name::<T>(what), vectors, target), work, summary, |asm| {
            let arrays = [asm.pointer::<T>(from), asm.pointer::<T>(to)];
            let own = thread(asm, vectors);
            let (outer, in_run) = asm.divide(own, run);
            let in_large = outer.mad(row, in_run + start);
            let places = if what == "take" { [in_large, own] } else { [own, in_large] };
            Raw::load(arrays[0].at(places[0] * width), width).store(arrays[1].at(places[1] * width));
        }))
    }

    /// Number of elements of x and of y.
    fn check(&self) -> Result<(u32, u32)> {
        let Self { outer, from, start, len, inner } = *self;
        let small = size::elements(FAMILY, &[outer, len, inner])?;
        let large = size::elements(FAMILY, &[outer, from, inner])?;
        if start.checked_add(len).is_none_or(|end| end > from) {
            let message = format!("{len} from {start} on are not inside an axis of {from}");
            return Err(Error::new(FAMILY, message));
        }
        Ok((large, small))
    }

    fn runs<T: Real>(&self) -> Runs {
        let [row, start, run] = [self.from, self.start, self.len].map(|n| n * self.inner);
        let width = access_width(row | start | run, T::VECTOR);
        Runs { width, row: row / width, start: start / width, run: run / width }
    }

    fn name<T: Real>(&self, what: &str) -> String {
        let Self { outer, from, start, len, inner } = self;
        format!("slice_{what}_{}_{outer}x{from}x{inner}_{start}_{len}", T::SPELLED)
    }
}
