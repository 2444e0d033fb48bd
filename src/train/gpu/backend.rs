//! The GPU's part of a training: its steps, figures, evaluations and checkpoints.

use std::sync::Arc;

use ssmv_autograd::{
    cuda::DeviceMemory,
    optim::{ShardedAdamW, Shares, StepRecord},
};
use ssmv_kernels::optim::StepState;

use super::{Gpu, Graph, data_parallel::Cut};
use crate::{
    Error, Result,
    config::Comm,
    model::{DevicePredictor, Predict},
    train::{
        StepFigures,
        backend::{Backend, NextBatch},
        loss_scale::LossScale,
        ranks::{GpuSharing, Ranks},
        snapshot::Snapshot,
    },
};

/// Figures of a step from its record.
pub(super) fn figures(step: u64, record: &StepRecord) -> StepFigures {
    let state = &record.state;
    StepFigures {
        step,
        loss: f64::from(record.loss),
        lr: state.rate,
        grad_norm: state.norm,
        skipped: state.found_inf != 0,
        loss_scale: state.scale,
        consecutive_skips: state.consecutive_skips,
    }
}

impl Backend for Gpu {
    fn feed(&mut self, step: u64, lr: f64, next: &mut NextBatch) -> Result<()> {
        self.inputs.fill(step, lr, self.optimiser.rate_address(), next)?;
        self.step = step;
        Ok(())
    }

    fn pass(&mut self) -> Result<()> {
        let mut sharing = self.sharing.take();
        let passed = self.passes(&mut |buckets, gradients| match &mut sharing {
            Some(sharing) => sharing.send(buckets, gradients.memory_of(0..0)?),
            None => Ok(()),
        });
        self.sharing = sharing;
        passed
    }

    fn reduce(&mut self) -> Result<()> {
        self.sum_loss()
    }

    fn update(&mut self) -> Result<()> {
        (0..self.stages()).try_for_each(|stage| {
            self.stage(stage)?;
            self.exchange(stage)
        })
    }

    fn compute(&mut self) -> Result<()> {
        match &mut self.graph {
            Graph::Ready(graph) => graph.launch()?,
            Graph::Shared(_) => self.replay_shared()?,
            Graph::Off => self.run()?,
            Graph::WarmingUp(0) => self.capture()?,
            Graph::WarmingUp(left) => {
                *left -= 1;
                self.run()?;
            }
        }
        self.step += 1;
        self.readback.send(self.step, self.optimiser.address())?;
        self.compare_ranks()
    }

    fn figures(&mut self) -> Result<Vec<StepFigures>> {
        // The step before this one is looked at while this one runs.
        if let Some(sharing) = &self.sharing {
            sharing.watch(|| self.readback.has_come(self.step - 1))?;
        }
        let known = self.readback.receive(self.step - 1)?;
        Ok(known.into_iter().map(|(step, record)| figures(step, &record)).collect())
    }

    fn settle(&mut self) -> Result<Vec<StepFigures>> {
        self.settle_ranks()?;
        let records = self.readback.drain()?;
        Ok(records.iter().map(|(step, record)| figures(*step, record)).collect())
    }

    fn snapshot(&mut self) -> &mut Snapshot {
        &mut self.snapshot
    }

    fn read_back(&mut self) -> Result<()> {
        let state = self.optimiser.record()?.state;
        let Self { snapshot: host, model, optimiser, ema, source, .. } = self;
        model.write_back(&mut host.model)?;
        let whole = |memory: &DeviceMemory| memory.download(0..memory.len());
        (host.optimiser.m, host.optimiser.v) = (whole(&optimiser.moments[0])?, whole(&optimiser.moments[1])?);
        if let Some(average) = ema {
            host.ema = Some(whole(average)?);
        }
        let batches = (state.updates - host.optimiser.updates) as i64 * source.accumulate as i64;
        host.model.norms.iter_mut().for_each(|norm| norm.batches += batches);
        (host.step, host.optimiser.updates) = (state.steps, state.updates);
        host.loss_scale = LossScale::of_device(&state);
        Ok(())
    }

    fn load(&mut self) -> Result<()> {
        let Self { snapshot: host, model, optimiser, ema, cuda, .. } = self;
        // A training that began on the CPU had no scale.
        if !host.loss_scale.is_on() {
            host.loss_scale = LossScale::default();
        }
        let values = host.model.arena.values::<f32>()?;
        let [masters, halves] = model.arena.memories()?;
        masters.upload(values)?;
        halves.upload(values)?;
        model.norms.upload_again(&host.model.norms)?;
        optimiser.moments[0].upload(&host.optimiser.m)?;
        optimiser.moments[1].upload(&host.optimiser.v)?;
        if let (Some(average), Some(values)) = (ema, &host.ema) {
            average.upload(values)?;
        }
        let settings = optimiser.record()?.state;
        let (steps, updates) = (host.step, host.optimiser.updates);
        optimiser.set_state(&StepState { steps, updates, ..host.loss_scale.on_device(settings) })?;
        self.step = steps;
        Ok(cuda.synchronize()?)
    }

    fn with_final_weights(&mut self, body: &mut dyn FnMut(&dyn Predict) -> Result<()>) -> Result<()> {
        match &self.ema {
            Some(average) => body(&DevicePredictor::with_weights(&self.model, average)?),
            None => body(&self.model),
        }
    }

    fn share(&mut self, ranks: Arc<Ranks>, comm: Comm) -> Result<Option<String>> {
        if ranks.sync_batchnorm {
            return Err(Error::Usage(
                "--sync-batchnorm: on a GPU each rank normalises by its own batch; take it away, or --device cpu".into(),
            ));
        }
        let layout = self.model.arena.layout();
        let mut sharing = GpuSharing::connect(ranks, &self.cuda, layout, comm)?;
        if sharing.ranks.zero {
            let of_bucket = |(i, range)| (range, sharing.buckets.is_short(i));
            let parameters = self.snapshot.model.parameters.iter().zip(layout.ranges());
            let shares = Shares {
                rank: sharing.ranks.rank(),
                size: sharing.ranks.size(),
                parts: sharing
                    .ranks
                    .shares(&sharing.buckets)
                    .into_iter()
                    .enumerate()
                    .map(of_bucket)
                    .collect(),
                plain: parameters.filter(|(p, _)| !p.role.halved()).map(|(_, range)| range.clone()).collect(),
            };
            let share = ShardedAdamW::new(&self.cuda, &shares, &self.snapshot.optimiser.decaying)?;
            sharing.share = Some(Arc::new(share));
        }
        let line = format!("gradients travel between GPUs by {}", sharing.name);
        self.warnings.extend(sharing.warning.take());
        self.cut = Some(Cut {
            buckets: sharing.buckets.clone(),
            ranks: sharing.ranks.size(),
            share: sharing.share.clone(),
        });
        self.sharing = Some(sharing);
        Ok(Some(line))
    }

    fn gather_state(&mut self, moments: bool) -> Result<()> {
        let Some(sharing) = &mut self.sharing else { return Ok(()) };
        if sharing.ranks.zero {
            sharing.gather_shares(self.model.arena.memories()?[0])?;
            if let Some(average) = &self.ema {
                sharing.gather_shares(average)?;
            }
            if moments {
                self.optimiser.moments.iter().try_for_each(|moment| sharing.gather_shares(moment))?;
            }
            sharing.wait()?;
        }
        let ranks = Arc::clone(&sharing.ranks);
        self.settle_ranks()?;
        if moments {
            ranks.compare_now(self.step, self.digest(self.model.arena.memories()?[0])?)?;
        }
        self.read_back()?;
        ranks.share_statistics(&mut self.snapshot.model.norms)?;
        self.model.norms.upload_again(&self.snapshot.model.norms)
    }

    fn take_warnings(&mut self) -> Vec<String> {
        let mut warnings = std::mem::take(&mut self.warnings);
        if let Some(error) = self.uncaptured.take() {
            let rank = self.sharing.as_ref().map(|sharing| format!("rank {}: ", sharing.ranks.rank()));
            warnings.push(format!(
                "{}the training step could not be captured as a CUDA graph ({error}); training goes on launch by launch, to \
                 the same bits",
                rank.unwrap_or_default()
            ));
        }
        warnings
    }

    fn close(&mut self) -> Result<()> {
        self.sharing.take().map_or(Ok(()), GpuSharing::close)
    }

    fn abort(&mut self) {
        if let Some(sharing) = &self.sharing {
            sharing.abort();
        }
    }

    fn waits_for_ranks(&self) -> bool {
        self.sharing.is_some()
    }

    fn trim(&mut self) -> Result<()> {
        // A capture takes the memory that the step before it left; another such step must come first.
        if let Graph::WarmingUp(left) = &mut self.graph {
            *left = (*left).max(1);
        }
        Ok(self.cuda.trim()?)
    }
}
