//! Comparisons and selections (PTX ISA, "Comparison and Selection Instructions").

use super::body::Body;
use super::float::half;
use super::suffix::Suffixes;
use crate::machine::lanes::{CompareFn32, CompareFn64, LaneFn32, compare, lanes};
use crate::machine::program::{Combine, Loc, Op, Pred, SetPredicate};
use crate::syntax::{Kind, Operand, Parsed, Type};

/// A comparison of either width.
pub(super) enum Comparison {
    Narrow(CompareFn32),
    Wide(CompareFn64),
}

const COMPARISONS: [&str; 18] = [
    "eq", "ne", "lt", "le", "gt", "ge", "lo", "ls", "hi", "hs", "equ", "neu", "ltu", "leu", "gtu", "geu",
    "num", "nan",
];

/// A comparison of two values that `$read` reads.
macro_rules! ordered {
    ($name:expr, $wrap:ident, $read:expr) => {
        match $name {
            "eq" => $wrap!(|a, b| $read(a) == $read(b)),
            "ne" => $wrap!(|a, b| $read(a) != $read(b)),
            "lt" | "lo" => $wrap!(|a, b| $read(a) < $read(b)),
            "le" | "ls" => $wrap!(|a, b| $read(a) <= $read(b)),
            "gt" | "hi" => $wrap!(|a, b| $read(a) > $read(b)),
            "ge" | "hs" => $wrap!(|a, b| $read(a) >= $read(b)),
            _ => return None,
        }
    };
}

/// A comparison of two floats. Those with a `u` are also true if either is a NaN; `ne` is not.
macro_rules! unordered {
    ($name:expr, $wrap:ident, $read:expr) => {
        match $name {
            "ne" => $wrap!(|a, b| $read(a) < $read(b) || $read(a) > $read(b)),
            "equ" => $wrap!(|a, b| !($read(a) < $read(b) || $read(a) > $read(b))),
            "neu" => $wrap!(|a, b| $read(a) != $read(b)),
            "ltu" => $wrap!(|a, b| !($read(a) >= $read(b))),
            "leu" => $wrap!(|a, b| !($read(a) > $read(b))),
            "gtu" => $wrap!(|a, b| !($read(a) <= $read(b))),
            "geu" => $wrap!(|a, b| !($read(a) < $read(b))),
            "num" => $wrap!(|a, b| !$read(a).is_nan() && !$read(b).is_nan()),
            "nan" => $wrap!(|a, b| $read(a).is_nan() || $read(b).is_nan()),
            name => ordered!(name, $wrap, $read),
        }
    };
}

/// A column's bits as they are compared.
mod read {
    use crate::numerics::float::flush;
    use crate::numerics::half::Half;

    #[inline(always)]
    pub(super) fn u32(x: u32) -> u32 {
        x
    }
    #[inline(always)]
    pub(super) fn i32(x: u32) -> i32 {
        x as i32
    }
    #[inline(always)]
    pub(super) fn i16(x: u32) -> i16 {
        x as i16
    }
    #[inline(always)]
    pub(super) fn u64(x: u64) -> u64 {
        x
    }
    #[inline(always)]
    pub(super) fn i64(x: u64) -> i64 {
        x as i64
    }
    #[inline(always)]
    pub(super) fn f32(x: u32) -> f32 {
        f32::from_bits(x)
    }
    #[inline(always)]
    pub(super) fn f32_flushed(x: u32) -> f32 {
        f32::from_bits(flush(x))
    }
    #[inline(always)]
    pub(super) fn f64(x: u64) -> f64 {
        f64::from_bits(x)
    }
    #[inline(always)]
    pub(super) fn f16(x: u32) -> f32 {
        Half::F16.widen(x)
    }
    #[inline(always)]
    pub(super) fn f16_flushed(x: u32) -> f32 {
        Half::F16.widen(Half::F16.flush(x & 0xffff))
    }
    #[inline(always)]
    pub(super) fn bf16(x: u32) -> f32 {
        Half::Bf16.widen(x)
    }
}

macro_rules! narrow {
    ($($t:tt)*) => { Comparison::Narrow(compare!($($t)*)) };
}
macro_rules! wide {
    ($($t:tt)*) => { Comparison::Wide(compare!($($t)*)) };
}

/// The comparison `name` of values of type `ty`.
#[allow(clippy::neg_cmp_op_on_partial_ord, clippy::double_comparisons)]
fn comparison(name: &str, ty: Type, ftz: bool) -> Option<Comparison> {
    if ty.pair || matches!(name, "lo" | "ls" | "hi" | "hs") && (ty.signed() || !ty.integer()) {
        return None;
    }
    Some(match (ty.kind, ty.bits) {
        (Kind::Bits, _) if !matches!(name, "eq" | "ne") => return None,
        (Kind::Bits | Kind::Unsigned, 16 | 32) => ordered!(name, narrow, read::u32),
        (Kind::Signed, 16) => ordered!(name, narrow, read::i16),
        (Kind::Signed, 32) => ordered!(name, narrow, read::i32),
        (Kind::Bits | Kind::Unsigned, 64) => ordered!(name, wide, read::u64),
        (Kind::Signed, 64) => ordered!(name, wide, read::i64),
        (Kind::Float, 32) if ftz => unordered!(name, narrow, read::f32_flushed),
        (Kind::Float, 32) => unordered!(name, narrow, read::f32),
        (Kind::Float, 64) => unordered!(name, wide, read::f64),
        (Kind::Float, 16) if ftz => unordered!(name, narrow, read::f16_flushed),
        (Kind::Float, 16) => unordered!(name, narrow, read::f16),
        (Kind::Brain, 16) => unordered!(name, narrow, read::bf16),
        _ => return None,
    })
}

impl<'m, 'a> Body<'_, 'm, 'a> {
    fn emit_compare(&mut self, f: Comparison, from: [Loc; 2], outcome: SetPredicate) {
        self.emit(match f {
            Comparison::Narrow(f) => Op::Compare32(f, from, outcome),
            Comparison::Wide(f) => Op::Compare64(f, from, outcome),
        });
    }

    /// Emits the comparison of `a` and `b`; pairs compare their halves one by one.
    fn comparison(
        &mut self,
        s: &Suffixes<'m, 'a>,
        (name, ty, ftz): (&str, Type, bool),
        [a, b]: [&Operand<'a>; 2],
        outcome: SetPredicate,
    ) -> Parsed<()> {
        let from = [self.value(a, ty)?, self.value(b, ty)?];
        let element = Type { pair: false, ..ty };
        let Some(f) = comparison(name, element, ftz) else { return Err(s.unknown()) };
        if !ty.pair {
            self.emit_compare(f, from, outcome);
            return Ok(());
        }
        let Some(again) = comparison(name, element, ftz) else { return Err(s.unknown()) };
        let (low, high): (LaneFn32, LaneFn32) = (lanes!(|a, _, _| a & 0xffff), lanes!(|a, _, _| a >> 16));
        let parts = [(low, f, outcome.first), (high, again, outcome.second)];
        for (half, f, to) in parts {
            let mut sides = [Loc::ZERO; 2];
            for (side, from) in sides.iter_mut().zip(from) {
                *side = self.column(Type::B32)?;
                self.emit(Op::Lane32(half, *side, [from, Loc::ZERO, Loc::ZERO]));
            }
            self.emit_compare(f, sides, SetPredicate { first: to, second: Pred::NONE, ..outcome });
        }
        Ok(())
    }

    /// Name, combination, `.ftz`, and the type at the end.
    fn comparison_suffixes(&mut self, s: &mut Suffixes<'m, 'a>) -> Parsed<(&'static str, Combine, bool)> {
        let Some(name) = s.take_any(&COMPARISONS) else { return Err(s.unknown()) };
        let combine = match s.take_any(&["and", "or", "xor"]) {
            Some("and") => Combine::And,
            Some("or") => Combine::Or,
            Some(_) => Combine::Xor,
            None => Combine::None,
        };
        Ok((name, combine, s.take("ftz")))
    }

    pub(super) fn setp(&mut self, s: &mut Suffixes<'m, 'a>) -> Parsed<()> {
        let (name, combine, ftz) = self.comparison_suffixes(s)?;
        let ty = s.ty()?;
        let (to, a, b, with) = if combine == Combine::None {
            let [to, a, b] = s.operands()?;
            (to, a, b, Pred::NONE)
        } else {
            let [to, a, b, with] = s.operands()?;
            (to, a, b, self.predicate(with)?)
        };
        let (first, second) = match to {
            Operand::Both(..) if half(ty).is_some() && !ty.pair => {
                return self.fail("a comparison of one half has one result");
            }
            Operand::Both(first, second) => {
                (self.predicate_to(&Operand::Name(first))?, self.predicate_to(&Operand::Name(second))?)
            }
            to => (self.predicate_to(to)?, Pred::NONE),
        };
        self.comparison(s, (name, ty, ftz), [a, b], SetPredicate { first, second, combine, with })
    }

    pub(super) fn set(&mut self, s: &mut Suffixes<'m, 'a>) -> Parsed<()> {
        let (name, combine, ftz) = self.comparison_suffixes(s)?;
        let (result, ty) = (s.ty()?, s.ty()?);
        let (to, a, b, with) = if combine == Combine::None {
            let [to, a, b] = s.operands()?;
            (to, a, b, Pred::NONE)
        } else {
            let [to, a, b, with] = s.operands()?;
            (to, a, b, self.predicate(with)?)
        };
        let ones = match (result.kind, result.bits, result.pair) {
            (Kind::Float, 32, false) => 1f32.to_bits(),
            // The halves of a pair are compared one by one, and fill the halves of an integer.
            (Kind::Unsigned | Kind::Signed, 32, false) => {
                if ty.pair {
                    0xffff
                } else {
                    u32::MAX
                }
            }
            (Kind::Float, 16, _) => 0x3c00,
            (Kind::Brain, 16, _) => 0x3f80,
            (Kind::Unsigned | Kind::Signed, 16, false) => 0xffff,
            _ => return Err(s.unknown()),
        };
        let fits = match (ty.pair, result.pair) {
            (true, true) => result == ty,
            (true, false) => result.integer() && result.bits == 32,
            (false, true) => false,
            (false, false) => true,
        };
        if !fits {
            return Err(s.unknown());
        }
        let to = self.to(to, result)?;
        let first = self.scratch_predicate()?;
        let second = if ty.pair { self.scratch_predicate()? } else { Pred::NONE };
        self.comparison(s, (name, ty, ftz), [a, b], SetPredicate { first, second, combine, with })?;
        if ty.pair {
            let low = self.column(Type::B32)?;
            let (one, top) = (self.builder.constant32(ones), self.builder.constant32(ones << 16));
            self.emit(Op::Select32(low, [one, Loc::ZERO], first));
            let high = self.column(Type::B32)?;
            self.emit(Op::Select32(high, [top, Loc::ZERO], second));
            self.emit(Op::Lane32(lanes!(|a, b, _| a | b), to, [low, high, Loc::ZERO]));
        } else {
            let ones = self.builder.constant32(ones);
            self.emit(Op::Select32(to, [ones, Loc::ZERO], first));
        }
        Ok(())
    }

    pub(super) fn selp(&mut self, s: &mut Suffixes<'m, 'a>) -> Parsed<()> {
        let ty = s.ty()?;
        if half(ty).is_some() || ty.kind == Kind::Predicate {
            return Err(s.unknown());
        }
        let [to, a, b, p] = s.operands()?;
        let from = [self.value(a, ty)?, self.value(b, ty)?];
        let (p, to) = (self.predicate(p)?, self.to(to, ty)?);
        self.emit(if ty.width() == 64 { Op::Select64(to, from, p) } else { Op::Select32(to, from, p) });
        Ok(())
    }

    pub(super) fn slct(&mut self, s: &mut Suffixes<'m, 'a>) -> Parsed<()> {
        let ftz = s.take("ftz");
        let (ty, by) = (s.ty()?, s.ty()?);
        let [to, a, b, c] = s.operands()?;
        let by_sign = match (by.kind, by.bits) {
            (Kind::Signed, 32) => "ge",
            (Kind::Float, 32) => "ge",
            _ => return Err(s.unknown()),
        };
        let Some(f) = comparison(by_sign, by, ftz) else { return Err(s.unknown()) };
        let from = [self.value(a, ty)?, self.value(b, ty)?];
        let c = self.value(c, by)?;
        let to = self.to(to, ty)?;
        let p = self.scratch_predicate()?;
        self.emit_compare(
            f,
            [c, Loc::ZERO],
            SetPredicate { first: p, second: Pred::NONE, combine: Combine::None, with: Pred::NONE },
        );
        self.emit(if ty.width() == 64 { Op::Select64(to, from, p) } else { Op::Select32(to, from, p) });
        Ok(())
    }
}

/// Lane functions for an integer type, from one expression over values of that type.
macro_rules! by_integer {
    ($ty:expr, |$a:ident, $b:ident, $c:ident| $body:expr) => {{
        use $crate::machine::decode::body::LaneFn;
        use $crate::syntax::Kind;
        match ($ty.kind == Kind::Signed, $ty.bits) {
            (true, 16) => Some(LaneFn::Bits32(lanes!(|a, b, c| {
                let ($a, $b, $c) = (a as i16, b as i16, c as i16);
                u32::from(($body) as u16)
            }))),
            (false, 16) => Some(LaneFn::Bits32(lanes!(|a, b, c| {
                let ($a, $b, $c) = (a as u16, b as u16, c as u16);
                u32::from($body)
            }))),
            (true, 32) => Some(LaneFn::Bits32(lanes!(|a, b, c| {
                let ($a, $b, $c) = (a as i32, b as i32, c as i32);
                ($body) as u32
            }))),
            (false, 32) => Some(LaneFn::Bits32(lanes!(|$a, $b, $c| $body))),
            (true, 64) => Some(LaneFn::Bits64(lanes!(|a, b, c| {
                let ($a, $b, $c) = (a as i64, b as i64, c as i64);
                ($body) as u64
            }))),
            (false, 64) => Some(LaneFn::Bits64(lanes!(|$a, $b, $c| $body))),
            _ => None,
        }
    }};
}
pub(super) use by_integer;
