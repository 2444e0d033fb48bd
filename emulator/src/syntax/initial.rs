//! Initial values of variables: bytes, and addresses that are known when the module is loaded.

use super::constant::Constant;
use super::lexer::Lexeme;
use super::names::Declared;
use super::parser::Parser;
use super::{Initial, Kind, Parsed, Patch, Target, Type};

/// Most bytes that an initialiser may write out.
const INITIAL_BYTES: u64 = 1 << 28;

impl<'a> Parser<'a> {
    /// An initialiser of an array with these lengths, the outermost first; one value where there are none.
    pub(super) fn initial(&mut self, ty: Type, lengths: &[Option<u64>]) -> Parsed<Initial<'a>> {
        let mut out = Initial::default();
        self.initial_part(ty, lengths, &mut out)?;
        Ok(out)
    }

    /// Braces for each dimension. Missing values of a row are 0.
    fn initial_part(&mut self, ty: Type, lengths: &[Option<u64>], out: &mut Initial<'a>) -> Parsed<()> {
        let Some((length, inner)) = lengths.split_first() else { return self.initial_value(ty, out) };
        let row = inner.iter().flatten().fold(ty.bytes(), |bytes, &n| bytes.saturating_mul(n));
        let start = out.bytes.len() as u64;
        self.expect('{')?;
        if self.eat('}') {
            return Ok(());
        }
        let mut count = 0u64;
        loop {
            if length.is_some_and(|length| count >= length) {
                return self
                    .fail(format!("more initial values than the {count} of the array, with this one"));
            }
            self.fill(start.saturating_add(row.saturating_mul(count)), out)?;
            self.initial_part(ty, inner, out)?;
            count += 1;
            if self.eat('}') {
                break;
            }
            self.expect(',')?;
        }
        if length.is_none() {
            self.fill(start.saturating_add(row.saturating_mul(count)), out)?;
        }
        Ok(())
    }

    /// Pads with zeros up to a length.
    fn fill(&self, length: u64, out: &mut Initial<'a>) -> Parsed<()> {
        if length > INITIAL_BYTES {
            return self.fail("an initialiser that is too large");
        }
        out.bytes.resize(length as usize, 0);
        Ok(())
    }

    fn initial_value(&mut self, ty: Type, out: &mut Initial<'a>) -> Parsed<()> {
        let width = ty.bytes();
        let at = out.bytes.len();
        self.fill(at as u64 + width, out)?;
        if matches!(self.peek(), Lexeme::Word(word) if word != "WARP_SZ") {
            let (target, offset) = self.target()?;
            out.patches.push(Patch { at, bytes: width.min(8) as usize, target, offset, shift: 0 });
            return Ok(());
        }
        let value = self.constant()?;
        if let (Constant::Integer(mask, _), Lexeme::Mark('(')) = (value, self.peek()) {
            return self.masked(ty, mask, at, out);
        }
        let float = ty.kind == Kind::Float && ty.bits >= 32;
        let bits = match value {
            Constant::Integer(bits, _) if !float => bits,
            Constant::Single(bits) if ty.bits == 64 && (float || ty.kind == Kind::Bits) => {
                f64::from(f32::from_bits(bits)).to_bits()
            }
            Constant::Single(bits) if ty.bits == 32 && (float || ty.kind == Kind::Bits) => bits.into(),
            Constant::Double(value) if ty.bits == 64 && (float || ty.kind == Kind::Bits) => value.to_bits(),
            Constant::Double(value) if ty.bits == 32 && (float || ty.kind == Kind::Bits) => {
                (value as f32).to_bits().into()
            }
            _ => return self.fail("an initial value of another type than the variable, before this"),
        };
        let bytes = u128::from(bits).to_le_bytes();
        out.bytes[at..].copy_from_slice(&bytes[..width as usize]);
        Ok(())
    }

    /// `name`, `name+offset`, `generic(name)+offset`
    fn target(&mut self) -> Parsed<(Target<'a>, i64)> {
        let mut name = self.word()?;
        if name == "generic" && self.eat('(') {
            name = self.word()?;
            self.expect(')')?;
        }
        let offset = if self.eat('+') { self.expression()? } else { 0 };
        let target = match self.names.find(name) {
            Some(Declared::Global(index)) => Target::Inner(index),
            _ => Target::Name(name),
        };
        Ok((target, offset))
    }

    /// `0xff00(name)`: one byte of an address.
    fn masked(&mut self, ty: Type, mask: u64, at: usize, out: &mut Initial<'a>) -> Parsed<()> {
        let shift = mask.trailing_zeros();
        if ty.bytes() != 1 || mask >> shift.min(63) != 0xff || !shift.is_multiple_of(8) {
            return self.fail("expected a mask of one byte in an array of bytes, before this");
        }
        self.expect('(')?;
        let (target, offset) = self.target()?;
        self.expect(')')?;
        out.patches.push(Patch { at, bytes: 1, target, offset, shift });
        Ok(())
    }
}
