//! Barriers of a block (PTX ISA, "bar, barrier").

use super::context::fault;
use super::warp::Warp;
use crate::error::{Fault, FaultKind};
use crate::machine::lanes::each;
use crate::machine::program::{BarrierKind, BarrierOp, CodeAddress, Loc, Program, RegisterFile};
use crate::memory::{BARRIERS, LANES};

/// A warp that waits at a barrier.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    warp: usize,
    lanes: u32,
    kind: BarrierKind,
}

#[derive(Debug, Clone, Default)]
struct Barrier {
    /// Number of threads that the barrier waits for; `None` for all.
    expected: Option<u32>,
    /// The instruction of the first warp that arrived.
    at: CodeAddress,
    /// Number of threads that arrived.
    arrived: u32,
    /// Mask of the warps that arrived, waiting or not.
    warps: u32,
    waiting: Vec<Waiting>,
    /// Number of predicates that were true so far.
    trues: u32,
    /// Number of predicates so far.
    predicates: u32,
}

/// All barriers of a block.
#[derive(Debug)]
pub(super) struct Barriers {
    barriers: Vec<Barrier>,
}

/// A completed barrier and its waiting warps.
pub(super) struct Complete {
    pub id: usize,
    /// Mask of the warps that waited at it.
    pub warps: u32,
}

impl Barriers {
    /// Barriers at which no warp waits.
    pub fn new() -> Self {
        Self { barriers: vec![Barrier::default(); BARRIERS] }
    }

    /// Begins the next block.
    pub fn restart(&mut self) {
        self.barriers.fill(Barrier::default());
    }

    /// The lanes of `mask` of a warp arrive; returns the number of the barrier, and whether they wait.
    pub fn arrive(
        &mut self,
        program: &Program,
        warp: &Warp,
        op: &BarrierOp,
        at: CodeAddress,
        mask: u32,
    ) -> Result<(usize, bool), Fault> {
        let first = mask.trailing_zeros().min(31) as usize;
        warp.need(program, RegisterFile::Bits32, &[op.id, op.count.unwrap_or(Loc::ZERO)], mask)?;
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
            barrier.at = at;
        } else if barrier.expected != count {
            let threads = |c: Option<u32>| c.map_or("all threads".to_owned(), |c| format!("{c} threads"));
            let message = format!(
                "barrier {id} is for {} here, but for {} where another warp reached it",
                threads(count),
                threads(barrier.expected)
            );
            return Err(fault(FaultKind::DivergentBarrier, mask, message));
        } else if count.is_none() && op.aligned && barrier.at != at {
            let message = format!("another warp waits at barrier {id} at another instruction");
            return Err(fault(FaultKind::DivergentBarrier, mask, message));
        }
        // A warp counts with all its lanes, also those beyond the block's threads and those that have ended.
        if barrier.warps >> warp.index & 1 == 0 || op.aligned {
            barrier.arrived += LANES as u32;
        }
        barrier.warps |= 1 << warp.index;
        if let BarrierKind::Count(_, p) | BarrierKind::Vote { from: p, .. } = op.kind {
            warp.need_predicate(program, p, mask)?;
            barrier.trues += (warp.predicate(p) & mask).count_ones();
            barrier.predicates += mask.count_ones();
        }
        if waits {
            barrier.waiting.push(Waiting { warp: warp.index as usize, lanes: mask, kind: op.kind });
        }
        Ok((id as usize, waits))
    }

    /// Removes a barrier that is complete, and writes the results of its warps; `live` is the mask of warps with live threads.
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
                    BarrierKind::Count(to, _) => warp.set32(to, &[done.trues; LANES], lanes),
                    BarrierKind::Vote { all, to, .. } => {
                        let yes = if all { done.trues == done.predicates } else { done.trues > 0 };
                        warp.set_predicate(to, if yes { u32::MAX } else { 0 }, lanes);
                    }
                    _ => {}
                }
            }
            return Some(Complete { id, warps: released });
        }
        None
    }

    /// The place where a warp waits, for the error of a deadlock.
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
