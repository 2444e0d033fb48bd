//! `cvt` (PTX ISA, "cvt" and "cvt.pack").

use super::body::{Body, LaneFn};
use super::float::{half, rounding};
use super::suffix::Suffixes;
use crate::machine::lanes::{LaneFn32, NarrowFn, WidenFn, lanes};
use crate::machine::math::{Math32, Math64};
use crate::machine::program::{Loc, Op, Value};
use crate::numerics::Rounding;
use crate::numerics::convert::{Conversion, Type as Number};
use crate::numerics::half::Half;
use crate::numerics::small::{Eight, Tensor, TensorRounding};
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

/// The 8-bit float format of a pair's type suffix.
fn eight(name: &str) -> Option<Eight> {
    Some(match name {
        "e4m3x2" => Eight::E4m3,
        "e5m2x2" => Eight::E5m2,
        _ => return None,
    })
}

/// The width of a register in bits.
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
        if s.take("pack") {
            return self.pack_integers(s);
        }
        let away = s.take("rna");
        let whole = s.take_parsed(integral);
        let round = whole.or(s.take_parsed(rounding));
        let (ftz, sat, relu, finite) = (s.take("ftz"), s.take("sat"), s.take("relu"), s.take("satfinite"));
        if let Some(format) = s.take_parsed(eight) {
            let plain =
                (away, round, whole, ftz, sat) == (false, Some(Rounding::Nearest), None, false, false);
            return if plain { self.eight_bits(format, relu, finite, s) } else { Err(s.unknown()) };
        }
        let (to, from) = (s.ty()?, s.ty()?);
        if to.kind == Kind::Tensor {
            let rounding = match (away, round) {
                (true, None) => TensorRounding::Away,
                (false, Some(Rounding::Nearest)) => TensorRounding::Even,
                (false, Some(Rounding::Zero)) => TensorRounding::Zero,
                _ => return Err(s.unknown()),
            };
            if from != Type::F32 || sat || ftz || whole.is_some() || away && relu {
                return Err(s.unknown());
            }
            let tensor = Tensor { rounding, relu, finite };
            let [d, a] = s.operands()?;
            let a = self.value(a, from)?;
            let d = self.to(d, Type::B32)?;
            self.emit(Op::Math32(Math32::Tensor(tensor), d, [a, Loc::ZERO, Loc::ZERO]));
            return Ok(());
        }
        if away {
            return Err(s.unknown());
        }
        if let (true, Some(format)) = (to.pair, half(to)) {
            if from != Type::F32 || sat || ftz || whole.is_some() {
                return Err(s.unknown());
            }
            let [d, a, b] = s.operands()?;
            let sources = [self.value(a, from)?, self.value(b, from)?, Loc::ZERO];
            let d = self.to(d, to)?;
            let rounding = round.unwrap_or(Rounding::Nearest);
            let math = if rounding == Rounding::Nearest && !finite {
                Math32::Pack(format, relu)
            } else {
                let to = if format == Half::F16 { Number::F16 } else { Number::Bf16 };
                Math32::PackBy(Conversion { rounding, relu, finite, ..Conversion::new(to, Number::F32) })
            };
            self.emit(Op::Math32(math, d, sources));
            return Ok(());
        }
        let (Some(target), Some(source)) = (number(to), number(from)) else { return Err(s.unknown()) };
        let integer = to.integer() || from.integer();
        // Integers need no rounding, floats that turn into integers do (PTX ISA says .rni and so on; .rz stands for it in
        // nothing that a compiler writes).
        let rounding =
            round.unwrap_or(if integer && !from.integer() { Rounding::Zero } else { Rounding::Nearest });
        if finite && (half(to).is_none() || from != Type::F32) {
            return Err(s.unknown());
        }
        // An integer is not a subnormal f32: .ftz is allowed and changes nothing.
        if from.integer() && (ftz && to != Type::F32 || relu || whole.is_some()) || to.integer() && relu {
            return Err(s.unknown());
        }
        let integral = whole.is_some();
        let conversion = Conversion { to: target, from: source, rounding, integral, ftz, sat, relu, finite };
        let [d, a] = s.operands()?;
        let a = self.loose_value(a, from)?;
        let d = self.loose_to(d, to)?;
        if to.integer() && from.integer() && !sat {
            self.extend(d, to, a, from);
            return Ok(());
        }
        self.convert(conversion, to, d, a)
    }

    /// `cvt` to and from pairs of 8-bit floats; the format's suffix is parsed already, the other type's is not.
    fn eight_bits(
        &mut self,
        format: Eight,
        relu: bool,
        finite: bool,
        s: &mut Suffixes<'m, 'a>,
    ) -> Parsed<()> {
        let other = s.ty()?;
        let b16 = Type { bits: 16, ..Type::B32 };
        let pair = Type { bits: 16, pair: true, ..Type::F32 };
        match (finite, other) {
            (true, Type::F32) => {
                let [d, a, b] = s.operands()?;
                let from = [self.value(a, Type::F32)?, self.value(b, Type::F32)?, Loc::ZERO];
                let d = self.to(d, b16)?;
                self.emit(Op::Math32(Math32::Narrow(format, relu), d, from));
            }
            // Conversions to 8 bits have .satfinite, those back do not.
            (_, other) if other == pair => {
                let [d, a] = s.operands()?;
                let (to, from) = if finite { (b16, pair) } else { (pair, b16) };
                let (a, d) = (self.value(a, from)?, self.to(d, to)?);
                let math =
                    if finite { Math32::NarrowPair(format, relu) } else { Math32::Widen(format, relu) };
                self.emit(Op::Math32(math, d, [a, Loc::ZERO, Loc::ZERO]));
            }
            _ => return Err(s.unknown()),
        }
        Ok(())
    }

    /// `cvt.pack`: two integers clamped and put side by side, `b` lowest; narrow ones push `c` up by as much.
    fn pack_integers(&mut self, s: &mut Suffixes<'m, 'a>) -> Parsed<()> {
        macro_rules! packed {
            ($bits:literal, $least:literal, $most:literal) => {
                lanes!(|a, b, c| {
                    let one = |x: u32| (x as i32).clamp($least, $most) as u32 & ((1 << $bits) - 1);
                    (u64::from(c) << (2 * $bits)) as u32 | one(a) << $bits | one(b)
                })
            };
        }
        let saturates = s.take("sat");
        let types = ["u16", "s16", "u8", "s8", "u4", "s4", "u2", "s2"];
        let Some(name) = s.take_any(&types).filter(|_| saturates) else { return Err(s.unknown()) };
        let f: LaneFn32 = match name {
            "u16" => packed!(16, 0, 0xffff),
            "s16" => packed!(16, -0x8000, 0x7fff),
            "u8" => packed!(8, 0, 0xff),
            "s8" => packed!(8, -0x80, 0x7f),
            "u4" => packed!(4, 0, 0xf),
            "s4" => packed!(4, -8, 7),
            "u2" => packed!(2, 0, 3),
            _ => packed!(2, -2, 1),
        };
        let s32 = Type { kind: Kind::Signed, ..Type::B32 };
        if s.ty()? != s32 {
            return Err(s.unknown());
        }
        if name.ends_with("16") {
            let [d, a, b] = s.operands()?;
            let from = [self.value(a, s32)?, self.value(b, s32)?, Loc::ZERO];
            let d = self.to(d, Type::B32)?;
            self.emit(Op::Lane32(f, d, from));
            return Ok(());
        }
        if s.ty()? != Type::B32 {
            return Err(s.unknown());
        }
        self.three(LaneFn::Bits32(f), [Type::B32, s32, s32, Type::B32], s)
    }

    /// Any conversion, in 64 bits if one side has 64 bits.
    fn convert(&mut self, conversion: Conversion, to: Type, d: Value, a: Value) -> Parsed<()> {
        if !d.wide && !a.wide {
            self.emit(Op::Math32(Math32::Convert(conversion), d.loc, [a.loc, Loc::ZERO, Loc::ZERO]));
            // A signed result narrower than its 32-bit register fills it with the sign; 16-bit ones hold 16 bits.
            if to.bits <= 16 && holds(d) == 16 {
                let low: LaneFn32 = lanes!(|a, _, _| a & 0xffff);
                self.emit(Op::Lane32(low, d.loc, [d.loc, Loc::ZERO, Loc::ZERO]));
            }
            return Ok(());
        }
        let source = if a.wide {
            a.loc
        } else {
            let wide = self.column(Type::B64)?;
            self.emit(Op::Widen(lanes!(|a, _, _| u64::from(a)), wide, [a.loc, Loc::ZERO, Loc::ZERO]));
            wide
        };
        let result = if d.wide { d.loc } else { self.column(Type::B64)? };
        self.emit(Op::Math64(Math64::Convert(conversion), result, [source, Loc::ZERO, Loc::ZERO]));
        if !d.wide {
            let low: NarrowFn =
                if holds(d) == 16 { lanes!(|a, _, _| a as u32 & 0xffff) } else { lanes!(|a, _, _| a as u32) };
            self.emit(Op::Narrow(low, d.loc, [result, Loc::ZERO, Loc::ZERO]));
        }
        Ok(())
    }

    /// Integer to integer: the low bits of the narrower of the two types, extended as the result's register requires.
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
            let f: WidenFn = match (bits, signed, holds) {
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
            let f: NarrowFn = match (bits, signed, holds) {
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
