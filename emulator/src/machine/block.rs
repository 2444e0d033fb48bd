//! A block: its warps take turns until all have ended.

use std::sync::Mutex;

use super::barrier::Barriers;
use super::lanes::V32;
use super::program::{Program, SPECIALS, Special};
use super::step::{Failure, Stop};
use super::warp::{State, Warp, fault};
use crate::error::{Fault, FaultKind, Result};
use crate::memory::{Heap, LANES, Local, Memory, Shared, View};
use crate::options::{Checks, Geometry, Options, TensorCore};
use crate::report::Report;

/// Instructions of a warp's turn. It bounds how long a warp that waits for another one spins.
const TURN: u64 = 1 << 12;

/// Shared memory is given to blocks in multiples of so many bytes on sm_80 to sm_90.
const SHARED_UNIT: u32 = 128;

/// What a warp needs besides itself.
pub(super) struct Context<'a> {
    /// The code.
    pub program: &'a Program,
    /// Global memory.
    pub view: View<'a>,
    /// The block's shared memory.
    pub shared: Shared,
    /// The kernel's parameters.
    pub parameters: &'a [u8],
    /// The device's heap, for a kernel that uses it.
    pub heap: Option<&'a Mutex<Heap>>,
    /// What is looked for.
    pub checks: Checks,
    /// How `mma` computes.
    pub core: TensorCore,
    /// Counts.
    pub report: Report,
    /// Instructions of this block so far.
    pub used: u64,
}

/// A launch, as its blocks see it.
#[derive(Clone, Copy)]
pub(super) struct Launch<'a> {
    /// The code.
    pub program: &'a Program,
    /// Global memory.
    pub memory: &'a Memory,
    /// The kernel's parameters.
    pub parameters: &'a [u8],
    /// Grid and block.
    pub geometry: &'a Geometry,
    /// The device's heap, for a kernel that uses it.
    pub heap: Option<&'a Mutex<Heap>>,
    /// Checks and the like.
    pub options: &'a Options,
    /// Shared memory of a block, static and dynamic.
    pub shared: u32,
    /// Local memory of a thread.
    pub local: u32,
}

/// How far a block came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// Its turn is over.
    Paused,
    /// All its threads ended.
    Done,
}

/// A fault, where, and whose.
#[derive(Debug)]
pub(super) struct BlockFailure {
    /// The fault and its place.
    pub failure: Failure,
    /// The block's coordinates.
    pub block: [u32; 3],
    /// The thread's coordinates.
    pub thread: [u32; 3],
}

/// A block.
pub(super) struct Block<'a> {
    cx: Context<'a>,
    warps: Vec<Warp>,
    barriers: Barriers,
    geometry: &'a Geometry,
    coordinates: [u32; 3],
    budget: u64,
    has_local: bool,
    /// The warp whose turn it is.
    next: usize,
}

impl<'a> Block<'a> {
    /// Room for one block after another.
    pub fn new(launch: &Launch<'a>) -> Result<Self> {
        let Launch { geometry, options, .. } = *launch;
        let threads: u32 = geometry.block.iter().product();
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
                defined: [Vec::new(), Vec::new(), Vec::new()],
                carry: 0,
                frames: Vec::new(),
                stack: Vec::new(),
                specials: specials(geometry, launch.shared, index),
                local: Local::new(launch.local, checks)?,
                tops: Box::new([0; LANES]),
                lowest_top: 0,
                executed: 0,
                base: [0; 3],
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
            core: options.tensor_core,
            report: Report::default(),
            used: 0,
        };
        let barriers = Barriers::new();
        Ok(Self {
            cx,
            warps,
            barriers,
            geometry,
            coordinates: [0; 3],
            budget: options.budget,
            has_local: launch.local > 0,
            next: 0,
        })
    }

    /// Begins block `index` of the grid.
    pub fn start(&mut self, index: u64) {
        let [x, y, _] = self.geometry.grid.map(u64::from);
        self.coordinates = [(index % x) as u32, (index / x % y) as u32, (index / x / y) as u32];
        self.cx.shared.restart();
        self.cx.used = 0;
        self.barriers.restart();
        self.next = 0;
        let threads: u32 = self.geometry.block.iter().product();
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

    /// What the blocks that ran here did, added up.
    pub fn report(&self) -> &Report {
        &self.cx.report
    }

    /// Instructions of the current block so far.
    pub fn used(&self) -> u64 {
        self.cx.used
    }

    /// Runs for about `turn` instructions, or to the end.
    pub fn run(&mut self, turn: u64) -> Result<Progress, Box<BlockFailure>> {
        let end = self.cx.used.saturating_add(turn);
        loop {
            while self.next < self.warps.len() {
                let index = self.next;
                if self.warps[index].state == State::Ready {
                    self.turn(index)?;
                    if self.cx.used >= end {
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

    /// One warp's turn.
    fn turn(&mut self, index: usize) -> Result<(), Box<BlockFailure>> {
        let left = self.budget.saturating_sub(self.cx.used);
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
                let place = warp.place();
                match self.barriers.arrive(self.cx.program, warp, op, place, mask) {
                    Ok((id, waits)) => {
                        self.cx.report.barriers += 1;
                        self.cx.shared.arrive(id, index as u32);
                        if waits {
                            warp.state = State::Waiting;
                        } else {
                            warp.set_pc(place.1 + 1);
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

    /// Lets the warps of complete barriers go on.
    fn release(&mut self) {
        loop {
            let live =
                self.warps.iter().filter(|w| w.state != State::Done).fold(0, |m, w| m | 1u32 << w.index);
            let Some(complete) = self.barriers.complete(&mut self.warps, live) else { return };
            self.cx.shared.release(complete.id, complete.warps);
            for warp in self.warps.iter_mut().filter(|w| complete.warps >> w.index & 1 == 1) {
                warp.state = State::Ready;
                let (_, pc) = warp.place();
                warp.set_pc(pc + 1);
            }
        }
    }

    fn failure(&self, warp: usize, fault: Fault) -> Box<BlockFailure> {
        let (routine, pc) = self.warps.get(warp).map_or((0, 0), Warp::place);
        self.located(warp, Failure { fault, routine, pc })
    }

    fn located(&self, warp: usize, failure: Failure) -> Box<BlockFailure> {
        let thread = warp as u32 * LANES as u32 + failure.fault.lane;
        let [x, y, _] = self.geometry.block;
        Box::new(BlockFailure {
            failure,
            block: self.coordinates,
            thread: [thread % x, thread / x % y, thread / x / y],
        })
    }
}

/// The special registers of a warp that hold for all blocks; a block's coordinates are set when it begins.
fn specials(geometry: &Geometry, shared: u32, warp: u32) -> Box<[V32; SPECIALS]> {
    let mut out = Box::new([[0; LANES]; SPECIALS]);
    let [x, y, _] = geometry.block;
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
        set(block, &|_| geometry.block[axis]);
        set(grid, &|_| geometry.grid[axis]);
    }
    set(Special::Lane, &|lane| lane);
    set(Special::MaskEq, &|lane| 1 << lane);
    set(Special::MaskLe, &|lane| u32::MAX >> (31 - lane));
    set(Special::MaskLt, &|lane| (1 << lane) - 1);
    set(Special::MaskGe, &|lane| u32::MAX << lane);
    set(Special::MaskGt, &|lane| !(u32::MAX >> (31 - lane)));
    set(Special::Warp, &|_| warp);
    set(Special::DynamicShared, &|_| geometry.shared);
    set(Special::TotalShared, &|_| shared.next_multiple_of(SHARED_UNIT));
    out
}
