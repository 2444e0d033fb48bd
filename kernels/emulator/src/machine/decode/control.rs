//! Branches, returns, barriers and what only orders memory.

use super::super::barrier::{BarrierKind, BarrierOp};
use super::super::program::{Join, Op, Pred};
use super::body::Body;
use super::suffix::Suffixes;
use crate::syntax::{Operand, Parsed, Type};

impl<'m, 'a> Body<'_, 'm, 'a> {
    pub(super) fn plain(&mut self, op: Op, s: &mut Suffixes<'m, 'a>) -> Parsed<()> {
        s.take("uni");
        let [] = s.operands()?;
        self.emit(op);
        Ok(())
    }

    /// Instructions that change nothing that a kernel can see here.
    pub(super) fn ignored(&mut self, s: &mut Suffixes<'m, 'a>) -> Parsed<()> {
        s.drop_prefixed("");
        self.emit(Op::Nothing);
        Ok(())
    }

    pub(super) fn fence(&mut self, s: &mut Suffixes<'m, 'a>) -> Parsed<()> {
        s.take_any(&["sc", "acq_rel", "acquire", "release"]);
        s.take("proxy");
        s.take_any(&["alias", "async", "async::generic"]);
        s.take_any(&["cta", "cluster", "gpu", "sys", "gl"]);
        s.take_any(&["global", "shared::cta"]);
        self.emit(Op::Fence);
        Ok(())
    }

    pub(super) fn branch(&mut self, s: &mut Suffixes<'m, 'a>) -> Parsed<()> {
        s.take("uni");
        let [Operand::Name(name)] = s.operands()? else { return self.fail("expected a label") };
        let label = self.label(name)?;
        self.emit(Op::Branch(label, Join::END));
        Ok(())
    }

    pub(super) fn branch_table(&mut self, s: &mut Suffixes<'m, 'a>) -> Parsed<()> {
        if !s.take("idx") {
            return Err(s.unknown());
        }
        s.take("uni");
        let [index, Operand::Name(name)] = s.operands()? else {
            return self.fail("expected a list of targets");
        };
        let index = self.value(index, Type::B32)?;
        let Some(&table) = self.tables.get(name) else {
            return self.fail(format!("{name} is no list of targets"));
        };
        self.emit(Op::BranchTable(index, table as u32, Join::END));
        Ok(())
    }

    pub(super) fn ret(&mut self, s: &mut Suffixes<'m, 'a>) -> Parsed<()> {
        s.take("uni");
        let [] = s.operands()?;
        self.leave();
        Ok(())
    }

    pub(super) fn barrier(&mut self, name: &str, s: &mut Suffixes<'m, 'a>) -> Parsed<()> {
        if s.take("warp") {
            if !s.take("sync") {
                return Err(s.unknown());
            }
            let [members] = s.operands()?;
            let members = self.value(members, Type::B32)?;
            self.emit(Op::Barrier(Box::new(BarrierOp {
                kind: BarrierKind::Warp(members),
                ..BarrierOp::default()
            })));
            return Ok(());
        }
        s.take("cta");
        let aligned = s.take("aligned") || name == "bar";
        let Some(what) = s.take_any(&["sync", "arrive", "red"]) else { return Err(s.unknown()) };
        let mut operands = s.all();
        let kind = match what {
            "sync" => BarrierKind::Sync,
            "arrive" => BarrierKind::Arrive,
            _ => {
                let Some(op) = s.take_any(&["popc", "and", "or"]) else { return Err(s.unknown()) };
                let ty = s.ty()?;
                let [to, middle @ .., from] = operands else {
                    return self.fail("bar.red needs more operands");
                };
                operands = middle;
                let from = self.predicate(from)?;
                match op {
                    "popc" => BarrierKind::Count(self.to(to, ty)?, from),
                    _ => BarrierKind::Vote { all: op == "and", to: self.predicate(to)?, from },
                }
            }
        };
        let (id, count) = match operands {
            [id] if !matches!(kind, BarrierKind::Arrive) => (id, None),
            [id, count] => (id, Some(count)),
            _ => {
                return self
                    .fail("expected a barrier's number, and the number of threads where it only arrives");
            }
        };
        let id = self.value(id, Type::B32)?;
        let count = match count {
            Some(count) => Some(self.value(count, Type::B32)?),
            None => None,
        };
        self.emit(Op::Barrier(Box::new(BarrierOp { kind, id, count, aligned })));
        Ok(())
    }

    /// A predicate or the constant 1 or 0 that stands for one.
    pub(super) fn predicate_or_constant(&mut self, operand: &Operand<'a>) -> Parsed<Pred> {
        match operand {
            Operand::Integer(value) => {
                if *value != 0 {
                    return Ok(Pred::NONE);
                }
                self.fail("a constant false predicate is not supported here")
            }
            operand => self.predicate(operand),
        }
    }
}
