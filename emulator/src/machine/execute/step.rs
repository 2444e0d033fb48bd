//! Execution: one instruction after another, until the warp waits, ends, or its turn is over.

use super::context::{Context, Failure, Stop, fault};
use super::warp::Warp;
use crate::error::{Fault, FaultKind};
use crate::machine::lanes::{blend, pack};
use crate::machine::program::{
    Carry, CodeAddress, Combine, Inst, Loc, Logic, Op, Program, RegisterFile, SetPredicate, Value,
};
use crate::memory::LANES;

impl Warp {
    /// The next instruction of the top entry.
    pub(super) fn position(&self) -> CodeAddress {
        CodeAddress {
            routine: self.frames.last().map_or(0, |f| f.routine),
            pc: self.stack.last().map_or(0, |e| e.pc),
        }
    }

    fn failure(&self, fault: Fault) -> Failure {
        Failure { fault, at: self.position() }
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
            let code = routine.code.as_slice();
            // Straight-line execution until an instruction changes the active lanes.
            let mut pc = top.pc;
            let stop = loop {
                if pc == top.reconverge.0 {
                    break None;
                }
                let Some(inst) = code.get(pc as usize) else {
                    break Some(Err(fault(
                        FaultKind::Trap,
                        top.mask,
                        "a jump outside the function".to_owned(),
                    )));
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
                    Step::Memory => self.access(cx, inst, routine.line_of(pc), mask),
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
                // `Flow` has set the next instruction; otherwise the entry is at its end.
                None if pc == top.reconverge.0 => self.set_pc(pc),
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
        cx.executed += turn - left;
        cx.report.warp_instructions += counted;
        cx.report.lane_instructions += lanes;
        result
    }

    pub(super) fn set_pc(&mut self, pc: u32) {
        if let Some(entry) = self.stack.last_mut() {
            entry.pc = pc;
        }
    }

    /// Runs an instruction that only reads and writes registers; for others, returns the required step.
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
                check!(self.need(program, RegisterFile::Bits32, from, mask));
                let mut out = [0; LANES];
                let [a, b, c] = *from;
                f(self.v32(program, a), self.v32(program, b), self.v32(program, c), &mut out);
                self.set32(*to, &out, mask);
            }
            Op::Lane64(f, to, from) => {
                check!(self.need(program, RegisterFile::Bits64, from, mask));
                let mut out = [0; LANES];
                let [a, b, c] = *from;
                f(self.v64(program, a), self.v64(program, b), self.v64(program, c), &mut out);
                self.set64(*to, &out, mask);
            }
            Op::Math32(math, to, from) => {
                check!(self.need(program, RegisterFile::Bits32, from, mask));
                let mut out = [0; LANES];
                let [a, b, c] = *from;
                let from = [a, b, c].map(|loc| self.v32(program, loc));
                math.run(self.approximation, from, &mut out);
                self.set32(*to, &out, mask);
            }
            Op::Math64(math, to, from) => {
                check!(self.need(program, RegisterFile::Bits64, from, mask));
                let mut out = [0; LANES];
                let [a, b, c] = *from;
                let from = [a, b, c].map(|loc| self.v64(program, loc));
                math.run(self.approximation, from, &mut out);
                self.set64(*to, &out, mask);
            }
            Op::Widen(f, to, [a, b, c]) => {
                check!(self.need(program, RegisterFile::Bits32, &[*a, *b], mask));
                check!(self.need(program, RegisterFile::Bits64, &[*c], mask));
                let mut out = [0; LANES];
                f(self.v32(program, *a), self.v32(program, *b), self.v64(program, *c), &mut out);
                self.set64(*to, &out, mask);
            }
            Op::Narrow(f, to, [a, b, c]) => {
                check!(self.need(program, RegisterFile::Bits64, &[*a, *b], mask));
                check!(self.need(program, RegisterFile::Bits32, &[*c], mask));
                let mut out = [0; LANES];
                f(self.v64(program, *a), self.v64(program, *b), self.v32(program, *c), &mut out);
                self.set32(*to, &out, mask);
            }
            Op::Shift(f, to, [a, b, c]) => {
                check!(self.need(program, RegisterFile::Bits64, &[*a], mask));
                check!(self.need(program, RegisterFile::Bits32, &[*b, *c], mask));
                let mut out = [0; LANES];
                f(self.v64(program, *a), self.v32(program, *b), self.v32(program, *c), &mut out);
                self.set64(*to, &out, mask);
            }
            Op::Compare32(f, from, outcome) => {
                check!(self.need(program, RegisterFile::Bits32, from, mask));
                let bits = f(self.v32(program, from[0]), self.v32(program, from[1]));
                check!(self.outcome(program, bits, outcome, mask));
            }
            Op::Compare64(f, from, outcome) => {
                check!(self.need(program, RegisterFile::Bits64, from, mask));
                let bits = f(self.v64(program, from[0]), self.v64(program, from[1]));
                check!(self.outcome(program, bits, outcome, mask));
            }
            Op::Select32(to, [a, b], p) => {
                check!(self.need_predicate(program, *p, mask));
                let (bits, mut out) = (self.predicate(*p), *self.v32(program, *b));
                check!(self.need(program, RegisterFile::Bits32, &[*a], mask & bits));
                check!(self.need(program, RegisterFile::Bits32, &[*b], mask & !bits));
                blend(&mut out, self.v32(program, *a), bits);
                self.set32(*to, &out, mask);
            }
            Op::Select64(to, [a, b], p) => {
                check!(self.need_predicate(program, *p, mask));
                let (bits, mut out) = (self.predicate(*p), *self.v64(program, *b));
                check!(self.need(program, RegisterFile::Bits64, &[*a], mask & bits));
                check!(self.need(program, RegisterFile::Bits64, &[*b], mask & !bits));
                blend(&mut out, self.v64(program, *a), bits);
                self.set64(*to, &out, mask);
            }
            // A copy is not a use: undefined values stay undefined.
            Op::Copy32(to, from) => {
                let defined = self.defined_in(RegisterFile::Bits32, *from);
                let out = *self.v32(program, *from);
                self.set32(*to, &out, mask);
                self.undefine(RegisterFile::Bits32, *to, mask & !defined);
            }
            Op::Copy64(to, from) => {
                let defined = self.defined_in(RegisterFile::Bits64, *from);
                let out = *self.v64(program, *from);
                self.set64(*to, &out, mask);
                self.undefine(RegisterFile::Bits64, *to, mask & !defined);
            }
            Op::Unpack([low, high], from) => {
                check!(self.need(program, RegisterFile::Bits64, &[*from], mask));
                let from = *self.v64(program, *from);
                self.set32(*low, &from.map(|x| x as u32), mask);
                self.set32(*high, &from.map(|x| (x >> 32) as u32), mask);
            }
            Op::Pack(to, [low, high]) => {
                check!(self.need(program, RegisterFile::Bits32, &[*low, *high], mask));
                let (low, high) = (self.v32(program, *low), self.v32(program, *high));
                let out = pack(low, high);
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
                self.set_column(*to, &[address; LANES], mask);
            }
            Op::Alloca(to, bytes, align) => check!(self.alloca(program, (*to, *bytes, *align), mask)),
            Op::StackSave(to) => self.stack_save(*to, mask),
            Op::StackRestore(from) => check!(self.stack_restore(program, *from, mask)),
            Op::Clock(to) => self.set_column(*to, &[self.executed; LANES], mask),
            Op::ConvertAddress(op) => check!(self.convert_address(program, op, mask)),
            Op::InSpace(to, from, space) => check!(self.in_space(program, (*to, *from, *space), mask)),
            Op::Nop => {}
            Op::Load(_)
            | Op::Store(_)
            | Op::Atomic(_)
            | Op::Discard(_)
            | Op::Fence
            | Op::Malloc(..)
            | Op::Free(_)
            | Op::AsyncCopy(_) => return Step::Memory,
            Op::Branch(..)
            | Op::BranchTable(..)
            | Op::Call(_)
            | Op::Return
            | Op::Exit
            | Op::Trap
            | Op::Barrier(_)
            | Op::Exchange(_)
            | Op::Matrix(_) => return Step::Flow,
        }
        Step::Next
    }

    fn undefine(&mut self, file: RegisterFile, loc: Loc, mask: u32) {
        if let Some(index) = loc.register_index() {
            self.defined[file][self.base[file] + index] &= !mask;
        }
    }

    /// Writes the results of a comparison.
    #[inline(always)]
    fn outcome(
        &mut self,
        program: &Program,
        bits: u32,
        outcome: &SetPredicate,
        mask: u32,
    ) -> Result<(), Fault> {
        let SetPredicate { first, second, combine, with } = *outcome;
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
        let file = RegisterFile::of_width(carry.wide);
        self.need(program, file, &[a, b], mask)?;
        let bits = if carry.wide { 64 } else { 32 };
        let (mut out, mut flags) = ([0; LANES], 0);
        for (lane, out) in out.iter_mut().enumerate() {
            let get = |loc| u128::from(self.lane(program, Value::new(loc, carry.wide), lane));
            let flag = if carry.reads_flag { u128::from(self.carry >> lane & 1) } else { 0 };
            let sum = if carry.subtract {
                // a + not b + 1: the flag is the adder's carry, 0 where the PTX text specifies a borrow.
                let flag = if carry.reads_flag { flag } else { 1 };
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
        if carry.writes_flag {
            self.carry = self.carry & !mask | flags & mask;
        }
        Ok(())
    }

    /// Runs an instruction that accesses memory.
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
            Op::AsyncCopy(copy) => self.async_copy(cx, copy, line, mask),
            Op::Malloc(to, bytes) => self.malloc(cx, *to, *bytes, mask),
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

/// The result of an instruction.
enum Step {
    /// It is done; the next one follows.
    Next,
    /// It accesses memory: [`Warp::access`] runs it.
    Memory,
    /// It changes which lanes run, or needs several of them together: [`Warp::flow`] runs it.
    Flow,
    Fault(Box<Fault>),
}
