//! Declarations: types, sizes, alignment.

use super::lexer::Lexeme;
use super::parser::Parser;
use super::{Kind, ParseError, Parsed, Type, Variable};
use crate::space::StateSpace;

/// Most bytes of one variable: more than any GPU's memory.
const VARIABLE_BYTES: u64 = 1 << 40;
/// Most dimensions of an array.
const DIMENSIONS: usize = 16;

/// Properties that all names of one declaration share.
struct Declaration {
    space: StateSpace,
    ty: Type,
    align: u64,
    lanes: u8,
    external: bool,
}

impl<'a> Parser<'a> {
    /// `(.param .u64 a, .param .align 8 .b8 b[16], …)`
    pub(super) fn formals(&mut self) -> Parsed<Vec<Variable<'a>>> {
        self.expect('(')?;
        let mut formals = Vec::new();
        if self.eat(')') {
            return Ok(formals);
        }
        loop {
            let space = match self.peek() {
                Lexeme::Dot("param") => StateSpace::Param,
                Lexeme::Dot("reg") => StateSpace::Register,
                _ => return self.fail("expected .param or .reg"),
            };
            self.bump();
            let (ty, align, lanes) = self.declared_type()?;
            formals.push(self.declarator(&Declaration { space, ty, align, lanes, external: false })?);
            if self.eat(')') {
                return Ok(formals);
            }
            self.expect(',')?;
        }
    }

    /// Type, alignment and vector length of a declaration. Attributes and the part after `.ptr`, which describes the
    /// memory behind the pointer, do not affect execution.
    pub(super) fn declared_type(&mut self) -> Parsed<(Type, u64, u8)> {
        let (mut ty, mut align, mut lanes, mut pointer) = (None, 0, 1, false);
        while let Lexeme::Dot(name) = self.peek() {
            self.bump();
            match name {
                "align" => {
                    let found = self.unsigned()?;
                    if !found.is_power_of_two() || found > 1 << 16 {
                        return self.fail("expected an alignment that is a power of two, at most 65536,");
                    }
                    if !pointer {
                        align = found;
                    }
                }
                "v2" => lanes = 2,
                "v4" => lanes = 4,
                "ptr" => pointer = true,
                "global" | "const" | "shared" | "local" | "param" if pointer => {}
                "attribute" => self.skip_brackets('(', ')')?,
                "texref" | "samplerref" | "surfref" if pointer => {}
                "texref" | "samplerref" | "surfref" if ty.is_none() => ty = Some(Type::OPAQUE),
                _ => match Type::named(name) {
                    Some(named) if ty.is_none() => ty = Some(named),
                    _ => return Err(ParseError::new(self.token().line, format!("unknown type .{name}"))),
                },
            }
        }
        match ty {
            Some(ty) => Ok((ty, align.max(ty.bytes() * u64::from(lanes)), lanes)),
            None => self.fail("expected a type"),
        }
    }

    /// A variable's name, array lengths and initialiser.
    fn declarator(&mut self, declaration: &Declaration) -> Parsed<Variable<'a>> {
        let &Declaration { space, ty, align, lanes, external } = declaration;
        let line = self.token().line;
        let name = match self.peek() {
            Lexeme::Word(word) => {
                self.bump();
                word
            }
            // Formal parameters of prototypes need no name.
            _ if space == StateSpace::Param || space == StateSpace::Register => "_",
            _ => return self.fail("expected a name"),
        };
        // Lengths, the outermost first; that of `[]` is left to the initialiser.
        let mut lengths = Vec::new();
        while self.eat('[') {
            let open = lengths.is_empty() && self.peek() == Lexeme::Mark(']');
            lengths.push(if open { None } else { Some(self.unsigned()?) });
            self.expect(']')?;
            if lengths.len() > DIMENSIONS {
                return self.fail(format!("an array of more than {DIMENSIONS} dimensions"));
            }
        }
        let element = ty.bytes() * u64::from(lanes);
        let known = |lengths: &[Option<u64>]| {
            lengths.iter().flatten().fold(element, |bytes, &length| bytes.saturating_mul(length))
        };
        let mut bytes = known(&lengths);
        if bytes > VARIABLE_BYTES {
            let message = format!("{name} has {bytes} bytes; at most {VARIABLE_BYTES} are possible");
            return Err(ParseError::new(line, message));
        }
        let initial = if !self.eat('=') {
            None
        } else if ty.kind == Kind::Opaque {
            self.skip_brackets('{', '}')?;
            None
        } else {
            let mut inner = lengths.clone();
            if lanes > 1 {
                inner.push(Some(lanes.into()));
            }
            Some(self.initial(ty, &inner)?)
        };
        if lengths.first() == Some(&None) {
            let row = known(&lengths);
            bytes = initial.as_ref().map_or(0, |i| (i.bytes.len() as u64).next_multiple_of(row.max(1)));
        }
        Ok(Variable { name, space, ty, lanes, bytes, align, initial, external, inner: false, line })
    }

    /// `.space type name, name, …;`
    pub(super) fn declaration(&mut self, external: bool) -> Parsed<Vec<Variable<'a>>> {
        let space = match self.peek() {
            // A texture by its old name is a reference like `.texref`.
            Lexeme::Dot("global" | "tex") => StateSpace::Global,
            Lexeme::Dot("const") => StateSpace::Const,
            Lexeme::Dot("shared") => StateSpace::Shared,
            Lexeme::Dot("local") => StateSpace::Local,
            Lexeme::Dot("param") => StateSpace::Param,
            _ => return self.fail("expected a state space"),
        };
        let texture = self.peek() == Lexeme::Dot("tex");
        self.bump();
        // Constant memory once had banks: `.const[2]`.
        if space == StateSpace::Const && self.eat('[') {
            self.count()?;
            self.expect(']')?;
        }
        let (ty, align, lanes) = self.declared_type()?;
        let declaration = if texture {
            Declaration { space, ty: Type::OPAQUE, align: 8, lanes: 1, external }
        } else {
            Declaration { space, ty, align, lanes, external }
        };
        let mut out = Vec::new();
        loop {
            out.push(self.declarator(&declaration)?);
            if self.eat(';') {
                return Ok(out);
            }
            self.expect(',')?;
        }
    }
}
