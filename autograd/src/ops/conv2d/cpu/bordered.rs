//! Images with a border of zeros, in the form that a register tile reads.

use super::super::Geometry;
use crate::{Element, buffer::Buffer, simd::tile::Operand, wide};

/// Images with a border of zeros: the sizes, and the position of the source.
#[derive(Clone, Copy)]
pub(super) struct Bordered {
    pub source: [usize; 2],
    pub channels: usize,
    /// Number of zeros before the first row and column.
    pub before: [usize; 2],
    pub size: [usize; 2],
}

impl Bordered {
    /// x with its padding, cut to what the patches of y read.
    pub fn of_x(g: &Geometry) -> Self {
        let size = std::array::from_fn(|i| (g.output[i] - 1) * g.stride[i] + g.kernel[i]);
        Self { source: g.input, channels: g.cin, before: g.padding, size }
    }

    /// Elements of one image with its border.
    pub fn elements(&self) -> usize {
        self.size[0] * self.size[1] * self.channels
    }

    /// The images with their border, as parts of a product's words, and `beyond` zeros; the source itself where that is
    /// the same.
    pub fn fill<'a, W: Operand>(
        &self,
        source: &'a [W::Sum],
        images: usize,
        beyond: usize,
    ) -> Scratch<'a, W::Part> {
        if W::PARTS == 1 && beyond == 0 && self.before == [0; 2] && self.size == self.source {
            return Scratch::Source(bytemuck::cast_slice(source));
        }
        let zero = <W::Part as bytemuck::Zeroable>::zeroed();
        let len = images * self.elements();
        let mut out = Buffer::uninit(len + beyond);
        out[len..].fill(zero);
        self.rows(source, &mut out[..len], |elements, row| match elements {
            Some((left, elements)) => {
                row[..left].fill(zero);
                W::convert(elements, &mut row[left..left + elements.len()]);
                row[left + elements.len()..].fill(zero);
            }
            None => row.fill(zero),
        });
        Scratch::Copy(out)
    }

    /// The images with their border as words: an element beside the one `distance` pixels to the right, or beside zero.
    pub fn fill_pairs<W: Operand>(
        &self,
        source: &[W::Sum],
        images: usize,
        distance: usize,
    ) -> Buffer<W::Part> {
        let mut out = Buffer::uninit(images * self.elements() * W::PARTS);
        // Every row's elements lie at the same place, and what is around them stays zero.
        let mut border = vec![W::Sum::ZERO; (self.size[1] + distance) * self.channels];
        let shift = distance * self.channels;
        self.rows(source, bytemuck::cast_slice_mut::<_, W>(&mut out), |elements, row| {
            let Some((left, elements)) = elements else {
                row.fill(W::word([W::Sum::ZERO; 2]));
                return;
            };
            border[left..left + elements.len()].copy_from_slice(elements);
            wide!(for (word, (&first, &second)) in row.iter_mut().zip(border.iter().zip(&border[shift..])) {
                *word = W::word([first, second]);
            });
        });
        out
    }

    /// Calls `fill` for each row of the images with their border: with the source's elements in it and where they begin,
    /// or with nothing where all of it is border.
    fn rows<T: Copy, P>(
        &self,
        source: &[T],
        out: &mut [P],
        mut fill: impl FnMut(Option<(usize, &[T])>, &mut [P]),
    ) {
        // Nothing is read if no output has a tap, as in dgrad of a 1×1 kernel whose stride skips every pixel.
        if out.is_empty() {
            return;
        }
        let [h, w] = self.size;
        let kept = self.source[1].min(w.saturating_sub(self.before[1])) * self.channels;
        let left = self.before[1].min(w) * self.channels;
        let source_row = self.source[1] * self.channels;
        for (i, row) in out.chunks_exact_mut(w * self.channels).enumerate() {
            let (image, y) = (i / h, i % h);
            let inside = y >= self.before[0] && y - self.before[0] < self.source[0];
            let from = inside.then(|| (image * self.source[0] + y - self.before[0]) * source_row);
            fill(from.map(|from| (left, &source[from..from + kept])), row);
        }
    }
}

pub(super) enum Scratch<'a, P: bytemuck::Pod> {
    Source(&'a [P]),
    Copy(Buffer<P>),
}

impl<P: bytemuck::Pod> std::ops::Deref for Scratch<'_, P> {
    type Target = [P];
    fn deref(&self) -> &[P] {
        match self {
            Self::Source(s) => s,
            Self::Copy(b) => b,
        }
    }
}
