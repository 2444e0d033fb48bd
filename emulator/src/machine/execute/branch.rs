//! Control flow, and instructions that need the lanes of a warp together.

use super::context::{Context, Stop, fault};
use super::warp::{Entry, Warp};
use crate::error::{Fault, FaultKind};
use crate::machine::lanes::FULL;
use crate::machine::program::{
    BarrierKind, CodeAddress, Inst, Loc, Op, Program, Reconvergence, RegisterFile,
};
use crate::memory::LANES;

impl Warp {
    /// Runs an instruction that changes the active lanes, or needs several together. The top entry is at the
    /// instruction; this function advances it.
    pub(super) fn flow<'a>(
        &mut self,
        cx: &mut Context<'a>,
        inst: &'a Inst,
        mask: u32,
    ) -> Result<Option<Stop<'a>>, Fault> {
        let program = cx.program;
        let here @ CodeAddress { routine, pc } = self.position();
        match &inst.op {
            Op::Branch(target, reconverge) => self.part(*target, mask, *reconverge),
            Op::BranchTable(index, table, reconverge) => {
                self.need(program, RegisterFile::Bits32, &[*index], mask)?;
                let targets = program.routines.get(routine).and_then(|r| r.tables.get(*table as usize));
                let targets = targets.map_or(&[][..], Vec::as_slice);
                let first = mask.trailing_zeros().min(31) as usize;
                let picks = self.v32(program, *index);
                let pick = picks[first];
                let Some(&target) = targets.get(pick as usize) else {
                    let message = format!("index {pick} of a list of {} targets", targets.len());
                    return Err(fault(FaultKind::Trap, mask, message));
                };
                let same = (0..LANES).fold(0, |m, lane| m | u32::from(picks[lane] == pick) << lane) & mask;
                if same == mask {
                    self.part(target, mask, *reconverge);
                } else {
                    // One target after another: the others stay at this instruction.
                    self.part_table(target, same, mask, *reconverge);
                }
            }
            Op::Call(op) => {
                if let Some(same) = self.same_callee(program, op, mask)?
                    && same != mask
                {
                    self.part_call(same, mask);
                    return Ok(None);
                }
                let depth = self.frames.len();
                self.set_pc(pc + 1);
                if let Err(fault) = self.execute_call(program, op, here, mask) {
                    // The error is the call's, not the callee's.
                    self.leave(depth);
                    self.set_pc(pc);
                    return Err(fault);
                }
            }
            Op::Return => {
                if !self.execute_return(program, mask)? {
                    self.end(mask, true);
                }
                self.set_pc(pc + 1);
            }
            Op::Exit => {
                self.end(mask, true);
                self.set_pc(pc + 1);
            }
            Op::Trap => return Err(fault(FaultKind::Trap, mask, "the kernel executed trap".to_owned())),
            Op::Barrier(op) => {
                if let BarrierKind::Warp(members) = op.kind {
                    if let Some(members) = self.together(program, members, mask)? {
                        cx.shared.sync_warp(self.index, members);
                        self.set_pc(pc + 1);
                    }
                } else if mask == self.live {
                    return Ok(Some(Stop::Barrier(op, mask)));
                } else if inst.guard.is_none() && self.gather(program) {
                    return Ok(None);
                } else {
                    let message = format!(
                        "only lanes {mask:#010x} of the warp's {:#010x} reach the barrier",
                        self.live
                    );
                    return Err(fault(FaultKind::DivergentBarrier, mask, message));
                }
            }
            Op::Exchange(exchange) => {
                if let Some(members) = exchange.members() {
                    let Some(members) = self.together(program, members, mask)? else { return Ok(None) };
                    cx.shared.sync_warp(self.index, members);
                }
                self.exchange(program, exchange, mask)?;
                self.set_pc(pc + 1);
            }
            Op::Matrix(matrix) => {
                if mask != FULL {
                    if inst.guard.is_none() && self.gather(program) {
                        return Ok(None);
                    }
                    let message = format!("it needs all 32 lanes, but {mask:#010x} run it");
                    return Err(fault(FaultKind::PartialMask, mask, message));
                }
                let line = program.routines.get(routine).map_or(0, |r| r.line_of(pc));
                cx.shared.sync_warp(self.index, FULL);
                self.matrix(cx, matrix, line)?;
                self.set_pc(pc + 1);
            }
            _ => self.set_pc(pc + 1),
        }
        Ok(None)
    }

    /// The lanes of a member mask if all are at this instruction; `None` if other lanes must run first.
    fn together(&mut self, program: &Program, members: Loc, mask: u32) -> Result<Option<u32>, Fault> {
        match self.members(program, members, mask) {
            Ok(members) => Ok(Some(members)),
            Err(fault) if fault.kind != FaultKind::PartialMask => Err(fault),
            Err(fault) => {
                if self.gather(program) {
                    Ok(None)
                } else {
                    Err(fault)
                }
            }
        }
    }

    /// The lanes of `first` call; those of `mask` that call another function follow. All reconverge after the call.
    fn part_call(&mut self, first: u32, mask: u32) {
        let Some(top) = self.stack.last_mut() else { return };
        let (pc, reconverge) = (top.pc, Reconvergence(top.pc + 1));
        top.pc = reconverge.0;
        for mask in [mask & !first, first] {
            self.stack.push(Entry { pc, reconverge, mask, waits: false });
        }
    }

    /// The lanes of `taken` jump to `target`; the other lanes of `mask` stay at the instruction; the rest go on.
    fn part_table(&mut self, target: u32, taken: u32, mask: u32, reconverge: Reconvergence) {
        let Some(top) = self.stack.last_mut() else { return };
        let pc = top.pc;
        let rest = top.mask & !mask;
        if rest != 0 {
            // The guard is false for them: they go to the next instruction.
            self.part(pc, mask, reconverge);
        }
        let Some(top) = self.stack.last_mut() else { return };
        let stay = mask & !taken;
        let own = top.reconverge;
        if reconverge == Reconvergence::END || reconverge == own {
            top.mask = stay;
        } else {
            top.pc = reconverge.0;
            let stays = Entry { pc, reconverge, mask: stay, waits: false };
            self.stack.push(stays);
        }
        if target != reconverge.0 {
            self.stack.push(Entry { pc: target, reconverge, mask: taken, waits: false });
        }
    }
}
