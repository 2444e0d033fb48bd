//! The step of several ranks: captured graphs, and the collectives between them.
//!
//! | compute stream | then, between all ranks |
//! | --- | --- |
//! | forward and backward, part by part | each bucket of gradients as soon as it is whole; at the end the loss |
//! | the update | nothing more |
//!
//! With `--zero 1` each bucket is reduced to the ranks' shares, and the update is in stages:
//!
//! | compute stream | then, between all ranks |
//! | --- | --- |
//! | squares of this rank's gradients | all ranks' squares |
//! | the norm, AdamW over this rank's share | f16 weights, and packed together the few that are read in f32 |
//! | those to their places | nothing more |

use std::{ops::Range, sync::Arc};

use ssmv_autograd::{
    cuda::{Captured, DeviceMemory},
    optim::ShardedAdamW,
};

use super::{Gpu, Graph};
use crate::{
    Error, Result,
    train::ranks::{Buckets, GpuSharing},
};

/// How the gradients are cut for several ranks.
pub(super) struct Cut {
    pub buckets: Buckets,
    pub ranks: usize,
    /// With `--zero 1`, what this rank updates.
    pub share: Option<Arc<ShardedAdamW>>,
}

/// A captured step of several ranks.
pub(super) struct SharedStep {
    /// Forward and backward.
    passes: Captured,
    /// The buckets that are whole after each part of it but the last.
    whole: Vec<Range<usize>>,
    /// What comes after the gradients, stage by stage.
    stages: Vec<Captured>,
}

impl Gpu {
    /// Captures a step of several ranks.
    pub(super) fn capture_shared(&mut self) -> Result<SharedStep> {
        let cuda = self.cuda.clone();
        let (passes, whole) = cuda.capture_parts(|cutter| {
            let mut whole = Vec::new();
            self.passes(&mut |buckets, _| {
                whole.push(buckets);
                Ok(cutter.cut()?)
            })?;
            Ok::<_, Error>(whole)
        })?;
        let stages =
            (0..self.stages()).map(|i| Ok(cuda.capture(|| self.stage(i))?.0)).collect::<Result<_>>()?;
        Ok(SharedStep { passes, whole, stages })
    }

    /// Runs a captured step of several ranks.
    pub(super) fn replay_shared(&mut self) -> Result<()> {
        let (Graph::Shared(step), Some(sharing)) = (&self.graph, &mut self.sharing) else {
            return Err(Error::Failure("a step of several ranks was replayed before its capture".into()));
        };
        let gradients = self.gradients.memory_of(0..0)?.clone();
        for part in 0..step.passes.parts() {
            step.passes.launch_part(part)?;
            if let Some(buckets) = step.whole.get(part) {
                sharing.send(buckets.clone(), &gradients)?;
            }
        }
        self.sum_loss()?;
        for stage in 0..self.stages() {
            if let Graph::Shared(step) = &self.graph {
                step.stages[stage].launch()?;
            }
            self.exchange(stage)?;
        }
        Ok(())
    }

    /// How many stages come after the gradients.
    pub(super) fn stages(&self) -> usize {
        match self.cut.as_ref().and_then(|cut| cut.share.as_ref()) {
            Some(_) => 3,
            None => 1,
        }
    }

    /// A stage of what comes after the gradients: all of it, or with `--zero 1` the norm's squares, the update of this rank's
    /// share, and what follows once all shares are everywhere.
    pub(super) fn stage(&mut self, stage: usize) -> Result<()> {
        let share = self.cut.as_ref().and_then(|cut| cut.share.clone());
        match (share, stage) {
            (None, _) => self.optimise(),
            (Some(share), 0) => Ok(share.norm(self.gradients.memory()?)?),
            (Some(share), 1) => {
                self.optimise()?;
                Ok(share.pack(self.model.arena.memories()?[0])?)
            }
            (Some(share), _) => Ok(share.unpack(self.model.arena.memories()?[0])?),
        }
    }

    /// Exchanges signals with the other ranks, and compares the parameters with theirs when a comparison is due.
    pub(super) fn compare_ranks(&mut self) -> Result<()> {
        let Some(GpuSharing { ranks, .. }) = &self.sharing else { return Ok(()) };
        ranks.share_signals()?;
        let [masters, halves] = self.model.arena.memories()?;
        ranks.compare(self.step, || {
            self.settle_ranks()?;
            // With shares no rank has all masters.
            self.digest(if ranks.zero { halves } else { masters })
        })
    }

    /// Waits for all that is queued, but not for ever where that waits for other ranks.
    pub(super) fn settle_ranks(&self) -> Result<()> {
        self.sharing.as_ref().map_or(Ok(()), |sharing| sharing.settle())
    }

    /// A digest of memory laid out as the arena, which ranks compare.
    pub(super) fn digest(&self, memory: &DeviceMemory) -> Result<u32> {
        Ok(crc32c::crc32c(bytemuck::cast_slice(&self.optimiser.digest(memory)?)))
    }

    /// Adds up the loss of all ranks, and waits for it and the gradients.
    pub(super) fn sum_loss(&mut self) -> Result<()> {
        let Some(sharing) = &mut self.sharing else { return Ok(()) };
        let (record, loss) = self.optimiser.loss_place();
        sharing.sum(record, loss)?;
        sharing.wait()
    }

    /// The exchange between ranks after a stage of the update: with `--zero 1` squares, then weights.
    pub(super) fn exchange(&mut self, stage: usize) -> Result<()> {
        let Some(sharing) = &mut self.sharing else { return Ok(()) };
        let Some(share) = sharing.share.clone() else { return Ok(()) };
        match stage {
            0 => {
                let (sums, range) = share.squares();
                sharing.gather(sums, range)?;
            }
            1 => {
                sharing.gather_shares(self.model.arena.memories()?[1])?;
                let (packed, range) = share.packed();
                sharing.sum(packed, range)?;
            }
            _ => return Ok(()),
        }
        sharing.wait()
    }
}
