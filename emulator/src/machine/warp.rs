//! A warp: its registers, which of them are defined, and its stack of lanes that wait for others.

use super::lanes::{FULL, V32, V64, blend, each};
use super::program::{Join, Loc, Place, Pred, Program, Routine, SPECIALS, Value};
use crate::error::{Fault, FaultKind};
use crate::memory::{LANES, Local};
use crate::options::Approximation;

/// Lanes that run together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    /// The next instruction.
    pub pc: u32,
    /// Where they meet the lanes of the entry below.
    pub join: Join,
    /// Which they are.
    pub mask: u32,
    /// They wait at their next instruction for lanes of other entries.
    pub waits: bool,
}

/// A function that runs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    /// Which.
    pub routine: usize,
    /// The first of its registers in each file.
    pub base: [usize; 3],
    /// Where its frame in local memory begins.
    pub local: u64,
    /// The first of its entries on the stack.
    pub stack: usize,
    /// The call that it returns to: routine and instruction.
    pub caller: Option<(usize, u32)>,
}

/// What a warp does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// It can run.
    Ready,
    /// It waits at a barrier of the block.
    Waiting,
    /// All its threads ended.
    Done,
}

/// Deepest nesting of calls.
const CALLS: usize = 256;

/// A warp.
#[derive(Debug)]
pub(super) struct Warp {
    /// Its index in the block.
    pub index: u32,
    /// Threads that exist and have not ended.
    pub live: u32,
    /// What it does next.
    pub state: State,
    pub r32: Vec<V32>,
    pub r64: Vec<V64>,
    pub predicates: Vec<u32>,
    /// For each register of the three files, the lanes that have written it.
    pub defined: [Vec<u32>; 3],
    /// The carry flag.
    pub carry: u32,
    pub frames: Vec<Frame>,
    pub stack: Vec<Entry>,
    pub specials: Box<[V32; SPECIALS]>,
    pub local: Local,
    /// Where what each lane took of the top of its memory begins, and the lowest that any did.
    pub tops: Box<V64>,
    pub lowest_top: u64,
    /// Instructions so far, for the clock.
    pub executed: u64,
    /// The current frame's bases.
    pub base: [usize; 3],
    /// Reads of undefined registers are looked for.
    pub checked: bool,
    /// The error of approximate instructions.
    pub approximation: Approximation,
}

impl Warp {
    /// Begins the kernel: all of `threads` at its first instruction.
    pub fn start(&mut self, program: &Program, threads: u32) {
        self.live = threads;
        self.state = State::Ready;
        self.r32.clear();
        self.r64.clear();
        self.predicates.clear();
        self.defined.iter_mut().for_each(Vec::clear);
        self.carry = 0;
        self.frames.clear();
        self.stack.clear();
        self.executed = 0;
        self.lowest_top = self.local.bytes();
        self.tops.fill(self.lowest_top);
        if let Some(kernel) = program.routines.first() {
            self.enter(0, kernel, program.locals, None, threads);
        }
    }

    /// Adds a frame for a routine that `mask` begins.
    fn enter(
        &mut self,
        index: usize,
        routine: &Routine,
        local: u64,
        caller: Option<(usize, u32)>,
        mask: u32,
    ) {
        let base = [self.r32.len(), self.r64.len(), self.predicates.len()];
        self.frames.push(Frame { routine: index, base, local, stack: self.stack.len(), caller });
        self.base = base;
        self.r32.resize(base[0] + routine.names[0].len(), [0; LANES]);
        self.r64.resize(base[1] + routine.names[1].len(), [0; LANES]);
        self.predicates.resize(base[2] + routine.names[2].len(), 0);
        for ((defined, base), names) in self.defined.iter_mut().zip(base).zip(&routine.names) {
            defined.resize(base + names.len(), 0);
        }
        self.stack.push(Entry { pc: 0, join: Join::END, mask, waits: false });
    }

    /// Calls a routine for the lanes of `mask`.
    pub fn call(
        &mut self,
        program: &Program,
        index: usize,
        caller: (usize, u32),
        mask: u32,
    ) -> Result<(), Fault> {
        let Some(routine) = program.routines.get(index) else {
            return Err(fault(FaultKind::Trap, mask, "a call of no function".to_owned()));
        };
        if self.frames.len() >= CALLS {
            let message = format!("calls nested deeper than {CALLS}");
            return Err(fault(FaultKind::Trap, mask, message));
        }
        let local = self.frames.last().map_or(0, |f| {
            (f.local + program.routines.get(f.routine).map_or(0, |r| r.frame)).next_multiple_of(16)
        });
        let end = local.saturating_add(routine.frame);
        if end > self.lowest_top
            && let Some(lane) = each(mask).find(|&lane| end > self.tops[lane])
        {
            let message = format!(
                "the call needs local memory up to {end:#x}, and alloca took it from {:#x} on",
                self.tops[lane]
            );
            return Err(fault(FaultKind::OutOfBounds, 1 << lane, message));
        }
        self.local.forget(mask, local, routine.frame);
        self.enter(index, routine, local, Some(caller), mask);
        Ok(())
    }

    /// Takes memory from the top of the lanes' own, down to this function's frame.
    pub fn take(
        &mut self,
        program: &Program,
        (to, bytes, align): (Value, Value, u64),
        mask: u32,
    ) -> Result<(), Fault> {
        self.need_value(program, bytes, mask)?;
        let frame = self.frames.last();
        let end = frame.map_or(0, |f| f.local + program.routines.get(f.routine).map_or(0, |r| r.frame));
        let mut out = *self.tops;
        for lane in each(mask) {
            let wanted = self.lane(program, bytes, lane);
            let top = self.tops[lane].checked_sub(wanted).map(|top| top / align * align);
            let Some(top) = top.filter(|&top| top >= end) else {
                let message = format!(
                    "alloca of {wanted} bytes: the thread has {} left of its {} bytes of local memory",
                    self.tops[lane].saturating_sub(end),
                    self.local.bytes()
                );
                return Err(fault(FaultKind::OutOfBounds, 1 << lane, message));
            };
            self.local.forget(1 << lane, top, self.tops[lane] - top);
            out[lane] = top;
            self.lowest_top = self.lowest_top.min(top);
        }
        *self.tops = out;
        self.set_column(to, &out, mask);
        Ok(())
    }

    /// Where what the lanes took begins.
    pub fn top(&mut self, to: Value, mask: u32) {
        let tops = *self.tops;
        self.set_column(to, &tops, mask);
    }

    /// Gives back what was taken below these places.
    pub fn set_top(&mut self, program: &Program, from: Value, mask: u32) -> Result<(), Fault> {
        self.need_value(program, from, mask)?;
        for lane in each(mask) {
            let top = self.lane(program, from, lane);
            if top < self.tops[lane] || top > self.local.bytes() {
                let message = format!("stackrestore to {top:#x}, which stacksave did not give");
                return Err(fault(FaultKind::OutOfBounds, 1 << lane, message));
            }
            self.tops[lane] = top;
        }
        Ok(())
    }

    fn set_column(&mut self, to: Value, column: &V64, mask: u32) {
        if to.wide {
            self.set64(to.loc, column, mask);
        } else {
            self.set32(to.loc, &column.map(|x| x as u32), mask);
        }
    }

    /// Drops all frames beyond `depth`.
    pub fn leave(&mut self, depth: usize) {
        if let Some(frame) = self.frames.get(depth) {
            self.stack.truncate(frame.stack);
            self.frames.truncate(depth);
        }
    }

    /// Takes off entries that are done, and frames without entries. False when no thread is left.
    pub fn settle(&mut self) -> bool {
        loop {
            let Some(frame) = self.frames.last().copied() else { return false };
            match self.stack.get(frame.stack..).and_then(<[Entry]>::last) {
                Some(top) if top.mask == 0 || top.pc == top.join.0 => {
                    self.stack.pop();
                }
                Some(_) => return true,
                None => {
                    self.frames.pop();
                    self.r32.truncate(frame.base[0]);
                    self.r64.truncate(frame.base[1]);
                    self.predicates.truncate(frame.base[2]);
                    for (defined, base) in self.defined.iter_mut().zip(frame.base) {
                        defined.truncate(base);
                    }
                    self.base = self.frames.last().map_or([0; 3], |f| f.base);
                }
            }
        }
    }

    /// The top entry's lanes part: `taken` goes to `target`, the others go on.
    pub fn part(&mut self, target: u32, taken: u32, join: Join) {
        let Some(top) = self.stack.last_mut() else { return };
        let (next, rest) = (top.pc + 1, top.mask & !taken);
        if rest == 0 {
            top.pc = target;
            return;
        }
        if taken == 0 {
            top.pc = next;
            return;
        }
        if join == Join::END || join == top.join {
            self.stack.pop();
        } else {
            top.pc = join.0;
        }
        for (pc, mask) in [(next, rest), (target, taken)] {
            if pc != join.0 {
                self.stack.push(Entry { pc, join, mask, waits: false });
            }
        }
    }

    /// Lanes end: in the whole warp, or (a return) in the current frame only.
    pub fn end(&mut self, mask: u32, everywhere: bool) {
        let first = if everywhere { 0 } else { self.frames.last().map_or(0, |f| f.stack) };
        for entry in self.stack.iter_mut().skip(first) {
            entry.mask &= !mask;
        }
        if everywhere {
            self.live &= !mask;
        }
    }

    /// Lanes that stand apart from the top entry's, at an instruction that wants them together: runs them first, as far as
    /// they go, so that they may come here or end. False if none can.
    ///
    /// Lanes that part where a path returns early meet only where the function ends. On hardware they meet again at the
    /// next instruction that waits for all of them, and threads that jump to a return are gone.
    pub fn gather(&mut self, program: &Program) -> bool {
        if self.end_waiting(program) {
            return true;
        }
        let first = self.frames.last().map_or(0, |f| f.stack);
        let entries = &mut self.stack[first..];
        let Some((top, below)) = entries.split_last() else { return false };
        // The entries of one branch have the same meeting point and lie next to each other.
        let siblings = below.iter().rev().take_while(|e| e.join == top.join).count();
        let here = entries.len() - 1;
        let (pc, mask) = (top.pc, top.mask);
        let range = here - siblings..=here;
        let together = entries[range.clone()].iter().filter(|e| e.pc == pc).fold(0, |m, e| m | e.mask);
        if together != mask {
            for entry in entries[range].iter_mut().filter(|e| e.pc == pc) {
                entry.mask = 0;
            }
            entries[here].mask = together;
            entries[here].waits = false;
            return true;
        }
        entries[here].waits = true;
        match (here - siblings..here).rev().find(|&at| entries[at].mask != 0 && !entries[at].waits) {
            Some(at) => {
                entries[at..=here].rotate_left(1);
                true
            }
            None => false,
        }
    }

    /// Ends the lanes that wait at a return of the kernel for others to come there too.
    fn end_waiting(&mut self, program: &Program) -> bool {
        let Some(kernel) = program.routines.first() else { return false };
        let last = self.frames.get(1).map_or(self.stack.len(), |f| f.stack);
        let (mut above, mut gone) = (0, 0);
        for (at, entry) in self.stack.iter().enumerate().rev() {
            let ends = kernel.code.get(entry.pc as usize).is_some_and(|inst| {
                matches!(inst.op, super::program::Op::Return | super::program::Op::Exit)
                    && inst.guard.is_none()
            });
            if at < last && ends {
                gone |= entry.mask & !above;
            }
            above |= entry.mask;
        }
        self.end(gone, true);
        gone != 0
    }

    /// The column of a 32-bit operand.
    #[inline(always)]
    pub fn v32<'s>(&'s self, program: &'s Program, loc: Loc) -> &'s V32 {
        match loc.place() {
            Place::Register(index) => &self.r32[self.base[0] + index],
            Place::Constant(index) => &program.constants32[index],
            Place::Special(index) => &self.specials[index],
        }
    }

    /// The column of a 64-bit operand.
    #[inline(always)]
    pub fn v64<'s>(&'s self, program: &'s Program, loc: Loc) -> &'s V64 {
        match loc.place() {
            Place::Register(index) => &self.r64[self.base[1] + index],
            Place::Constant(index) | Place::Special(index) => &program.constants64[index],
        }
    }

    /// One lane of an operand of either width.
    #[inline(always)]
    pub fn lane(&self, program: &Program, value: Value, lane: usize) -> u64 {
        if value.wide {
            self.v64(program, value.loc)[lane]
        } else {
            u64::from(self.v32(program, value.loc)[lane])
        }
    }

    /// The lanes of a predicate.
    #[inline(always)]
    pub fn predicate(&self, p: Pred) -> u32 {
        let bits = if p.is_none() { FULL } else { self.predicates[self.base[2] + p.index as usize] };
        if p.negated { !bits } else { bits }
    }

    /// Writes lanes of a 32-bit register.
    #[inline(always)]
    pub fn set32(&mut self, to: Loc, value: &V32, mask: u32) {
        if let Some(index) = to.index() {
            let index = self.base[0] + index;
            blend(&mut self.r32[index], value, mask);
            self.defined[0][index] |= mask;
        }
    }

    /// Writes lanes of a 64-bit register.
    #[inline(always)]
    pub fn set64(&mut self, to: Loc, value: &V64, mask: u32) {
        if let Some(index) = to.index() {
            let index = self.base[1] + index;
            blend(&mut self.r64[index], value, mask);
            self.defined[1][index] |= mask;
        }
    }

    /// Writes lanes of a predicate.
    #[inline(always)]
    pub fn set_predicate(&mut self, to: Pred, bits: u32, mask: u32) {
        if !to.is_none() {
            let index = self.base[2] + to.index as usize;
            let p = &mut self.predicates[index];
            *p = *p & !mask | bits & mask;
            self.defined[2][index] |= mask;
        }
    }

    /// The lanes in which a register of file 0 (32 bits) or 1 (64 bits) is defined.
    #[inline(always)]
    pub fn defined_in(&self, file: usize, loc: Loc) -> u32 {
        match loc.index() {
            Some(index) => self.defined[file][self.base[file] + index],
            None => FULL,
        }
    }

    /// The lanes in which a predicate is defined.
    #[inline(always)]
    pub fn defined_predicate(&self, p: Pred) -> u32 {
        if p.is_none() { FULL } else { self.defined[2][self.base[2] + p.index as usize] }
    }

    /// An error unless these operands of one file are defined in all of `mask`.
    #[inline(always)]
    pub fn need(&self, program: &Program, file: usize, locs: &[Loc], mask: u32) -> Result<(), Fault> {
        if !self.checked {
            return Ok(());
        }
        let mut all = FULL;
        for loc in locs {
            all &= self.defined_in(file, *loc);
        }
        if all & mask == mask {
            return Ok(());
        }
        Err(self.undefined(program, file, locs, mask))
    }

    /// [`Warp::need`] of a value of either width.
    #[inline(always)]
    pub fn need_value(&self, program: &Program, value: Value, mask: u32) -> Result<(), Fault> {
        self.need(program, usize::from(value.wide), &[value.loc], mask)
    }

    /// [`Warp::need`] of a predicate.
    #[inline(always)]
    pub fn need_predicate(&self, program: &Program, p: Pred, mask: u32) -> Result<(), Fault> {
        if !self.checked || self.defined_predicate(p) & mask == mask {
            return Ok(());
        }
        Err(self.undefined(program, 2, &[Loc::register(p.index as usize)], mask))
    }

    #[cold]
    fn undefined(&self, program: &Program, file: usize, locs: &[Loc], mask: u32) -> Fault {
        let routine = self.frames.last().and_then(|f| program.routines.get(f.routine));
        for loc in locs {
            let missing = mask & !self.defined_in(file, *loc);
            if missing != 0 {
                let name = routine.and_then(|r| r.names[file].get(loc.index()?)).map_or("a register", |n| n);
                return fault(
                    FaultKind::UninitialisedRegister,
                    missing,
                    format!("{name} is read, but this thread has not written it"),
                );
            }
        }
        fault(FaultKind::UninitialisedRegister, mask, "a register is read that nothing wrote".to_owned())
    }
}

/// A fault of the lowest lane of `mask`, without an address.
#[cold]
pub(super) fn fault(kind: FaultKind, mask: u32, message: String) -> Fault {
    Fault { kind, lane: mask.trailing_zeros().min(31), address: None, message }
}
