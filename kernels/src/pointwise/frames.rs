//! Frames from bytes to numbers in [0, 1], the input of a model.

use super::Elementwise;
use crate::{
    Kernel, Target,
    ptx::{Asm, F32, Global, Reg, U8, U32},
    span::Real,
};

/// The frames to convert: of each sequence of a batch, `count` frames from `first` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Frames {
    /// Number of sequences in the batch.
    pub sequences: u32,
    /// Number of frames per sequence.
    pub steps: u32,
    /// Index of the first frame to convert.
    pub first: u32,
    /// Number of frames to convert per sequence.
    pub count: u32,
    /// Size of a frame in bytes, channels last.
    pub frame_bytes: u32,
    /// Whether each byte becomes three equal numbers.
    pub grey_to_rgb: bool,
}

impl Frames {
    /// y[s, i, p, c] = x[s, first + i, p, c] / 255, or x[s, first + i, p] / 255 for three channels c, rounded to f32
    /// and then to `T`. x is u8 [sequences, steps, frame_bytes], y is channels-last (NHWC). Parameters x, y. Moves the
    /// bytes of these frames and the resulting numbers; a thread writes 16 bytes.
    pub fn normalise<T: Real>(self, target: Target) -> Kernel {
        let taken = self.sequences * self.count * self.frame_bytes;
        let repeat = self.repeat();
        let n = taken * repeat;
        // A vector of numbers is read as an aligned vector of bytes, which must not cross two frames.
        let width = if self.frame_bytes.is_multiple_of(T::VECTOR) { T::VECTOR } else { 1 };
        let Self { sequences, steps, first, count, frame_bytes, .. } = self;
        Elementwise {
            name: format!(
                "frames_{}_{sequences}x{steps}x{frame_bytes}_{first}_{count}_x{repeat}",
                T::SPELLED
            ),
            summary: "y = x / 255 of the frames that are taken",
            n,
            width,
            target,
            bytes: T::BYTES,
            operations: 1,
            other_bytes: taken.into(),
        }
        .kernel(|asm| {
            let (x, y) = (asm.pointer::<U8>("x"), asm.pointer::<T>("y"));
            asm.each_span(n, width, |span| {
                let (byte, phase) = asm.divide(span.first(), repeat);
                let values: Vec<_> = self.bytes(asm, x, byte, span.width()).into_iter().map(unit).collect();
                span.store(y, &self.repeated(asm, &values, phase, span.width()));
            });
        })
    }

    fn repeat(self) -> u32 {
        if self.grey_to_rgb { 3 } else { 1 }
    }

    /// Loads the bytes for `len` numbers from converted byte `i` on, in order.
    fn bytes<'a>(self, asm: &'a Asm, x: Global<'a, U8>, i: Reg<'a, U32>, len: u32) -> Vec<Reg<'a, U32>> {
        if len == 1 {
            return vec![x.at(self.source(asm, i)).load()];
        }
        // The aligned vector that contains the first byte contains all of them.
        let at = x.at(self.source(asm, i & !(len - 1))).cast::<U32>();
        let words = if len == 4 { vec![at.load()] } else { at.load_vector::<2>().to_vec() };
        if !self.grey_to_rgb {
            return words.into_iter().flat_map(split).collect();
        }
        let skip = (i & (len - 1)) << 3;
        let word = match words[..] {
            [low, high] => (asm.wide([low, high]) >> skip).to::<U32>(),
            _ => words[0] >> skip,
        };
        split(word).to_vec()
    }

    /// Offset in x of converted byte `i`.
    fn source<'a>(self, asm: &'a Asm, i: Reg<'a, U32>) -> Reg<'a, U32> {
        if self.count == self.steps {
            return i;
        }
        let (sequence, within) = asm.divide(i, self.count * self.frame_bytes);
        sequence.mad(self.steps * self.frame_bytes, within + self.first * self.frame_bytes)
    }

    /// `len` numbers, each value repeated; the repeats of the first value begin at number `phase` (0, 1, 2).
    fn repeated<'a>(
        self,
        asm: &'a Asm,
        values: &[Reg<'a, F32>],
        phase: Reg<'a, U32>,
        len: u32,
    ) -> Vec<Reg<'a, F32>> {
        if len == 1 || !self.grey_to_rgb {
            return values.to_vec();
        }
        // Number i is value ⌊(i + phase) / 3⌋.
        let next = [1, 2].map(|p| phase.ge(p));
        let number = |i: usize| match i % 3 {
            0 => values[i / 3],
            1 => asm.select(next[1], values[i / 3 + 1], values[i / 3]),
            _ => asm.select(next[0], values[i / 3 + 1], values[i / 3]),
        };
        (0..len as usize).map(number).collect()
    }
}

/// The four bytes of a word, the lowest first.
fn split(word: Reg<'_, U32>) -> [Reg<'_, U32>; 4] {
    [0, 8, 16, 24].map(|start| word.bit_field(start, 8))
}

/// byte / 255, correctly rounded: a quotient by the reciprocal and one correction from its remainder (Markstein 1990).
fn unit(byte: Reg<'_, U32>) -> Reg<'_, F32> {
    const RECIPROCAL: f32 = 1.0 / 255.0;
    let x = byte.to::<F32>();
    let quotient = x * RECIPROCAL;
    let remainder = quotient.mad(-255.0, x);
    remainder.mad(RECIPROCAL, quotient)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_correction_rounds_every_byte_as_a_division_would() {
        for byte in 0..=255u8 {
            let (x, reciprocal) = (f32::from(byte), 1.0f32 / 255.0);
            let quotient = x * reciprocal;
            let corrected = quotient.mul_add(-255.0, x).mul_add(reciprocal, quotient);
            assert_eq!(corrected.to_bits(), (x / 255.0).to_bits(), "{byte}");
        }
    }
}
