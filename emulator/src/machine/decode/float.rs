//! Floating-point arithmetic; integers go to `integer.rs` (PTX ISA, "Floating Point" and "Half Precision" instructions).

use super::body::Body;
use super::suffix::Suffixes;
use crate::machine::math::{Math32, Math64};
use crate::machine::program::{Combine, Loc, Op, Pred, SetPredicate};
use crate::numerics::Rounding;
use crate::numerics::approx::Function;
use crate::numerics::float::{self, Flags};
use crate::numerics::half::{Half, HalfFlags, HalfOp};
use crate::syntax::{Kind, Operand, Parsed, Type};

/// A rounding suffix: `.rn`, `.rz`, `.rm`, `.rp`.
pub(super) fn rounding(name: &str) -> Option<Rounding> {
    Some(match name {
        "rn" => Rounding::Nearest,
        "rz" => Rounding::Zero,
        "rm" => Rounding::Down,
        "rp" => Rounding::Up,
        _ => return None,
    })
}

/// The 16-bit format of a type.
pub(super) fn half(ty: Type) -> Option<Half> {
    match (ty.kind, ty.bits) {
        (Kind::Float, 16) => Some(Half::F16),
        (Kind::Brain, 16) => Some(Half::Bf16),
        _ => None,
    }
}

impl<'m, 'a> Body<'_, 'm, 'a> {
    /// `add`, `sub`, `mul`, `mad`, `fma`, `div`, `min`, `max`, `abs`, `neg` of any type.
    pub(super) fn arithmetic(&mut self, name: &str, s: &mut Suffixes<'m, 'a>) -> Parsed<()> {
        let ty = s.ty()?;
        match ty.kind {
            Kind::Float | Kind::Brain => self.float_arithmetic(name, ty, s),
            Kind::Bits | Kind::Unsigned | Kind::Signed if name != "fma" => {
                self.integer_arithmetic(name, ty, s)
            }
            _ => Err(s.unknown()),
        }
    }

    fn float_arithmetic(&mut self, name: &str, ty: Type, s: &mut Suffixes<'m, 'a>) -> Parsed<()> {
        let approximate = s.take_any(&["approx", "full"]);
        let round = s.take_parsed(rounding);
        let (ftz, sat) = (s.take("ftz"), s.take("sat"));
        let strict = s.take("NaN");
        let xorsign = s.take("xorsign") && s.take("abs");
        let relu = s.take("relu");
        let mut from = [Loc::ZERO; 3];
        let (to, operands): (&Operand<'a>, &[Operand<'a>]) = match name {
            "abs" | "neg" => {
                let [to, rest @ ..] = s.operands::<2>()?;
                (to, rest)
            }
            "fma" | "mad" => {
                let [to, rest @ ..] = s.operands::<4>()?;
                (to, rest)
            }
            _ => {
                let [to, rest @ ..] = s.operands::<3>()?;
                (to, rest)
            }
        };
        for (loc, operand) in from.iter_mut().zip(operands) {
            *loc = self.value(operand, ty)?;
        }
        let to = self.to(to, ty)?;
        let order = matches!(name, "min" | "max");
        if (strict || xorsign) && !order || relu && (name != "fma" || half(ty).is_none()) {
            return Err(s.unknown());
        }
        if let Some(format) = half(ty) {
            let op = match (name, strict) {
                ("add", _) => HalfOp::Add,
                ("sub", _) => HalfOp::Sub,
                ("mul", _) => HalfOp::Mul,
                ("fma", _) => HalfOp::Fma,
                ("min", false) => HalfOp::Min,
                ("max", false) => HalfOp::Max,
                ("min", true) => HalfOp::MinNan,
                ("max", true) => HalfOp::MaxNan,
                ("neg", _) => HalfOp::Neg,
                ("abs", _) => HalfOp::Abs,
                _ => return Err(s.unknown()),
            };
            if approximate.is_some() || round.is_some_and(|r| r != Rounding::Nearest) {
                return Err(s.unknown());
            }
            let flags = HalfFlags { ftz, sat, relu, xorsign };
            self.emit(Op::Math32(Math32::Half(format, op, flags, ty.pair), to, from));
            return Ok(());
        }
        if let Some(form) = approximate {
            if (name, ty.bits) != ("div", 32) || round.is_some() {
                return Err(s.unknown());
            }
            let math = if form == "full" { Math32::DivideFull(ftz) } else { Math32::Divide(ftz) };
            self.emit(Op::Math32(math, to, from));
            return Ok(());
        }
        let op = match (name, strict) {
            ("add", _) => float::Op::Add,
            ("sub", _) => float::Op::Sub,
            ("mul", _) => float::Op::Mul,
            ("fma" | "mad", _) => float::Op::Fma,
            ("div", _) => float::Op::Div,
            ("min", false) => float::Op::Min,
            ("max", false) => float::Op::Max,
            ("min", true) => float::Op::MinNan,
            ("max", true) => float::Op::MaxNan,
            ("neg", _) => float::Op::Neg,
            _ => float::Op::Abs,
        };
        let round = round.unwrap_or(Rounding::Nearest);
        if ty.bits == 32 {
            let math = Math32::Single(op, round, Flags { ftz, sat, xorsign });
            self.emit(Op::Math32(math, to, from));
        } else if ftz || sat || xorsign {
            return Err(s.unknown());
        } else {
            self.emit(Op::Math64(Math64::Double(op, round), to, from));
        }
        Ok(())
    }

    /// `rcp`, `sqrt`, `rsqrt`, `ex2`, `lg2`, `sin`, `cos`, `tanh`, `copysign`, `testp`.
    pub(super) fn function(&mut self, name: &str, s: &mut Suffixes<'m, 'a>) -> Parsed<()> {
        let approximate = s.take("approx");
        let round = s.take_parsed(rounding);
        let ftz = s.take("ftz");
        if name == "testp" {
            return self.test(s);
        }
        let ty = s.ty()?;
        if name == "copysign" {
            let [to, a, b] = s.operands()?;
            let from = [self.value(a, ty)?, self.value(b, ty)?, Loc::ZERO];
            let to = self.to(to, ty)?;
            self.emit(match (ty.kind, ty.bits) {
                (Kind::Float, 32) => Op::Math32(Math32::CopySign, to, from),
                (Kind::Float, 64) => Op::Math64(Math64::CopySign, to, from),
                _ => return Err(s.unknown()),
            });
            return Ok(());
        }
        let function = match name {
            "rcp" => Function::Rcp,
            "rsqrt" => Function::Rsqrt,
            "sqrt" => Function::Sqrt,
            "ex2" => Function::Ex2,
            "lg2" => Function::Lg2,
            "sin" => Function::Sin,
            "cos" => Function::Cos,
            _ => Function::Tanh,
        };
        let [to, a] = s.operands()?;
        let from = [self.value(a, ty)?, Loc::ZERO, Loc::ZERO];
        let to = self.to(to, ty)?;
        let op = match (ty.kind, ty.bits, approximate, round) {
            (Kind::Float, 32, true, None) => Op::Math32(Math32::Function(function, ftz), to, from),
            (Kind::Float, 32, false, Some(round)) => {
                let op = match function {
                    Function::Rcp => float::Op::Rcp,
                    Function::Sqrt => float::Op::Sqrt,
                    _ => return Err(s.unknown()),
                };
                Op::Math32(Math32::Single(op, round, Flags { ftz, ..Flags::default() }), to, from)
            }
            (Kind::Float, 64, true, None) if matches!(function, Function::Rcp | Function::Rsqrt) => {
                Op::Math64(Math64::Function(function, ftz), to, from)
            }
            (Kind::Float, 64, false, Some(round)) if !ftz => {
                let op = match function {
                    Function::Rcp => float::Op::Rcp,
                    Function::Sqrt => float::Op::Sqrt,
                    _ => return Err(s.unknown()),
                };
                Op::Math64(Math64::Double(op, round), to, from)
            }
            (_, 16, true, None) => match (half(ty), function) {
                // ex2 flushes in bf16 always and in f16 never, tanh in neither.
                (Some(format), Function::Ex2 | Function::Tanh)
                    if ftz == (format == Half::Bf16 && function == Function::Ex2) =>
                {
                    Op::Math32(Math32::HalfFunction(format, function, ftz, ty.pair), to, from)
                }
                _ => return Err(s.unknown()),
            },
            _ => return Err(s.unknown()),
        };
        self.emit(op);
        Ok(())
    }

    /// `testp`: tests the class of a float.
    fn test(&mut self, s: &mut Suffixes<'m, 'a>) -> Parsed<()> {
        use crate::machine::lanes::{CompareFn32, CompareFn64, compare};
        let names = ["finite", "infinite", "number", "notanumber", "normal", "subnormal"];
        let Some(name) = s.take_any(&names) else { return Err(s.unknown()) };
        let ty = s.ty()?;
        macro_rules! test {
            ($float:ty) => {
                match name {
                    "finite" => compare!(|a, _| <$float>::from_bits(a).is_finite()),
                    "infinite" => compare!(|a, _| <$float>::from_bits(a).is_infinite()),
                    "number" => compare!(|a, _| !<$float>::from_bits(a).is_nan()),
                    "notanumber" => compare!(|a, _| <$float>::from_bits(a).is_nan()),
                    "normal" => compare!(|a, _| <$float>::from_bits(a).is_normal()),
                    _ => compare!(|a, _| <$float>::from_bits(a).is_subnormal()),
                }
            };
        }
        let (narrow, wide): (CompareFn32, CompareFn64) = (test!(f32), test!(f64));
        let [to, a] = s.operands()?;
        let (a, first) = (self.value(a, ty)?, self.predicate_to(to)?);
        let outcome = SetPredicate { first, second: Pred::NONE, combine: Combine::None, with: Pred::NONE };
        match (ty.kind, ty.bits) {
            (Kind::Float, 32) => self.emit(Op::Compare32(narrow, [a, Loc::ZERO], outcome)),
            (Kind::Float, 64) => self.emit(Op::Compare64(wide, [a, Loc::ZERO], outcome)),
            _ => return Err(s.unknown()),
        }
        Ok(())
    }
}
