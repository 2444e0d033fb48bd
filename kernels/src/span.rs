//! Flat arrays, a vector a thread: what pointwise kernels and reductions loop over.

use crate::ptx::{Asm, F16, F16x2, F32, Global, InMemory, Reg, U32};

/// Element types that are computed on in f32.
pub trait Real: InMemory {
    /// How kernels' names spell it.
    const SPELLED: &'static str;
    /// Elements of a 16-byte access.
    const VECTOR: u32 = 16 / Self::BYTES;

    /// [`Real::VECTOR`] elements as f32, in one access of 16 bytes.
    fn load_vector<'k>(at: Global<'k, Self>) -> Vec<Reg<'k, F32>>;
    /// Writes them in one access, rounded to the nearest.
    fn store_vector<'k>(at: Global<'k, Self>, values: &[Reg<'k, F32>]);
    /// One element as f32.
    fn load_one<'k>(at: Global<'k, Self>) -> Reg<'k, F32>;
    /// Writes one.
    fn store_one<'k>(at: Global<'k, Self>, value: Reg<'k, F32>);
}

impl Real for F16 {
    const SPELLED: &'static str = "f16";

    fn load_vector<'k>(at: Global<'k, F16>) -> Vec<Reg<'k, F32>> {
        at.cast::<F16x2>().load_vector::<4>().into_iter().flat_map(Reg::to_f32).collect()
    }

    fn store_vector<'k>(at: Global<'k, F16>, values: &[Reg<'k, F32>]) {
        let pair = |i: usize| values[0].assembler().pack_f16x2([values[2 * i], values[2 * i + 1]]);
        at.cast::<F16x2>().store_vector([pair(0), pair(1), pair(2), pair(3)]);
    }

    fn load_one<'k>(at: Global<'k, F16>) -> Reg<'k, F32> {
        at.load().to()
    }

    fn store_one<'k>(at: Global<'k, F16>, value: Reg<'k, F32>) {
        at.store(value.to::<F16>());
    }
}

impl Real for F32 {
    const SPELLED: &'static str = "f32";

    fn load_vector<'k>(at: Global<'k, F32>) -> Vec<Reg<'k, F32>> {
        at.load_vector::<4>().into()
    }

    fn store_vector<'k>(at: Global<'k, F32>, values: &[Reg<'k, F32>]) {
        at.store_vector([values[0], values[1], values[2], values[3]]);
    }

    fn load_one<'k>(at: Global<'k, F32>) -> Reg<'k, F32> {
        at.load()
    }

    fn store_one<'k>(at: Global<'k, F32>, value: Reg<'k, F32>) {
        at.store(value);
    }
}

/// Consecutive elements that one thread takes at once: a whole number of 16-byte vectors of every array, or a single
/// element of the tail.
#[derive(Clone, Copy)]
pub struct Span<'k> {
    first: Reg<'k, U32>,
    len: u32,
}

impl<'k> Span<'k> {
    /// The span's elements of an array, as f32.
    pub fn load<T: Real>(self, array: Global<'k, T>) -> Vec<Reg<'k, F32>> {
        let at = array.at(self.first);
        if self.len == 1 {
            return vec![T::load_one(at)];
        }
        (0..self.len).step_by(T::VECTOR as usize).flat_map(|i| T::load_vector(at.plus(i.into()))).collect()
    }

    /// Writes them, rounded to the nearest.
    pub fn store<T: Real>(self, array: Global<'k, T>, values: &[Reg<'k, F32>]) {
        let at = array.at(self.first);
        match values {
            [one] => T::store_one(at, *one),
            _ => values
                .chunks_exact(T::VECTOR as usize)
                .zip((0..).step_by(T::VECTOR as usize))
                .for_each(|(part, i)| T::store_vector(at.plus(i), part)),
        }
    }
}

impl Asm {
    /// Covers elements 0 … n − 1: thread t takes the span of `width` from t·width on; the thread after the last whole one
    /// takes the tail, element by element. For a launch of ⌈n / width⌉ threads or more.
    pub fn each_span<'k>(&'k self, n: u32, width: u32, body: impl Fn(Span<'k>)) {
        let first = self.global_thread() * width;
        let (whole, tail) = (n / width * width, n % width);
        if whole > 0 {
            self.if_(first.lt(whole), || body(Span { first, len: width }));
        }
        if tail > 0 {
            self.if_(first.eq(whole), || self.for_range(whole, n, 1, |i| body(Span { first: i, len: 1 })));
        }
    }
}
