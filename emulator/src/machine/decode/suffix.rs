//! The modifiers of an instruction (`.global`, `.u32`), parsed one by one. A remaining one is an error.

use crate::syntax::{Instruction, Operand, ParseError, Parsed, Type};

/// The suffixes that are not parsed yet.
pub(super) struct Suffixes<'i, 'a> {
    instruction: &'i Instruction<'a>,
    left: Vec<&'a str>,
}

impl<'i, 'a> Suffixes<'i, 'a> {
    /// All suffixes of an instruction.
    pub fn new(instruction: &'i Instruction<'a>) -> Self {
        Self { instruction, left: instruction.suffixes.clone() }
    }

    /// Takes `name`, if the instruction has it.
    pub fn take(&mut self, name: &str) -> bool {
        match self.left.iter().position(|s| *s == name) {
            Some(at) => {
                self.left.remove(at);
                true
            }
            None => false,
        }
    }

    /// Takes the first suffix that is one of `names`.
    pub fn take_any<'n>(&mut self, names: &[&'n str]) -> Option<&'n str> {
        for at in 0..self.left.len() {
            if let Some(found) = names.iter().find(|n| **n == self.left[at]) {
                self.left.remove(at);
                return Some(found);
            }
        }
        None
    }

    /// Takes the first suffix that `parse` accepts.
    pub fn take_parsed<T>(&mut self, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let (at, value) = self.left.iter().enumerate().find_map(|(at, s)| parse(s).map(|v| (at, v)))?;
        self.left.remove(at);
        Some(value)
    }

    /// Takes the first type suffix.
    pub fn ty(&mut self) -> Parsed<Type> {
        self.take_parsed(Type::named).ok_or_else(|| self.unknown())
    }

    /// The error for an unknown instruction.
    pub fn unknown(&self) -> ParseError {
        let instruction = self.instruction;
        let mut name = instruction.name.to_owned();
        for suffix in &instruction.suffixes {
            name.push('.');
            name.push_str(suffix);
        }
        ParseError::new(instruction.line, format!("unknown instruction `{name}`"))
    }

    /// An error unless all suffixes were taken.
    pub fn done(&self) -> Parsed<()> {
        if self.left.is_empty() { Ok(()) } else { Err(self.unknown()) }
    }

    /// The operands, of which there must be `N`.
    pub fn operands<const N: usize>(&self) -> Parsed<&'i [Operand<'a>; N]> {
        let operands = self.instruction.operands.as_slice();
        operands.try_into().map_err(|_| {
            let message =
                format!("{} takes {N} operands here, not {}", self.instruction.name, operands.len());
            ParseError::new(self.instruction.line, message)
        })
    }

    pub fn all(&self) -> &'i [Operand<'a>] {
        &self.instruction.operands
    }

    /// The number of operands.
    pub fn count(&self) -> usize {
        self.instruction.operands.len()
    }
}
