//! The device's state between steps: figures, evaluations, checkpoints.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use ssmv_autograd::cuda::DeviceMemory;
use ssmv_kernels::optim::StepState;

use super::{DeviceTrainer, Graph, data_parallel::Cut};
use crate::{
    Error, Result,
    checkpoint::Checkpoint,
    config::Comm,
    model::{DevicePredictor, Predict},
    optim::{Record, ShareOptimiser, Shares},
    train::{
        StepFigures, TrainState, Trainer,
        engine::{Engine, NextBatch},
        loss_scale::LossScale,
        ranks::{DeviceSharing, Ranks},
    },
};

/// A step's figures.
pub(super) fn figures(step: u64, record: &Record) -> StepFigures {
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

impl DeviceTrainer {
    /// Brings everything that a checkpoint keeps to the host; waits for the device.
    fn write_back(&mut self) -> Result<()> {
        let state = self.optimiser.record()?.state;
        let Self { host, model, optimiser, ema, source, .. } = self;
        model.write_back(&mut host.model)?;
        let whole = |memory: &DeviceMemory| memory.download(0..memory.len());
        (host.moments.m, host.moments.v) = (whole(&optimiser.moments[0])?, whole(&optimiser.moments[1])?);
        if let Some((average, _)) = ema {
            host.ema = Some(whole(average)?);
        }
        let batches = (state.updates - host.updates) as i64 * source.accumulate as i64;
        host.model.norms.iter_mut().for_each(|norm| norm.batches += batches);
        (host.step, host.updates) = (state.steps, state.updates);
        host.loss_scale = LossScale::of_device(&state);
        Ok(())
    }

    /// Takes over the host's numbers.
    fn upload(&mut self) -> Result<()> {
        let Self { host, model, optimiser, ema, cuda, .. } = self;
        let values = host.model.arena.values::<f32>()?;
        let [masters, halves] = model.arena.memories()?;
        masters.upload(values)?;
        halves.upload(values)?;
        model.norms.upload_again(&host.model.norms)?;
        optimiser.moments[0].upload(&host.moments.m)?;
        optimiser.moments[1].upload(&host.moments.v)?;
        if let (Some((average, _)), Some(values)) = (ema, &host.ema) {
            average.upload(values)?;
        }
        let settings = optimiser.record()?.state;
        let (steps, updates) = (host.step, host.updates);
        optimiser.set_state(&StepState { steps, updates, ..host.loss_scale.on_device(settings) })?;
        self.step = steps;
        Ok(cuda.synchronize()?)
    }
}

impl Engine for DeviceTrainer {
    fn steps(&self) -> u64 {
        self.step
    }

    fn step(&mut self, next: &mut NextBatch) -> Result<Vec<StepFigures>> {
        self.take_step(next)
    }

    fn settle(&mut self) -> Result<Vec<StepFigures>> {
        self.settle_ranks()?;
        let records = self.readback.drain()?;
        Ok(records.iter().map(|(step, record)| figures(*step, record)).collect())
    }

    fn with_final_weights(&mut self, body: &mut dyn FnMut(&dyn Predict) -> Result<()>) -> Result<()> {
        match &self.ema {
            Some((average, _)) => body(&DevicePredictor::with_weights(&self.model, average)?),
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
        let mut sharing = DeviceSharing::connect(ranks, &self.cuda, layout, comm)?;
        if sharing.ranks.zero {
            let of_bucket = |(i, range)| (range, sharing.buckets.is_short(i));
            let parameters = self.host.model.parameters.iter().zip(layout.ranges());
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
            let share = ShareOptimiser::new(&self.cuda, &shares, &self.host.decaying)?;
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
            if let Some((average, _)) = &self.ema {
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
            ranks.compare_now(self.step, self.optimiser.digest(self.model.arena.memories()?[0])?)?;
        }
        self.write_back()?;
        ranks.share_statistics(&mut self.host.model.norms)?;
        self.model.norms.upload_again(&self.host.model.norms)
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
        self.sharing.take().map_or(Ok(()), DeviceSharing::close)
    }

    fn abort(&mut self) {
        if let Some(sharing) = &self.sharing {
            sharing.abort();
        }
    }

    fn waits_for_ranks(&self) -> bool {
        self.sharing.is_some()
    }

    fn save(&mut self, run: &Path, seconds: f64, keep_last: Option<usize>) -> Result<PathBuf> {
        self.host()?.save(run, seconds, keep_last)
    }

    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<TrainState> {
        let state = self.host.restore(checkpoint)?;
        // A training that began on the CPU had no scale.
        if !state.loss_scale.is_on() {
            self.host.loss_scale = LossScale::default();
        }
        self.upload()?;
        Ok(state)
    }

    fn host(&mut self) -> Result<&Trainer> {
        self.write_back()?;
        Ok(&self.host)
    }

    fn trim(&mut self) -> Result<()> {
        // A capture takes the memory that the step before it left; another such step must come first.
        if let Graph::WarmingUp(left) = &mut self.graph {
            *left = (*left).max(1);
        }
        Ok(self.cuda.trim()?)
    }
}
