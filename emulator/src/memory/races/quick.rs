//! A fast check of accesses with scattered lanes, and their records.
//!
//! "Clear" means certainly free of races; all other accesses use the exact checks.

use super::super::access::Site;
use super::super::scatter::Scatter;
use super::{ByWarp, Marks, Races, by_width, line_bits, merged, none_from, pair};

impl Races {
    /// Whether a read is clear.
    #[inline]
    pub fn read_is_clear(&self, site: Site, lanes: &Scatter) -> bool {
        self.writes_are_clear(site, lanes)
            && (!self.any_atomics || site.strong || self.warps_are_clear(&self.atomics, site, lanes))
    }

    /// Whether a write is clear, but for other lanes of the same instruction.
    #[inline]
    pub fn write_is_clear(&self, site: Site, lanes: &Scatter) -> bool {
        self.read_is_clear(site, lanes) && self.warps_are_clear(&self.reads, site, lanes)
    }

    /// Whether an atomic change is clear.
    #[inline]
    pub fn atomic_is_clear(&self, site: Site, lanes: &Scatter) -> bool {
        self.writes_are_clear(site, lanes) && self.warps_are_clear(&self.reads, site, lanes)
    }

    /// Records a read of scattered lanes.
    #[inline]
    pub fn note_read(&mut self, site: Site, lanes: &Scatter, id: u32) {
        let unwaited = self.clocks.unwaited(site.warp as usize);
        self.reads.note(site, lanes, lanes.bytes >> self.grain, id, unwaited);
    }

    /// Records an atomic change of scattered lanes.
    #[inline]
    pub fn note_atomic(&mut self, site: Site, lanes: &Scatter, id: u32) {
        self.any_atomics = true;
        let unwaited = self.clocks.unwaited(site.warp as usize);
        self.atomics.note(site, lanes, lanes.bytes >> self.grain, id, unwaited);
    }

    /// Records a write of scattered lanes.
    #[inline]
    pub fn note_write(&mut self, site: Site, lanes: &Scatter, id: u32) {
        let base = line_bits(site) + site.warp * 32;
        by_width!(lanes.bytes >> self.grain, note_write(&mut self.writes, lanes, base, id));
    }

    #[inline]
    fn writes_are_clear(&self, site: Site, lanes: &Scatter) -> bool {
        let (warp, each) = (site.warp as usize, lanes.bytes >> self.grain);
        let least = self.clocks.least(warp);
        if by_width!(each, all_before(&self.writes.id, lanes, least)) {
            return true;
        }
        let own = self.clocks.seen(warp, warp);
        by_width!(each, all_own_before(&self.writes, lanes, least, own, site.warp))
    }

    #[inline]
    fn warps_are_clear(&self, marks: &ByWarp, site: Site, lanes: &Scatter) -> bool {
        let (warp, each) = (site.warp as usize, lanes.bytes >> self.grain);
        by_width!(each, all_before(&marks.latest, lanes, self.clocks.least(warp)))
            || marks.warps.iter().enumerate().filter(|(_, marks)| !marks.id.is_empty()).all(
                |(other, marks)| by_width!(each, all_before(&marks.id, lanes, self.clocks.seen(warp, other))),
            )
    }
}

impl ByWarp {
    #[inline]
    fn note(&mut self, site: Site, lanes: &Scatter, each: usize, id: u32, unwaited: u32) {
        let marks = &mut self.warps[site.warp as usize];
        if marks.id.is_empty() {
            *marks = Marks::new(self.latest.len());
        }
        by_width!(each, note(marks, &mut self.latest, lanes, line_bits(site), id, unwaited));
    }
}

/// Whether all records of the lanes have numbers below `from`.
#[inline]
fn all_before<const N: usize>(ids: &[u32], lanes: &Scatter, from: u32) -> bool {
    let (chunks, shift) = (ids.as_chunks::<N>().0, lanes.bytes.trailing_zeros());
    let mut any = false;
    for &at in lanes.addresses() {
        any |= !none_from(&chunks[(at >> shift) as usize], from);
    }
    !any
}

/// Whether all that is not below `from` is of this warp and below `own`.
fn all_own_before<const N: usize>(writes: &Marks, lanes: &Scatter, from: u32, own: u32, warp: u32) -> bool {
    let (ids, who) = (writes.id.as_chunks::<N>().0, writes.who.as_chunks::<N>().0);
    let shift = lanes.bytes.trailing_zeros();
    let mut other = false;
    for &at in lanes.addresses() {
        let chunk = (at >> shift) as usize;
        for (&id, &who) in ids[chunk].iter().zip(&who[chunk]) {
            other |= (id >= from) & ((id >= own) | (who >> 5 & 31 != warp));
        }
    }
    !other
}

#[inline]
fn note_write<const N: usize>(writes: &mut Marks, lanes: &Scatter, base: u32, id: u32) {
    let (ids, who) = (writes.id.as_chunks_mut::<N>().0, writes.who.as_chunks_mut::<N>().0);
    let shift = lanes.bytes.trailing_zeros();
    for (lane, at) in lanes.lanes() {
        ids[at >> shift] = [id; N];
        who[at >> shift] = [base + lane as u32; N];
    }
}

#[inline]
fn note<const N: usize>(
    marks: &mut Marks,
    latest: &mut [u32],
    lanes: &Scatter,
    line: u32,
    id: u32,
    unwaited: u32,
) {
    let (ids, who) = (marks.id.as_chunks_mut::<N>().0, marks.who.as_chunks_mut::<N>().0);
    let latest = latest.as_chunks_mut::<N>().0;
    let shift = lanes.bytes.trailing_zeros();
    for (lane, at) in lanes.lanes() {
        let chunk = at >> shift;
        let fresh = line | pair(lane);
        if none_from(&ids[chunk], unwaited) {
            who[chunk] = [fresh; N];
        } else {
            for (who, &id) in who[chunk].iter_mut().zip(&ids[chunk]) {
                *who = if id < unwaited { fresh } else { merged(*who, line, lane as u32) };
            }
        }
        ids[chunk] = [id; N];
        latest[chunk] = [id; N];
    }
}
