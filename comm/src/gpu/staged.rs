//! Through the host: device memory → pinned memory → the ring over TCP → pinned memory → device memory.
//!
//! The elements move in chunks: while the ring works on one, the next is copied from the device. A chunk has a part of each
//! segment, all of one length, so that the ring cuts it between segments: the bits are those of one collective over all
//! elements. Unlike the ring over device memory, the host waits for each chunk.

use std::ops::Range;
use std::sync::Arc;

use ssmv_autograd::cuda::{Cuda, DeviceBuffer, Event, PinnedBuffer};

use super::ring::{abandon, check};
use super::{Aborter, DeviceCollectives, Error, Region, Result};
use crate::{Communicator, ReduceOp, Result as CommResult, frame::Operation, segment_of};

/// Memory for a chunk on the device and the host.
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
    /// Recorded after the last work that uses the buffers.
    used: Event,
}

/// A collective in progress.
#[derive(Debug, Clone)]
struct Plan {
    operation: Operation,
    segments: usize,
    /// The segments to copy from the device.
    out: Range<usize>,
    /// The segments to copy to the device.
    back: Range<usize>,
}

#[derive(Debug)]
struct Chunk {
    /// The elements of its part of each segment.
    parts: Vec<Range<usize>>,
    /// Size of a part in 4-byte words.
    words: usize,
}

impl Staged {
    /// Default size of a chunk in bytes.
    pub const CHUNK: usize = 4 << 20;

    /// Collectives with memory for two chunks of `chunk` bytes on the device and on the host.
    ///
    /// # Errors
    /// No memory for them.
    pub fn new(cuda: &Cuda, chunk: usize) -> ssmv_autograd::Result<Self> {
        let words = chunk.div_ceil(4).max(1);
        let buffer = || -> ssmv_autograd::Result<_> {
            Ok(Buffer { device: cuda.zeros(words)?, host: cuda.pinned(words)? })
        };
        let staged = Self { cuda: cuda.clone(), buffers: [buffer()?, buffer()?], used: cuda.event()? };
        staged.used.record()?;
        Ok(staged)
    }

    /// Cuts a range into chunks.
    fn chunks(&self, region: &Region, segments: usize) -> Result<Vec<Chunk>, String> {
        let per_word = 4 / region.memory.dtype().bytes();
        let capacity = self.buffers[0].host.len() / segments;
        if capacity == 0 {
            return Err(format!(
                "a chunk of {} words is too small for {segments} ranks",
                self.buffers[0].host.len()
            ));
        }
        let all: Vec<_> = (0..segments).map(|j| segment_of(&region.range, segments, j)).collect();
        let longest = all.iter().map(Range::len).max().unwrap_or(0);
        let share = capacity * per_word;
        let chunk = |done: usize| Chunk {
            words: share.min(longest - done).div_ceil(per_word),
            parts: all
                .iter()
                .map(|all| (all.start + done).min(all.end)..(all.start + done + share).min(all.end))
                .collect(),
        };
        // An empty range has one chunk, so that all ranks take part.
        Ok((0..longest.max(1)).step_by(share).map(chunk).collect())
    }

    /// Copies a chunk from the device to the host.
    fn download(
        &self,
        region: &Region,
        plan: &Plan,
        chunk: &Chunk,
        number: usize,
    ) -> ssmv_autograd::Result<()> {
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

    /// Copies the ring's result to the device.
    fn upload(
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

    /// Copies parts of segments between the region and the chunk's memory.
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

    /// Runs a collective; `ring` is the collective of the control ring for a chunk.
    fn run(
        &mut self,
        control: &mut Communicator,
        region: &Region,
        plan: Plan,
        ring: impl Fn(&mut Communicator, &mut [u32]) -> CommResult<()>,
    ) -> Result<()> {
        let (rank, operation) = (control.rank(), plan.operation.name());
        let failed = |source| Error::Device { rank, operation, source };
        let chunks = self.chunks(region, plan.segments).map_err(|message| Error::Argument {
            rank,
            operation,
            message,
        })?;
        self.used.wait_on(region.stream).map_err(failed)?;
        self.download(region, &plan, &chunks[0], 0).map_err(failed)?;
        for (i, chunk) in chunks.iter().enumerate() {
            if let Some(next) = chunks.get(i + 1) {
                self.download(region, &plan, next, i + 1).map_err(failed)?;
            }
            let words = chunk.words * plan.segments;
            let host = &mut self.buffers[i % 2].host;
            host.with(|all| ring(control, &mut all[..words])).map_err(failed)??;
            self.upload(region, &plan, chunk, i).map_err(failed)?;
        }
        Ok(())
    }

    /// Checks and runs a collective; informs the other ranks of an error.
    fn collective(
        &mut self,
        control: &mut Communicator,
        region: &Region,
        root: usize,
        plan: Plan,
        ring: impl Fn(&mut Communicator, &mut [u32]) -> CommResult<()>,
    ) -> Result<()> {
        let (rank, operation) = (control.rank(), plan.operation.name());
        check(region, plan.operation, root, control.size())
            .map_err(|message| Error::Argument { rank, operation, message })
            .and_then(|()| {
                let result = self.run(control, region, plan, ring);
                // Copies may be queued after an error too.
                let marked = self.used.record_on(region.stream);
                result.and(marked.map_err(|source| Error::Device { rank, operation, source }))
            })
            .inspect_err(|error| abandon(control, error))
    }
}

impl DeviceCollectives for Staged {
    fn all_reduce_sum(&mut self, control: &mut Communicator, region: &Region) -> Result<()> {
        let n = control.size();
        let plan = Plan { operation: Operation::AllReduceSum, segments: n, out: 0..n, back: 0..n };
        self.collective(control, region, 0, plan, |control, words| {
            control.all_reduce::<f32>(bytemuck::cast_slice_mut(words), ReduceOp::Sum)
        })
    }

    fn reduce_scatter_sum(&mut self, control: &mut Communicator, region: &Region) -> Result<Range<usize>> {
        let (n, rank) = (control.size(), control.rank());
        let plan =
            Plan { operation: Operation::ReduceScatterSum, segments: n, out: 0..n, back: rank..rank + 1 };
        self.collective(control, region, 0, plan, |control, words| {
            control.reduce_scatter::<f32>(bytemuck::cast_slice_mut(words), ReduceOp::Sum).map(drop)
        })?;
        Ok(segment_of(&region.range, n, rank))
    }

    fn all_gather(&mut self, control: &mut Communicator, region: &Region) -> Result<()> {
        let (n, rank) = (control.size(), control.rank());
        let plan = Plan { operation: Operation::AllGather, segments: n, out: rank..rank + 1, back: 0..n };
        self.collective(control, region, 0, plan, |control, words| control.all_gather(words))
    }

    fn broadcast(&mut self, control: &mut Communicator, region: &Region, root: usize) -> Result<()> {
        let (out, back) = if control.rank() == root { (0..1, 0..0) } else { (0..0, 0..1) };
        let plan = Plan { operation: Operation::Broadcast, segments: 1, out, back };
        self.collective(control, region, root, plan, |control, words| control.broadcast(words, root))
    }

    /// Only the control ring waits for other ranks, and it has its own timeout.
    fn aborter(&self) -> Aborter {
        Arc::new(|| ())
    }

    fn close(self: Box<Self>, _: &mut Communicator) -> Result<()> {
        Ok(())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // The pool orders reuse of the buffers by the compute stream only.
        let _ = self.used.synchronize();
    }
}
