//! Handles: numbers in the guise of pointers that are looked up, never followed, so a stale or foreign one is an error.

use std::collections::BTreeMap;

use crate::code::{Outcome, fail};

/// A handle as the program has it; 0 for none.
pub type Handle = usize;

/// Handles of all tables begin above this; ordinary pointers of x86-64 and AArch64 programs are rarely there.
const FIRST: usize = 0x6000_0000_0000;

/// Objects of one kind, by handle. A handle is never given out twice.
#[derive(Debug)]
pub struct Table<T> {
    /// As messages call it: "stream".
    kind: &'static str,
    base: usize,
    made: usize,
    live: BTreeMap<Handle, T>,
}

impl<T> Table<T> {
    /// An empty table; `index` keeps the handles of several tables apart.
    pub fn new(kind: &'static str, index: usize) -> Self {
        Self { kind, base: FIRST + (index << 32), made: 0, live: BTreeMap::new() }
    }

    /// Keeps an object; returns its handle.
    pub fn insert(&mut self, object: T) -> Handle {
        self.made += 1;
        let handle = self.base + 16 * self.made;
        self.live.insert(handle, object);
        handle
    }

    /// The object of a handle.
    ///
    /// # Errors
    /// `CUDA_ERROR_INVALID_HANDLE` says whether the handle was destroyed or never was one of this kind.
    pub fn get(&self, handle: Handle) -> Outcome<&T> {
        match self.live.get(&handle) {
            Some(object) => Ok(object),
            None => self.unknown(handle),
        }
    }

    /// [`get`](Self::get), to change it.
    pub fn get_mut(&mut self, handle: Handle) -> Outcome<&mut T> {
        if !self.live.contains_key(&handle) {
            return self.unknown(handle);
        }
        match self.live.get_mut(&handle) {
            Some(object) => Ok(object),
            None => fail!(INVALID_HANDLE, "{handle:#x} is gone"),
        }
    }

    /// Takes an object out; its handle is stale from now on.
    pub fn remove(&mut self, handle: Handle) -> Outcome<T> {
        match self.live.remove(&handle) {
            Some(object) => Ok(object),
            None => self.unknown(handle),
        }
    }

    /// All that are live, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (Handle, &T)> {
        self.live.iter().map(|(&handle, object)| (handle, object))
    }

    /// [`iter`](Self::iter), to change them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Handle, &mut T)> {
        self.live.iter_mut().map(|(&handle, object)| (handle, object))
    }

    fn unknown<R>(&self, handle: Handle) -> Outcome<R> {
        let kind = self.kind;
        let number = handle.wrapping_sub(self.base);
        match handle {
            0 => fail!(INVALID_HANDLE, "the {kind} is null"),
            _ if number.is_multiple_of(16) && (16..=16 * self.made).contains(&number) => {
                fail!(INVALID_HANDLE, "the {kind} {handle:#x} was destroyed")
            }
            _ => fail!(INVALID_HANDLE, "{handle:#x} is not a {kind}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stale_and_foreign_handles_are_told_apart() {
        let (mut streams, mut events) = (Table::new("stream", 1), Table::new("event", 2));
        let (stream, event) = (streams.insert('s'), events.insert('e'));
        assert_eq!((streams.get(stream), events.get(event)), (Ok(&'s'), Ok(&'e')));
        streams.remove(stream).unwrap();
        assert_ne!(streams.insert('t'), stream);
        let message = |outcome: Outcome<&char>| outcome.unwrap_err().message;
        assert!(message(streams.get(stream)).ends_with("was destroyed"));
        assert!(message(streams.get(event)).ends_with("is not a stream"));
        assert_eq!(message(streams.get(0)), "the stream is null");
    }
}
