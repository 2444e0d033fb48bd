//! Barriers of a block (PTX ISA, "bar, barrier").

use super::lanes::each;
use super::program::{Loc, Pred, Program};
use super::warp::{Warp, fault};
use crate::error::{Fault, FaultKind};
use crate::memory::{BARRIERS, LANES};

/// What a barrier instruction does.
#[derive(Debug, Clone, Copy, Default)]
pub(super) enum BarrierKind {
    /// Arrives and waits.
    #[default]
    Sync,
    /// Arrives and goes on.
    Arrive,
    /// Waits, and counts the threads whose predicate is true.
    Count(Loc, Pred),
    /// Waits, and asks whether all or any predicates are true.
    Vote {
        /// All, not any.
        all: bool,
        /// Where the answer goes.
        to: Pred,
        /// What is asked.
        from: Pred,
    },
    /// `bar.warp.sync` with its member mask.
    Warp(Loc),
}

/// A barrier instruction.
#[derive(Debug, Clone, Copy)]
pub(super) struct BarrierOp {
    /// What it does.
    pub kind: BarrierKind,
    /// The barrier's number.
    pub id: Loc,
    /// How many threads it waits for; all where there is none.
    pub count: Option<Loc>,
    /// The whole warp must run it.
    pub aligned: bool,
}

impl Default for BarrierOp {
    fn default() -> Self {
        Self { kind: BarrierKind::Sync, id: Loc::ZERO, count: None, aligned: true }
    }
}

/// A warp that waits.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    warp: usize,
    lanes: u32,
    kind: BarrierKind,
}

/// One barrier.
#[derive(Debug, Clone, Default)]
struct Barrier {
    /// Threads that it waits for, if it was said.
    expected: Option<u32>,
    /// Where the first warp came to it.
    place: (usize, u32),
    /// Threads that arrived.
    arrived: u32,
    /// Warps that arrived, waiting or not.
    warps: u32,
    waiting: Vec<Waiting>,
    /// Predicates so far: how many were true, of how many.
    ayes: u32,
    votes: u32,
}

/// The barriers of a block.
#[derive(Debug)]
pub(super) struct Barriers {
    barriers: Vec<Barrier>,
}

/// A barrier that is complete.
pub(super) struct Complete {
    /// Its number.
    pub id: usize,
    /// The warps that go on.
    pub warps: u32,
}

impl Barriers {
    /// No warp waits.
    pub fn new() -> Self {
        Self { barriers: vec![Barrier::default(); BARRIERS] }
    }

    /// The next block begins.
    pub fn restart(&mut self) {
        self.barriers.fill(Barrier::default());
    }

    /// The lanes of `mask` of a warp arrive. The number of the barrier, and whether they wait.
    pub fn arrive(
        &mut self,
        program: &Program,
        warp: &Warp,
        op: &BarrierOp,
        place: (usize, u32),
        mask: u32,
    ) -> Result<(usize, bool), Fault> {
        let first = mask.trailing_zeros().min(31) as usize;
        warp.need(program, 0, &[op.id, op.count.unwrap_or(Loc::ZERO)], mask)?;
        let ids = warp.v32(program, op.id);
        let counts = op.count.map(|loc| warp.v32(program, loc));
        let (id, count) = (ids[first], counts.map(|c| c[first]));
        if let Some(other) = each(mask).find(|&lane| ids[lane] != id || counts.map(|c| c[lane]) != count) {
            let message = "lanes of one warp name different barriers or counts".to_owned();
            return Err(fault(FaultKind::DivergentBarrier, 1 << other, message));
        }
        let Some(barrier) = self.barriers.get_mut(id as usize) else {
            return Err(fault(
                FaultKind::Trap,
                mask,
                format!("barrier {id}: a block has barriers 0 to {}", BARRIERS - 1),
            ));
        };
        if let Some(count) = count
            && (count == 0 || count % LANES as u32 != 0)
        {
            let message =
                format!("barrier {id} for {count} threads: the count must be a multiple of {LANES}");
            return Err(fault(FaultKind::Trap, mask, message));
        }
        let waits = !matches!(op.kind, BarrierKind::Arrive);
        if barrier.warps == 0 {
            barrier.expected = count;
            barrier.place = place;
        } else if barrier.expected != count {
            let say = |c: Option<u32>| c.map_or("all threads".to_owned(), |c| format!("{c} threads"));
            let message = format!(
                "barrier {id} is for {} here, but for {} where another warp came to it",
                say(count),
                say(barrier.expected)
            );
            return Err(fault(FaultKind::DivergentBarrier, mask, message));
        } else if count.is_none() && op.aligned && barrier.place != place {
            let message = format!("another warp waits at barrier {id} at another instruction");
            return Err(fault(FaultKind::DivergentBarrier, mask, message));
        }
        // A warp counts as a whole: what it has beyond the block's threads, or has ended, is there.
        if barrier.warps >> warp.index & 1 == 0 || op.aligned {
            barrier.arrived += LANES as u32;
        }
        barrier.warps |= 1 << warp.index;
        if let BarrierKind::Count(_, p) | BarrierKind::Vote { from: p, .. } = op.kind {
            warp.need_predicate(program, p, mask)?;
            barrier.ayes += (warp.predicate(p) & mask).count_ones();
            barrier.votes += mask.count_ones();
        }
        if waits {
            barrier.waiting.push(Waiting { warp: warp.index as usize, lanes: mask, kind: op.kind });
        }
        Ok((id as usize, waits))
    }

    /// Takes a barrier that is complete, where `live` are the warps that have threads left. Its warps get their answers.
    pub fn complete(&mut self, warps: &mut [Warp], live: u32) -> Option<Complete> {
        for (id, barrier) in self.barriers.iter_mut().enumerate() {
            let full = match barrier.expected {
                Some(expected) => barrier.arrived >= expected,
                None => live & !barrier.warps == 0,
            };
            if barrier.warps == 0 || !full {
                continue;
            }
            let done = std::mem::take(barrier);
            let mut released = 0;
            for Waiting { warp, lanes, kind } in done.waiting {
                released |= 1 << warp;
                let Some(warp) = warps.get_mut(warp) else { continue };
                match kind {
                    BarrierKind::Count(to, _) => warp.set32(to, &[done.ayes; LANES], lanes),
                    BarrierKind::Vote { all, to, .. } => {
                        let yes = if all { done.ayes == done.votes } else { done.ayes > 0 };
                        warp.set_predicate(to, if yes { u32::MAX } else { 0 }, lanes);
                    }
                    _ => {}
                }
            }
            return Some(Complete { id, warps: released });
        }
        None
    }

    /// Where a warp waits, for the error when no warp can go on.
    pub fn describe(&self) -> String {
        let mut parts = Vec::new();
        for (id, barrier) in self.barriers.iter().enumerate().filter(|(_, b)| b.warps != 0) {
            let waiting: Vec<String> = barrier.waiting.iter().map(|w| w.warp.to_string()).collect();
            let wanted = barrier.expected.map_or("all threads".to_owned(), |c| format!("{c} threads"));
            parts.push(format!("warps {} wait at barrier {id} for {wanted}", waiting.join(", ")));
        }
        parts.join("; ")
    }
}
