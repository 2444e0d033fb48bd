//! Calls and returns: arguments and results are copied between frames.

use super::context::fault;
use super::warp::Warp;
use crate::error::{Fault, FaultKind};
use crate::machine::lanes::{each, pack};
use crate::machine::program::{
    Argument, CallOp, Callee, CodeAddress, Formal, Op, PerFile, Pred, Program, RegisterFile, Value,
    function_at,
};
use crate::memory::{Access, LANES, Words};

/// The fault of an indirect call to a function whose parameters differ from the call's.
#[cold]
fn mismatch(mask: u32) -> Fault {
    fault(FaultKind::Trap, mask, "the function called has other parameters".to_owned())
}

/// One end of a copy between frames.
#[derive(Clone, Copy)]
enum End {
    /// An address in local memory.
    Local(u64),
    /// A register or constant of a frame.
    Value(Value),
}

impl Warp {
    /// The lanes of `mask` that call the same function as the first of them; `None` for a direct call.
    pub(super) fn same_callee(
        &self,
        program: &Program,
        op: &CallOp,
        mask: u32,
    ) -> Result<Option<u32>, Fault> {
        let Callee::Indirect(loc) = op.callee else { return Ok(None) };
        self.need(program, RegisterFile::Bits64, &[loc], mask)?;
        let targets = self.v64(program, loc);
        let first = targets[mask.trailing_zeros().min(31) as usize];
        Ok(Some(each(mask).filter(|&lane| targets[lane] == first).fold(0, |m, lane| m | 1 << lane)))
    }

    /// Calls for the lanes of `mask`, which all call one function. The entry's next instruction must be set already.
    pub(super) fn execute_call(
        &mut self,
        program: &Program,
        op: &CallOp,
        here: CodeAddress,
        mask: u32,
    ) -> Result<(), Fault> {
        let callee = match op.callee {
            Callee::Direct(routine) => routine,
            Callee::Indirect(loc) => {
                let first = self.v64(program, loc)[mask.trailing_zeros().min(31) as usize];
                let routine = function_at(first).and_then(|f| program.routine_of.get(f).copied().flatten());
                // The kernel is the first routine; it cannot be called.
                match routine.filter(|&routine| routine > 0) {
                    Some(routine) => routine,
                    None => {
                        let message = format!("{first:#x} is not a function's address");
                        return Err(fault(FaultKind::Trap, mask, message));
                    }
                }
            }
        };
        let routine = program.routines.get(callee);
        let formals = routine.map_or(&[][..], |r| &r.parameters);
        if formals.len() != op.arguments.len() || routine.is_none_or(|r| r.returns.len() != op.returns.len())
        {
            return Err(mismatch(mask));
        }
        let frame = self.frames.last().map_or(0, |f| f.local);
        let base = self.base;
        self.call(program, callee, here, mask)?;
        let inner = self.frames.last().map_or(0, |f| f.local);
        let inner_base = self.base;
        for (argument, formal) in op.arguments.iter().zip(formals) {
            self.pass(program, (*argument, frame, base), (*formal, inner, inner_base), mask, true)?;
        }
        Ok(())
    }

    /// Returns for the lanes of `mask`; false if the kernel itself returns.
    pub(super) fn execute_return(&mut self, program: &Program, mask: u32) -> Result<bool, Fault> {
        let Some((frame, below)) = self.frames.split_last() else { return Ok(false) };
        let (Some(call), Some(caller)) = (frame.caller, below.last()) else { return Ok(false) };
        let (inner, inner_base, outer, outer_base) = (frame.local, frame.base, caller.local, caller.base);
        let op = program.routines.get(call.routine).and_then(|r| r.code.get(call.pc as usize)).map(|i| &i.op);
        let formals = program.routines.get(frame.routine).map_or(&[][..], |r| &r.returns);
        if let Some(Op::Call(op)) = op {
            for (argument, formal) in op.returns.iter().zip(formals) {
                self.pass(
                    program,
                    (*argument, outer, outer_base),
                    (*formal, inner, inner_base),
                    mask,
                    false,
                )?;
            }
        }
        self.base = inner_base;
        self.end(mask, false);
        Ok(true)
    }

    /// Copies between a caller's argument and a function's formal parameter: in, or back.
    fn pass(
        &mut self,
        program: &Program,
        (argument, frame, base): (Argument, u64, PerFile<usize>),
        (formal, inner, inner_base): (Formal, u64, PerFile<usize>),
        mask: u32,
        inward: bool,
    ) -> Result<(), Fault> {
        let (outside, outside_bytes) = match argument {
            Argument::Predicate(outside) => {
                let Formal::Predicate(inside) = formal else { return Err(mismatch(mask)) };
                let (from, to) = if inward {
                    ((outside, base), (inside, inner_base))
                } else {
                    ((inside, inner_base), (outside, base))
                };
                self.pass_predicate(from, to, mask);
                return Ok(());
            }
            Argument::Frame { offset, bytes } => (End::Local(frame + offset), bytes),
            Argument::Value(value) => (End::Value(value), if value.wide { 8 } else { 4 }),
        };
        let (inside, inside_bytes) = match formal {
            Formal::Predicate(_) => return Err(mismatch(mask)),
            Formal::Frame { offset, bytes } => (End::Local(inner + offset), bytes),
            Formal::Register(value) => (End::Value(value), if value.wide { 8 } else { 4 }),
        };
        let bytes = outside_bytes.min(inside_bytes);
        let (from, from_base, to, to_base) =
            if inward { (outside, base, inside, inner_base) } else { (inside, inner_base, outside, base) };
        let mut at = 0;
        while at < bytes {
            // The widest piece that both alignments allow; a register is one piece.
            let aligned = |end: End| match end {
                End::Local(address) => 1u64 << (address + at).trailing_zeros().min(3),
                End::Value(_) => 8,
            };
            let fits = 1u64 << (bytes - at).ilog2().min(3);
            let piece = aligned(from).min(aligned(to)).min(fits);
            self.piece(program, (from, from_base), (to, to_base), (at, piece as u32), mask)?;
            at += piece;
        }
        Ok(())
    }

    /// Copies a predicate in the lanes in which it is defined.
    fn pass_predicate(&mut self, from: (Pred, PerFile<usize>), to: (Pred, PerFile<usize>), mask: u32) {
        self.base = from.1;
        let (bits, defined) = (self.predicate(from.0), self.defined_predicate(from.0));
        self.base = to.1;
        self.set_predicate(to.0, bits, mask & defined);
    }

    /// Copies `bytes` bytes at `at`; bytes that were never written stay unwritten.
    fn piece(
        &mut self,
        program: &Program,
        (from, from_base): (End, PerFile<usize>),
        (to, to_base): (End, PerFile<usize>),
        (at, bytes): (u64, u32),
        mask: u32,
    ) -> Result<(), Fault> {
        let mut words: Words = [[0; LANES]; 4];
        let mut mask = mask;
        match from {
            End::Local(address) => {
                let addresses = [address + at; LANES];
                if self.local.load(Access { mask, addresses: &addresses, bytes }, &mut words).is_err() {
                    // The padding of a struct may be unwritten: the other bytes are copied.
                    if let (End::Local(_), 2..) = (to, bytes) {
                        let (from, to, half) = ((from, from_base), (to, to_base), bytes / 2);
                        self.piece(program, from, to, (at, half), mask)?;
                        return self.piece(program, from, to, (at + u64::from(half), half), mask);
                    }
                    // Lanes without a value get none; a later read of it is an error.
                    let mut found = 0;
                    for lane in each(mask) {
                        let access = Access { mask: 1 << lane, addresses: &addresses, bytes };
                        found |= u32::from(self.local.load(access, &mut words).is_ok()) << lane;
                    }
                    mask = found;
                }
            }
            End::Value(value) => {
                self.base = from_base;
                mask &= self.defined_in(value.file(), value.loc);
                for (lane, word) in words[0].iter_mut().enumerate() {
                    *word = self.lane(program, value, lane) as u32;
                }
                for (lane, word) in words[1].iter_mut().enumerate() {
                    *word = (self.lane(program, value, lane) >> 32) as u32;
                }
            }
        }
        match to {
            End::Local(address) => {
                let addresses = [address + at; LANES];
                let result = self.local.store(Access { mask, addresses: &addresses, bytes }, &words);
                self.base = to_base;
                result
            }
            End::Value(value) => {
                self.base = to_base;
                if value.wide {
                    self.set64(value.loc, &pack(&words[0], &words[1]), mask);
                } else {
                    self.set32(value.loc, &words[0], mask);
                }
                Ok(())
            }
        }
    }
}
