//! Exchange between lanes of a warp (PTX ISA, "shfl.sync", "vote.sync", "match.sync", "redux.sync").

use super::context::fault;
use super::warp::Warp;
use crate::error::{Fault, FaultKind};
use crate::machine::lanes::{V32, each};
use crate::machine::program::{Exchange, Loc, Program, Redux, RegisterFile, Shuffle, Vote};
use crate::memory::LANES;

impl Warp {
    /// The lanes that take part. The mask of every active lane must contain the lane itself and only lanes that are
    /// active or have ended, and all lanes of one mask must agree on it.
    pub(super) fn members(&self, program: &Program, members: Loc, active: u32) -> Result<u32, Fault> {
        self.need(program, RegisterFile::Bits32, &[members], active)?;
        let masks = self.v32(program, members);
        let mut all = 0;
        for lane in each(active) {
            let (whole, mask) = (masks[lane], masks[lane] & self.live);
            if mask >> lane & 1 == 0 {
                let message = format!("lane {lane} runs it, but is not in its member mask {whole:#010x}");
                return Err(fault(FaultKind::PartialMask, 1 << lane, message));
            }
            if mask & !active != 0 {
                let message = format!(
                    "the member mask {whole:#010x} names lanes that do not run it (active: {active:#010x})"
                );
                return Err(fault(FaultKind::PartialMask, 1 << lane, message));
            }
            // Lanes that name each other must agree.
            if let Some(other) = each(mask).find(|&other| masks[other] != whole) {
                let message = format!(
                    "lane {lane} has the member mask {whole:#010x}, but lane {other} has {:#010x}",
                    masks[other]
                );
                return Err(fault(FaultKind::PartialMask, 1 << lane, message));
            }
            all |= mask;
        }
        Ok(all)
    }

    /// For each lane, the mask of the lanes of `mask` that take part with it.
    fn groups(&self, program: &Program, members: Option<Loc>, mask: u32) -> V32 {
        members.map_or([mask; LANES], |members| self.v32(program, members).map(|m| m & mask))
    }

    /// Runs an exchange for the lanes of `mask`, whose member masks are checked already.
    pub(super) fn exchange(
        &mut self,
        program: &Program,
        exchange: &Exchange,
        mask: u32,
    ) -> Result<(), Fault> {
        match *exchange {
            Exchange::Active(to) => self.set32(to, &[mask; LANES], mask),
            Exchange::Shuffle { mode, to, p, from, by, limits, .. } => {
                self.need(program, RegisterFile::Bits32, &[by, limits], mask)?;
                let (a, b, c) = (self.v32(program, from), self.v32(program, by), self.v32(program, limits));
                let (mut out, mut valid, mut sources) = (*a, 0, 0);
                for lane in each(mask) {
                    let (source, inside) = source(mode, lane as u32, b[lane], c[lane]);
                    if inside {
                        out[lane] = a[source as usize];
                        valid |= 1 << lane;
                        if mask >> source & 1 == 0 {
                            let message =
                                format!("lane {lane} takes its value from lane {source}, which is inactive");
                            return Err(fault(FaultKind::PartialMask, 1 << lane, message));
                        }
                        sources |= 1 << source;
                    } else {
                        sources |= 1 << lane;
                    }
                }
                self.need(program, RegisterFile::Bits32, &[from], sources)?;
                self.set32(to, &out, mask);
                self.set_predicate(p, valid, mask);
            }
            Exchange::Vote { vote, p, members } => {
                self.need_predicate(program, p, mask)?;
                let (members, bits) = (self.groups(program, members, mask), self.predicate(p));
                let mut answer = 0;
                for lane in each(mask) {
                    let (group, yes) = (members[lane], bits & members[lane]);
                    let holds = match vote {
                        Vote::All(_) => yes == group,
                        Vote::Any(_) => yes != 0,
                        Vote::Uniform(_) => yes == 0 || yes == group,
                        Vote::Ballot(_) => false,
                    };
                    answer |= u32::from(holds) << lane;
                }
                match vote {
                    Vote::All(to) | Vote::Any(to) | Vote::Uniform(to) => self.set_predicate(to, answer, mask),
                    Vote::Ballot(to) => self.set32(to, &members.map(|m| bits & m), mask),
                }
            }
            Exchange::Match { all, to, p, from, members } => {
                self.need_value(program, from, mask)?;
                let groups = self.groups(program, Some(members), mask);
                let (mut out, mut same): (V32, u32) = ([0; LANES], 0);
                for lane in each(mask) {
                    let value = self.lane(program, from, lane);
                    let equal = each(groups[lane]).filter(|&other| self.lane(program, from, other) == value);
                    let equal = equal.fold(0, |bits, other| bits | 1u32 << other);
                    let everyone = equal == groups[lane];
                    out[lane] = if all && !everyone { 0 } else { equal };
                    same |= u32::from(everyone) << lane;
                }
                self.set32(to, &out, mask);
                self.set_predicate(p, same, mask);
            }
            Exchange::Redux { op, to, from, members } => {
                self.need(program, RegisterFile::Bits32, &[from], mask)?;
                let (values, groups) = (self.v32(program, from), self.groups(program, Some(members), mask));
                let mut out = [0; LANES];
                for lane in each(mask) {
                    let values = each(groups[lane]).map(|other| values[other]);
                    out[lane] = values.reduce(|a, b| combine(op, a, b)).unwrap_or(0);
                }
                self.set32(to, &out, mask);
            }
            Exchange::Elect { lane, p, members } => {
                let leaders = self.groups(program, Some(members), mask).map(|m| m.trailing_zeros() & 31);
                let elected =
                    each(mask).filter(|&l| leaders[l] == l as u32).fold(0, |bits, l| bits | 1u32 << l);
                self.set32(lane, &leaders, mask);
                self.set_predicate(p, elected, mask);
            }
        }
        Ok(())
    }
}

fn combine(op: Redux, a: u32, b: u32) -> u32 {
    match op {
        Redux::Add => a.wrapping_add(b),
        Redux::Min => a.min(b),
        Redux::Max => a.max(b),
        Redux::MinSigned => (a as i32).min(b as i32) as u32,
        Redux::MaxSigned => (a as i32).max(b as i32) as u32,
        Redux::And => a & b,
        Redux::Or => a | b,
        Redux::Xor => a ^ b,
    }
}

/// The lane that `lane` reads from, and whether it lies within the segment.
fn source(mode: Shuffle, lane: u32, by: u32, limits: u32) -> (u32, bool) {
    let (by, clamp, segment) = (by & 31, limits & 31, limits >> 8 & 31);
    let highest = lane & segment | clamp & !segment;
    let lowest = lane & segment;
    let (source, inside) = match mode {
        Shuffle::Up => (lane.wrapping_sub(by), lane as i32 - by as i32 >= highest as i32),
        Shuffle::Down => (lane + by, lane + by <= highest),
        Shuffle::Butterfly => (lane ^ by, lane ^ by <= highest),
        Shuffle::Index => {
            let source = lowest | by & !segment;
            (source, source <= highest)
        }
    };
    (source & 31, inside)
}
