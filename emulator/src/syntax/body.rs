//! A function's body: declarations, labels and instructions.

use super::lexer::{Lexeme, Token};
use super::names::Declared;
use super::parser::Parser;
use super::{Call, Instruction, Kind, Label, Parsed, Prototype, Registers, Statement, Type, Variable};
use crate::space::StateSpace;

impl<'a> Parser<'a> {
    /// A function's statements, between its braces.
    pub(super) fn body(&mut self) -> Parsed<Vec<Statement<'a>>> {
        self.expect('{')?;
        let mut depth = 0usize;
        let mut out = Vec::new();
        loop {
            let token = self.token();
            match token.lexeme {
                Lexeme::End => return self.fail("a function that does not end: expected }"),
                Lexeme::Mark(';') => self.bump(),
                Lexeme::Mark('{') => {
                    self.bump();
                    depth += 1;
                    self.names.open();
                    out.push(Statement::Open);
                }
                Lexeme::Mark('}') => {
                    self.bump();
                    if depth == 0 {
                        return Ok(out);
                    }
                    depth -= 1;
                    self.names.close();
                    out.push(Statement::Close);
                }
                Lexeme::Dot("loc") => self.location()?,
                Lexeme::Dot("file") => self.file()?,
                Lexeme::Dot("section") => self.section()?,
                Lexeme::Dot("pragma") => self.pragma()?,
                Lexeme::Dot("reg") => out.push(self.registers()?),
                Lexeme::Dot("shared" | "local" | "param" | "global" | "const" | "extern") => {
                    let external = self.eat_dot("extern");
                    self.inner_variables(external, &mut out)?;
                }
                Lexeme::Mark('@') => {
                    self.bump();
                    let negated = self.eat('!');
                    let guard = Some((self.word()?, negated));
                    out.push(self.instruction(guard, token)?);
                }
                Lexeme::Word(name) if self.peek_at(1) == Lexeme::Mark(':') => {
                    self.skip(2);
                    let label = Label { name, line: token.line };
                    out.push(self.labelled(label)?);
                }
                Lexeme::Word(_) => out.push(self.instruction(None, token)?),
                _ => return self.fail("expected a statement"),
            }
        }
    }

    /// The text after a label: a list of targets, a prototype, or an instruction that is read next.
    fn labelled(&mut self, label: Label<'a>) -> Parsed<Statement<'a>> {
        match self.peek() {
            Lexeme::Dot("branchtargets" | "calltargets") => {
                self.bump();
                let mut targets = Vec::new();
                loop {
                    targets.push(self.name_and_count()?);
                    if self.eat(';') {
                        return Ok(Statement::Targets(label, targets));
                    }
                    self.expect(',')?;
                }
            }
            Lexeme::Dot("callprototype") => {
                self.bump();
                let returns = if self.peek() == Lexeme::Mark('(') { self.formals()? } else { Vec::new() };
                self.word()?;
                let parameters = if self.peek() == Lexeme::Mark('(') { self.formals()? } else { Vec::new() };
                loop {
                    match self.peek() {
                        Lexeme::Dot("noreturn") => self.bump(),
                        Lexeme::Dot("abi_preserve" | "abi_preserve_control") => {
                            self.bump();
                            self.count()?;
                        }
                        _ => break,
                    }
                }
                self.expect(';')?;
                Ok(Statement::Prototype(Prototype { name: label.name, returns, parameters }))
            }
            _ => Ok(Statement::Label(label)),
        }
    }

    /// Variables in a function. The module owns those that outlive it.
    fn inner_variables(&mut self, external: bool, out: &mut Vec<Statement<'a>>) -> Parsed<()> {
        for variable in self.declaration(external)? {
            if matches!(variable.space, StateSpace::Global | StateSpace::Const) {
                let index = self.variables.len();
                self.names.declare(variable.name, None, Declared::Global(index));
                self.variables.push(Variable { inner: true, ..variable });
                out.push(Statement::Global(index));
            } else {
                self.names.declare(variable.name, None, Declared::Other);
                out.push(Statement::Variable(variable));
            }
        }
        Ok(())
    }

    /// Parses `name` or `name<count>`.
    fn name_and_count(&mut self) -> Parsed<(&'a str, Option<u64>)> {
        let name = self.word()?;
        if !self.eat('<') {
            return Ok((name, None));
        }
        let count = self.count()?;
        self.expect('>')?;
        Ok((name, Some(count)))
    }

    /// `.reg .type name, name<count>;`, with `.v2` or `.v4` for vectors.
    fn registers(&mut self) -> Parsed<Statement<'a>> {
        let line = self.token().line;
        self.bump();
        let (ty, _, lanes) = self.declared_type()?;
        // A register of 128 bits is two of 64.
        let (ty, lanes) = match ty.bits {
            128 if lanes == 1 => (Type { bits: 64, ..ty }, 2),
            _ => (ty, lanes),
        };
        if lanes > 1 && ty.kind == Kind::Predicate {
            return self.fail("a predicate has no vectors, before this");
        }
        let declared = if lanes > 1 { Declared::Vector(lanes) } else { Declared::Other };
        let mut names = Vec::new();
        loop {
            let (name, count) = self.name_and_count()?;
            self.names.declare(name, count, declared);
            names.push((name, count));
            if self.eat(';') {
                return Ok(Statement::Registers(Registers { ty, lanes, names, line }));
            }
            self.expect(',')?;
        }
    }

    fn instruction(&mut self, guard: Option<(&'a str, bool)>, first: Token<'a>) -> Parsed<Statement<'a>> {
        let line = self.token().line;
        let name = self.word()?;
        let mut suffixes = Vec::new();
        while let Lexeme::Dot(suffix) = self.peek() {
            self.bump();
            suffixes.push(suffix);
            // Constant memory once had banks: `.const[2]`.
            if suffix == "const" && self.eat('[') {
                self.count()?;
                self.expect(']')?;
            }
        }
        let mut operands = Vec::new();
        let mut call = None;
        if name == "call" {
            call = Some(self.call()?);
        } else if self.peek() != Lexeme::Mark(';') {
            operands.push(self.operand()?);
            while self.eat(',') {
                operands.push(self.operand()?);
            }
        }
        let end = self.token().end;
        self.expect(';')?;
        let span = (first.start, end);
        Ok(Statement::Instruction(Instruction { guard, name, suffixes, operands, call, line, span }))
    }

    /// `(results), callee, (arguments), prototype`, of which only the callee must be there.
    fn call(&mut self) -> Parsed<Call<'a>> {
        let mut call = Call::default();
        if self.eat('(') {
            while !self.eat(')') {
                call.returns.push(self.operand()?);
                self.eat(',');
            }
            self.expect(',')?;
        }
        call.callee = self.word()?;
        if self.eat(',') {
            if self.eat('(') {
                while !self.eat(')') {
                    call.arguments.push(self.operand()?);
                    self.eat(',');
                }
                if self.eat(',') {
                    call.through = Some(self.word()?);
                }
            } else {
                call.through = Some(self.word()?);
            }
        }
        Ok(call)
    }
}
