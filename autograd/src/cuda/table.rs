//! State of [`Checked`](super::checked::Checked): objects by handle, allocations by address, and the captures in
//! progress.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::ThreadId,
};

use super::driver::Stream;
use crate::{Error, Result};

/// Locks, even after a panic of another thread: each statement leaves the contents consistent.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Objects by handle. Handles are never reused, so a stale one is detected.
#[derive(Debug)]
pub(super) struct Table<T: ?Sized> {
    noun: &'static str,
    next: AtomicU64,
    objects: Mutex<HashMap<u64, Arc<T>>>,
}

impl<T> Table<T> {
    /// An empty table; errors call its objects `noun`.
    pub fn new(noun: &'static str) -> Self {
        Self { noun, next: AtomicU64::new(1), objects: Mutex::default() }
    }

    pub fn insert(&self, object: T) -> u64 {
        let handle = self.next.fetch_add(1, Ordering::Relaxed);
        lock(&self.objects).insert(handle, Arc::new(object));
        handle
    }

    pub fn get(&self, handle: u64) -> Result<Arc<T>> {
        lock(&self.objects).get(&handle).cloned().ok_or_else(|| self.stale(handle))
    }

    pub fn remove(&self, handle: u64) -> Result<Arc<T>> {
        lock(&self.objects).remove(&handle).ok_or_else(|| self.stale(handle))
    }

    /// Drops all objects for which `drop` returns true.
    pub fn remove_where(&self, drop: impl Fn(&T) -> bool) {
        lock(&self.objects).retain(|_, object| !drop(object));
    }

    fn stale(&self, handle: u64) -> Error {
        let noun = self.noun;
        Error::misuse(format!("{noun} {handle}"), "does not exist, or was destroyed")
    }
}

/// Live allocations by address.
#[derive(Debug)]
pub(super) struct Ranges<T>(Mutex<BTreeMap<u64, (u64, T)>>);

impl<T> Default for Ranges<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Ranges<T> {
    pub fn insert(&self, address: u64, bytes: u64, object: T) {
        lock(&self.0).insert(address, (bytes, object));
    }

    pub fn remove(&self, address: u64) -> Result<(u64, T)> {
        lock(&self.0).remove(&address).ok_or_else(|| {
            Error::misuse(
                format!("free {address:#x}"),
                "nothing is allocated at this address, or it was freed already",
            )
        })
    }

    /// Runs `body` on the bytes and the object of the allocation that starts at an address, if one does.
    pub fn with<R>(&self, address: u64, body: impl FnOnce(u64, &T) -> R) -> Option<R> {
        lock(&self.0).get(&address).map(|(bytes, object)| body(*bytes, object))
    }

    /// An error unless the whole range lies within one allocation.
    pub fn check(&self, operation: &str, address: u64, bytes: u64) -> Result<()> {
        let ranges = lock(&self.0);
        let fits = ranges.range(..=address).next_back().is_some_and(|(start, (length, _))| {
            let offset = address - start;
            offset <= *length && bytes <= length - offset
        });
        if fits {
            return Ok(());
        }
        Err(Error::misuse(
            operation,
            format!("{bytes} bytes at {address:#x} do not lie within an allocation that is alive"),
        ))
    }
}

/// The streams under capture, each with its capturing thread.
#[derive(Debug, Default)]
pub(super) struct Captures(Mutex<HashMap<Stream, ThreadId>>);

impl Captures {
    pub fn begin(&self, stream: Stream) -> Result<()> {
        let mut captures = lock(&self.0);
        if captures.contains_key(&stream) {
            return Err(Error::misuse("begin capture", "the stream is captured already"));
        }
        captures.insert(stream, std::thread::current().id());
        Ok(())
    }

    pub fn end(&self, stream: Stream) -> Result<()> {
        let mut captures = lock(&self.0);
        match captures.get(&stream) {
            None => Err(Error::misuse("end capture", "the stream is not captured")),
            Some(thread) if *thread != std::thread::current().id() => {
                Err(Error::misuse("end capture", "another thread began the capture"))
            }
            Some(_) => {
                captures.remove(&stream);
                Ok(())
            }
        }
    }

    /// An error while the stream is captured.
    pub fn refuse_on(&self, operation: &str, stream: Stream) -> Result<()> {
        match lock(&self.0).contains_key(&stream) {
            false => Ok(()),
            true => {
                Err(Error::misuse(operation, "the stream is captured; do this before or after the capture"))
            }
        }
    }

    /// An error while this thread captures a stream.
    pub fn refuse_here(&self, operation: &str) -> Result<()> {
        let here = std::thread::current().id();
        match lock(&self.0).values().any(|thread| *thread == here) {
            false => Ok(()),
            true => Err(Error::misuse(
                operation,
                "this thread captures a stream; run the same work once before its capture, so that all it needs is there",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_is_good_until_it_is_taken_back() {
        let table = Table::new("event");
        let first = table.insert('a');
        let second = table.insert('b');
        assert_eq!(*table.get(first).unwrap(), 'a');
        table.remove(first).unwrap();
        let error = table.get(first).unwrap_err().to_string();
        assert!(error.contains("event 1") && error.contains("destroyed"), "{error}");
        assert!(table.remove(first).is_err());
        assert!(table.insert('c') > second);
    }

    #[test]
    fn ranges_must_lie_within_one_allocation() {
        let ranges = Ranges::default();
        ranges.insert(256, 100, ());
        ranges.insert(512, 100, ());
        for (address, bytes, fits) in [
            (256, 100, true),
            (256, 101, false),
            (300, 56, true),
            (300, 57, false),
            (356, 0, true),
            (357, 0, false),
            (255, 1, false),
            (300, 300, false),
            (u64::MAX, u64::MAX, false),
            (300, u64::MAX, false),
            (0, 0, false),
        ] {
            assert_eq!(ranges.check("copy", address, bytes).is_ok(), fits, "{bytes} bytes at {address}");
        }
        ranges.remove(256).unwrap();
        assert!(ranges.check("copy", 256, 1).is_err());
        assert!(ranges.remove(256).unwrap_err().to_string().contains("freed already"));
    }
}
