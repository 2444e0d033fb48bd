//! PTX text → its parts: tokens, then directives, declarations and instructions as written. Instructions have no meaning
//! here. Names are slices of the text.

mod body;
mod constant;
mod declare;
mod function;
mod initial;
mod lexer;
mod names;
mod operand;
mod parser;
mod tree;
mod types;

pub(crate) use operand::component;
pub(crate) use parser::parse;
pub(crate) use tree::{
    Alias, Base, Call, Function, Initial, Instruction, Label, Operand, Patch, Prototype, Registers,
    Statement, Target, Unit, Variable,
};
pub(crate) use types::{Kind, Type};

/// An error at a line of the text.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ParseError {
    /// Line in the text, from 1.
    pub line: u32,
    /// The text found and the text expected.
    pub message: String,
}

impl ParseError {
    /// An error at `line`.
    pub fn new(line: u32, message: impl Into<String>) -> Self {
        Self { line, message: message.into() }
    }
}

/// `Result` with [`ParseError`].
pub(crate) type Parsed<T> = std::result::Result<T, ParseError>;
