//! Exchange between the lanes of a warp: `shfl`, `vote`, `match`, `redux`, `activemask`, `elect`.
//!
//! `shfl` and `vote` without `.sync` (PTX ISA: up to targets below sm_70) involve only the active lanes, and do not
//! wait.

use super::body::Body;
use super::suffix::Suffixes;
use crate::machine::program::{Exchange, Loc, Op, Pred, Redux, Shuffle, Value, Vote};
use crate::syntax::{Kind, Operand, Parsed, Type};

impl<'m, 'a> Body<'_, 'm, 'a> {
    pub(super) fn exchange(&mut self, name: &str, s: &mut Suffixes<'m, 'a>) -> Parsed<()> {
        if name == "activemask" {
            s.ty()?;
            let [to] = s.operands()?;
            let to = self.to(to, Type::B32)?;
            self.emit(Op::Exchange(Box::new(Exchange::Active(to))));
            return Ok(());
        }
        let sync = s.take("sync");
        if !sync && !matches!(name, "shfl" | "vote") {
            return Err(s.unknown());
        }
        if !sync && self.builder.names.unit.target.is_none_or(|target| target >= 70) {
            return self.fail(format!(
                "{name} without .sync is for targets below sm_70: write {name}.sync with a mask of its lanes"
            ));
        }
        let exchange = match name {
            "shfl" => self.shuffle(sync, s)?,
            "vote" => self.vote(sync, s)?,
            "match" => self.matching(s)?,
            "redux" => self.reduce(s)?,
            _ => {
                let [to, members] = s.operands()?;
                let Operand::Both(lane, p) = to else {
                    return self.fail("expected a register and a predicate");
                };
                let lane = self.to(&Operand::Name(lane), Type::B32)?;
                let p = self.predicate_to(&Operand::Name(p))?;
                Exchange::Elect { lane, p, members: self.value(members, Type::B32)? }
            }
        };
        self.emit(Op::Exchange(Box::new(exchange)));
        Ok(())
    }

    /// A destination with an optional predicate.
    fn beside<'o>(&mut self, to: &'o Operand<'a>) -> Parsed<(Operand<'a>, Pred)> {
        match to {
            Operand::Both(to, p) => Ok((Operand::Name(to), self.predicate_to(&Operand::Name(p))?)),
            to => Ok((to.clone(), Pred::NONE)),
        }
    }

    /// The operands before the member mask, and the mask; `None` without `.sync`.
    fn with_members<const N: usize>(
        &mut self,
        sync: bool,
        s: &Suffixes<'m, 'a>,
    ) -> Parsed<(&'m [Operand<'a>; N], Option<Loc>)> {
        let all = s.all();
        let (operands, members) = match (sync, all) {
            (true, [operands @ .., members]) => (operands, Some(members)),
            _ => (all, None),
        };
        let Ok(operands) = operands.try_into() else {
            return self.fail(format!("expected {} operands, not {}", N + usize::from(sync), all.len()));
        };
        let members = match members {
            Some(members) => Some(self.value(members, Type::B32)?),
            None => None,
        };
        Ok((operands, members))
    }

    fn shuffle(&mut self, sync: bool, s: &mut Suffixes<'m, 'a>) -> Parsed<Exchange> {
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
        let ([to, a, b, c], members) = self.with_members(sync, s)?;
        let (to, p) = self.beside(to)?;
        let [from, by, limits] =
            [self.value(a, Type::B32)?, self.value(b, Type::B32)?, self.value(c, Type::B32)?];
        let to = self.to(&to, Type::B32)?;
        Ok(Exchange::Shuffle { mode, to, p, from, by, limits, members })
    }

    fn vote(&mut self, sync: bool, s: &mut Suffixes<'m, 'a>) -> Parsed<Exchange> {
        let Some(name) = s.take_any(&["all", "any", "uni", "ballot"]) else { return Err(s.unknown()) };
        let ty = s.ty()?;
        let wanted = if name == "ballot" { (Kind::Bits, 32) } else { (Kind::Predicate, 1) };
        if (ty.kind, ty.bits) != wanted {
            return Err(s.unknown());
        }
        let ([to, p], members) = self.with_members(sync, s)?;
        let vote = match name {
            "ballot" => Vote::Ballot(self.to(to, Type::B32)?),
            "all" => Vote::All(self.predicate_to(to)?),
            "any" => Vote::Any(self.predicate_to(to)?),
            _ => Vote::Uniform(self.predicate_to(to)?),
        };
        Ok(Exchange::Vote { vote, p: self.predicate(p)?, members })
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
            ("add", Kind::Unsigned | Kind::Signed) => Redux::Add,
            ("min", Kind::Unsigned) => Redux::Min,
            ("max", Kind::Unsigned) => Redux::Max,
            ("min", Kind::Signed) => Redux::MinSigned,
            ("max", Kind::Signed) => Redux::MaxSigned,
            ("and", Kind::Bits) => Redux::And,
            ("or", Kind::Bits) => Redux::Or,
            ("xor", Kind::Bits) => Redux::Xor,
            _ => return Err(s.unknown()),
        };
        if ty.bits != 32 {
            return Err(s.unknown());
        }
        let [to, from, members] = s.operands()?;
        let from = self.value(from, ty)?;
        let to = self.to(to, ty)?;
        Ok(Exchange::Redux { op, to, from, members: self.value(members, Type::B32)? })
    }
}
