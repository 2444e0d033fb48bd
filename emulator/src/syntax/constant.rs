//! Constant expressions (PTX ISA, "Constant Expressions"): 64-bit integers, signed or unsigned, and floats of 64 bits.

use super::lexer::Lexeme;
use super::parser::Parser;
use super::{Parsed, Type};

/// Deepest nesting of a constant expression.
const DEPTH: u32 = 32;

/// Threads of a warp.
const WARP_SIZE: u64 = 32;

/// Value of a constant expression.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Constant {
    /// An integer: its bits, and whether it counts as unsigned.
    Integer(u64, bool),
    /// `0f…`: a float given by its bits.
    Single(u32),
    /// Any other float literal.
    Double(f64),
}

/// Binary operators by rising precedence, as in C.
const OPERATORS: [&[&str]; 10] = [
    &["||"],
    &["&&"],
    &["|"],
    &["^"],
    &["&"],
    &["==", "!="],
    &["<=", ">=", "<", ">"],
    &["<<", ">>"],
    &["+", "-"],
    &["*", "/", "%"],
];

impl Parser<'_> {
    /// A constant integer expression; its value wraps at 64 bits.
    pub(super) fn expression(&mut self) -> Parsed<i64> {
        match self.constant()? {
            Constant::Integer(bits, _) => Ok(bits as i64),
            _ => self.fail("expected an integer, not a float, before this"),
        }
    }

    /// Parses a constant expression.
    pub(super) fn constant(&mut self) -> Parsed<Constant> {
        self.choice(DEPTH)
    }

    /// An integer as it stands, where `<` and `>` are brackets.
    pub(super) fn count(&mut self) -> Parsed<u64> {
        match self.unary(DEPTH)? {
            Constant::Integer(bits, _) => Ok(bits),
            _ => self.fail("expected a count before this"),
        }
    }

    /// Parses `a`, or `a ? b : c`.
    fn choice(&mut self, depth: u32) -> Parsed<Constant> {
        let Some(depth) = depth.checked_sub(1) else { return self.too_deep() };
        let condition = self.binary(0, depth)?;
        if !self.eat('?') {
            return Ok(condition);
        }
        let Constant::Integer(condition, _) = condition else {
            return self.fail("expected an integer before `?`");
        };
        let yes = self.choice(depth)?;
        self.expect(':')?;
        let no = self.choice(depth)?;
        Ok(if condition != 0 { yes } else { no })
    }

    fn too_deep<T>(&self) -> Parsed<T> {
        self.fail(format!("a constant expression nested deeper than {DEPTH}"))
    }

    /// The next operator, if it has this precedence.
    fn operator(&self, level: usize) -> Option<&'static str> {
        let (Lexeme::Mark(first), second) = (self.peek(), self.peek_at(1)) else { return None };
        let found = OPERATORS[level].iter().copied().find(|op| {
            let mut marks = op.chars();
            marks.next() == Some(first) && marks.next().is_none_or(|m| second == Lexeme::Mark(m))
        })?;
        // `<` is not part of `<<`, nor `|` of `||`.
        let doubled = found.len() == 1 && second == Lexeme::Mark(first) && "<>|&".contains(first);
        (!doubled).then_some(found)
    }

    fn binary(&mut self, level: usize, depth: u32) -> Parsed<Constant> {
        if level == OPERATORS.len() {
            return self.unary(depth);
        }
        let mut left = self.binary(level + 1, depth)?;
        while let Some(operator) = self.operator(level) {
            self.skip(operator.len());
            let right = self.binary(level + 1, depth)?;
            left = match (left, right) {
                (Constant::Integer(a, a_unsigned), Constant::Integer(b, b_unsigned)) => {
                    if matches!(operator, "/" | "%") && b == 0 {
                        return self.fail("division by zero in a constant expression");
                    }
                    integers(operator, (a, a_unsigned), (b, b_unsigned))
                }
                (Constant::Double(a), Constant::Double(b)) => match floats(operator, a, b) {
                    Some(value) => value,
                    None => return self.fail(format!("`{operator}` takes no floats")),
                },
                _ => return self.fail("an expression of integers and floats together"),
            };
        }
        Ok(left)
    }

    fn unary(&mut self, depth: u32) -> Parsed<Constant> {
        let Some(depth) = depth.checked_sub(1) else { return self.too_deep() };
        let lexeme = self.peek();
        match lexeme {
            Lexeme::Integer { value, unsigned } => {
                self.bump();
                Ok(Constant::Integer(value, unsigned))
            }
            Lexeme::Single(bits) => {
                self.bump();
                Ok(Constant::Single(bits))
            }
            Lexeme::Double(bits) => {
                self.bump();
                Ok(Constant::Double(f64::from_bits(bits)))
            }
            Lexeme::Word("WARP_SZ") => {
                self.bump();
                Ok(Constant::Integer(WARP_SIZE, false))
            }
            Lexeme::Mark(mark @ ('-' | '+' | '~' | '!')) => {
                self.bump();
                match (mark, self.unary(depth)?) {
                    ('-', Constant::Integer(a, unsigned)) => {
                        Ok(Constant::Integer(a.wrapping_neg(), unsigned))
                    }
                    ('-', Constant::Double(a)) => Ok(Constant::Double(-a)),
                    ('-', Constant::Single(bits)) => Ok(Constant::Single(bits ^ 1 << 31)),
                    ('+', value) => Ok(value),
                    ('~', Constant::Integer(a, unsigned)) => Ok(Constant::Integer(!a, unsigned)),
                    ('!', Constant::Integer(a, _)) => Ok(Constant::Integer(u64::from(a == 0), false)),
                    _ => self.fail(format!("`{mark}` takes no floats")),
                }
            }
            Lexeme::Mark('(') => {
                self.bump();
                // A cast to .s64 or .u64 changes no bits.
                if let Lexeme::Dot(name) = self.peek()
                    && let Some(ty) = Type::named(name).filter(|t| t.integer() && t.bits == 64)
                {
                    self.bump();
                    self.expect(')')?;
                    return match self.unary(depth)? {
                        Constant::Integer(a, _) => Ok(Constant::Integer(a, !ty.signed())),
                        _ => self.fail("a cast of a float to an integer"),
                    };
                }
                let value = self.choice(depth)?;
                self.expect(')')?;
                Ok(value)
            }
            _ => self.fail("expected an operand"),
        }
    }
}

/// An operator on integers. They count as unsigned where one of them does; a shift goes by its left one.
fn integers(operator: &str, (a, a_unsigned): (u64, bool), (b, b_unsigned): (u64, bool)) -> Constant {
    let unsigned = a_unsigned || b_unsigned;
    let truth = |value: bool| Constant::Integer(u64::from(value), false);
    let less = |a: u64, b: u64| if unsigned { a < b } else { (a as i64) < b as i64 };
    let value = |bits: u64| Constant::Integer(bits, unsigned);
    let distance = u32::try_from(b).unwrap_or(u32::MAX);
    match operator {
        "||" => truth(a != 0 || b != 0),
        "&&" => truth(a != 0 && b != 0),
        "|" => value(a | b),
        "^" => value(a ^ b),
        "&" => value(a & b),
        "==" => truth(a == b),
        "!=" => truth(a != b),
        "<=" => truth(!less(b, a)),
        ">=" => truth(!less(a, b)),
        "<" => truth(less(a, b)),
        ">" => truth(less(b, a)),
        "<<" => Constant::Integer(a.checked_shl(distance).unwrap_or(0), a_unsigned),
        ">>" if a_unsigned => Constant::Integer(a.checked_shr(distance).unwrap_or(0), true),
        ">>" => Constant::Integer(((a as i64) >> distance.min(63)) as u64, false),
        "+" => value(a.wrapping_add(b)),
        "-" => value(a.wrapping_sub(b)),
        "*" => value(a.wrapping_mul(b)),
        "/" if unsigned => value(a / b),
        "/" => value((a as i64).wrapping_div(b as i64) as u64),
        _ if unsigned => value(a % b),
        _ => value((a as i64).wrapping_rem(b as i64) as u64),
    }
}

/// An operator on floats, if it takes them.
fn floats(operator: &str, a: f64, b: f64) -> Option<Constant> {
    let truth = |value: bool| Some(Constant::Integer(u64::from(value), false));
    match operator {
        "+" => Some(Constant::Double(a + b)),
        "-" => Some(Constant::Double(a - b)),
        "*" => Some(Constant::Double(a * b)),
        "/" => Some(Constant::Double(a / b)),
        "==" => truth(a == b),
        "!=" => truth(a != b),
        "<" => truth(a < b),
        ">" => truth(a > b),
        "<=" => truth(a <= b),
        ">=" => truth(a >= b),
        _ => None,
    }
}
