//! The happens-before order among the warps of a block: vector clocks over access numbers.
//!
//! A block runs on one thread of the host, so its accesses of shared memory are numbered in order. For each pair of warps,
//! one number says up to which access of the other a warp is synchronised (Mattern 1989; for races as in FastTrack, Flanagan
//! and Freund 2009). Lanes of a warp are ordered only by synchronisation of the whole warp or of those lanes.

use super::access::{LANES, lanes};

/// Most warps of a block.
pub(super) const WARPS: usize = 32;

/// Number of named barriers of a block.
pub(crate) const BARRIERS: usize = 16;

/// Number of waits by a part of a warp that are kept; a further one counts as a wait of the whole warp.
const PARTIAL: usize = 64;

/// For each warp, the access number below which its accesses happened before.
type Clock = [u32; WARPS];

/// The clocks of a block.
#[derive(Debug)]
pub(super) struct Clocks {
    warps: usize,
    /// The number of the next access.
    now: u32,
    /// `seen[v][w]`: accesses of warp `w` below it happened before the next access of warp `v`; `seen[v][v]` is the last wait of
    /// all lanes of `v`.
    seen: [Clock; WARPS],
    /// `least[v]`: the least of `seen[v]`; all accesses below it happened before.
    least: Clock,
    /// The accesses before the arrivals at each barrier.
    arrived: [Clock; BARRIERS],
    /// The accesses of warps that have ended.
    ended: Clock,
    /// The accesses before any fence.
    fenced: Clock,
    /// Mask of the lanes of each warp.
    lanes: [u32; WARPS],
    /// Each warp's waits of some lanes since the last of all lanes: when, and which lanes.
    partial: [Vec<(u32, u32)>; WARPS],
}

impl Clocks {
    pub fn new(threads: usize) -> Self {
        let lanes = std::array::from_fn(|warp| {
            let count = threads.saturating_sub(warp * LANES).min(LANES) as u32;
            1u32.unbounded_shl(count).wrapping_sub(1)
        });
        let mut clocks = Self {
            warps: threads.div_ceil(LANES).clamp(1, WARPS),
            now: 1,
            seen: [[0; WARPS]; WARPS],
            least: [0; WARPS],
            arrived: [[0; WARPS]; BARRIERS],
            ended: [0; WARPS],
            fenced: [0; WARPS],
            lanes,
            partial: std::array::from_fn(|_| Vec::new()),
        };
        clocks.restart(1);
        clocks
    }

    /// A new block: all accesses numbered below `now` happened before.
    pub fn restart(&mut self, now: u32) {
        self.now = now;
        self.seen = [[now; WARPS]; WARPS];
        self.least = [now; WARPS];
        self.arrived = [[0; WARPS]; BARRIERS];
        self.ended = [0; WARPS];
        self.fenced = [0; WARPS];
        self.partial.iter_mut().for_each(Vec::clear);
    }

    /// The number of the next access.
    pub fn now(&self) -> u32 {
        self.now
    }

    /// The number of an access that happens now.
    #[inline]
    pub fn tick(&mut self) -> u32 {
        let id = self.now;
        self.now += 1;
        id
    }

    /// Accesses numbered below it happened before the warp's current access.
    #[inline]
    pub fn least(&self, warp: usize) -> u32 {
        self.least[warp]
    }

    /// Accesses of the other warp numbered below it happened before this warp's current access.
    #[inline]
    pub fn seen(&self, warp: usize, other_warp: usize) -> u32 {
        self.seen[warp][other_warp]
    }

    /// The warp's own accesses from this number on are not followed by a wait of any of its lanes.
    #[inline]
    pub fn unwaited(&self, warp: usize) -> u32 {
        self.partial[warp].last().map_or(self.seen[warp][warp], |&(when, _)| when)
    }

    /// Whether access `id` of lane `other` of warp `other_warp` happened before the lane's current access.
    #[inline]
    pub fn ordered(&self, warp: usize, lane: usize, other_warp: usize, other: usize, id: u32) -> bool {
        id < self.seen[warp][other_warp]
            || other_warp == warp && (other == lane || self.chained(warp, lane, other, id))
    }

    /// Whether waits of parts of the warp lead from access `id` of lane `other` to this lane.
    fn chained(&self, warp: usize, lane: usize, other: usize, id: u32) -> bool {
        let after = self.partial[warp].iter().filter(|&&(when, _)| id < when);
        let reached = after.fold(
            1u32 << other,
            |reached, &(_, mask)| {
                if reached & mask != 0 { reached | mask } else { reached }
            },
        );
        reached >> lane & 1 != 0
    }

    /// The lanes of `mask` waited for each other.
    #[inline]
    pub fn sync_warp(&mut self, warp: usize, mask: u32) {
        let whole = self.lanes[warp] & !mask == 0 || self.partial[warp].len() == PARTIAL;
        if !whole {
            return self.partial[warp].push((self.now, mask));
        }
        let before = std::mem::replace(&mut self.seen[warp][warp], self.now);
        self.partial[warp].clear();
        if before == self.least[warp] {
            self.find_least(warp);
        }
    }

    /// A warp arrives at a barrier, whether or not it waits there.
    pub fn arrive(&mut self, barrier: usize, warp: usize) {
        join(&mut self.arrived[barrier], &self.seen[warp]);
        self.arrived[barrier][warp] = self.now;
    }

    /// A barrier lets the waiting warps go.
    pub fn release(&mut self, barrier: usize, waiting: u32) {
        let arrived = std::mem::replace(&mut self.arrived[barrier], [0; WARPS]);
        for warp in lanes(waiting) {
            join(&mut self.seen[warp], &arrived);
            join(&mut self.seen[warp], &self.ended);
            self.seen[warp][warp] = self.now;
            self.partial[warp].clear();
            self.find_least(warp);
        }
    }

    /// All accesses that any fence published, and the warp's own earlier accesses, happened before its next access.
    pub fn fence(&mut self, warp: usize) {
        self.seen[warp][warp] = self.now;
        self.partial[warp].clear();
        join(&mut self.fenced, &self.seen[warp]);
        self.seen[warp] = self.fenced;
        self.find_least(warp);
    }

    /// A warp ended: later barriers do not wait for it, and its accesses happened before them.
    pub fn end(&mut self, warp: usize) {
        join(&mut self.ended, &self.seen[warp]);
        self.ended[warp] = self.now;
    }

    fn find_least(&mut self, warp: usize) {
        self.least[warp] = self.seen[warp][..self.warps].iter().copied().min().unwrap_or(0);
    }
}

/// The element-wise maximum of two clocks.
fn join(clock: &mut Clock, other: &Clock) {
    for (mine, &theirs) in clock.iter_mut().zip(other) {
        *mine = theirs.max(*mine);
    }
}
