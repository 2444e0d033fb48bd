//! Asynchronous copies into shared memory (`cp.async`; PTX ISA, "Data Movement and Conversion Instructions: cp.async").
//!
//! The source is read when the copy is issued and lands when the issuing thread waits for its group. Until then its bytes
//! in shared memory are pending: no thread may read or write them. Nor may the block store to the source.
//!
//! Limit: stores to a source by other blocks or by the host are not detected.

use super::access::{Access, LANES, Words, groups, lanes};
use super::scatter::Scatter;

/// Most pending requests of a warp, so that a kernel that never waits does not exhaust the memory.
const MOST: usize = 1024;

/// The copies of one instruction of a warp.
#[derive(Debug)]
pub(super) struct Request {
    /// Lanes whose copy is pending.
    pub mask: u32,
    /// Bytes per lane at the destination.
    pub bytes: u32,
    pub line: u32,
    /// The group of each lane's copy, by its number in the thread.
    group: [u64; LANES],
    pub to: [u64; LANES],
    from: [u64; LANES],
    from_bytes: [u32; LANES],
    /// The addresses that hold all sources.
    from_range: (u64, u64),
    pub data: Words,
}

/// The pending copies of a block.
#[derive(Debug)]
pub(super) struct Copies {
    /// Groups that each thread has committed.
    committed: Vec<u64>,
    /// Each warp's requests, in the order of their issue.
    queues: Vec<Vec<Request>>,
    /// A bit for each byte of shared memory that a copy will land on.
    pending: Vec<u64>,
    requests: usize,
}

/// A pending copy that an access overlaps: the first common address, and the thread and line that issued it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Collision {
    pub address: u64,
    pub thread: u32,
    pub line: u32,
}

/// Position of the bits of a lane's destination; it is aligned, so all are in one group of 64.
#[inline]
fn bits(address: u64, bytes: u32) -> (usize, u64) {
    ((address / 64) as usize, ((1u64 << bytes) - 1) << (address % 64))
}

impl Request {
    /// The lanes' destinations are no longer pending.
    fn clear(&self, landing: u32, pending: &mut [u64]) {
        for lane in lanes(landing) {
            let (group, mask) = bits(self.to[lane], self.bytes);
            pending[group] &= !mask;
        }
    }
}

impl Copies {
    pub fn new(bytes: usize, threads: usize) -> Self {
        let warps = threads.div_ceil(LANES);
        Self {
            committed: vec![0; warps * LANES],
            queues: (0..warps).map(|_| Vec::new()).collect(),
            pending: vec![0; bytes.div_ceil(64)],
            requests: 0,
        }
    }

    /// Begins a new block without pending copies.
    pub fn restart(&mut self) {
        self.committed.fill(0);
        self.queues.iter_mut().for_each(Vec::clear);
        self.pending.fill(0);
        self.requests = 0;
    }

    /// Removes the oldest request of a warp that has too many. It completes early, as the hardware may do.
    pub fn surplus(&mut self, warp: usize) -> Option<Request> {
        if self.queues[warp].len() < MOST {
            return None;
        }
        let oldest = self.queues[warp].remove(0);
        oldest.clear(oldest.mask, &mut self.pending);
        self.requests -= 1;
        Some(oldest)
    }

    /// Whether any copy is pending.
    #[inline]
    pub fn any(&self) -> bool {
        self.requests > 0
    }

    /// Adds a warp's copies; `data` is read already. Returns the first lane whose destination was already pending, from
    /// this instruction or an earlier one.
    pub fn issue(
        &mut self,
        warp: usize,
        line: u32,
        access: Access<'_>,
        from: &[u64; LANES],
        from_bytes: &[u32; LANES],
        data: Words,
    ) -> Option<usize> {
        let mut clash = None;
        let mut from_range = (u64::MAX, 0);
        for lane in lanes(access.mask) {
            let (group, mask) = bits(access.addresses[lane], access.bytes);
            if self.pending[group] & mask != 0 {
                clash.get_or_insert(lane);
            }
            self.pending[group] |= mask;
            if from_bytes[lane] > 0 {
                let end = from[lane].saturating_add(from_bytes[lane].into());
                from_range = (from_range.0.min(from[lane]), from_range.1.max(end));
            }
        }
        let group = std::array::from_fn(|lane| self.committed[warp * LANES + lane]);
        self.requests += 1;
        self.queues[warp].push(Request {
            mask: access.mask,
            bytes: access.bytes,
            line,
            group,
            to: *access.addresses,
            from: *from,
            from_bytes: *from_bytes,
            from_range,
            data,
        });
        clash
    }

    /// Closes the current group of each lane.
    pub fn commit(&mut self, warp: usize, mask: u32) {
        for lane in lanes(mask) {
            self.committed[warp * LANES + lane] += 1;
        }
    }

    /// Removes the copies that complete when the lanes wait for all but their last `left` committed groups, or for
    /// everything; passes each to `land`, with its lanes.
    pub fn wait(&mut self, warp: usize, mask: u32, left: Option<u32>, mut land: impl FnMut(&Request, u32)) {
        let committed = &self.committed[warp * LANES..][..LANES];
        let pending = &mut self.pending;
        let before = self.queues[warp].len();
        self.queues[warp].retain_mut(|request| {
            let mut landing = 0u32;
            for (lane, (&group, &committed)) in request.group.iter().zip(committed).enumerate() {
                let done = left.is_none_or(|left| group + u64::from(left) < committed);
                landing |= u32::from(done) << lane;
            }
            landing &= request.mask & mask;
            request.clear(landing, pending);
            if landing != 0 {
                land(request, landing);
            }
            request.mask &= !landing;
            request.mask != 0
        });
        self.requests -= before - self.queues[warp].len();
    }

    /// The copy that will write within a range of shared memory.
    #[inline]
    pub fn landing_on(&self, address: usize, bytes: usize) -> Option<Collision> {
        if !self.any() || groups(address, bytes).all(|(group, mask)| self.pending[group] & mask == 0) {
            return None;
        }
        self.find(|request, lane| {
            let (to, from) = (request.to[lane], address as u64);
            (to < from + bytes as u64 && from < to + u64::from(request.bytes)).then_some(to.max(from))
        })
    }

    /// Whether any copy will write any of these lanes' bytes.
    #[inline]
    pub fn any_landing_on(&self, lanes: &Scatter) -> bool {
        self.any() && lanes.any(|group| self.pending[group])
    }

    /// The copy whose source in global memory a range touches, if its source may still be read.
    pub fn reading_from(&self, address: u64, bytes: u64) -> Option<Collision> {
        let end = address.saturating_add(bytes);
        self.find(|request, lane| {
            if request.from_range.1 <= address || end <= request.from_range.0 {
                return None;
            }
            let (from, count) = (request.from[lane], u64::from(request.from_bytes[lane]));
            (count > 0 && from < end && address < from.saturating_add(count)).then_some(from.max(address))
        })
    }

    fn find(&self, hit: impl Fn(&Request, usize) -> Option<u64>) -> Option<Collision> {
        for (warp, queue) in self.queues.iter().enumerate() {
            for request in queue {
                if let Some((lane, address)) =
                    lanes(request.mask).find_map(|lane| Some((lane, hit(request, lane)?)))
                {
                    return Some(Collision {
                        address,
                        thread: (warp * LANES + lane) as u32,
                        line: request.line,
                    });
                }
            }
        }
        None
    }
}
