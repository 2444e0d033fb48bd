//! `mov`: copies, packing and unpacking, addresses, special registers, predicates.

use super::body::Body;
use super::suffix::Suffixes;
use crate::machine::lanes::{LaneFn32, lanes};
use crate::machine::program::{Loc, Logic, Op, Pred, RegisterFile};
use crate::syntax::{Kind, Operand, Parsed, Type};

impl<'m, 'a> Body<'_, 'm, 'a> {
    pub(super) fn mov(&mut self, s: &mut Suffixes<'m, 'a>) -> Parsed<()> {
        let count = match s.take_any(&["v2", "v4"]) {
            Some("v2") => 2,
            Some(_) => 4,
            None => 1,
        };
        let ty = s.ty()?;
        let [to, from] = s.operands()?;
        if count > 1 {
            return self.copy_vector(to, from, (ty, count));
        }
        match (to, from) {
            // A register of 128 bits is a vector of two halves.
            _ if ty.width() == 128 => self.copy_vector(to, from, (Type::B64, 2)),
            (Operand::Vector(parts), whole) => self.unpack(parts, whole, ty),
            (whole, Operand::Vector(parts)) => self.pack(whole, parts, ty),
            _ if ty.kind == Kind::Predicate => self.copy_predicate(to, from),
            _ => self.copy(to, from, ty),
        }
    }

    fn copy(&mut self, to: &Operand<'a>, from: &Operand<'a>, ty: Type) -> Parsed<()> {
        let from = self.value(from, ty)?;
        let to = self.to(to, ty)?;
        self.emit(if ty.width() == 64 { Op::Copy64(to, from) } else { Op::Copy32(to, from) });
        Ok(())
    }

    /// Copies all elements as if at the same time.
    fn copy_vector(
        &mut self,
        to: &Operand<'a>,
        from: &Operand<'a>,
        (ty, count): (Type, usize),
    ) -> Parsed<()> {
        let special = match from {
            Operand::Name(name) if count == 4 => self.special_vector(name, ty)?,
            _ => None,
        };
        let values = match (special, from) {
            (Some(values), _) => values,
            (None, Operand::Vector(parts)) => {
                let mut values = Vec::new();
                for part in parts {
                    values.push(self.value(part, ty)?);
                }
                values
            }
            _ => return self.fail(format!("expected a vector of {count} elements")),
        };
        let Operand::Vector(parts) = to else {
            return self.fail(format!("expected a vector of {count} elements"));
        };
        if parts.len() != count || values.len() != count {
            return self.fail(format!("expected {count} elements, not {} and {}", parts.len(), values.len()));
        }
        let copy = |to, from| if ty.width() == 64 { Op::Copy64(to, from) } else { Op::Copy32(to, from) };
        let mut destinations = Vec::new();
        for part in parts {
            destinations.push(self.to(part, ty)?);
        }
        let mut values = values;
        let overlap = |at: usize, destination: &Loc| values[at + 1..].contains(destination);
        if destinations.iter().enumerate().any(|(at, destination)| overlap(at, destination)) {
            for value in &mut values {
                let between = self.column(ty)?;
                self.emit(copy(between, *value));
                *value = between;
            }
        }
        for (to, from) in destinations.into_iter().zip(values) {
            self.emit(copy(to, from));
        }
        Ok(())
    }

    fn copy_predicate(&mut self, to: &'m Operand<'a>, from: &Operand<'a>) -> Parsed<()> {
        let (to, from) = (self.predicate_to(to)?, self.predicate(from)?);
        self.emit(Op::Predicate(Logic::Copy, to, [from, Pred::NONE]));
        Ok(())
    }

    /// The type of one of `parts` parts.
    fn part(&self, ty: Type, parts: usize, s: &str) -> Parsed<Type> {
        let bits = ty.width() / parts.max(1) as u32;
        if ty.pair || bits * parts as u32 != ty.width() || !matches!((parts, bits), (2 | 4, 8 | 16 | 32)) {
            return self.fail(format!("cannot {s} {} bits as {parts} parts", ty.width()));
        }
        Ok(Type { kind: Kind::Bits, bits, pair: false })
    }

    /// Packs `parts` into one register.
    fn pack(&mut self, to: &Operand<'a>, parts: &[Operand<'a>], ty: Type) -> Parsed<()> {
        let part = self.part(ty, parts.len(), "pack")?;
        let mut values = Vec::new();
        for operand in parts {
            values.push(self.part_value(operand, part)?);
        }
        let to = self.to(to, ty)?;
        let halves: LaneFn32 = lanes!(|a, b, _| a & 0xffff | b << 16);
        let bytes: LaneFn32 = lanes!(|a, b, _| a & 0xff | (b & 0xff) << 8);
        match (values.as_slice(), part.bits) {
            (&[a, b], 32) => self.emit(Op::Pack(to, [a, b])),
            (&[a, b], 16) => self.emit(Op::Lane32(halves, to, [a, b, Loc::ZERO])),
            (&[a, b], _) => self.emit(Op::Lane32(bytes, to, [a, b, Loc::ZERO])),
            (&[a, b, c, d], bits) => {
                let f = if bits == 16 { halves } else { bytes };
                let low = self.column(Type::B32)?;
                let high = self.column(Type::B32)?;
                self.emit(Op::Lane32(f, low, [a, b, Loc::ZERO]));
                self.emit(Op::Lane32(f, high, [c, d, Loc::ZERO]));
                if bits == 16 {
                    self.emit(Op::Pack(to, [low, high]));
                } else {
                    self.emit(Op::Lane32(halves, to, [low, high, Loc::ZERO]));
                }
            }
            _ => return self.fail("expected 2 or 4 parts"),
        }
        Ok(())
    }

    fn part_value(&mut self, operand: &Operand<'a>, part: Type) -> Parsed<Loc> {
        // Parts may be registers of any type of the right width, and for bytes of 16 bits too.
        if part.bits == 8
            && !matches!(operand, Operand::Integer(_))
            && let register = self.register(operand)?
            && register.file == RegisterFile::Bits32
        {
            return Ok(Loc::register(register.index));
        }
        self.value(operand, part)
    }

    fn unpack(&mut self, parts: &[Operand<'a>], from: &Operand<'a>, ty: Type) -> Parsed<()> {
        let part = self.part(ty, parts.len(), "unpack")?;
        let from = self.value(from, ty)?;
        let mut words = vec![from];
        if ty.width() == 64 {
            let mut halves = [Loc::ZERO; 2];
            for (half, operand) in halves.iter_mut().zip(parts) {
                *half = if part.bits == 32 { self.to(operand, part)? } else { self.column(Type::B32)? };
            }
            self.emit(Op::Unpack(halves, from));
            if part.bits == 32 {
                return Ok(());
            }
            words = halves.to_vec();
        }
        let functions: [LaneFn32; 6] = [
            lanes!(|a, _, _| a & 0xffff),
            lanes!(|a, _, _| a >> 16),
            lanes!(|a, _, _| a & 0xff),
            lanes!(|a, _, _| a >> 8 & 0xff),
            lanes!(|a, _, _| a >> 16 & 0xff),
            lanes!(|a, _, _| a >> 24),
        ];
        let (functions, each) = if part.bits == 16 { (&functions[..2], 2) } else { (&functions[2..], 4) };
        for (at, operand) in parts.iter().enumerate() {
            if *operand == Operand::Name("_") {
                continue;
            }
            let to = self.loose_to(operand, part)?;
            if to.wide {
                return self.fail("a part has fewer bits than this register");
            }
            self.emit(Op::Lane32(functions[at % each], to.loc, [words[at / each], Loc::ZERO, Loc::ZERO]));
        }
        Ok(())
    }

    /// The address of an operand as 64 bits, for instructions that take either width.
    pub(super) fn wide_value(&mut self, operand: &Operand<'a>) -> Parsed<Loc> {
        self.value(operand, Type::B64)
    }
}
