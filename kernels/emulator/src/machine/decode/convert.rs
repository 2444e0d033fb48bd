//! `cvt` (PTX ISA, "cvt" and "cvt.pack").

use super::super::lanes::{Narrow, Widen, lanes};
use super::super::math::{Math32, Math64};
use super::super::program::{Loc, Op, Value};
use super::body::Body;
use super::float::{half, rounding};
use super::memory::B64;
use super::suffix::Suffixes;
use crate::numerics::Rounding;
use crate::numerics::convert::{Conversion, Type as Number};
use crate::syntax::{Kind, Parsed, Type};

fn number(ty: Type) -> Option<Number> {
    Some(match (ty.kind, ty.bits, ty.pair) {
        (_, _, true) => return None,
        (Kind::Unsigned, bits, _) => Number::Unsigned(bits),
        (Kind::Signed, bits, _) => Number::Signed(bits),
        (Kind::Float, 16, _) => Number::F16,
        (Kind::Brain, 16, _) => Number::Bf16,
        (Kind::Float, 32, _) => Number::F32,
        (Kind::Float, 64, _) => Number::F64,
        _ => return None,
    })
}

/// Bits of a result's register.
fn holds(value: Value) -> u32 {
    match value {
        Value { wide: true, .. } => 64,
        Value { sixteen: true, .. } => 16,
        _ => 32,
    }
}

fn integral(name: &str) -> Option<Rounding> {
    Some(match name {
        "rni" => Rounding::Nearest,
        "rzi" => Rounding::Zero,
        "rmi" => Rounding::Down,
        "rpi" => Rounding::Up,
        _ => return None,
    })
}

impl<'m, 'a> Body<'_, 'm, 'a> {
    pub(super) fn cvt(&mut self, s: &mut Suffixes<'m, 'a>) -> Parsed<()> {
        let away = s.take("rna");
        let whole = s.take_parsed(integral);
        let round = whole.or(s.take_parsed(rounding));
        let (ftz, sat, relu) = (s.take("ftz"), s.take("sat"), s.take("relu"));
        let (to, from) = (s.ty()?, s.ty()?);
        if to.kind == Kind::Tensor {
            let nearest = round == Some(Rounding::Nearest);
            if from != (Type { kind: Kind::Float, bits: 32, pair: false }) || away == nearest || relu || sat {
                return Err(s.unknown());
            }
            let [d, a] = s.operands()?;
            let a = self.value(a, from)?;
            let d = self.to(d, Type::B32)?;
            self.emit(Op::Math32(Math32::Tensor(away), d, [a, Loc::ZERO, Loc::ZERO]));
            return Ok(());
        }
        if away {
            return Err(s.unknown());
        }
        if let (true, Some(format)) = (to.pair, half(to)) {
            if from.kind != Kind::Float || from.bits != 32 || sat || ftz || whole.is_some() {
                return Err(s.unknown());
            }
            let [d, a, b] = s.operands()?;
            let sources = [self.value(a, from)?, self.value(b, from)?, Loc::ZERO];
            let d = self.to(d, to)?;
            self.emit(Op::Math32(Math32::Pack(format, round.unwrap_or(Rounding::Nearest), relu), d, sources));
            return Ok(());
        }
        let (Some(target), Some(source)) = (number(to), number(from)) else { return Err(s.unknown()) };
        let integer = to.integer() || from.integer();
        // Integers need no rounding, floats that turn into integers do (PTX ISA says .rni and so on; .rz stands for it in
        // nothing that a compiler writes).
        let rounding =
            round.unwrap_or(if integer && !from.integer() { Rounding::Zero } else { Rounding::Nearest });
        if from.integer() && (ftz || relu || whole.is_some()) || to.integer() && relu {
            return Err(s.unknown());
        }
        let conversion =
            Conversion { to: target, from: source, rounding, integral: whole.is_some(), ftz, sat, relu };
        let [d, a] = s.operands()?;
        let a = self.loose_value(a, from)?;
        let d = self.loose_to(d, to)?;
        if to.integer() && from.integer() && !sat {
            self.extend(d, to, a, from);
            return Ok(());
        }
        self.convert(conversion, to, d, a)
    }

    /// Any conversion, over 64 bits where one side has them.
    fn convert(&mut self, conversion: Conversion, to: Type, d: Value, a: Value) -> Parsed<()> {
        if !d.wide && !a.wide {
            self.emit(Op::Math32(Math32::Convert(conversion), d.loc, [a.loc, Loc::ZERO, Loc::ZERO]));
            // A signed result narrower than its 32-bit register fills it with the sign; 16-bit ones hold 16 bits.
            if to.bits <= 16 && holds(d) == 16 {
                let low: super::super::lanes::F32 = lanes!(|a, _, _| a & 0xffff);
                self.emit(Op::Lane32(low, d.loc, [d.loc, Loc::ZERO, Loc::ZERO]));
            }
            return Ok(());
        }
        let source = if a.wide {
            a.loc
        } else {
            let wide = Loc::register(self.temporary(B64)?.index);
            self.emit(Op::Widen(lanes!(|a, _, _| u64::from(a)), wide, [a.loc, Loc::ZERO, Loc::ZERO]));
            wide
        };
        let result = if d.wide { d.loc } else { Loc::register(self.temporary(B64)?.index) };
        self.emit(Op::Math64(Math64::Convert(conversion), result, [source, Loc::ZERO, Loc::ZERO]));
        if !d.wide {
            let low: Narrow =
                if holds(d) == 16 { lanes!(|a, _, _| a as u32 & 0xffff) } else { lanes!(|a, _, _| a as u32) };
            self.emit(Op::Narrow(low, d.loc, [result, Loc::ZERO, Loc::ZERO]));
        }
        Ok(())
    }

    /// Integer to integer: the low bits of the narrower of the two types, extended as the result's register wants.
    fn extend(&mut self, d: Value, to: Type, a: Value, from: Type) {
        let bits = to.bits.min(from.bits);
        let signed = if to.bits <= from.bits { to.signed() } else { from.signed() };
        // Sign-extension goes as far as the result's type; beyond it the register is filled by that type's sign.
        let limit = if signed && !to.signed() { to.bits } else { 64 };
        let holds = holds(d).min(limit);
        let from = [a.loc, Loc::ZERO, Loc::ZERO];
        if !d.wide && !a.wide {
            self.emit(Op::Lane32(
                match (bits, signed, holds) {
                    (8, false, _) => lanes!(|a, _, _| a & 0xff),
                    (16, false, _) => lanes!(|a, _, _| a & 0xffff),
                    (8, true, 16) => lanes!(|a, _, _| u32::from(i16::from(a as i8) as u16)),
                    (8, true, 8) => lanes!(|a, _, _| a & 0xff),
                    (8, true, _) => lanes!(|a, _, _| i32::from(a as i8) as u32),
                    (16, true, 16) => lanes!(|a, _, _| a & 0xffff),
                    (16, true, _) => lanes!(|a, _, _| i32::from(a as i16) as u32),
                    _ => lanes!(|a, _, _| a),
                },
                d.loc,
                from,
            ));
        } else if d.wide && !a.wide {
            let f: Widen = match (bits, signed, holds) {
                (8, false, _) => lanes!(|a, _, _| u64::from(a & 0xff)),
                (16, false, _) => lanes!(|a, _, _| u64::from(a & 0xffff)),
                (8, true, 64) => lanes!(|a, _, _| i64::from(a as i8) as u64),
                (8, true, 32) => lanes!(|a, _, _| u64::from(i32::from(a as i8) as u32)),
                (8, true, _) => lanes!(|a, _, _| u64::from(i16::from(a as i8) as u16)),
                (16, true, 64) => lanes!(|a, _, _| i64::from(a as i16) as u64),
                (16, true, _) => lanes!(|a, _, _| u64::from(i32::from(a as i16) as u32)),
                (_, true, 64) => lanes!(|a, _, _| i64::from(a as i32) as u64),
                _ => lanes!(|a, _, _| u64::from(a)),
            };
            self.emit(Op::Widen(f, d.loc, from));
        } else if !d.wide {
            let f: Narrow = match (bits, signed, holds) {
                (8, false, _) | (8, true, 8) => lanes!(|a, _, _| a as u32 & 0xff),
                (16, false, _) | (16, true, 16) => lanes!(|a, _, _| a as u32 & 0xffff),
                (8, true, 16) => lanes!(|a, _, _| u32::from(i16::from(a as i8) as u16)),
                (8, true, _) => lanes!(|a, _, _| i32::from(a as i8) as u32),
                (16, true, _) => lanes!(|a, _, _| i32::from(a as i16) as u32),
                _ => lanes!(|a, _, _| a as u32),
            };
            self.emit(Op::Narrow(f, d.loc, from));
        } else {
            self.emit(Op::Lane64(
                match (bits, signed) {
                    (8, false) => lanes!(|a, _, _| a & 0xff),
                    (16, false) => lanes!(|a, _, _| a & 0xffff),
                    (32, false) => lanes!(|a, _, _| a & 0xffff_ffff),
                    (8, true) => lanes!(|a, _, _| i64::from(a as i8) as u64),
                    (16, true) => lanes!(|a, _, _| i64::from(a as i16) as u64),
                    (32, true) => lanes!(|a, _, _| i64::from(a as i32) as u64),
                    _ => lanes!(|a, _, _| a),
                },
                d.loc,
                from,
            ));
        }
    }
}
