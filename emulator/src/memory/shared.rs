//! One block's shared memory: bytes, marks of written bytes, races, and pending asynchronous copies.
//!
//! Addresses are offsets from the start of the block's shared memory.

use super::access::{Access, LANES, Site, Words, lanes, set_lane_value};
use super::bytes::Bytes;
use super::copies::{Copies, Request};
use super::faults::{check_agreement, copying, fault, misaligned, pending, race, source_pending, unwritten};
use super::races::{AccessKind, Races};
use super::runs::{Run, Runs};
use super::scatter::Scatter;
use super::view::View;
use crate::error::{Error, Fault, FaultKind, Result};
use crate::options::Checks;

/// Most bytes of a block (228 KiB per SM on sm_90, of which the system uses one).
const MOST: u32 = 227 * 1024;

/// A block's shared memory, used by one block after another.
///
/// Checks that are off cost nothing. Bounds and alignment are always checked.
#[derive(Debug)]
pub(crate) struct Shared {
    bytes: Bytes,
    races: Option<Races>,
    copies: Copies,
    checks: Checks,
}

impl Shared {
    /// The shared memory, static and dynamic together, of a block of up to 1024 threads; zeroed and unwritten.
    pub fn new(bytes: u32, threads: u32, checks: Checks) -> Result<Self> {
        if bytes > MOST {
            return Err(Error::Usage(format!("{bytes} bytes of shared memory: a block has at most {MOST}")));
        }
        if !(1..=1024).contains(&threads) {
            return Err(Error::Usage(format!("{threads} threads a block: there may be 1 to 1024")));
        }
        let (bytes, threads) = (bytes as usize, threads as usize);
        Ok(Self {
            bytes: Bytes::new(bytes),
            races: checks.races.then(|| Races::new(bytes, threads)),
            copies: Copies::new(bytes, threads),
            checks,
        })
    }

    /// Resets the memory for the next block: zeroed and unwritten, without copies and history.
    pub fn restart(&mut self) {
        self.bytes.restart();
        self.copies.restart();
        if let Some(races) = &mut self.races {
            races.restart();
        }
    }

    /// Loads `access.bytes` bytes per lane, as [`View::load`] does; for `ldmatrix` the 16 bytes of each lane that names a row.
    ///
    /// Faults, besides those of [`View::load`]: a race with another thread's write, or bytes that a copy will land on.
    #[inline]
    pub fn load(&mut self, site: Site, access: Access<'_>, out: &mut Words) -> Result<(), Fault> {
        let id = self.begin(access);
        let whole = access.contiguous().is_some();
        if !whole
            && (access.uniform() && self.load_uniform(site, access, id, out).is_some()
                || self.load_scattered(site, access, id, out).is_some())
        {
            return Ok(());
        }
        for run in Runs::known(access, whole) {
            self.check_place(run)?;
            self.check_written(run)?;
            if let Some(races) = &mut self.races {
                races
                    .check_read(site, run)
                    .map_err(|conflict| race(site, run, conflict, AccessKind::Read))?;
                if !site.strong {
                    races.record_read(site, run, id);
                }
            }
            self.bytes.load(run, out);
        }
        Ok(())
    }

    /// Stores `access.bytes` bytes of each active lane, as [`View::store`] does.
    ///
    /// Faults as those of [`Shared::load`], and a race with another thread's read. Lanes that store to the same byte race
    /// too, unless they store the same value there.
    #[inline]
    pub fn store(&mut self, site: Site, access: Access<'_>, words: &Words) -> Result<(), Fault> {
        let id = self.begin(access);
        let whole = access.contiguous().is_some();
        if !whole && let Some(lanes) = self.scatter(access, false) {
            if self.races.is_some() && !site.strong && lanes.overlap() {
                check_agreement(site, access, words)?;
            }
            if self.store_scattered(site, &lanes, id, words).is_some() {
                return Ok(());
            }
        }
        for run in Runs::known(access, whole) {
            self.check_place(run)?;
            if let Some(races) = &self.races {
                let check =
                    if site.strong { races.check_atomic(site, run) } else { races.check_write(site, run) };
                check.map_err(|conflict| race(site, run, conflict, AccessKind::Write))?;
            }
        }
        for run in Runs::known(access, whole) {
            match &mut self.races {
                Some(races) if site.strong => races.record_atomic(site, run, id),
                Some(races) => races.record_write(site, run, id),
                None => {}
            }
            self.bytes.store(run, words);
        }
        Ok(())
    }

    /// Replaces each active lane's value of 1, 2, 4 or 8 bytes by `new(lane, old)`, lane after lane; `out` takes the old values.
    ///
    /// Atomics do not race with each other, but with all else. Faults as those of [`Shared::store`], and unwritten bytes.
    pub fn atomic(
        &mut self,
        site: Site,
        access: Access<'_>,
        out: &mut Words,
        mut new: impl FnMut(usize, u64) -> u64,
    ) -> Result<(), Fault> {
        let id = self.begin(access);
        if self.atomic_is_clear(site, access, id).is_none() {
            for lane in lanes(access.mask) {
                let run = Run::one(access, lane);
                self.check_place(run)?;
                self.check_written(run)?;
                if let Some(races) = &mut self.races {
                    races
                        .check_atomic(site, run)
                        .map_err(|conflict| race(site, run, conflict, AccessKind::Atomic))?;
                    races.record_atomic(site, run, id);
                }
            }
        }
        for lane in lanes(access.mask) {
            let (at, bytes) = (access.addresses[lane] as usize, access.bytes.min(8) as usize);
            let old = self.bytes.get(at, bytes);
            set_lane_value(out, lane, access.bytes, old);
            self.bytes.set(at, bytes, new(lane, old));
        }
        Ok(())
    }

    /// `cp.async`: copies `source_bytes[lane]` bytes from global `sources[lane]` to `access.addresses[lane]`, and zeros up to
    /// `access.bytes` (4, 8 or 16). With 0 source bytes the source is not accessed.
    ///
    /// The source is read now; the bytes land, as the issuing thread's write, when it waits for the group. Faults: the
    /// source's as those of [`View::load`], its alignment to `access.bytes` included; the destination's as those of [`Shared::store`].
    pub fn copy_async(
        &mut self,
        site: Site,
        view: &mut View<'_>,
        access: Access<'_>,
        sources: &[u64; LANES],
        source_bytes: &[u32; LANES],
    ) -> Result<(), Fault> {
        self.begin(access);
        let whole = access.contiguous().is_some();
        let clear = !whole
            && self.scatter(access, false).is_some_and(|lanes| {
                self.races.as_ref().is_none_or(|races| races.write_is_clear(site, &lanes))
            });
        for run in Runs::known(access, whole).take_while(|_| !clear) {
            self.check_place(run)?;
            if let Some(races) = &self.races {
                races
                    .check_write(site, run)
                    .map_err(|conflict| race(site, run, conflict, AccessKind::Write))?;
            }
        }
        let mut whole = 0;
        let mut data = [[0; LANES]; 4];
        for lane in lanes(access.mask).filter(|&lane| source_bytes[lane] > 0) {
            if source_bytes[lane] >= access.bytes {
                whole |= 1 << lane;
            } else if sources[lane] & u64::from(access.bytes - 1) != 0 {
                return Err(misaligned(lane, sources[lane], access.bytes));
            }
        }
        view.load(Access { mask: whole, addresses: sources, bytes: access.bytes }, &mut data)?;
        for lane in lanes(access.mask & !whole) {
            for byte in 0..source_bytes[lane] {
                let mut part = [[0; LANES]; 4];
                let addresses = [sources[lane].wrapping_add(byte.into()); LANES];
                view.load(Access { mask: 1 << lane, addresses: &addresses, bytes: 1 }, &mut part)?;
                data[byte as usize / 4][lane] |= part[0][lane] << (byte % 4 * 8);
            }
        }
        if let Some(oldest) = self.copies.surplus(site.warp as usize) {
            land(&mut self.races, &mut self.bytes, site.warp, &oldest, oldest.mask);
        }
        let clash = self.copies.issue(site.warp as usize, site.line, access, sources, source_bytes, data);
        match clash {
            Some(lane) if self.checks.pending_copies => Err(copying(lane, access.addresses[lane])),
            _ => Ok(()),
        }
    }

    /// `cp.async.commit_group` of the lanes.
    pub fn commit_group(&mut self, warp: u32, mask: u32) {
        self.copies.commit(warp as usize, mask);
    }

    /// `cp.async.wait_group`: the lanes' copies complete, but for each lane's newest `pending` groups. `None` is
    /// `cp.async.wait_all`: all copies of the lanes complete.
    pub fn wait_group(&mut self, warp: u32, mask: u32, pending: Option<u32>) {
        if self.copies.any() {
            let Self { copies, races, bytes, .. } = self;
            copies.wait(warp as usize, mask, pending, |request, lanes| {
                land(races, bytes, warp, request, lanes)
            });
        }
    }

    /// Call it before a store or atomic of *global* memory: an error if the access hits the source of a pending copy of this
    /// block.
    #[inline]
    pub fn check_global_store(&self, access: Access<'_>) -> Result<(), Fault> {
        if !self.checks.pending_copies || !self.copies.any() {
            return Ok(());
        }
        for lane in lanes(access.mask) {
            let address = access.addresses[lane];
            if let Some(found) = self.copies.reading_from(address, access.bytes.into()) {
                return Err(source_pending(lane, address, access.bytes, found));
            }
        }
        Ok(())
    }

    /// The lanes of the mask waited for each other: `bar.warp.sync`, and every `.sync` instruction (`shfl`, `vote`, `match`,
    /// `ldmatrix`, `mma`, …) with its member mask.
    #[inline]
    pub fn sync_warp(&mut self, warp: u32, mask: u32) {
        if let Some(races) = &mut self.races {
            races.clocks.sync_warp(warp as usize, mask);
        }
    }

    /// A warp reaches barrier `barrier` (0 to 15) by `bar.sync`, `bar.red` or `bar.arrive`.
    pub fn arrive(&mut self, barrier: usize, warp: u32) {
        if let Some(races) = &mut self.races {
            races.clocks.arrive(barrier, warp as usize);
        }
    }

    /// The barrier is complete: the warps of the mask, which waited there, continue. Accesses before the arrivals
    /// happened before their next accesses.
    pub fn release(&mut self, barrier: usize, waiting: u32) {
        if let Some(races) = &mut self.races {
            races.clocks.release(barrier, waiting);
        }
    }

    /// The warp's last thread ended. Its accesses happened before every barrier that completes from now on.
    pub fn end_warp(&mut self, warp: u32) {
        if let Some(races) = &mut self.races {
            races.clocks.end(warp as usize);
        }
    }

    /// `membar`, `fence`, and both sides of an access with `.acquire` or `.release`: orders the warp with every fence before.
    /// This orders more than the PTX ISA does, where it depends on the values that are read, so that no false race is reported.
    pub fn fence(&mut self, warp: u32) {
        if let Some(races) = &mut self.races {
            races.clocks.fence(warp as usize);
        }
    }

    #[inline]
    fn begin(&mut self, access: Access<'_>) -> u32 {
        self.races.as_mut().map_or(0, |races| races.begin(access.bytes))
    }

    /// A load by all lanes from one address; `None` if there might be a fault.
    #[inline]
    fn load_uniform(&mut self, site: Site, access: Access<'_>, id: u32, out: &mut Words) -> Option<()> {
        let one = Run::one(access, 0);
        self.check_place(one).ok()?;
        self.check_written(one).ok()?;
        if let Some(races) = &mut self.races {
            if !races.settled(site, one) {
                return None;
            }
            if !site.strong {
                races.record_read(site, one, id);
                races.record_read(site, Run { lane: LANES - 1, ..one }, id);
            }
        }
        self.bytes.load(one, out);
        for word in out.iter_mut().take((one.bytes).div_ceil(4)) {
            *word = [word[0]; LANES];
        }
        Some(())
    }

    /// A load with scattered addresses; `None` if there might be a fault.
    #[inline]
    fn load_scattered(&mut self, site: Site, access: Access<'_>, id: u32, out: &mut Words) -> Option<()> {
        let lanes = self.scatter(access, true)?;
        if let Some(races) = &mut self.races {
            races.read_is_clear(site, &lanes).then_some(())?;
            if !site.strong {
                races.note_read(site, &lanes, id);
            }
        }
        self.bytes.gather(&lanes, out);
        Some(())
    }

    /// A store with scattered addresses; `None` if there might be a race.
    #[inline]
    fn store_scattered(&mut self, site: Site, lanes: &Scatter, id: u32, words: &Words) -> Option<()> {
        match &mut self.races {
            Some(races) if site.strong => {
                races.atomic_is_clear(site, lanes).then_some(())?;
                races.note_atomic(site, lanes, id);
            }
            Some(races) => {
                races.write_is_clear(site, lanes).then_some(())?;
                races.note_write(site, lanes, id);
            }
            None => {}
        }
        self.bytes.scatter(lanes, words);
        Some(())
    }

    /// Records an atomic access; `None` if there might be a fault.
    fn atomic_is_clear(&mut self, site: Site, access: Access<'_>, id: u32) -> Option<()> {
        let lanes = self.scatter(access, true)?;
        if let Some(races) = &mut self.races {
            races.atomic_is_clear(site, &lanes).then_some(())?;
            races.note_atomic(site, &lanes, id);
        }
        Some(())
    }

    /// The lanes of an access, if all are inside, aligned, no destination of a pending copy and, for a load, written.
    #[inline]
    fn scatter(&self, access: Access<'_>, reading: bool) -> Option<Scatter> {
        let lanes = Scatter::new(access, self.bytes.size)?;
        let pending = self.checks.pending_copies && self.copies.any_landing_on(&lanes);
        let unwritten = reading && self.checks.uninitialised_memory && self.bytes.any_unwritten(&lanes);
        (!pending && !unwritten).then_some(lanes)
    }

    /// Alignment, bounds, and copies that will land there.
    #[inline]
    fn check_place(&self, run: Run) -> Result<(), Fault> {
        let (address, bytes) = (run.address as u64, run.bytes as u32);
        if address & u64::from(bytes - 1) != 0 {
            return Err(misaligned(run.lane, address, bytes));
        }
        let inside = self.bytes.size.saturating_sub(run.address) / run.bytes;
        if inside < run.lanes {
            return Err(self.out_of_bounds(run, inside));
        }
        if self.checks.pending_copies
            && let Some(found) = self.copies.landing_on(run.address, run.lanes * run.bytes)
        {
            return Err(pending(run, found));
        }
        Ok(())
    }

    #[cold]
    fn out_of_bounds(&self, run: Run, inside: usize) -> Fault {
        let address = run.address + inside * run.bytes;
        let message = format!(
            "{} bytes at shared address {address:#x}: the block has {} bytes of shared memory",
            run.bytes, self.bytes.size
        );
        fault(FaultKind::OutOfBounds, run.lane + inside, address as u64, message)
    }

    #[inline]
    fn check_written(&self, run: Run) -> Result<(), Fault> {
        if !self.checks.uninitialised_memory {
            return Ok(());
        }
        self.bytes.unwritten(run).map_or(Ok(()), |byte| Err(unwritten(run, byte)))
    }
}

/// Completes the copies of the lanes, as their writes.
fn land(races: &mut Option<Races>, bytes: &mut Bytes, warp: u32, request: &Request, lanes: u32) {
    let access = Access { mask: lanes, addresses: &request.to, bytes: request.bytes };
    let site = Site { warp, line: request.line, strong: false };
    let id = races.as_mut().map_or(0, |races| races.begin(request.bytes));
    for run in Runs::new(access) {
        if let Some(races) = races {
            races.record_write(site, run, id);
        }
        bytes.store(run, &request.data);
    }
}
