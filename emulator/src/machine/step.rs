//! Execution: one instruction after another, until the warp waits, ends, or has had its turn.

use super::barrier::BarrierOp;
use super::block::Context;
use super::program::{Carry, Combine, Inst, Loc, Logic, Op, Outcome, Program, Value};
use super::warp::{Warp, fault};
use crate::error::{Fault, FaultKind};
use crate::memory::LANES;

/// Why a warp stopped.
pub(super) enum Stop<'a> {
    /// It had its turn.
    Turn,
    /// It comes to a barrier of the block, with these lanes. The instruction is done when the barrier knows of it.
    Barrier(&'a BarrierOp, u32),
    /// All its threads ended.
    Done,
}

/// A fault, and where.
#[derive(Debug)]
pub(super) struct Failure {
    /// What happened.
    pub fault: Fault,
    /// The routine.
    pub routine: usize,
    /// The instruction.
    pub pc: u32,
}

impl Warp {
    /// Where it stands: routine and instruction.
    pub(super) fn place(&self) -> (usize, u32) {
        (self.frames.last().map_or(0, |f| f.routine), self.stack.last().map_or(0, |e| e.pc))
    }

    fn failure(&self, fault: Fault) -> Failure {
        let (routine, pc) = self.place();
        Failure { fault, routine, pc }
    }

    /// Runs up to `turn` instructions.
    pub(super) fn run<'a>(&mut self, cx: &mut Context<'a>, turn: u64) -> Result<Stop<'a>, Failure> {
        let program = cx.program;
        let mut left = turn;
        let (mut counted, mut lanes) = (0, 0);
        let result = loop {
            if !self.settle() {
                break Ok(Stop::Done);
            }
            let Some(frame) = self.frames.last() else { break Ok(Stop::Done) };
            let Some(routine) = program.routines.get(frame.routine) else { break Ok(Stop::Done) };
            let Some(top) = self.stack.last().copied() else { break Ok(Stop::Done) };
            let (code, sites) = (routine.code.as_slice(), routine.sites.as_slice());
            // Straight on until something changes who runs.
            let mut pc = top.pc;
            let stop = loop {
                if pc == top.join.0 {
                    break None;
                }
                let Some(inst) = code.get(pc as usize) else {
                    break Some(Err(fault(FaultKind::Trap, top.mask, "a jump to nowhere".to_owned())));
                };
                if left == 0 {
                    break Some(Ok(Stop::Turn));
                }
                left -= 1;
                counted += u64::from(inst.counts);
                let mut mask = top.mask;
                if !inst.guard.is_none() {
                    if self.checked
                        && let Err(fault) = self.need_predicate(program, inst.guard, mask)
                    {
                        break Some(Err(fault));
                    }
                    mask &= self.predicate(inst.guard);
                    if mask == 0 {
                        pc += 1;
                        continue;
                    }
                }
                lanes += u64::from(mask.count_ones() * inst.counts);
                self.executed += 1;
                let step = match self.compute(program, inst, mask) {
                    Step::Next => Ok(()),
                    Step::Memory => self.access(cx, inst, sites.get(pc as usize).map_or(0, |s| s.line), mask),
                    Step::Fault(fault) => Err(*fault),
                    Step::Flow => {
                        if let Some(entry) = self.stack.last_mut() {
                            entry.pc = pc;
                        }
                        match self.flow(cx, inst, mask) {
                            Ok(None) => break None,
                            Ok(Some(stop)) => break Some(Ok(stop)),
                            Err(fault) => break Some(Err(fault)),
                        }
                    }
                };
                if let Err(fault) = step {
                    break Some(Err(fault));
                }
                pc += 1;
            };
            match stop {
                // Flow set the next instruction; otherwise the entry came to its end.
                None if pc == top.join.0 => self.set_pc(pc),
                None => {}
                Some(Ok(Stop::Turn)) => {
                    self.set_pc(pc);
                    break Ok(Stop::Turn);
                }
                Some(Ok(stop)) => break Ok(stop),
                Some(Err(fault)) => {
                    self.set_pc(pc);
                    break Err(self.failure(fault));
                }
            }
        };
        cx.used += turn - left;
        cx.report.warp_instructions += counted;
        cx.report.lane_instructions += lanes;
        result
    }

    pub(super) fn set_pc(&mut self, pc: u32) {
        if let Some(entry) = self.stack.last_mut() {
            entry.pc = pc;
        }
    }

    /// What happens between registers.
    #[inline(always)]
    fn compute(&mut self, program: &Program, inst: &Inst, mask: u32) -> Step {
        macro_rules! check {
            ($result:expr) => {
                if let Err(fault) = $result {
                    return Step::Fault(Box::new(fault));
                }
            };
        }
        match &inst.op {
            Op::Lane32(f, to, from) => {
                check!(self.need(program, 0, from, mask));
                let mut out = [0; LANES];
                let [a, b, c] = *from;
                f(self.v32(program, a), self.v32(program, b), self.v32(program, c), &mut out);
                self.set32(*to, &out, mask);
            }
            Op::Lane64(f, to, from) => {
                check!(self.need(program, 1, from, mask));
                let mut out = [0; LANES];
                let [a, b, c] = *from;
                f(self.v64(program, a), self.v64(program, b), self.v64(program, c), &mut out);
                self.set64(*to, &out, mask);
            }
            Op::Math32(math, to, from) => {
                check!(self.need(program, 0, from, mask));
                let mut out = [0; LANES];
                let [a, b, c] = *from;
                let from = [a, b, c].map(|loc| self.v32(program, loc));
                math.run(self.approximation, from, &mut out);
                self.set32(*to, &out, mask);
            }
            Op::Math64(math, to, from) => {
                check!(self.need(program, 1, from, mask));
                let mut out = [0; LANES];
                let [a, b, c] = *from;
                let from = [a, b, c].map(|loc| self.v64(program, loc));
                math.run(self.approximation, from, &mut out);
                self.set64(*to, &out, mask);
            }
            Op::Widen(f, to, [a, b, c]) => {
                check!(self.need(program, 0, &[*a, *b], mask));
                check!(self.need(program, 1, &[*c], mask));
                let mut out = [0; LANES];
                f(self.v32(program, *a), self.v32(program, *b), self.v64(program, *c), &mut out);
                self.set64(*to, &out, mask);
            }
            Op::Narrow(f, to, [a, b, c]) => {
                check!(self.need(program, 1, &[*a, *b], mask));
                check!(self.need(program, 0, &[*c], mask));
                let mut out = [0; LANES];
                f(self.v64(program, *a), self.v64(program, *b), self.v32(program, *c), &mut out);
                self.set32(*to, &out, mask);
            }
            Op::Shift(f, to, [a, b, c]) => {
                check!(self.need(program, 1, &[*a], mask));
                check!(self.need(program, 0, &[*b, *c], mask));
                let mut out = [0; LANES];
                f(self.v64(program, *a), self.v32(program, *b), self.v32(program, *c), &mut out);
                self.set64(*to, &out, mask);
            }
            Op::Compare32(f, from, outcome) => {
                check!(self.need(program, 0, from, mask));
                let bits = f(self.v32(program, from[0]), self.v32(program, from[1]));
                check!(self.outcome(program, bits, outcome, mask));
            }
            Op::Compare64(f, from, outcome) => {
                check!(self.need(program, 1, from, mask));
                let bits = f(self.v64(program, from[0]), self.v64(program, from[1]));
                check!(self.outcome(program, bits, outcome, mask));
            }
            Op::Select32(to, [a, b], p) => {
                check!(self.need_predicate(program, *p, mask));
                let (bits, mut out) = (self.predicate(*p), *self.v32(program, *b));
                check!(self.need(program, 0, &[*a], mask & bits));
                check!(self.need(program, 0, &[*b], mask & !bits));
                super::lanes::blend(&mut out, self.v32(program, *a), bits);
                self.set32(*to, &out, mask);
            }
            Op::Select64(to, [a, b], p) => {
                check!(self.need_predicate(program, *p, mask));
                let (bits, mut out) = (self.predicate(*p), *self.v64(program, *b));
                check!(self.need(program, 1, &[*a], mask & bits));
                check!(self.need(program, 1, &[*b], mask & !bits));
                super::lanes::blend(&mut out, self.v64(program, *a), bits);
                self.set64(*to, &out, mask);
            }
            // Copying is not using: what is undefined stays so.
            Op::Copy32(to, from) => {
                let defined = self.defined_in(0, *from);
                let out = *self.v32(program, *from);
                self.set32(*to, &out, mask);
                self.undefine(0, *to, mask & !defined);
            }
            Op::Copy64(to, from) => {
                let defined = self.defined_in(1, *from);
                let out = *self.v64(program, *from);
                self.set64(*to, &out, mask);
                self.undefine(1, *to, mask & !defined);
            }
            Op::Split([low, high], from) => {
                check!(self.need(program, 1, &[*from], mask));
                let from = *self.v64(program, *from);
                self.set32(*low, &from.map(|x| x as u32), mask);
                self.set32(*high, &from.map(|x| (x >> 32) as u32), mask);
            }
            Op::Join(to, [low, high]) => {
                check!(self.need(program, 0, &[*low, *high], mask));
                let (low, high) = (self.v32(program, *low), self.v32(program, *high));
                let out = std::array::from_fn(|i| u64::from(low[i]) | u64::from(high[i]) << 32);
                self.set64(*to, &out, mask);
            }
            Op::Predicate(logic, to, [a, b]) => {
                check!(self.need_predicate(program, *a, mask));
                check!(self.need_predicate(program, *b, mask));
                let (a, b) = (self.predicate(*a), self.predicate(*b));
                let bits = match logic {
                    Logic::Copy => a,
                    Logic::Not => !a,
                    Logic::And => a & b,
                    Logic::Or => a | b,
                    Logic::Xor => a ^ b,
                };
                self.set_predicate(*to, bits, mask);
            }
            Op::Carry(carry, to, from) => check!(self.add_with_carry(program, *carry, *to, *from, mask)),
            Op::FrameAddress(to, offset) => {
                let address = self.frames.last().map_or(0, |f| f.local).wrapping_add(*offset);
                self.set_value(*to, address, mask);
            }
            Op::Take(to, bytes, align) => check!(self.take(program, (*to, *bytes, *align), mask)),
            Op::Top(to) => self.top(*to, mask),
            Op::SetTop(from) => check!(self.set_top(program, *from, mask)),
            Op::Clock(to) => self.set_value(*to, self.executed, mask),
            Op::Convert(op) => check!(self.convert_address(program, op, mask)),
            Op::InSpace(to, from, window) => check!(self.in_space(program, (*to, *from, *window), mask)),
            Op::Nothing => {}
            Op::Load(_)
            | Op::Store(_)
            | Op::Atomic(_)
            | Op::Discard(_)
            | Op::Fence
            | Op::Allocate(..)
            | Op::Free(_) => return Step::Memory,
            Op::Tile(tile) if !tile.aligned() => return Step::Memory,
            Op::Branch(..)
            | Op::BranchTable(..)
            | Op::Call(_)
            | Op::Return
            | Op::Exit
            | Op::Trap
            | Op::Barrier(_)
            | Op::Warp(_)
            | Op::Tile(_) => return Step::Flow,
        }
        Step::Next
    }

    fn set_value(&mut self, to: Value, value: u64, mask: u32) {
        if to.wide {
            self.set64(to.loc, &[value; LANES], mask);
        } else {
            self.set32(to.loc, &[value as u32; LANES], mask);
        }
    }

    fn undefine(&mut self, file: usize, loc: Loc, mask: u32) {
        if let Some(index) = loc.index() {
            self.defined[file][self.base[file] + index] &= !mask;
        }
    }

    /// Writes what a comparison found.
    #[inline(always)]
    fn outcome(&mut self, program: &Program, bits: u32, outcome: &Outcome, mask: u32) -> Result<(), Fault> {
        let Outcome { first, second, combine, with } = *outcome;
        if combine == Combine::None {
            self.set_predicate(first, bits, mask);
            if !second.is_none() {
                self.set_predicate(second, !bits, mask);
            }
            return Ok(());
        }
        self.need_predicate(program, with, mask)?;
        let with = self.predicate(with);
        let combined = |bits: u32| match combine {
            Combine::None => bits,
            Combine::And => bits & with,
            Combine::Or => bits | with,
            Combine::Xor => bits ^ with,
        };
        self.set_predicate(first, combined(bits), mask);
        self.set_predicate(second, combined(!bits), mask);
        Ok(())
    }

    fn add_with_carry(
        &mut self,
        program: &Program,
        carry: Carry,
        to: Loc,
        [a, b]: [Loc; 2],
        mask: u32,
    ) -> Result<(), Fault> {
        let file = usize::from(carry.wide);
        self.need(program, file, &[a, b], mask)?;
        let bits = if carry.wide { 64 } else { 32 };
        let (mut out, mut flags) = ([0; LANES], 0);
        for (lane, out) in out.iter_mut().enumerate() {
            let get = |loc| u128::from(self.lane(program, Value::new(loc, carry.wide), lane));
            let flag = if carry.takes { u128::from(self.carry >> lane & 1) } else { 0 };
            let sum = if carry.subtract {
                // a + not b + 1: the flag is the adder's carry, 0 where PTX's text says that a borrow is written.
                let flag = if carry.takes { flag } else { 1 };
                get(a) + (get(b) ^ u128::from(u64::MAX >> (64 - bits))) + flag
            } else {
                get(a) + get(b) + flag
            };
            *out = sum as u64;
            flags |= ((sum >> bits & 1) as u32) << lane;
        }
        if carry.wide {
            self.set64(to, &out, mask);
        } else {
            self.set32(to, &out.map(|x| x as u32), mask);
        }
        if carry.gives {
            self.carry = self.carry & !mask | flags & mask;
        }
        Ok(())
    }

    /// What touches memory.
    fn access(&mut self, cx: &mut Context<'_>, inst: &Inst, line: u32, mask: u32) -> Result<(), Fault> {
        match &inst.op {
            Op::Load(op) => {
                self.load(cx, op, line, mask)?;
                if op.orders {
                    self.order(cx);
                }
                Ok(())
            }
            Op::Store(op) => {
                if op.orders {
                    self.order(cx);
                }
                self.store(cx, op, line, mask)
            }
            Op::Atomic(op) => {
                if op.orders {
                    self.order(cx);
                }
                self.atomic(cx, op, line, mask)?;
                if op.orders {
                    self.order(cx);
                }
                Ok(())
            }
            Op::Discard(address) => self.discard(cx, address, mask),
            Op::Tile(tile) => self.tile(cx, tile, line, mask),
            Op::Allocate(to, bytes) => self.allocate(cx, *to, *bytes, mask),
            Op::Free(address) => self.free(cx, *address, mask),
            _ => {
                self.order(cx);
                Ok(())
            }
        }
    }

    fn order(&mut self, cx: &mut Context<'_>) {
        crate::memory::fence();
        cx.shared.fence(self.index);
    }
}

/// How an instruction went on.
enum Step {
    /// It is done.
    Next,
    /// It touches memory.
    Memory,
    /// It changes who runs.
    Flow,
    /// It failed.
    Fault(Box<Fault>),
}
