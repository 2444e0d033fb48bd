//! CPU memory that is used again: a training step asks for the same sizes every time, and fresh pages cost more
//! than the arithmetic on them.

use std::{
    collections::BTreeMap,
    ops::{Deref, DerefMut},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::Element;

/// Buffers below this many elements go to the allocator directly.
const POOLED_FROM: usize = 2048;

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// The most bytes that tensor buffers have held at once, in use or waiting, since the program began.
pub fn peak_bytes() -> usize {
    PEAK.load(Ordering::Relaxed)
}

/// Gives all waiting buffers back to the allocator, for example between training and evaluation.
pub fn trim() {
    f32::pool().trim();
    f64::pool().trim();
}

/// Freed buffers by capacity.
pub struct Pool<T> {
    waiting: Mutex<BTreeMap<usize, Vec<Vec<T>>>>,
}

impl<T: Element> Pool<T> {
    /// An empty pool.
    pub(crate) const fn new() -> Self {
        Self { waiting: Mutex::new(BTreeMap::new()) }
    }

    /// Capacities in eighths of a power of two: at most 12.5 % is wasted, and few sizes differ.
    fn class(len: usize) -> usize {
        let step = (len.next_power_of_two() / 16).max(64);
        len.div_ceil(step) * step
    }

    fn take(&self, len: usize) -> Vec<T> {
        if len < POOLED_FROM {
            return vec![T::ZERO; len];
        }
        let class = Self::class(len);
        let reused =
            self.waiting.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&class).and_then(Vec::pop);
        reused.unwrap_or_else(|| {
            let held = HELD.fetch_add(class * size_of::<T>(), Ordering::Relaxed) + class * size_of::<T>();
            PEAK.fetch_max(held, Ordering::Relaxed);
            vec![T::ZERO; class]
        })
    }

    fn give(&self, data: Vec<T>) {
        if data.len() >= POOLED_FROM {
            self.waiting
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .entry(data.len())
                .or_default()
                .push(data);
        }
    }

    fn trim(&self) {
        let freed = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        let bytes: usize = freed.iter().map(|(len, all)| len * all.len() * size_of::<T>()).sum();
        HELD.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// A block of elements that goes back to its pool when dropped.
pub struct Buffer<T: Element> {
    data: Vec<T>,
    len: usize,
}

impl<T: Element> Buffer<T> {
    /// `len` elements of unspecified (but initialised) values, for a kernel that writes them all.
    pub fn stale(len: usize) -> Self {
        Self { data: T::pool().take(len), len }
    }

    /// `len` zeros.
    pub fn zeros(len: usize) -> Self {
        let mut buffer = Self::stale(len);
        buffer.fill(T::ZERO);
        buffer
    }

    /// A copy of `values`.
    pub fn copy_of(values: &[T]) -> Self {
        let mut buffer = Self::stale(values.len());
        buffer.copy_from_slice(values);
        buffer
    }
}

impl<T: Element> Drop for Buffer<T> {
    fn drop(&mut self) {
        T::pool().give(std::mem::take(&mut self.data));
    }
}

impl<T: Element> Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.data[..self.len]
    }
}

impl<T: Element> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.data[..self.len]
    }
}
