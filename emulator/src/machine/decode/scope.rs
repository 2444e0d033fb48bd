//! Names within a function: registers, variables and labels, each visible within its braces.

use crate::machine::program::RegisterFile;
use std::collections::HashMap;

use crate::syntax::{Statement, Type};

#[derive(Debug, Clone, Copy)]
pub(super) struct Register {
    pub file: RegisterFile,
    pub index: usize,
    pub ty: Type,
}

/// The meaning of a name.
#[derive(Debug, Clone, Copy)]
pub(super) enum Symbol {
    Register(Register),
    /// A vector register: its first element, and the number of elements.
    Vector(Register, u8),
    /// A variable in the function's frame.
    Frame(u64),
    /// A variable of a thread outside all functions, by its offset.
    Local(u64),
    /// A kernel's parameter, by its offset.
    Param(u64),
    /// A variable in static shared memory, by its offset.
    Shared(u64),
    /// Dynamic shared memory, with its alignment.
    Dynamic(u64),
    /// A global or constant variable of the module.
    Global(usize),
    /// A function of the module.
    Function(usize),
}

/// Registers that are declared by prefix and count: `%r<10>`.
#[derive(Debug, Clone, Copy)]
struct Range<'a> {
    prefix: &'a str,
    count: u64,
    ty: Type,
    lanes: u8,
}

/// The size of a variable, as an array.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    /// Size of an element in bytes.
    pub element: u64,
    pub bytes: u64,
}

/// The declarations within one pair of braces.
#[derive(Debug, Default)]
struct Scope<'a> {
    symbols: HashMap<&'a str, Symbol>,
    extents: HashMap<&'a str, Extent>,
    ranges: Vec<Range<'a>>,
    /// Number of the scope, for labels.
    number: usize,
}

/// The scopes around a statement, the innermost last.
#[derive(Debug)]
pub(super) struct Scopes<'a> {
    open: Vec<Scope<'a>>,
    opened: usize,
}

impl<'a> Scopes<'a> {
    /// A function's outermost scope.
    pub fn new() -> Self {
        Self { open: vec![Scope::default()], opened: 1 }
    }

    /// Opens a scope: `{`.
    pub fn open(&mut self) {
        self.open.push(Scope { number: self.opened, ..Scope::default() });
        self.opened += 1;
    }

    /// Closes a scope: `}`.
    pub fn close(&mut self) {
        if self.open.len() > 1 {
            self.open.pop();
        }
    }

    fn innermost(&mut self) -> &mut Scope<'a> {
        // The outermost is never closed.
        let last = self.open.len() - 1;
        &mut self.open[last]
    }

    /// Declares a name; false if it is taken.
    pub fn declare(&mut self, name: &'a str, symbol: Symbol) -> bool {
        self.innermost().symbols.insert(name, symbol).is_none()
    }

    /// Declares a variable; false if the name is taken.
    pub fn declare_variable(&mut self, name: &'a str, symbol: Symbol, extent: Extent) -> bool {
        self.innermost().extents.insert(name, extent);
        self.declare(name, symbol)
    }

    /// The size of a variable of the function.
    pub fn extent(&self, name: &str) -> Option<Extent> {
        self.open.iter().rev().find_map(|scope| scope.extents.get(name).copied())
    }

    /// Declares registers (vectors, of more than one lane) by prefix and count.
    pub fn declare_range(&mut self, prefix: &'a str, count: u64, (ty, lanes): (Type, u8)) {
        self.innermost().ranges.push(Range { prefix, count, ty, lanes });
    }

    /// The meaning of a name; `make` makes the register of a range on its first use.
    pub fn find(&mut self, name: &'a str, make: impl FnOnce(Type, u8) -> Option<Symbol>) -> Option<Symbol> {
        for scope in self.open.iter_mut().rev() {
            if let Some(symbol) = scope.symbols.get(name) {
                return Some(*symbol);
            }
            let range = scope.ranges.iter().find(|range| {
                let Some(digits) = name.strip_prefix(range.prefix) else { return false };
                let canonical = digits == "0" || !digits.starts_with('0');
                canonical && digits.parse::<u64>().is_ok_and(|n| n < range.count)
            });
            if let Some(range) = range {
                let symbol = make(range.ty, range.lanes)?;
                scope.symbols.insert(name, symbol);
                return Some(symbol);
            }
        }
        None
    }

    /// The numbers of the enclosing scopes, the innermost first.
    pub fn numbers(&self) -> impl Iterator<Item = usize> {
        self.open.iter().rev().map(|s| s.number)
    }
}

/// The labels of a function, each with the number of its scope, in the text's order.
pub(super) fn labels<'a>(body: &[Statement<'a>]) -> HashMap<(usize, &'a str), usize> {
    let mut out = HashMap::new();
    let (mut open, mut opened) = (vec![0], 1);
    for statement in body {
        match statement {
            Statement::Open => {
                open.push(opened);
                opened += 1;
            }
            Statement::Close => {
                open.pop();
            }
            Statement::Label(label) => {
                let next = out.len();
                out.entry((open.last().copied().unwrap_or(0), label.name)).or_insert(next);
            }
            _ => {}
        }
    }
    out
}
