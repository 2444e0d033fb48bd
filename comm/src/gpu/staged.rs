//! Through the host: device memory → pinned memory → the ring over TCP → pinned memory → device memory.
//!
//! The elements travel in chunks, of which one is with the ring while the next one leaves the device. A chunk has a part of
//! each segment, all of one length, so that the ring cuts it where the whole would have been cut: the bits are those of the
//! whole at once. Unlike the ring over device memory, the host waits for each chunk.

use std::ops::Range;
use std::sync::Arc;

use ssmv_autograd::cuda::{Cuda, DeviceBuffer, Event, PinnedBuffer};

use super::ring::{abandon, check};
use super::{Aborter, DeviceCollectives, Error, Region, Result};
use crate::{Communicator, Reduction, Result as CommResult, segment_of};

/// A chunk's memory, on both sides.
#[derive(Debug)]
struct Buffer {
    device: DeviceBuffer<u32>,
    host: PinnedBuffer<u32>,
}

/// Collectives through the host.
#[derive(Debug)]
pub struct Staged {
    cuda: Cuda,
    buffers: [Buffer; 2],
    /// After the last work that uses the buffers.
    used: Event,
}

/// A collective: what it is called, into how many segments it cuts, which of them leave the device and which come back.
#[derive(Debug, Clone)]
struct Plan {
    name: &'static str,
    /// Whether it sums, which is of f32 alone.
    sums: bool,
    segments: usize,
    out: Range<usize>,
    back: Range<usize>,
}

/// A chunk: where its part of each segment lies, and words that each part has room for.
#[derive(Debug)]
struct Chunk {
    parts: Vec<Range<usize>>,
    words: usize,
}

impl Staged {
    /// Bytes of a chunk where nothing speaks for another number.
    pub const CHUNK: usize = 4 << 20;

    /// Two chunks' memory of `chunk` bytes on the device and on the host.
    ///
    /// # Errors
    /// No room for them.
    pub fn new(cuda: &Cuda, chunk: usize) -> ssmv_autograd::Result<Self> {
        let words = chunk.div_ceil(4).max(1);
        let buffer = || -> ssmv_autograd::Result<_> {
            Ok(Buffer { device: cuda.zeros(words)?, host: cuda.pinned(words)? })
        };
        let staged = Self { cuda: cuda.clone(), buffers: [buffer()?, buffer()?], used: cuda.event()? };
        staged.used.record()?;
        Ok(staged)
    }

    /// The chunks of a range.
    fn chunks(&self, region: &Region, segments: usize) -> Result<Vec<Chunk>, String> {
        let per_word = 4 / region.memory.dtype().bytes();
        let room = self.buffers[0].host.len() / segments;
        if room == 0 {
            return Err(format!(
                "a chunk of {} words has no room for {segments} ranks",
                self.buffers[0].host.len()
            ));
        }
        let all: Vec<_> = (0..segments).map(|j| segment_of(&region.range, segments, j)).collect();
        let longest = all.iter().map(Range::len).max().unwrap_or(0);
        let share = room * per_word;
        let chunk = |done: usize| Chunk {
            words: share.min(longest - done).div_ceil(per_word),
            parts: all
                .iter()
                .map(|all| (all.start + done).min(all.end)..(all.start + done + share).min(all.end))
                .collect(),
        };
        // Empty ranges have one chunk too, so that all ranks meet.
        Ok((0..longest.max(1)).step_by(share).map(chunk).collect())
    }

    /// Gathers what leaves the device, and sends it off.
    fn leave(&self, region: &Region, plan: &Plan, chunk: &Chunk, number: usize) -> ssmv_autograd::Result<()> {
        let buffer = &self.buffers[number % 2];
        self.copy(region, chunk, &plan.out, buffer, true)?;
        match plan.out.is_empty() {
            true => Ok(()),
            false => {
                let words = chunk.words * plan.segments;
                buffer.host.download_in(buffer.device.address(), words, region.stream)
            }
        }
    }

    /// Brings back what the ring made.
    fn arrive(
        &self,
        region: &Region,
        plan: &Plan,
        chunk: &Chunk,
        number: usize,
    ) -> ssmv_autograd::Result<()> {
        let buffer = &self.buffers[number % 2];
        if !plan.back.is_empty() {
            buffer.host.upload_in(buffer.device.address(), chunk.words * plan.segments, region.stream)?;
        }
        self.copy(region, chunk, &plan.back, buffer, false)
    }

    /// Copies parts of segments between their places and the chunk's memory.
    fn copy(
        &self,
        region: &Region,
        chunk: &Chunk,
        segments: &Range<usize>,
        buffer: &Buffer,
        out: bool,
    ) -> ssmv_autograd::Result<()> {
        let bytes = region.memory.dtype().bytes();
        for j in segments.clone().filter(|&j| !chunk.parts[j].is_empty()) {
            let there = region.memory.address_of(chunk.parts[j].start);
            let here = buffer.device.address_of(j * chunk.words)?;
            let (to, from) = if out { (here, there) } else { (there, here) };
            self.cuda.driver().copy(to, from, (chunk.parts[j].len() * bytes) as u64, region.stream)?;
        }
        Ok(())
    }

    /// Runs a collective, of which `ring` is what the control ring does with a chunk.
    fn run(
        &mut self,
        control: &mut Communicator,
        region: &Region,
        plan: Plan,
        ring: impl Fn(&mut Communicator, &mut [u32]) -> CommResult<()>,
    ) -> Result<()> {
        let (rank, operation) = (control.rank(), plan.name);
        let failed = |source| Error::Device { rank, operation, source };
        let chunks = self.chunks(region, plan.segments).map_err(|message| Error::Argument {
            rank,
            operation,
            message,
        })?;
        self.used.wait_on(region.stream).map_err(failed)?;
        self.leave(region, &plan, &chunks[0], 0).map_err(failed)?;
        for (i, chunk) in chunks.iter().enumerate() {
            if let Some(next) = chunks.get(i + 1) {
                self.leave(region, &plan, next, i + 1).map_err(failed)?;
            }
            let words = chunk.words * plan.segments;
            let host = &mut self.buffers[i % 2].host;
            host.with(|all| ring(control, &mut all[..words])).map_err(failed)??;
            self.arrive(region, &plan, chunk, i).map_err(failed)?;
        }
        Ok(())
    }

    /// The same, and tells the other ranks where it fails.
    fn collective(
        &mut self,
        control: &mut Communicator,
        region: &Region,
        root: usize,
        plan: Plan,
        ring: impl Fn(&mut Communicator, &mut [u32]) -> CommResult<()>,
    ) -> Result<()> {
        let (rank, operation) = (control.rank(), plan.name);
        check(region, plan.sums, root, control.size())
            .map_err(|message| Error::Argument { rank, operation, message })
            .and_then(|()| {
                let result = self.run(control, region, plan, ring);
                // Whatever came of it, copies may be under way.
                let recorded = self.used.record_on(region.stream);
                result.and(recorded.map_err(|source| Error::Device { rank, operation, source }))
            })
            .inspect_err(|error| abandon(control, error))
    }
}

impl DeviceCollectives for Staged {
    fn all_reduce_sum(&mut self, control: &mut Communicator, region: &Region) -> Result<()> {
        let n = control.size();
        let plan = Plan { name: "all-reduce", sums: true, segments: n, out: 0..n, back: 0..n };
        self.collective(control, region, 0, plan, |control, words| {
            control.all_reduce::<f32>(bytemuck::cast_slice_mut(words), Reduction::Sum)
        })
    }

    fn reduce_scatter_sum(&mut self, control: &mut Communicator, region: &Region) -> Result<Range<usize>> {
        let (n, rank) = (control.size(), control.rank());
        let plan = Plan { name: "reduce-scatter", sums: true, segments: n, out: 0..n, back: rank..rank + 1 };
        self.collective(control, region, 0, plan, |control, words| {
            control.reduce_scatter::<f32>(bytemuck::cast_slice_mut(words), Reduction::Sum).map(drop)
        })?;
        Ok(segment_of(&region.range, n, rank))
    }

    fn all_gather(&mut self, control: &mut Communicator, region: &Region) -> Result<()> {
        let (n, rank) = (control.size(), control.rank());
        let plan = Plan { name: "all-gather", sums: false, segments: n, out: rank..rank + 1, back: 0..n };
        self.collective(control, region, 0, plan, |control, words| control.all_gather(words))
    }

    fn broadcast(&mut self, control: &mut Communicator, region: &Region, root: usize) -> Result<()> {
        let (out, back) = if control.rank() == root { (0..1, 0..0) } else { (0..0, 0..1) };
        let plan = Plan { name: "broadcast", sums: false, segments: 1, out, back };
        self.collective(control, region, root, plan, |control, words| control.broadcast(words, root))
    }

    /// Nothing waits for other ranks but the control ring, which has its own patience.
    fn aborter(&self) -> Aborter {
        Arc::new(|| ())
    }

    fn close(self: Box<Self>, _: &mut Communicator) -> Result<()> {
        Ok(())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // The buffers go back to a pool that knows of one stream alone.
        let _ = self.used.synchronize();
    }
}
