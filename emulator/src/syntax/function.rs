//! A function's head: linkage, results, name, parameters, and compilation directives.

use super::lexer::Lexeme;
use super::names::Declared;
use super::parser::Parser;
use super::{Function, Parsed, Variable};
use crate::space::StateSpace;

impl<'a> Parser<'a> {
    /// `.entry` or `.func`, declared or defined. A declaration may end without a semicolon.
    pub(super) fn function(&mut self, entry: bool) -> Parsed<Function<'a>> {
        self.bump();
        self.names.restart();
        while matches!(self.peek(), Lexeme::Dot("noreturn" | "attribute")) {
            self.attribute()?;
        }
        let returns = if self.peek() == Lexeme::Mark('(') { self.formals()? } else { Vec::new() };
        let line = self.token().line;
        let name = self.word()?;
        let parameters = if self.peek() == Lexeme::Mark('(') { self.formals()? } else { Vec::new() };
        for formal in returns.iter().chain(&parameters) {
            self.declare_formal(formal);
        }
        let mut function = Function {
            name,
            entry,
            line,
            returns,
            parameters,
            body: None,
            required_block: None,
            max_threads: None,
            cluster: None,
        };
        loop {
            match self.peek() {
                Lexeme::Dot("reqntid") => function.required_block = Some(self.shape()?),
                Lexeme::Dot("maxntid") => {
                    let shape = self.shape()?;
                    function.max_threads =
                        Some(shape.iter().map(|&n| u64::from(n)).fold(1, u64::saturating_mul));
                }
                Lexeme::Dot("reqnctapercluster") => function.cluster = Some(self.shape()?),
                Lexeme::Dot(
                    "minnctapersm"
                    | "maxnctapersm"
                    | "maxnreg"
                    | "local_maxnreg"
                    | "maxclusterrank"
                    | "abi_preserve"
                    | "abi_preserve_control",
                ) => {
                    self.shape()?;
                }
                Lexeme::Dot("noreturn" | "attribute" | "explicitcluster" | "blocksareclusters") => {
                    self.attribute()?;
                }
                Lexeme::Dot("pragma") => self.pragma()?,
                Lexeme::Mark(';') => {
                    self.bump();
                    return Ok(function);
                }
                Lexeme::Mark('{') => {
                    function.body = Some(self.body()?);
                    return Ok(function);
                }
                // What can only begin something else ends a declaration.
                Lexeme::Dot(
                    "visible" | "weak" | "extern" | "common" | "entry" | "func" | "global" | "const"
                    | "shared" | "local" | "tex" | "file" | "loc" | "section" | "alias",
                )
                | Lexeme::End => return Ok(function),
                _ => return self.fail("expected a function's directive, its body or ;"),
            }
        }
    }

    fn declare_formal(&mut self, formal: &Variable<'a>) {
        let declared = match formal.space {
            StateSpace::Register if formal.lanes > 1 => Declared::Vector(formal.lanes),
            _ => Declared::Other,
        };
        self.names.declare(formal.name, None, declared);
    }

    /// A directive without a number, or `.attribute(…)`.
    fn attribute(&mut self) -> Parsed<()> {
        if self.eat_dot("attribute") {
            return self.skip_brackets('(', ')');
        }
        self.bump();
        Ok(())
    }

    /// A directive with up to three numbers; those left out are 1.
    fn shape(&mut self) -> Parsed<[u32; 3]> {
        self.bump();
        let mut shape = [1; 3];
        for (i, n) in shape.iter_mut().enumerate() {
            if i > 0 && !self.eat(',') {
                break;
            }
            let value = self.unsigned()?;
            let Ok(value) = u32::try_from(value) else { return self.fail("expected a smaller number") };
            *n = value;
        }
        Ok(shape)
    }
}
