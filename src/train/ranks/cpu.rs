//! Reduction of one step's gradients over all ranks on the CPU.

use std::{ops::Range, sync::Arc};

use ssmv_autograd::{ArenaLayout, Gradients};
use ssmv_comm::{Error as Failed, Pending, ReduceOp, segment_of};

use super::{Buckets, Ranks, buckets::Progress};
use crate::Result;

/// Averages the gradients of all ranks, bucket by bucket, during the backward pass that computes them. Each is scaled
/// by 1/W before the sum, so that the sum of many ranks overflows no sooner than one rank's.
pub struct CpuSharing {
    /// The ranks that train together.
    pub ranks: Arc<Ranks>,
    /// The cut of the arena into buckets.
    pub buckets: Buckets,
    progress: Progress,
    pending: Vec<Pending<Vec<f32>>>,
    /// Memory of the buckets, reused from step to step.
    spare: Vec<Vec<f32>>,
}

impl CpuSharing {
    /// A reduction of gradients in this `layout`.
    pub fn new(ranks: Arc<Ranks>, layout: &ArenaLayout) -> Self {
        let buckets = Buckets::new(layout, ranks.bucket_bytes, 1);
        Self { ranks, progress: buckets.progress(), buckets, pending: Vec::new(), spare: Vec::new() }
    }

    /// Begins a step: all gradients are incomplete.
    pub fn start(&mut self) {
        self.progress = self.buckets.progress();
        self.pending.clear();
    }

    /// Records that a parameter's gradient is complete, and sends the buckets that can be sent.
    pub fn send_complete(&mut self, parameter: usize, gradients: &mut Gradients) -> Result<()> {
        if !self.ranks.overlap {
            return Ok(());
        }
        let ready = self.progress.complete(parameter);
        self.send(ready, gradients)
    }

    fn send(&mut self, ready: Range<usize>, gradients: &mut Gradients) -> Result<()> {
        let (share, zero) = (1.0 / self.ranks.size() as f32, self.ranks.zero);
        for range in &self.buckets.ranges()[ready] {
            let mut copy = self.spare.pop().unwrap_or_default();
            copy.clear();
            copy.extend(gradients.part_mut::<f32>(range.clone())?.iter().map(|g| g * share));
            self.pending.push(self.ranks.comm_thread.queue(move |communicator| {
                match zero {
                    true => communicator.reduce_scatter(&mut copy, ReduceOp::Sum).map(|_| ())?,
                    false => communicator.all_reduce(&mut copy, ReduceOp::Sum)?,
                }
                Ok::<_, Failed>(copy)
            }));
        }
        Ok(())
    }

    /// Sends the rest, waits for all buckets and writes the averages in place of the gradients; with `--zero 1` those
    /// of this rank's share.
    pub fn finish(&mut self, gradients: &mut Gradients) -> Result<()> {
        self.send(self.progress.rest(), gradients)?;
        let shares = self.ranks.shares(&self.buckets);
        let buckets = self.buckets.ranges().iter().zip(shares);
        for (pending, (range, own)) in std::mem::take(&mut self.pending).into_iter().zip(buckets) {
            let averages = self.ranks.wait(pending)?;
            let within = own.start - range.start..own.end - range.start;
            gradients.part_mut::<f32>(range.clone())?[within.clone()].copy_from_slice(&averages[within]);
            self.spare.push(averages);
        }
        Ok(())
    }
}

impl Ranks {
    /// The part of each bucket that this rank updates, as elements of the arena: all of it, or with `--zero 1` its
    /// segment; a short bucket always as a whole.
    pub fn shares(&self, buckets: &Buckets) -> Vec<Range<usize>> {
        let own = |range| segment_of(range, self.size(), self.rank());
        let shared = |i: usize| self.zero && !buckets.is_short(i);
        let ranges = buckets.ranges().iter().enumerate();
        ranges.map(|(i, range)| if shared(i) { own(range) } else { range.clone() }).collect()
    }

    /// Copies every rank's share of an arena to all ranks, after an update or before a checkpoint.
    pub fn gather(&self, buckets: &Buckets, arena: &mut [f32]) -> Result<()> {
        let pending: Vec<_> = buckets
            .ranges()
            .iter()
            .map(|range| {
                let mut copy = arena[range.clone()].to_vec();
                self.comm_thread.queue(move |communicator| {
                    communicator.all_gather(&mut copy)?;
                    Ok::<_, Failed>(copy)
                })
            })
            .collect();
        for (range, pending) in buckets.ranges().iter().zip(pending) {
            arena[range.clone()].copy_from_slice(&self.wait(pending)?);
        }
        Ok(())
    }
}
