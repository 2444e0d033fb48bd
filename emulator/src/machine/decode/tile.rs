//! What moves tiles: `cp.async`, `ldmatrix`, `stmatrix`, `movmatrix`.

use super::super::program::{Op, Pred, StateSpace};
use super::super::tile::{CopyAsync, LoadMatrix, StoreMatrix, Tile};
use super::body::Body;
use super::memory::B64;
use super::suffix::Suffixes;
use crate::syntax::{Operand, Parsed, Type};

impl<'m, 'a> Body<'_, 'm, 'a> {
    pub(super) fn tile(&mut self, name: &str, s: &mut Suffixes<'m, 'a>) -> Parsed<()> {
        let tile = match name {
            "cp" => self.copy_async(s)?,
            "ldmatrix" => self.load_matrix(s)?,
            "stmatrix" => self.store_matrix(s)?,
            _ => {
                let form =
                    (s.take("sync"), s.take("aligned"), s.take("m8n8"), s.take("trans"), s.take("b16"));
                if form != (true, true, true, true, true) {
                    return Err(s.unknown());
                }
                let [to, from] = s.operands()?;
                let from = self.value(from, Type::B32)?;
                Tile::Transpose(self.to(to, Type::B32)?, from)
            }
        };
        self.emit(Op::Tile(Box::new(tile)));
        Ok(())
    }

    fn copy_async(&mut self, s: &mut Suffixes<'m, 'a>) -> Parsed<Tile> {
        if !s.take("async") {
            return Err(s.unknown());
        }
        if s.take("commit_group") {
            let [] = s.operands()?;
            return Ok(Tile::Commit);
        }
        if s.take("wait_all") {
            let [] = s.operands()?;
            return Ok(Tile::WaitAll);
        }
        if s.take("wait_group") {
            let [groups] = s.operands()?;
            let Operand::Integer(groups @ 0..) = *groups else {
                return self.fail("expected a number of groups");
            };
            return Ok(Tile::Wait(u32::try_from(groups).unwrap_or(u32::MAX)));
        }
        let level = s.take_any(&["ca", "cg"]);
        let policy = s.take("L2::cache_hint");
        s.take_any(&["L2::64B", "L2::128B", "L2::256B"]);
        let spaces = (s.take_any(&["shared", "shared::cta"]).is_some(), s.take("global"));
        if level.is_none() || spaces != (true, true) {
            return Err(s.unknown());
        }
        let mut operands = s.all();
        if policy && let [rest @ .., last] = operands {
            self.value(last, B64)?;
            operands = rest;
        }
        let (to, from, bytes, last) = match operands {
            [to, from, bytes] => (to, from, bytes, None),
            [to, from, bytes, last] => (to, from, bytes, Some(last)),
            _ => return self.fail("cp.async takes two addresses and a size"),
        };
        let bytes = match (bytes, level) {
            (Operand::Integer(16), _) => 16,
            (Operand::Integer(bytes @ (4 | 8)), Some("ca")) => *bytes as u32,
            _ => return self.fail("cp.async copies 16 bytes, or with .ca also 4 or 8"),
        };
        let to = self.address(to, Some("shared"))?;
        let from = self.address(from, Some("global"))?;
        let (mut source_bytes, mut ignore) = (self.build.constant32(bytes), Pred::NONE);
        match last {
            Some(Operand::Not(_)) => ignore = self.predicate(&operands[3])?,
            Some(last @ Operand::Name(name)) => match self.symbol(name)? {
                super::scope::Symbol::Register(r) if r.class == super::scope::Class::Predicate => {
                    ignore = self.predicate(last)?;
                }
                _ => source_bytes = self.value(last, Type::B32)?,
            },
            Some(last) => source_bytes = self.value(last, Type::B32)?,
            None => {}
        }
        Ok(Tile::Copy(CopyAsync { to, from, bytes, source_bytes, ignore }))
    }

    /// Number of matrices, whether they are transposed, and the state space.
    fn matrices(&mut self, s: &mut Suffixes<'m, 'a>) -> Parsed<(usize, bool, Option<&'static str>)> {
        let form = (s.take("sync"), s.take("aligned"), s.take("m8n8"));
        let count = match s.take_any(&["x1", "x2", "x4"]) {
            Some("x1") => 1,
            Some("x2") => 2,
            Some(_) => 4,
            None => return Err(s.unknown()),
        };
        let transposed = s.take("trans");
        let space = s.take_any(&["shared", "shared::cta"]);
        if form != (true, true, true) || !s.take("b16") {
            return Err(s.unknown());
        }
        Ok((count, transposed, space))
    }

    fn load_matrix(&mut self, s: &mut Suffixes<'m, 'a>) -> Parsed<Tile> {
        let (count, transposed, space) = self.matrices(s)?;
        let [to, from] = s.operands()?;
        let to = self.fragments(to, count, Type::B32)?;
        let address = self.address(from, space)?;
        if !matches!(address.room, StateSpace::Shared | StateSpace::Generic) {
            return Err(s.unknown());
        }
        Ok(Tile::Load(LoadMatrix { count: count as u32, transposed, to, address }))
    }

    fn store_matrix(&mut self, s: &mut Suffixes<'m, 'a>) -> Parsed<Tile> {
        let (count, transposed, space) = self.matrices(s)?;
        let [to, from] = s.operands()?;
        let from = self.sources(from, count, Type::B32)?;
        let address = self.address(to, space)?;
        if !matches!(address.room, StateSpace::Shared | StateSpace::Generic) {
            return Err(s.unknown());
        }
        Ok(Tile::Store(StoreMatrix { count: count as u32, transposed, from, address }))
    }
}
