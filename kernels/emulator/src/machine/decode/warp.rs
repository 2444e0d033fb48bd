//! Exchange between the lanes of a warp: `shfl`, `vote`, `match`, `redux`, `activemask`.

use super::super::exchange::{Exchange, Reduce, Shuffle, Vote};
use super::super::program::{Op, Pred, Value};
use super::body::Body;
use super::suffix::Suffixes;
use crate::syntax::{Kind, Operand, Parsed, Type};

impl<'m, 'a> Body<'_, 'm, 'a> {
    pub(super) fn exchange(&mut self, name: &str, s: &mut Suffixes<'m, 'a>) -> Parsed<()> {
        if name == "activemask" {
            s.ty()?;
            let [to] = s.operands()?;
            let to = self.to(to, Type::B32)?;
            self.emit(Op::Warp(Box::new(Exchange::Active(to))));
            return Ok(());
        }
        if !s.take("sync") {
            return Err(s.unknown());
        }
        let exchange = match name {
            "shfl" => self.shuffle(s)?,
            "vote" => self.vote(s)?,
            "match" => self.matching(s)?,
            "redux" => self.reduce(s)?,
            _ => {
                let [to, members] = s.operands()?;
                let Operand::Both(lane, p) = to else {
                    return self.fail("expected a register and a predicate");
                };
                let lane = self.to(&Operand::Name(lane), Type::B32)?;
                let p = self.predicate_to(p)?;
                Exchange::Elect { lane, p, members: self.value(members, Type::B32)? }
            }
        };
        self.emit(Op::Warp(Box::new(exchange)));
        Ok(())
    }

    /// A destination with or without a predicate beside it.
    fn beside<'o>(&mut self, to: &'o Operand<'a>) -> Parsed<(Operand<'a>, Pred)> {
        match to {
            Operand::Both(to, p) => Ok((Operand::Name(to), self.predicate_to(p)?)),
            to => Ok((to.clone(), Pred::NONE)),
        }
    }

    fn shuffle(&mut self, s: &mut Suffixes<'m, 'a>) -> Parsed<Exchange> {
        let mode = match s.take_any(&["up", "down", "bfly", "idx"]) {
            Some("up") => Shuffle::Up,
            Some("down") => Shuffle::Down,
            Some("bfly") => Shuffle::Butterfly,
            Some(_) => Shuffle::Index,
            None => return Err(s.unknown()),
        };
        if s.ty()?.bits != 32 {
            return Err(s.unknown());
        }
        let [to, a, b, c, members] = s.operands()?;
        let (to, p) = self.beside(to)?;
        let values = [a, b, c, members];
        let mut locs = [super::super::program::Loc::ZERO; 4];
        for (loc, operand) in locs.iter_mut().zip(values) {
            *loc = self.value(operand, Type::B32)?;
        }
        let to = self.to(&to, Type::B32)?;
        let [from, by, limits, members] = locs;
        Ok(Exchange::Shuffle { mode, to, p, from, by, limits, members })
    }

    fn vote(&mut self, s: &mut Suffixes<'m, 'a>) -> Parsed<Exchange> {
        let Some(name) = s.take_any(&["all", "any", "uni", "ballot"]) else { return Err(s.unknown()) };
        let ty = s.ty()?;
        let [to, p, members] = s.operands()?;
        let (vote, negated, p) = match (name, p) {
            ("ballot", p) => (Vote::Ballot(self.to(to, Type::B32)?), false, p),
            ("all", p) => (Vote::All(self.predicate(to)?), false, p),
            ("any", p) => (Vote::Any(self.predicate(to)?), false, p),
            (_, p) => (Vote::Uniform(self.predicate(to)?), false, p),
        };
        if (ty.kind == Kind::Predicate) == (name == "ballot") {
            return Err(s.unknown());
        }
        let mut p = match p {
            Operand::Integer(value) => Pred { negated: *value == 0, ..Pred::NONE },
            p => self.predicate(p)?,
        };
        p.negated ^= negated;
        Ok(Exchange::Vote { vote, p, members: self.value(members, Type::B32)? })
    }

    fn matching(&mut self, s: &mut Suffixes<'m, 'a>) -> Parsed<Exchange> {
        let all = s.take("all");
        if !all && !s.take("any") {
            return Err(s.unknown());
        }
        let ty = s.ty()?;
        let [to, from, members] = s.operands()?;
        let (to, p) = self.beside(to)?;
        if !matches!(ty.bits, 32 | 64) || !all && !p.is_none() {
            return Err(s.unknown());
        }
        let from = Value::new(self.value(from, ty)?, ty.bits == 64);
        let to = self.to(&to, Type::B32)?;
        Ok(Exchange::Match { all, to, p, from, members: self.value(members, Type::B32)? })
    }

    fn reduce(&mut self, s: &mut Suffixes<'m, 'a>) -> Parsed<Exchange> {
        let Some(name) = s.take_any(&["add", "min", "max", "and", "or", "xor"]) else {
            return Err(s.unknown());
        };
        let ty = s.ty()?;
        let op = match (name, ty.kind) {
            ("add", Kind::Unsigned | Kind::Signed) => Reduce::Add,
            ("min", Kind::Unsigned) => Reduce::Min,
            ("max", Kind::Unsigned) => Reduce::Max,
            ("min", Kind::Signed) => Reduce::MinSigned,
            ("max", Kind::Signed) => Reduce::MaxSigned,
            ("and", Kind::Bits) => Reduce::And,
            ("or", Kind::Bits) => Reduce::Or,
            ("xor", Kind::Bits) => Reduce::Xor,
            _ => return Err(s.unknown()),
        };
        if ty.bits != 32 {
            return Err(s.unknown());
        }
        let [to, from, members] = s.operands()?;
        let from = self.value(from, ty)?;
        let to = self.to(to, ty)?;
        Ok(Exchange::Reduce { op, to, from, members: self.value(members, Type::B32)? })
    }
}
