//! CPU memory that is reused: a training step requests the same sizes every time, and fresh pages cost more than the
//! arithmetic on them.

use std::{
    alloc::{Layout, handle_alloc_error},
    collections::BTreeMap,
    marker::PhantomData,
    ops::{Deref, DerefMut},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytemuck::Pod;

use crate::simd::line::{LINE, Line};

/// Buffers of at least this many bytes are kept for reuse; smaller ones use the allocator directly.
const POOLED_FROM: usize = 8192;

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// The most bytes that tensor buffers have held at once, in use or cached, since the program began.
pub fn peak_bytes() -> usize {
    PEAK.load(Ordering::Relaxed)
}

/// Frees all cached buffers, for example between training and evaluation.
pub fn trim() {
    let freed = std::mem::take(&mut *POOL.lock().unwrap_or_else(PoisonError::into_inner));
    let lines: usize = freed.iter().map(|(lines, all)| lines * all.len()).sum();
    HELD.fetch_sub(lines * LINE, Ordering::Relaxed);
}

/// Freed blocks by their number of lines.
static POOL: Mutex<BTreeMap<usize, Vec<Vec<Line>>>> = Mutex::new(BTreeMap::new());

/// Sizes in eighths of a power of two: at most 12.5 % is wasted, and few sizes differ.
fn class(lines: usize) -> usize {
    let step = (lines.next_power_of_two() / 16).max(1);
    lines.div_ceil(step) * step
}

fn take(lines: usize) -> Vec<Line> {
    if lines * LINE < POOLED_FROM {
        return zeros(lines);
    }
    let class = class(lines);
    let reused = POOL.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&class).and_then(Vec::pop);
    reused.unwrap_or_else(|| {
        let held = HELD.fetch_add(class * LINE, Ordering::Relaxed) + class * LINE;
        PEAK.fetch_max(held, Ordering::Relaxed);
        zeros(class)
    })
}

/// Allocates fresh memory, and frees the cached buffers first where memory is short. If that fails the process aborts,
/// as with all Rust containers, and prints the number of bytes requested.
fn zeros(lines: usize) -> Vec<Line> {
    let again = |()| {
        trim();
        bytemuck::try_zeroed_vec(lines)
    };
    let layout = Layout::array::<Line>(lines).unwrap_or(Layout::new::<Line>());
    bytemuck::try_zeroed_vec(lines).or_else(again).unwrap_or_else(|()| handle_alloc_error(layout))
}

fn give(block: Vec<Line>) {
    if block.len() * LINE >= POOLED_FROM {
        POOL.lock().unwrap_or_else(PoisonError::into_inner).entry(block.len()).or_default().push(block);
    }
}

/// A block of elements, aligned to a cache line. When dropped, it is kept for the next request of its size.
pub struct Buffer<T: Pod> {
    block: Vec<Line>,
    len: usize,
    element: PhantomData<T>,
}

impl<T: Pod> Buffer<T> {
    /// `len` elements of unspecified (but initialised) values, for a kernel that writes them all.
    pub fn uninit(len: usize) -> Self {
        Self { block: take((len * size_of::<T>()).div_ceil(LINE)), len, element: PhantomData }
    }

    /// A buffer of `len` zeros.
    pub fn zeros(len: usize) -> Self {
        let mut buffer = Self::uninit(len);
        buffer.fill(T::zeroed());
        buffer
    }

    /// A copy of `values`.
    pub fn copy_of(values: &[T]) -> Self {
        let mut buffer = Self::uninit(values.len());
        buffer.copy_from_slice(values);
        buffer
    }
}

impl<T: Pod> Drop for Buffer<T> {
    fn drop(&mut self) {
        give(std::mem::take(&mut self.block));
    }
}

impl<T: Pod> Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &bytemuck::cast_slice(&self.block)[..self.len]
    }
}

impl<T: Pod> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut bytemuck::cast_slice_mut(&mut self.block)[..self.len]
    }
}
