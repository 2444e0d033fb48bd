//! Names that a function's text has declared so far: which are vector registers, and which variables outlive the call.

/// The kind of a declared name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Declared {
    /// A vector register with so many elements.
    Vector(u8),
    /// A global or constant variable within a function, by its index in the unit.
    Global(usize),
    /// Anything else: it hides outer names.
    Other,
}

/// The names within the braces around a place, the innermost last.
#[derive(Debug, Default)]
pub(super) struct Names<'a> {
    names: Vec<(&'a str, Option<u64>, Declared)>,
    /// Number of names at each open brace.
    marks: Vec<usize>,
    /// Some of the names are not [`Declared::Other`]; without them nothing needs to be looked up.
    special: bool,
}

impl<'a> Names<'a> {
    /// Starts a new function.
    pub fn restart(&mut self) {
        *self = Self::default();
    }

    /// Opens a scope: `{`.
    pub fn open(&mut self) {
        self.marks.push(self.names.len());
    }

    /// Closes a scope: `}`.
    pub fn close(&mut self) {
        if let Some(mark) = self.marks.pop() {
            self.names.truncate(mark);
        }
    }

    /// A declaration; `count` is that of `name<count>`.
    pub fn declare(&mut self, name: &'a str, count: Option<u64>, declared: Declared) {
        self.special |= declared != Declared::Other;
        self.names.push((name, count, declared));
    }

    /// The declaration of a name in this function, if there is one.
    pub fn find(&self, name: &str) -> Option<Declared> {
        if !self.special {
            return None;
        }
        let is = |&&(declared, count, _): &&(&str, Option<u64>, Declared)| match count {
            None => declared == name,
            Some(count) => name
                .strip_prefix(declared)
                .is_some_and(|digits| digits.parse::<u64>().is_ok_and(|n| n < count)),
        };
        self.names.iter().rev().find(is).map(|&(_, _, declared)| declared)
    }
}
