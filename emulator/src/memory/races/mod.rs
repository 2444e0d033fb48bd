//! Races in a block's shared memory: the last write and the last reads of each byte, and whether they are ordered.
//!
//! Two accesses of one byte by two threads race when at least one writes, not both are atomic, and neither happened before
//! the other. Each record (4 bytes; 2 or 1 after an access that is that narrow) has the last writer, and for each warp the
//! last lanes that read it and the last that changed it atomically. All have access numbers, so one comparison excludes what
//! a barrier has ordered.
//!
//! Limit: of the lanes that read a record before a wait of only part of a warp (`bar.warp.sync` with some of its lanes), only
//! the last is kept; a race with another of them is not detected. There are no false reports.

mod quick;

use super::access::{LANES, Site};
use super::clocks::{Clocks, WARPS};
use super::runs::Run;

/// Calls a function with the number of records per lane as its constant.
macro_rules! by_width {
    ($each:expr, $function:ident($($argument:expr),*)) => {
        match $each {
            1 => $function::<1>($($argument),*),
            2 => $function::<2>($($argument),*),
            4 => $function::<4>($($argument),*),
            8 => $function::<8>($($argument),*),
            _ => $function::<16>($($argument),*),
        }
    };
}

use by_width;

/// The highest line number that a record can hold.
const LAST_LINE: u32 = (1 << 22) - 1;

/// The kind of a thread's access to a byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AccessKind {
    Read,
    Write,
    Atomic,
}

/// A lane's access that races with an earlier one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Conflict {
    pub lane: usize,
    /// First byte that both accesses touch.
    pub address: usize,
    /// The other thread's kind of access, its index in the block, and its line in the text.
    pub kind: AccessKind,
    pub thread: u32,
    pub line: u32,
}

/// Access numbers and doers, record by record. A doer is `line << 10 | x`; `x` is the thread for writes, and two lanes of
/// the warp (5 bits each, the later one high; equal when there was but one) for all else.
#[derive(Debug, Default)]
struct Marks {
    id: Vec<u32>,
    who: Vec<u32>,
}

/// The marks of each warp, and the latest number among them; empty where a warp left none yet.
#[derive(Debug)]
struct ByWarp {
    warps: [Marks; WARPS],
    latest: Vec<u32>,
}

/// The history of a block's shared memory.
#[derive(Debug)]
pub(super) struct Races {
    pub clocks: Clocks,
    /// A record has `1 << grain` bytes.
    grain: u32,
    writes: Marks,
    reads: ByWarp,
    atomics: ByWarp,
    any_atomics: bool,
}

impl Races {
    pub fn new(bytes: usize, threads: usize) -> Self {
        let records = bytes.div_ceil(4);
        Self {
            clocks: Clocks::new(threads),
            grain: 2,
            writes: Marks::new(records),
            reads: ByWarp::new(records),
            atomics: ByWarp::new(records),
            any_atomics: false,
        }
    }

    /// Starts a new block on the same memory.
    pub fn restart(&mut self) {
        // Old numbers are below all new ones: no record has to be cleared.
        self.clocks.restart(self.clocks.now());
        self.any_atomics = false;
    }

    /// Begins a warp's access of so many bytes per lane; returns its number.
    #[inline]
    pub fn begin(&mut self, bytes: u32) -> u32 {
        if bytes < 1 << self.grain {
            self.refine(bytes.trailing_zeros());
        }
        if self.clocks.now() == u32::MAX {
            self.forget();
        }
        self.clocks.tick()
    }

    /// Whether a read races with earlier accesses.
    #[inline]
    pub fn check_read(&self, site: Site, run: Run) -> Result<(), Conflict> {
        self.check_writes(site, run)?;
        if self.any_atomics && !site.strong {
            self.check_by_warp(&self.atomics, AccessKind::Atomic, site, run)?;
        }
        Ok(())
    }

    /// Whether a write races with accesses before its instruction.
    #[inline]
    pub fn check_write(&self, site: Site, run: Run) -> Result<(), Conflict> {
        self.check_writes(site, run)?;
        self.check_by_warp(&self.reads, AccessKind::Read, site, run)?;
        if self.any_atomics && !site.strong {
            self.check_by_warp(&self.atomics, AccessKind::Atomic, site, run)?;
        }
        Ok(())
    }

    /// Whether an atomic change races with earlier accesses.
    #[inline]
    pub fn check_atomic(&self, site: Site, run: Run) -> Result<(), Conflict> {
        self.check_writes(site, run)?;
        self.check_by_warp(&self.reads, AccessKind::Read, site, run)
    }

    /// Whether a read cannot race, whichever lane reads: all writes there happened before.
    #[inline]
    pub fn settled(&self, site: Site, run: Run) -> bool {
        let (first, each) = self.records(run);
        let least = self.clocks.least(site.warp as usize);
        none_from(&self.writes.id[first..first + each], least)
            && (!self.any_atomics
                || site.strong
                || none_from(&self.atomics.latest[first..first + each], least))
    }

    /// Records a read of a run.
    #[inline]
    pub fn record_read(&mut self, site: Site, run: Run, id: u32) {
        let unwaited = self.clocks.unwaited(site.warp as usize);
        self.reads.record(site, run, self.grain, id, unwaited);
    }

    /// Records an atomic change of a run.
    #[inline]
    pub fn record_atomic(&mut self, site: Site, run: Run, id: u32) {
        self.any_atomics = true;
        let unwaited = self.clocks.unwaited(site.warp as usize);
        self.atomics.record(site, run, self.grain, id, unwaited);
    }

    /// Records a write of a run.
    #[inline]
    pub fn record_write(&mut self, site: Site, run: Run, id: u32) {
        let (first, each) = self.records(run);
        let ids = &mut self.writes.id[first..first + each * run.lanes];
        ids.fill(id);
        let base = line_bits(site) + site.warp * LANES as u32 + run.lane as u32;
        let who = &mut self.writes.who[first..first + each * run.lanes];
        by_width!(each, fill(who, base, 1));
    }

    /// The first record of a run, and the records per lane.
    #[inline]
    fn records(&self, run: Run) -> (usize, usize) {
        (run.address >> self.grain, run.bytes >> self.grain)
    }

    #[inline]
    fn check_writes(&self, site: Site, run: Run) -> Result<(), Conflict> {
        let (first, each) = self.records(run);
        let least = self.clocks.least(site.warp as usize);
        let ids = &self.writes.id[first..first + each * run.lanes];
        if none_from(ids, least) {
            return Ok(());
        }
        // What the warp wrote itself and then waited for, as where warps keep to their own parts.
        let own = self.clocks.seen(site.warp as usize, site.warp as usize);
        let who = &self.writes.who[first..first + each * run.lanes];
        let other = ids.iter().zip(who).fold(false, |other, (&id, &who)| {
            other | ((id >= least) & ((id >= own) | (who >> 5 & 31 != site.warp)))
        });
        if !other {
            return Ok(());
        }
        for (record, &written) in ids.iter().enumerate().filter(|&(_, &written)| written >= least) {
            let who = who[record];
            let (warp, other) = ((who >> 5 & 31) as usize, (who & 31) as usize);
            let lane = run.lane + record / each;
            let address = (first + record) << self.grain;
            let ordered = self.clocks.ordered(site.warp as usize, lane, warp, other, written);
            if !ordered {
                let (thread, line) = (who & 1023, who >> 10);
                return Err(Conflict { lane, address, kind: AccessKind::Write, thread, line });
            }
        }
        Ok(())
    }

    #[inline]
    fn check_by_warp(&self, marks: &ByWarp, kind: AccessKind, site: Site, run: Run) -> Result<(), Conflict> {
        let (first, each) = self.records(run);
        let least = self.clocks.least(site.warp as usize);
        let latest = &marks.latest[first..first + each * run.lanes];
        if none_from(latest, least) {
            return Ok(());
        }
        let (warp, range) = (site.warp as usize, first..first + latest.len());
        // The first record that any warp's marks forbid.
        let mut end = latest.len();
        let mut found = Ok(());
        for (other_warp, marks) in marks.warps.iter().enumerate().filter(|(_, marks)| !marks.id.is_empty()) {
            let (ids, who) = (&marks.id[range.clone()], &marks.who[range.clone()]);
            if none_from(ids, self.clocks.seen(warp, other_warp)) {
                continue;
            }
            for record in 0..end {
                let lane = run.lane + record / each;
                let ordered =
                    |&other: &u32| self.clocks.ordered(warp, lane, other_warp, other as usize, ids[record]);
                let lanes = [who[record] >> 5 & 31, who[record] & 31];
                if let Some(other) = lanes.into_iter().find(|other| !ordered(other)) {
                    let (thread, line) = ((other_warp * LANES) as u32 + other, who[record] >> 10);
                    let address = (first + record) << self.grain;
                    found = Err(Conflict { lane, address, kind, thread, line });
                    end = record;
                    break;
                }
            }
        }
        found
    }

    /// Reduces the size of records to `1 << grain` bytes.
    #[cold]
    fn refine(&mut self, grain: u32) {
        let times = 1 << (self.grain - grain);
        self.grain = grain;
        self.writes.refine(times);
        self.reads.refine(times);
        self.atomics.refine(times);
    }

    /// Numbers have run out: starts again with no history.
    #[cold]
    fn forget(&mut self) {
        let records = self.writes.id.len();
        self.writes = Marks::new(records);
        self.reads = ByWarp::new(records);
        self.atomics = ByWarp::new(records);
        self.any_atomics = false;
        self.clocks.restart(1);
    }
}

impl Marks {
    fn new(records: usize) -> Self {
        Self { id: vec![0; records], who: vec![0; records] }
    }

    fn refine(&mut self, times: usize) {
        self.id = repeat(&self.id, times);
        self.who = repeat(&self.who, times);
    }
}

impl ByWarp {
    fn new(records: usize) -> Self {
        Self { warps: std::array::from_fn(|_| Marks::default()), latest: vec![0; records] }
    }

    /// `unwaited` is the result of [`Clocks::unwaited`] for the warp.
    #[inline]
    fn record(&mut self, site: Site, run: Run, grain: u32, id: u32, unwaited: u32) {
        let (first, each) = (run.address >> grain, run.bytes >> grain);
        let range = first..first + each * run.lanes;
        let marks = &mut self.warps[site.warp as usize];
        if marks.id.is_empty() {
            *marks = Marks::new(self.latest.len());
        }
        self.latest[range.clone()].fill(id);
        let (ids, who) = (&mut marks.id[range.clone()], &mut marks.who[range]);
        let line = line_bits(site);
        if none_from(ids, unwaited) {
            by_width!(each, fill(who, line | pair(run.lane), pair(1)));
        } else {
            for (record, who) in who.iter_mut().enumerate() {
                let lane = run.lane + record / each;
                *who = match ids[record] < unwaited {
                    true => line | pair(lane),
                    false => merged(*who, line, lane as u32),
                };
            }
        }
        ids.fill(id);
    }

    fn refine(&mut self, times: usize) {
        self.latest = repeat(&self.latest, times);
        self.warps.iter_mut().for_each(|marks| marks.refine(times));
    }
}

/// A lane as both of a pair.
fn pair(lane: usize) -> u32 {
    (lane << 5 | lane) as u32
}

/// A doer once another lane of its warp came after it without a wait between.
#[inline]
fn merged(who: u32, line: u32, lane: u32) -> u32 {
    let (last, before) = (who >> 5 & 31, who & 31);
    line | lane << 5 | if last != lane { last } else { before }
}

/// Doers of a run: `N` records per lane, `first` for the first lane and `step` more for each that follows.
#[inline]
fn fill<const N: usize>(who: &mut [u32], first: u32, step: u32) {
    for (lane, whose) in who.as_chunks_mut::<N>().0.iter_mut().enumerate() {
        *whose = [first + lane as u32 * step; N];
    }
}

fn line_bits(site: Site) -> u32 {
    site.line.min(LAST_LINE) << 10
}

/// Whether all numbers are below `from`. No early end: this way it takes a few vector instructions.
#[inline]
fn none_from(ids: &[u32], from: u32) -> bool {
    !ids.iter().fold(false, |any, &id| any | (id >= from))
}

fn repeat(values: &[u32], times: usize) -> Vec<u32> {
    values.iter().flat_map(|&value| std::iter::repeat_n(value, times)).collect()
}
