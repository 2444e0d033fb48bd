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
    /// How many names there were at each brace that is open.
    marks: Vec<usize>,
    /// Some of the names are not [`Declared::Other`]; without them nothing needs to be looked up.
    special: bool,
}

impl<'a> Names<'a> {
    /// Begins a function.
    pub fn restart(&mut self) {
        *self = Self::default();
    }

    /// `{`
    pub fn open(&mut self) {
        self.marks.push(self.names.len());
    }

    /// `}`
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

    /// What a name stands for, if it was declared in this function.
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
