//! Operands and constant expressions.

use super::lexer::Lexeme;
use super::parser::Parser;
use super::{Base, Operand, Parsed, Type};

/// Deepest nesting of a constant expression.
const DEPTH: u32 = 32;

/// Binary operators by rising precedence, as in C.
const OPERATORS: [&[&str]; 8] =
    [&["|"], &["^"], &["&"], &["==", "!="], &["<=", ">="], &["<<", ">>"], &["+", "-"], &["*", "/", "%"]];

/// As `ptxas` has it.
const NO_MINUS: &str = "an offset is added, also a negative one: write +-4 instead of -4";

impl<'a> Parser<'a> {
    /// One operand of an instruction.
    pub(super) fn operand(&mut self) -> Parsed<Operand<'a>> {
        match self.peek() {
            Lexeme::Mark('{') => {
                self.bump();
                let mut elements = Vec::new();
                loop {
                    elements.push(self.scalar()?);
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

    /// The rest of `[base+offset]`.
    fn address(&mut self) -> Parsed<Operand<'a>> {
        let base = match self.peek() {
            Lexeme::Word(_) => Base::Name(self.dotted_name()?),
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
            _ => return self.fail("expected + or ] in an address"),
        };
        self.expect(']')?;
        Ok(Operand::Address(base, offset))
    }

    /// An operand without braces or brackets.
    fn scalar(&mut self) -> Parsed<Operand<'a>> {
        let minus = self.peek() == Lexeme::Mark('-');
        match if minus { self.peek_at(1) } else { self.peek() } {
            Lexeme::Single(bits) => {
                self.skip(1 + usize::from(minus));
                Ok(Operand::Single(bits ^ (u32::from(minus) << 31)))
            }
            Lexeme::Double(bits) => {
                self.skip(1 + usize::from(minus));
                Ok(Operand::Double(bits ^ (u64::from(minus) << 63)))
            }
            Lexeme::Word(_) if !minus => {
                let name = self.dotted_name()?;
                match self.peek() {
                    Lexeme::Mark('|') => {
                        self.bump();
                        Ok(Operand::Both(name, self.dotted_name()?))
                    }
                    Lexeme::Mark('+') => {
                        self.bump();
                        Ok(Operand::Offset(name, self.expression()?))
                    }
                    Lexeme::Mark('-') => self.fail(NO_MINUS),
                    _ => Ok(Operand::Name(name)),
                }
            }
            Lexeme::Word(_) => {
                self.bump();
                Ok(Operand::Minus(self.dotted_name()?))
            }
            Lexeme::Mark('!') if matches!(self.peek_at(1), Lexeme::Word(_)) => {
                self.bump();
                Ok(Operand::Not(self.dotted_name()?))
            }
            _ => Ok(Operand::Integer(self.expression()?)),
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

    /// A constant integer expression; its value wraps at 64 bits.
    pub(super) fn expression(&mut self) -> Parsed<i64> {
        self.binary(0, DEPTH)
    }

    /// The operator of this precedence that comes next, and its length in tokens.
    fn operator(&self, level: usize) -> Option<&'static str> {
        let (Lexeme::Mark(first), second) = (self.peek(), self.peek_at(1)) else { return None };
        OPERATORS[level].iter().copied().find(|op| {
            let mut marks = op.chars();
            marks.next() == Some(first) && marks.next().is_none_or(|m| second == Lexeme::Mark(m))
        })
    }

    fn binary(&mut self, level: usize, depth: u32) -> Parsed<i64> {
        if level == OPERATORS.len() {
            return self.unary(depth);
        }
        let mut left = self.binary(level + 1, depth)?;
        while let Some(operator) = self.operator(level) {
            self.skip(operator.len());
            let right = self.binary(level + 1, depth)?;
            left = match operator {
                "|" => left | right,
                "^" => left ^ right,
                "&" => left & right,
                "==" => i64::from(left == right),
                "!=" => i64::from(left != right),
                "<=" => i64::from(left <= right),
                ">=" => i64::from(left >= right),
                "<<" => left.wrapping_shl(right as u32),
                ">>" => left.wrapping_shr(right as u32),
                "+" => left.wrapping_add(right),
                "-" => left.wrapping_sub(right),
                "*" => left.wrapping_mul(right),
                _ if right == 0 => return self.fail("division by zero in a constant expression"),
                "/" => left.wrapping_div(right),
                _ => left.wrapping_rem(right),
            };
        }
        Ok(left)
    }

    fn unary(&mut self, depth: u32) -> Parsed<i64> {
        let Some(depth) = depth.checked_sub(1) else {
            return self.fail(format!("a constant expression nested deeper than {DEPTH}"));
        };
        match self.peek() {
            Lexeme::Integer(value) => {
                self.bump();
                Ok(value as i64)
            }
            Lexeme::Mark('-') => {
                self.bump();
                Ok(self.unary(depth)?.wrapping_neg())
            }
            Lexeme::Mark('+') => {
                self.bump();
                self.unary(depth)
            }
            Lexeme::Mark('~') => {
                self.bump();
                Ok(!self.unary(depth)?)
            }
            Lexeme::Mark('!') => {
                self.bump();
                Ok(i64::from(self.unary(depth)? == 0))
            }
            Lexeme::Mark('(') => {
                self.bump();
                // A cast to .s64 or .u64 changes no bits of a 64-bit value.
                if let Lexeme::Dot(name) = self.peek()
                    && Type::named(name).is_some_and(|t| t.bits == 64)
                {
                    self.bump();
                    self.expect(')')?;
                    return self.unary(depth);
                }
                let value = self.binary(0, depth)?;
                self.expect(')')?;
                Ok(value)
            }
            _ => self.fail("expected an operand"),
        }
    }
}
