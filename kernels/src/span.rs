//! Flat arrays with one vector per thread, for pointwise kernels and reductions.

use crate::ptx::{Asm, F16, F16x2, F32, Global, InMemory, Reg, U32};

/// Element types whose arithmetic is in f32.
pub trait Real: InMemory {
    /// The type in kernels' names.
    const SPELLED: &'static str;
    /// Elements per 16-byte access, the widest access.
    const VECTOR: u32 = 16 / Self::BYTES;

    /// Loads `len` elements as f32 in one access, for a power of two up to [`Real::VECTOR`]; the address must be
    /// aligned to the access.
    fn load<'a>(at: Global<'a, Self>, len: u32) -> Vec<Reg<'a, F32>>;
    /// Stores a power of two of elements in one access, rounded to the nearest.
    fn store<'a>(at: Global<'a, Self>, values: &[Reg<'a, F32>]);
}

impl Real for F16 {
    const SPELLED: &'static str = "f16";

    fn load<'a>(at: Global<'a, F16>, len: u32) -> Vec<Reg<'a, F32>> {
        let pairs = at.cast::<F16x2>();
        let pairs: Vec<_> = match len {
            1 => return vec![at.load().to()],
            2 => vec![pairs.load()],
            4 => pairs.load_vector::<2>().into(),
            _ => pairs.load_vector::<4>().into(),
        };
        pairs.into_iter().flat_map(Reg::to_f32).collect()
    }

    fn store<'a>(at: Global<'a, F16>, values: &[Reg<'a, F32>]) {
        let pair = |i: usize| values[0].assembler().pack_f16x2([values[2 * i], values[2 * i + 1]]);
        let pairs = at.cast::<F16x2>();
        match values {
            [one] => at.store(one.to::<F16>()),
            [_, _] => pairs.store(pair(0)),
            [_, _, _, _] => pairs.store_vector([pair(0), pair(1)]),
            _ => pairs.store_vector([pair(0), pair(1), pair(2), pair(3)]),
        }
    }
}

impl Real for F32 {
    const SPELLED: &'static str = "f32";

    fn load<'a>(at: Global<'a, F32>, len: u32) -> Vec<Reg<'a, F32>> {
        match len {
            1 => vec![at.load()],
            2 => at.load_vector::<2>().into(),
            _ => at.load_vector::<4>().into(),
        }
    }

    fn store<'a>(at: Global<'a, F32>, values: &[Reg<'a, F32>]) {
        match *values {
            [a] => at.store(a),
            [a, b] => at.store_vector([a, b]),
            _ => at.store_vector([values[0], values[1], values[2], values[3]]),
        }
    }
}

/// The largest power of two up to `most` that divides `n`: the width of an access in rows of `n` elements.
pub fn access_width(n: u32, most: u32) -> u32 {
    if n == 0 { most } else { most.min(1 << n.trailing_zeros()) }
}

/// Loads a power of two of elements, in as few accesses as possible.
pub fn load_all<T: Real>(at: Global<'_, T>, len: u32) -> Vec<Reg<'_, F32>> {
    let part = len.min(T::VECTOR);
    (0..len).step_by(part as usize).flat_map(|i| T::load(at.plus(i.into()), part)).collect()
}

/// Loads `len` elements as [`load_all`] does, from each of several offsets of an array.
pub fn load_each<'a, T: Real>(
    from: Global<'a, T>,
    places: &[Reg<'a, U32>],
    len: u32,
) -> Vec<Vec<Reg<'a, F32>>> {
    places.iter().map(|&place| load_all(from.at(place), len)).collect()
}

/// Stores a power of two of elements, in as few accesses as possible.
pub fn store_all<'a, T: Real>(at: Global<'a, T>, values: &[Reg<'a, F32>]) {
    let parts = values.chunks(T::VECTOR as usize).zip((0..).step_by(T::VECTOR as usize));
    parts.for_each(|(part, i)| T::store(at.plus(i), part));
}

/// Consecutive elements that one thread processes together: the width of [`Asm::each_span`], or a single element of the
/// tail.
#[derive(Clone, Copy)]
pub struct Span<'a> {
    first: Reg<'a, U32>,
    width: u32,
}

impl<'a> Span<'a> {
    /// Index of its first element.
    pub fn first(self) -> Reg<'a, U32> {
        self.first
    }

    /// Number of elements in the span.
    pub fn width(self) -> u32 {
        self.width
    }

    /// Loads the span's elements of an array, as f32, in as few accesses as possible.
    pub fn load<T: Real>(self, array: Global<'a, T>) -> Vec<Reg<'a, F32>> {
        load_all(array.at(self.first), self.width)
    }

    /// Stores the span's elements, rounded to the nearest.
    pub fn store<T: Real>(self, array: Global<'a, T>, values: &[Reg<'a, F32>]) {
        store_all(array.at(self.first), values);
    }
}

impl Asm {
    /// Covers elements 0 … n − 1: thread t processes the span of `width` (a power of two) from t·width on; the thread
    /// after the last whole span processes the tail, element by element. Requires a launch of at least ⌈n / width⌉
    /// threads. If a span takes up to 16 bytes of an array, a warp's access is contiguous. n may be up to 2³² − 2¹².
    pub fn each_span<'a>(&'a self, n: u32, width: u32, body: impl Fn(Span<'a>)) {
        let first = self.global_thread() * width;
        let (whole, tail) = (n / width * width, n % width);
        if whole > 0 {
            self.if_(first.lt(whole), || body(Span { first, width }));
        }
        if tail > 0 {
            self.if_(first.eq(whole), || self.for_range(whole, n, 1, |i| body(Span { first: i, width: 1 })));
        }
    }
}
