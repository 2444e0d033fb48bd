//! Branches, returns, barriers, fences, and instructions without an effect.

use super::body::Body;
use super::suffix::Suffixes;
use crate::machine::program::{BarrierKind, BarrierOp, Op, Reconvergence};
use crate::syntax::{Kind, Operand, Parsed, Type};

impl<'m, 'a> Body<'_, 'm, 'a> {
    pub(super) fn plain(&mut self, op: Op, s: &mut Suffixes<'m, 'a>) -> Parsed<()> {
        s.take("uni");
        let [] = s.operands()?;
        self.emit(op);
        Ok(())
    }

    /// Instructions without an effect that a kernel can observe. Grids do not overlap here, so `griddepcontrol` never waits.
    pub(super) fn unseen(&mut self, name: &str, s: &mut Suffixes<'m, 'a>) -> Parsed<()> {
        match name {
            "griddepcontrol" => {
                if s.take_any(&["launch_dependents", "wait"]).is_none() {
                    return Err(s.unknown());
                }
                let [] = s.operands()?;
            }
            "pmevent" => {
                s.take("mask");
                let [Operand::Integer(_)] = s.operands()? else { return self.fail("expected a number") };
            }
            _ => {
                if s.ty()? != (Type { kind: Kind::Unsigned, ..Type::B32 }) {
                    return Err(s.unknown());
                }
                let [time] = s.operands()?;
                self.value(time, Type::B32)?;
            }
        }
        self.emit(Op::Nop);
        Ok(())
    }

    /// `membar`, `fence`: each of them orders all accesses of the thread, for all other threads.
    pub(super) fn fence(&mut self, s: &mut Suffixes<'m, 'a>) -> Parsed<()> {
        let acquires = s.take("acquire");
        let orders = acquires || s.take_any(&["sc", "acq_rel", "release"]).is_some();
        let proxy = s.take("proxy");
        let one_way = proxy && s.take("tensormap::generic");
        if proxy && !one_way {
            if s.take_any(&["alias", "async", "async::generic"]).is_none() {
                return Err(s.unknown());
            }
            s.take_any(&["global", "shared::cta", "shared::cluster"]);
        }
        let restricted = s.take("mbarrier_init");
        s.take_any(&["sync_restrict::shared::cta", "sync_restrict::shared::cluster"]);
        let scope = s.take_any(&["cta", "cluster", "gpu", "sys", "gl"]);
        if scope.is_none() && (!proxy || one_way) || (restricted || one_way) && !orders {
            return Err(s.unknown());
        }
        match s.all() {
            [address, Operand::Integer(128)] if one_way && acquires => {
                self.address(address, None)?;
            }
            _ => {
                let [] = s.operands()?;
            }
        }
        self.emit(Op::Fence);
        Ok(())
    }

    pub(super) fn branch(&mut self, s: &mut Suffixes<'m, 'a>) -> Parsed<()> {
        s.take("uni");
        let [Operand::Name(name)] = s.operands()? else { return self.fail("expected a label") };
        let label = self.label(name)?;
        self.emit(Op::Branch(label, Reconvergence::END));
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
            return self.fail(format!("{name} is not a list of targets"));
        };
        self.emit(Op::BranchTable(index, table as u32, Reconvergence::END));
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
                    _ => BarrierKind::Vote { all: op == "and", to: self.predicate_to(to)?, from },
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
}
