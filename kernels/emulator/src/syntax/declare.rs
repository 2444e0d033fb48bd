//! Declarations: types, sizes, initial values.

use super::lexer::Lexeme;
use super::parser::Parser;
use super::{Complaint, Initial, Operand, Parsed, Patch, Space, Type, Variable};

/// Most bytes of one variable: more than any GPU's memory.
const VARIABLE_BYTES: u64 = 1 << 40;
/// Most bytes that an initialiser may write out.
const INITIAL_BYTES: usize = 1 << 28;
/// Deepest nesting of braces in an initialiser.
const INITIAL_DEPTH: u32 = 8;

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
                Lexeme::Dot("param") => Space::Param,
                Lexeme::Dot("reg") => Space::Register,
                _ => return self.fail("expected .param or .reg"),
            };
            self.bump();
            let (ty, align, lanes) = self.declared_type()?;
            formals.push(self.declarator(space, ty, align, lanes, false)?);
            if self.eat(')') {
                return Ok(formals);
            }
            self.expect(',')?;
        }
    }

    /// Type, alignment and vector length of a declaration; `.ptr` and what follows it say nothing that is needed.
    pub(super) fn declared_type(&mut self) -> Parsed<(Type, u64, u64)> {
        let (mut ty, mut align, mut lanes) = (None, 0, 1);
        while let Lexeme::Dot(name) = self.peek() {
            self.bump();
            match name {
                "align" => {
                    align = self.unsigned()?;
                    if !align.is_power_of_two() || align > 1 << 16 {
                        return self.fail("expected an alignment that is a power of two, at most 65536,");
                    }
                }
                "v2" => lanes = 2,
                "v4" => lanes = 4,
                "ptr" | "global" | "const" | "shared" | "local" | "param" | "managed" | "unified" => {}
                "attribute" => {
                    while !self.eat(')') {
                        if self.peek() == Lexeme::End {
                            return self.fail("expected )");
                        }
                        self.bump();
                    }
                }
                _ => match Type::named(name) {
                    Some(named) if ty.is_none() => ty = Some(named),
                    _ => return Err(Complaint::new(self.token().line, format!("unknown type .{name}"))),
                },
            }
        }
        match ty {
            Some(ty) => Ok((ty, align.max(ty.bytes() * lanes), lanes)),
            None => self.fail("expected a type"),
        }
    }

    /// A variable's name, array lengths and initialiser.
    fn declarator(
        &mut self,
        space: Space,
        ty: Type,
        align: u64,
        lanes: u64,
        external: bool,
    ) -> Parsed<Variable<'a>> {
        let line = self.token().line;
        let name = match self.peek() {
            Lexeme::Word(word) => {
                self.bump();
                word
            }
            // Formal parameters of prototypes need no name.
            _ if space == Space::Param || space == Space::Register => "_",
            _ => return self.fail("expected a name"),
        };
        let mut bytes = ty.bytes() * lanes;
        let mut lengths = Vec::new();
        let mut open = false;
        while self.eat('[') {
            if self.eat(']') {
                open = true;
                continue;
            }
            let length = self.unsigned()?;
            self.expect(']')?;
            lengths.push(length);
            bytes = bytes.saturating_mul(length);
        }
        let initial = if self.eat('=') {
            let row =
                lengths.iter().skip(usize::from(!open)).product::<u64>().saturating_mul(ty.bytes() * lanes);
            Some(self.initial(ty, row)?)
        } else {
            None
        };
        if open {
            bytes = match &initial {
                Some(initial) => (initial.bytes.len() as u64).next_multiple_of(bytes.max(1)),
                None => 0,
            };
        }
        if bytes > VARIABLE_BYTES {
            return Err(Complaint::new(
                line,
                format!("{name} has {bytes} bytes; at most {VARIABLE_BYTES} are possible"),
            ));
        }
        if initial.as_ref().is_some_and(|i| i.bytes.len() as u64 > bytes) {
            return Err(Complaint::new(
                line,
                format!("{name} has more initial values than its {bytes} bytes hold"),
            ));
        }
        Ok(Variable { name, space, ty, bytes, align, initial, external, line })
    }

    /// An initialiser: one value, or values in braces. Rows of a nested array start at multiples of `row` bytes.
    fn initial(&mut self, ty: Type, row: u64) -> Parsed<Initial<'a>> {
        let mut out = Initial::default();
        self.initial_part(ty, row, INITIAL_DEPTH, &mut out)?;
        Ok(out)
    }

    fn initial_part(&mut self, ty: Type, row: u64, depth: u32, out: &mut Initial<'a>) -> Parsed<()> {
        if !self.eat('{') {
            return self.initial_value(ty, out);
        }
        let Some(depth) = depth.checked_sub(1) else { return self.fail("an initialiser nested too deep") };
        while !self.eat('}') {
            let nested = self.peek() == Lexeme::Mark('{');
            self.initial_part(ty, row, depth, out)?;
            if nested && row > 0 {
                let length = (out.bytes.len() as u64).next_multiple_of(row);
                if length > INITIAL_BYTES as u64 {
                    return self.fail("an initialiser that is too large");
                }
                out.bytes.resize(length as usize, 0);
            }
            if !self.eat(',') {
                self.expect('}')?;
                break;
            }
        }
        Ok(())
    }

    fn initial_value(&mut self, ty: Type, out: &mut Initial<'a>) -> Parsed<()> {
        let width = ty.bytes() as usize;
        if out.bytes.len() + width > INITIAL_BYTES {
            return self.fail("an initialiser that is too large");
        }
        let mut bits = match self.operand()? {
            Operand::Integer(value) if ty.integer() || ty.bits == 16 => value as u64,
            Operand::Integer(value) if ty.bits == 32 => u64::from((value as f32).to_bits()),
            Operand::Integer(value) => (value as f64).to_bits(),
            Operand::Single(bits) if ty.bits == 64 => f64::from(f32::from_bits(bits)).to_bits(),
            Operand::Single(bits) => u64::from(bits),
            Operand::Double(bits) if ty.bits == 64 => bits,
            Operand::Double(bits) => u64::from((f64::from_bits(bits) as f32).to_bits()),
            operand @ (Operand::Name(_) | Operand::Offset(..)) => {
                let (mut name, offset) = match operand {
                    Operand::Name(name) => (name, 0),
                    Operand::Offset(name, offset) => (name, offset),
                    _ => return self.fail("expected an initial value"),
                };
                let mut offset = offset;
                if name == "generic" && self.eat('(') {
                    name = self.word()?;
                    self.expect(')')?;
                    if matches!(self.peek(), Lexeme::Mark('+' | '-')) {
                        offset = self.expression()?;
                    }
                }
                out.patches.push(Patch { at: out.bytes.len(), bytes: width.min(8), name, offset });
                0
            }
            _ => return self.fail("expected an initial value"),
        };
        for _ in 0..width {
            out.bytes.push(bits as u8);
            bits >>= 8;
        }
        Ok(())
    }

    /// `.space type name, name, …;`
    pub(super) fn variables(&mut self, external: bool, mut found: impl FnMut(Variable<'a>)) -> Parsed<()> {
        let space = match self.peek() {
            Lexeme::Dot("global") => Space::Global,
            Lexeme::Dot("const") => Space::Const,
            Lexeme::Dot("shared") => Space::Shared,
            Lexeme::Dot("local") => Space::Local,
            Lexeme::Dot("param") => Space::Param,
            _ => return self.fail("expected a state space"),
        };
        self.bump();
        let (ty, align, lanes) = self.declared_type()?;
        loop {
            found(self.declarator(space, ty, align, lanes, external)?);
            if self.eat(';') {
                return Ok(());
            }
            self.expect(',')?;
        }
    }
}
