//! Parsing of operands.

use super::constant::Constant;
use super::lexer::Lexeme;
use super::names::Declared;
use super::parser::Parser;
use super::{Base, Operand, Parsed};

/// The error message of `ptxas`.
const NO_MINUS: &str = "an offset is added, also a negative one: write +-4 instead of -4";

impl<'a> Parser<'a> {
    /// One operand of an instruction.
    pub(super) fn operand(&mut self) -> Parsed<Operand<'a>> {
        match self.peek() {
            Lexeme::Mark('{') => {
                self.bump();
                let mut elements = Vec::new();
                loop {
                    match self.scalar()? {
                        Operand::Vector(_) => return self.fail("a vector within a vector, before this"),
                        element => elements.push(element),
                    }
                    if self.eat('}') {
                        return Ok(Operand::Vector(elements));
                    }
                    self.expect(',')?;
                }
            }
            Lexeme::Mark('[') => {
                self.bump();
                self.address()
            }
            _ => self.scalar(),
        }
    }

    /// Parses the rest of `[base+offset]`.
    fn address(&mut self) -> Parsed<Operand<'a>> {
        let base = match self.peek() {
            Lexeme::Word(word) if word != "WARP_SZ" => Base::Name(self.dotted_name()?),
            _ => Base::Absolute,
        };
        let offset = match (base, self.peek()) {
            (Base::Name(_), Lexeme::Mark(']')) => 0,
            (Base::Name(_), Lexeme::Mark('+')) => {
                self.bump();
                self.expression()?
            }
            (Base::Absolute, _) => self.expression()?,
            (Base::Name(_), Lexeme::Mark('-')) => return self.fail(NO_MINUS),
            (Base::Name(_), Lexeme::Mark(',')) => {
                return self.fail("coordinates of a texture or tensor are not supported: expected + or ]");
            }
            _ => return self.fail("expected + or ] in an address"),
        };
        self.expect(']')?;
        Ok(Operand::Address(base, offset))
    }

    /// An operand without braces or brackets.
    fn scalar(&mut self) -> Parsed<Operand<'a>> {
        match self.peek() {
            Lexeme::Word(word) if word != "WARP_SZ" => self.named(),
            Lexeme::Mark('-') if matches!(self.peek_at(1), Lexeme::Word(word) if word != "WARP_SZ") => {
                self.bump();
                Ok(Operand::Minus(self.dotted_name()?))
            }
            Lexeme::Mark('!') if matches!(self.peek_at(1), Lexeme::Word(word) if word != "WARP_SZ") => {
                self.bump();
                Ok(Operand::Not(self.dotted_name()?))
            }
            _ => Ok(match self.constant()? {
                Constant::Integer(bits, _) => Operand::Integer(bits as i64),
                Constant::Single(bits) => Operand::Single(bits),
                Constant::Double(value) => Operand::Double(value.to_bits()),
            }),
        }
    }

    /// An operand that begins with a name. A vector register stands for its elements.
    fn named(&mut self) -> Parsed<Operand<'a>> {
        let name = self.dotted_name()?;
        let (base, element) = match name.rsplit_once('.') {
            Some((base, element)) => (base, Some(element)),
            None => (name, None),
        };
        if let Some(Declared::Vector(lanes)) = self.names.find(base) {
            return match element {
                None => Ok(Operand::Vector((0..lanes).map(|lane| Operand::Component(base, lane)).collect())),
                Some(element) => match component(element).filter(|&lane| lane < lanes) {
                    Some(lane) => Ok(Operand::Component(base, lane)),
                    None => {
                        self.fail(format!("{base} has {lanes} elements and none of this name (.{element})"))
                    }
                },
            };
        }
        match self.peek() {
            Lexeme::Mark('|') => {
                self.bump();
                Ok(Operand::Both(name, self.dotted_name()?))
            }
            Lexeme::Mark('+') => {
                self.bump();
                Ok(Operand::Offset(name, self.expression()?))
            }
            Lexeme::Mark('[') => {
                self.bump();
                let index = self.expression()?;
                self.expect(']')?;
                Ok(Operand::Element(name, index))
            }
            Lexeme::Mark('-') => self.fail(NO_MINUS),
            _ => Ok(Operand::Name(name)),
        }
    }

    /// An identifier with the component that may follow it (`%tid.x`), as one name.
    pub(super) fn dotted_name(&mut self) -> Parsed<&'a str> {
        let token = self.token();
        let Lexeme::Word(word) = token.lexeme else { return self.fail("expected a name") };
        self.bump();
        let next = self.token();
        if next.start == token.end && matches!(next.lexeme, Lexeme::Dot(_)) {
            self.bump();
            return Ok(&self.text[token.start..next.end]);
        }
        Ok(word)
    }
}

/// The place of a vector's element by its name: `x y z w` or `r g b a`.
pub(crate) fn component(name: &str) -> Option<u8> {
    match name {
        "x" | "r" => Some(0),
        "y" | "g" => Some(1),
        "z" | "b" => Some(2),
        "w" | "a" => Some(3),
        _ => None,
    }
}
