//! What moves and multiplies tiles: `cp.async`, `ldmatrix`, `mma`.

use super::super::program::{Loc, Op, Pred, Room};
use super::super::tile::{Accumulator, CopyAsync, LoadMatrix, Multiply, Tile};
use super::body::Body;
use super::float::half;
use super::memory::B64;
use super::suffix::Suffixes;
use crate::syntax::{Kind, Operand, Parsed, Type};

impl<'m, 'a> Body<'_, 'm, 'a> {
    pub(super) fn tile(&mut self, name: &str, s: &mut Suffixes<'m, 'a>) -> Parsed<()> {
        let tile = match name {
            "cp" => self.copy_async(s)?,
            "ldmatrix" => self.load_matrix(s)?,
            _ => self.multiply(s)?,
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

    fn load_matrix(&mut self, s: &mut Suffixes<'m, 'a>) -> Parsed<Tile> {
        let form = (s.take("sync"), s.take("aligned"), s.take("m8n8"));
        let count = match s.take_any(&["x1", "x2", "x4"]) {
            Some("x1") => 1,
            Some("x2") => 2,
            Some(_) => 4,
            None => return Err(s.unknown()),
        };
        let transposed = s.take("trans");
        let space = s.take_any(&["shared", "shared::cta"]);
        let ty = s.ty()?;
        if form != (true, true, true) || (ty.kind, ty.bits) != (Kind::Bits, 16) {
            return Err(s.unknown());
        }
        let [to, from] = s.operands()?;
        let to = self.fragments(to, count)?;
        let address = self.address(from, space)?;
        if !matches!(address.room, Room::Shared | Room::Generic) {
            return Err(s.unknown());
        }
        Ok(Tile::Load(LoadMatrix { count: count as u32, transposed, to, address }))
    }

    /// The registers that results go to.
    fn fragments(&mut self, operand: &Operand<'a>, count: usize) -> Parsed<[Loc; 4]> {
        let mut out = [Loc::ZERO; 4];
        let elements = match operand {
            Operand::Vector(elements) => elements.as_slice(),
            single => std::slice::from_ref(single),
        };
        if elements.len() != count {
            return self.fail(format!("expected {count} registers, not {}", elements.len()));
        }
        for (loc, element) in out.iter_mut().zip(elements) {
            *loc = self.to(element, Type::B32)?;
        }
        Ok(out)
    }

    /// The registers or constants that are read.
    fn sources(&mut self, operand: &Operand<'a>, count: usize) -> Parsed<[Loc; 4]> {
        let mut out = [Loc::ZERO; 4];
        let elements = match operand {
            Operand::Vector(elements) => elements.as_slice(),
            single => std::slice::from_ref(single),
        };
        if elements.len() != count {
            return self.fail(format!("expected {count} registers, not {}", elements.len()));
        }
        for (loc, element) in out.iter_mut().zip(elements) {
            *loc = self.value(element, Type { kind: Kind::Float, bits: 32, pair: false })?;
        }
        Ok(out)
    }

    fn multiply(&mut self, s: &mut Suffixes<'m, 'a>) -> Parsed<Tile> {
        let form = (s.take("sync"), s.take("aligned"), s.take("row"), s.take("col"));
        let k = match s.take_any(&["m16n8k16", "m16n8k8"]) {
            Some("m16n8k16") => 16,
            Some(_) => 8,
            None => return Err(s.unknown()),
        };
        let [d, a, b, c] = [s.ty()?, s.ty()?, s.ty()?, s.ty()?];
        let f32 = Type { kind: Kind::Float, bits: 32, pair: false };
        let accumulator = match (half(a), d) {
            _ if form != (true, true, true, true) || a != b || c != d || a.pair => return Err(s.unknown()),
            (Some(format), d) if d == f32 => Accumulator::Single(format),
            (Some(crate::numerics::half::Half::F16), d) if d == a => Accumulator::Half,
            _ => return Err(s.unknown()),
        };
        let sums = if matches!(accumulator, Accumulator::Single(_)) { 4 } else { 2 };
        let [to, left, right, sum] = s.operands()?;
        let left = self.sources(left, k / 4)?;
        let right = self.sources(right, k / 8)?;
        let sum = self.sources(sum, sums)?;
        let to = self.fragments(to, sums)?;
        Ok(Tile::Multiply(Multiply { accumulator, k: k as u32, to, left, right, sum }))
    }
}
