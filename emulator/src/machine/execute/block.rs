//! A block: its warps take turns until all have ended.

use crate::machine::program::{PerFile, Program, SPECIALS, Special};
use std::sync::Mutex;

use super::barrier::Barriers;
use super::context::{Context, Failure, Stop, fault};
use super::warp::{State, Warp};
use crate::error::{Fault, FaultKind, Result};
use crate::machine::lanes::V32;
use crate::memory::{Heap, LANES, Local, Memory, Shared};
use crate::options::{LaunchConfig, Options};
use crate::report::Report;

/// Instructions of a warp's turn. It bounds how long a warp that waits for another one spins.
const TURN: u64 = 1 << 12;

/// Granularity of shared memory in bytes on sm_80 to sm_90.
const SHARED_UNIT: u32 = 128;

/// The parts of a launch that its blocks need.
#[derive(Clone, Copy)]
pub(crate) struct Launch<'a> {
    pub program: &'a Program,
    /// View of global memory.
    pub memory: &'a Memory,
    /// Bytes of the kernel's parameters.
    pub parameters: &'a [u8],
    pub config: &'a LaunchConfig,
    /// The device's heap; `None` for a kernel that does not use it.
    pub heap: Option<&'a Mutex<Heap>>,
    pub options: &'a Options,
    /// Shared memory per block in bytes, static and dynamic.
    pub shared: u32,
    /// Local memory per thread in bytes.
    pub local: u32,
}

/// Progress of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Its turn ended; more instructions remain.
    Paused,
    /// All its threads ended.
    Done,
}

/// A fault with its instruction, block and thread.
#[derive(Debug)]
pub(crate) struct BlockFailure {
    pub failure: Failure,
    /// The block's coordinates in the grid.
    pub block: [u32; 3],
    /// The thread's coordinates in the block.
    pub thread: [u32; 3],
}

/// A block of threads; runs one block of the grid after another.
pub(crate) struct Block<'a> {
    cx: Context<'a>,
    warps: Vec<Warp>,
    barriers: Barriers,
    config: &'a LaunchConfig,
    coordinates: [u32; 3],
    budget: u64,
    has_local: bool,
    /// Index of the warp whose turn it is.
    next: usize,
}

impl<'a> Block<'a> {
    /// The memories and warps of a block.
    pub fn new(launch: &Launch<'a>) -> Result<Self> {
        let Launch { config, options, .. } = *launch;
        let threads: u32 = config.block.iter().product();
        let checks = options.checks;
        let count = threads.div_ceil(LANES as u32);
        let mut warps = Vec::new();
        for index in 0..count {
            warps.push(Warp {
                index,
                live: 0,
                state: State::Ready,
                r32: Vec::new(),
                r64: Vec::new(),
                predicates: Vec::new(),
                defined: PerFile::default(),
                carry: 0,
                frames: Vec::new(),
                stack: Vec::new(),
                specials: specials(config, launch.shared, index),
                local: Local::new(launch.local, checks)?,
                tops: Box::new([0; LANES]),
                lowest_top: 0,
                executed: 0,
                base: PerFile::default(),
                checked: checks.uninitialised_registers,
                approximation: options.approximation,
            });
        }
        let cx = Context {
            program: launch.program,
            view: launch.memory.view(checks),
            shared: Shared::new(launch.shared, threads, checks)?,
            parameters: launch.parameters,
            heap: launch.heap,
            checks,
            tensor_core: options.tensor_core,
            report: Report::default(),
            executed: 0,
        };
        let barriers = Barriers::new();
        Ok(Self {
            cx,
            warps,
            barriers,
            config,
            coordinates: [0; 3],
            budget: options.budget,
            has_local: launch.local > 0,
            next: 0,
        })
    }

    /// Begins block `index` of the grid.
    pub fn start(&mut self, index: u64) {
        let [x, y, _] = self.config.grid.map(u64::from);
        self.coordinates = [(index % x) as u32, (index / x % y) as u32, (index / x / y) as u32];
        self.cx.shared.restart();
        self.cx.executed = 0;
        self.barriers.restart();
        self.next = 0;
        let threads: u32 = self.config.block.iter().product();
        for warp in &mut self.warps {
            let left = threads - warp.index * LANES as u32;
            warp.start(self.cx.program, if left >= 32 { u32::MAX } else { (1 << left) - 1 });
            if self.has_local {
                warp.local.restart();
            }
            for (axis, special) in [Special::CtaidX, Special::CtaidY, Special::CtaidZ].into_iter().enumerate()
            {
                warp.specials[special as usize] = [self.coordinates[axis]; LANES];
            }
        }
    }

    /// The counts of all blocks that ran here.
    pub fn report(&self) -> &Report {
        &self.cx.report
    }

    /// Number of instructions of the current block so far.
    pub fn executed(&self) -> u64 {
        self.cx.executed
    }

    /// Runs for about `turn` instructions, or to the end.
    pub fn run(&mut self, turn: u64) -> Result<Progress, Box<BlockFailure>> {
        let end = self.cx.executed.saturating_add(turn);
        loop {
            while self.next < self.warps.len() {
                let index = self.next;
                if self.warps[index].state == State::Ready {
                    self.turn(index)?;
                    if self.cx.executed >= end {
                        self.next += 1;
                        return Ok(Progress::Paused);
                    }
                }
                self.next += 1;
            }
            self.next = 0;
            if self.warps.iter().any(|w| w.state == State::Ready) {
                continue;
            }
            if let Some(index) = self.warps.iter().position(|w| w.state == State::Waiting) {
                let mask = self.warps[index].live;
                let message = format!("no warp can go on: {}", self.barriers.describe());
                return Err(self.failure(index, fault(FaultKind::Deadlock, mask, message)));
            }
            return Ok(Progress::Done);
        }
    }

    /// Runs one warp for its turn.
    fn turn(&mut self, index: usize) -> Result<(), Box<BlockFailure>> {
        let left = self.budget.saturating_sub(self.cx.executed);
        if left == 0 {
            let message = format!("the launch's budget of {} instructions is spent", self.budget);
            let mask = self.warps[index].stack.last().map_or(1, |e| e.mask);
            return Err(self.failure(index, fault(FaultKind::Budget, mask, message)));
        }
        let warp = &mut self.warps[index];
        match warp.run(&mut self.cx, left.min(TURN)) {
            Ok(Stop::Turn) => {}
            Ok(Stop::Done) => {
                warp.state = State::Done;
                self.cx.shared.end_warp(index as u32);
                self.release();
            }
            Ok(Stop::Barrier(op, mask)) => {
                let at = warp.position();
                match self.barriers.arrive(self.cx.program, warp, op, at, mask) {
                    Ok((id, waits)) => {
                        self.cx.report.barriers += 1;
                        self.cx.shared.arrive(id, index as u32);
                        if waits {
                            warp.state = State::Waiting;
                        } else {
                            warp.set_pc(at.pc + 1);
                        }
                        self.release();
                    }
                    Err(fault) => return Err(self.failure(index, fault)),
                }
            }
            Err(failure) => return Err(self.located(index, failure)),
        }
        Ok(())
    }

    /// Releases the warps of complete barriers.
    fn release(&mut self) {
        loop {
            let live =
                self.warps.iter().filter(|w| w.state != State::Done).fold(0, |m, w| m | 1u32 << w.index);
            let Some(complete) = self.barriers.complete(&mut self.warps, live) else { return };
            self.cx.shared.release(complete.id, complete.warps);
            for warp in self.warps.iter_mut().filter(|w| complete.warps >> w.index & 1 == 1) {
                warp.state = State::Ready;
                warp.set_pc(warp.position().pc + 1);
            }
        }
    }

    fn failure(&self, warp: usize, fault: Fault) -> Box<BlockFailure> {
        let at = self.warps.get(warp).map_or_else(Default::default, Warp::position);
        self.located(warp, Failure { fault, at })
    }

    fn located(&self, warp: usize, failure: Failure) -> Box<BlockFailure> {
        let thread = warp as u32 * LANES as u32 + failure.fault.lane;
        let [x, y, _] = self.config.block;
        Box::new(BlockFailure {
            failure,
            block: self.coordinates,
            thread: [thread % x, thread / x % y, thread / x / y],
        })
    }
}

/// The special registers of a warp that are the same for all blocks; a block's coordinates are set when it begins.
fn specials(config: &LaunchConfig, shared: u32, warp: u32) -> Box<[V32; SPECIALS]> {
    let mut out = Box::new([[0; LANES]; SPECIALS]);
    let [x, y, _] = config.block;
    let mut set = |special: Special, f: &dyn Fn(u32) -> u32| {
        out[special as usize] = std::array::from_fn(|lane| f(lane as u32));
    };
    let thread = |lane: u32| warp * LANES as u32 + lane;
    set(Special::TidX, &|lane| thread(lane) % x);
    set(Special::TidY, &|lane| thread(lane) / x % y);
    set(Special::TidZ, &|lane| thread(lane) / x / y);
    for (axis, (block, grid)) in [
        (Special::NtidX, Special::NctaidX),
        (Special::NtidY, Special::NctaidY),
        (Special::NtidZ, Special::NctaidZ),
    ]
    .into_iter()
    .enumerate()
    {
        set(block, &|_| config.block[axis]);
        set(grid, &|_| config.grid[axis]);
    }
    set(Special::Lane, &|lane| lane);
    set(Special::MaskEq, &|lane| 1 << lane);
    set(Special::MaskLe, &|lane| u32::MAX >> (31 - lane));
    set(Special::MaskLt, &|lane| (1 << lane) - 1);
    set(Special::MaskGe, &|lane| u32::MAX << lane);
    set(Special::MaskGt, &|lane| !(u32::MAX >> (31 - lane)));
    set(Special::Warp, &|_| warp);
    set(Special::DynamicShared, &|_| config.shared);
    set(Special::TotalShared, &|_| shared.next_multiple_of(SHARED_UNIT));
    out
}
