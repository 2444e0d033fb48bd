//! A warp: its registers, which of them are defined, and its stack of diverged lanes.

use super::context::fault;
use crate::error::{Fault, FaultKind};
use crate::machine::lanes::{FULL, V32, V64, blend, each};
use crate::machine::program::{
    CodeAddress, Loc, LocKind, Op, PerFile, Pred, Program, Reconvergence, RegisterFile, Routine, SPECIALS,
    Value,
};
use crate::memory::{LANES, Local};
use crate::options::Approximation;

/// Lanes that run together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    /// Index of their next instruction.
    pub pc: u32,
    /// The instruction at which they rejoin the lanes of the entry below.
    pub reconverge: Reconvergence,
    pub mask: u32,
    /// They wait at their next instruction for lanes of other entries.
    pub waits: bool,
}

/// A function in execution.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    /// Its index among the program's routines.
    pub routine: usize,
    /// Index of its first register in each file.
    pub base: PerFile<usize>,
    /// First byte of its frame in local memory.
    pub local: u64,
    /// The first of its entries on the stack.
    pub stack: usize,
    /// The call that it returns to; `None` for the kernel.
    pub caller: Option<CodeAddress>,
}

/// The state of a warp between its turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Ready,
    /// It waits at a barrier of the block.
    Waiting,
    /// All its threads have ended.
    Done,
}

/// Deepest nesting of calls.
const CALLS: usize = 256;

#[derive(Debug)]
pub(super) struct Warp {
    /// Index in the block.
    pub index: u32,
    /// Mask of the threads that exist and have not ended.
    pub live: u32,
    pub state: State,
    /// The file of 32-bit registers, all frames behind one another.
    pub r32: Vec<V32>,
    /// The file of 64-bit registers.
    pub r64: Vec<V64>,
    /// The file of predicates, a mask each.
    pub predicates: Vec<u32>,
    /// For each register, the mask of the lanes that have written it.
    pub defined: PerFile<Vec<u32>>,
    /// Mask of the carry flag.
    pub carry: u32,
    pub frames: Vec<Frame>,
    pub stack: Vec<Entry>,
    pub specials: Box<[V32; SPECIALS]>,
    pub local: Local,
    /// For each lane, the lowest address that `alloca` has taken from the top of local memory.
    pub tops: Box<V64>,
    /// The lowest value of `tops` so far.
    pub lowest_top: u64,
    /// Number of instructions so far, for the clock.
    pub executed: u64,
    /// The `base` of the current frame.
    pub base: PerFile<usize>,
    /// Whether a read of an undefined register is an error.
    pub checked: bool,
    pub approximation: Approximation,
}

impl Warp {
    /// Starts the kernel with the lanes of `threads`.
    pub fn start(&mut self, program: &Program, threads: u32) {
        self.live = threads;
        self.state = State::Ready;
        self.r32.clear();
        self.r64.clear();
        self.predicates.clear();
        self.defined.0.iter_mut().for_each(Vec::clear);
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

    /// Adds a frame for a routine that the lanes of `mask` enter.
    fn enter(&mut self, index: usize, routine: &Routine, local: u64, caller: Option<CodeAddress>, mask: u32) {
        let base = PerFile([self.r32.len(), self.r64.len(), self.predicates.len()]);
        self.frames.push(Frame { routine: index, base, local, stack: self.stack.len(), caller });
        self.base = base;
        let names = &routine.register_names;
        let end = |file| base[file] + names[file].len();
        self.r32.resize(end(RegisterFile::Bits32), [0; LANES]);
        self.r64.resize(end(RegisterFile::Bits64), [0; LANES]);
        self.predicates.resize(end(RegisterFile::Predicate), 0);
        for file in RegisterFile::ALL {
            self.defined[file].resize(end(file), 0);
        }
        self.stack.push(Entry { pc: 0, reconverge: Reconvergence::END, mask, waits: false });
    }

    /// Calls a routine for the lanes of `mask`.
    pub fn call(
        &mut self,
        program: &Program,
        index: usize,
        caller: CodeAddress,
        mask: u32,
    ) -> Result<(), Fault> {
        let Some(routine) = program.routines.get(index) else {
            return Err(fault(FaultKind::Trap, mask, "a call to a function that does not exist".to_owned()));
        };
        if self.frames.len() >= CALLS {
            let message = format!("calls nested deeper than {CALLS}");
            return Err(fault(FaultKind::Trap, mask, message));
        }
        let local =
            self.frames.last().map_or(0, |f| (f.local + program.frame_of(f.routine)).next_multiple_of(16));
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
        self.local.mark_unwritten(mask, local, routine.frame);
        self.enter(index, routine, local, Some(caller), mask);
        Ok(())
    }

    /// Writes lanes of a register of either width; 32 bits take the low half.
    pub fn set_column(&mut self, to: Value, column: &V64, mask: u32) {
        if to.wide {
            self.set64(to.loc, column, mask);
        } else {
            self.set32(to.loc, &column.map(|x| x as u32), mask);
        }
    }

    /// Removes all frames beyond `depth`.
    pub fn leave(&mut self, depth: usize) {
        if let Some(frame) = self.frames.get(depth) {
            self.stack.truncate(frame.stack);
            self.frames.truncate(depth);
        }
    }

    /// Removes entries that have reached their reconvergence point, and frames without entries. False if all threads
    /// have ended.
    pub fn settle(&mut self) -> bool {
        loop {
            let Some(frame) = self.frames.last().copied() else { return false };
            match self.stack.get(frame.stack..).and_then(<[Entry]>::last) {
                Some(top) if top.mask == 0 || top.pc == top.reconverge.0 => {
                    self.stack.pop();
                }
                Some(_) => return true,
                None => {
                    self.frames.pop();
                    self.r32.truncate(frame.base[RegisterFile::Bits32]);
                    self.r64.truncate(frame.base[RegisterFile::Bits64]);
                    self.predicates.truncate(frame.base[RegisterFile::Predicate]);
                    for file in RegisterFile::ALL {
                        self.defined[file].truncate(frame.base[file]);
                    }
                    self.base = self.frames.last().map_or(PerFile::default(), |f| f.base);
                }
            }
        }
    }

    /// The lanes of the top entry diverge: `taken` goes to `target`, the others to the next instruction.
    pub fn part(&mut self, target: u32, taken: u32, reconverge: Reconvergence) {
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
        if reconverge == Reconvergence::END || reconverge == top.reconverge {
            self.stack.pop();
        } else {
            top.pc = reconverge.0;
        }
        for (pc, mask) in [(next, rest), (target, taken)] {
            if pc != reconverge.0 {
                self.stack.push(Entry { pc, reconverge, mask, waits: false });
            }
        }
    }

    /// Ends lanes: in the whole warp, or (a return) in the current frame only.
    pub fn end(&mut self, mask: u32, everywhere: bool) {
        let first = if everywhere { 0 } else { self.frames.last().map_or(0, |f| f.stack) };
        for entry in self.stack.iter_mut().skip(first) {
            entry.mask &= !mask;
        }
        if everywhere {
            self.live &= !mask;
        }
    }

    /// At an instruction that needs several lanes together: lets diverged lanes run first, so that they reach the
    /// instruction or end. False if no other lanes can run.
    ///
    /// If a path returns early, the immediate post-dominator is the end of the function. On hardware the lanes reconverge
    /// at the next instruction that waits for all of them, and threads that jump to a return have ended.
    pub fn gather(&mut self, program: &Program) -> bool {
        if self.end_waiting(program) {
            return true;
        }
        let first = self.frames.last().map_or(0, |f| f.stack);
        let entries = &mut self.stack[first..];
        let Some((top, below)) = entries.split_last() else { return false };
        // The entries of one branch have the same reconvergence point and are neighbours on the stack.
        let siblings = below.iter().rev().take_while(|e| e.reconverge == top.reconverge).count();
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

    /// Ends the lanes that wait at a return of the kernel for other lanes.
    fn end_waiting(&mut self, program: &Program) -> bool {
        let Some(kernel) = program.routines.first() else { return false };
        let last = self.frames.get(1).map_or(self.stack.len(), |f| f.stack);
        let (mut above, mut gone) = (0, 0);
        for (at, entry) in self.stack.iter().enumerate().rev() {
            let ends = kernel
                .code
                .get(entry.pc as usize)
                .is_some_and(|inst| matches!(inst.op, Op::Return | Op::Exit) && inst.guard.is_none());
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
        match loc.kind() {
            LocKind::Register(index) => &self.r32[self.base[RegisterFile::Bits32] + index],
            LocKind::Constant(index) => &program.constants32[index],
            LocKind::Special(index) => &self.specials[index],
        }
    }

    /// The column of a 64-bit operand.
    #[inline(always)]
    pub fn v64<'s>(&'s self, program: &'s Program, loc: Loc) -> &'s V64 {
        match loc.kind() {
            LocKind::Register(index) => &self.r64[self.base[RegisterFile::Bits64] + index],
            LocKind::Constant(index) | LocKind::Special(index) => &program.constants64[index],
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
        let bits = if p.is_none() {
            FULL
        } else {
            self.predicates[self.base[RegisterFile::Predicate] + p.index as usize]
        };
        if p.negated { !bits } else { bits }
    }

    /// Writes lanes of a 32-bit register.
    #[inline(always)]
    pub fn set32(&mut self, to: Loc, value: &V32, mask: u32) {
        if let Some(index) = to.register_index() {
            let index = self.base[RegisterFile::Bits32] + index;
            blend(&mut self.r32[index], value, mask);
            self.defined[RegisterFile::Bits32][index] |= mask;
        }
    }

    /// Writes lanes of a 64-bit register.
    #[inline(always)]
    pub fn set64(&mut self, to: Loc, value: &V64, mask: u32) {
        if let Some(index) = to.register_index() {
            let index = self.base[RegisterFile::Bits64] + index;
            blend(&mut self.r64[index], value, mask);
            self.defined[RegisterFile::Bits64][index] |= mask;
        }
    }

    /// Writes lanes of a predicate.
    #[inline(always)]
    pub fn set_predicate(&mut self, to: Pred, bits: u32, mask: u32) {
        if !to.is_none() {
            let index = self.base[RegisterFile::Predicate] + to.index as usize;
            let p = &mut self.predicates[index];
            *p = *p & !mask | bits & mask;
            self.defined[RegisterFile::Predicate][index] |= mask;
        }
    }

    /// The lanes in which a register is defined; all lanes for constants.
    #[inline(always)]
    pub fn defined_in(&self, file: RegisterFile, loc: Loc) -> u32 {
        match loc.register_index() {
            Some(index) => self.defined[file][self.base[file] + index],
            None => FULL,
        }
    }

    /// The lanes in which a predicate is defined.
    #[inline(always)]
    pub fn defined_predicate(&self, p: Pred) -> u32 {
        if p.is_none() {
            FULL
        } else {
            self.defined[RegisterFile::Predicate][self.base[RegisterFile::Predicate] + p.index as usize]
        }
    }

    /// An error unless these operands of one file are defined in all lanes of `mask`.
    #[inline(always)]
    pub fn need(&self, program: &Program, file: RegisterFile, locs: &[Loc], mask: u32) -> Result<(), Fault> {
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
        self.need(program, value.file(), &[value.loc], mask)
    }

    /// [`Warp::need`] of a predicate.
    #[inline(always)]
    pub fn need_predicate(&self, program: &Program, p: Pred, mask: u32) -> Result<(), Fault> {
        if !self.checked || self.defined_predicate(p) & mask == mask {
            return Ok(());
        }
        Err(self.undefined(program, RegisterFile::Predicate, &[Loc::register(p.index as usize)], mask))
    }

    #[cold]
    fn undefined(&self, program: &Program, file: RegisterFile, locs: &[Loc], mask: u32) -> Fault {
        let routine = self.frames.last().and_then(|f| program.routines.get(f.routine));
        for loc in locs {
            let missing = mask & !self.defined_in(file, *loc);
            if missing != 0 {
                let name = routine
                    .and_then(|r| r.register_names[file].get(loc.register_index()?))
                    .map_or("a register", |n| n);
                return fault(
                    FaultKind::UninitialisedRegister,
                    missing,
                    format!("{name} is read, but this thread has not written it"),
                );
            }
        }
        fault(
            FaultKind::UninitialisedRegister,
            mask,
            "a register is read that no instruction wrote".to_owned(),
        )
    }
}
