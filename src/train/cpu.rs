//! Training steps on the CPU: in f32, with products of bf16 if `--precision bf16` is given.

use std::{sync::Arc, time::Instant};

use ssmv_autograd::{
    Gradients, Products, Tensor, bf16_available,
    ops::batch_norm2d::AcrossRanks,
    optim::{average, clip_factor, ema_share, gradient_norm, sum_of_squares},
    with_products,
};

use super::{
    StepFigures,
    backend::{Backend, NextBatch, Source, loss},
    loss_scale::LossScale,
    phase::{OnPhase, Phase, ended, of_parts},
    precision,
    ranks::{CpuSharing, Ranks, Report},
    snapshot::Snapshot,
    trainer::give_up,
};
use crate::{
    Result,
    config::{Comm, Loss, Precision, TrainConfig},
    device::in_pool,
    model::{
        Predict,
        frames::{FrameShape, to_tensor},
    },
};

/// The CPU trains its snapshot in place.
pub struct Cpu {
    pub(super) snapshot: Snapshot,
    gradients: Gradients,
    source: Source,
    loss: Loss,
    /// Operands of the products in forward and backward passes.
    products: Products,
    clip_norm: Option<f64>,
    ema_decay: f64,
    /// Steps before the current one.
    step: u64,
    /// The current step's: frames [B,T,S,S,3] and the frames that follow them [B,next,S,S,3].
    pub(super) batches: Vec<(Tensor, Tensor)>,
    outcome: Outcome,
    /// When the step began, and the seconds that this rank had waited for others by then.
    began: (Instant, f64),
    sharing: Option<CpuSharing>,
    /// Called when a phase of a step ends.
    pub(super) on_phase: Option<OnPhase>,
}

/// The loss and gradients of a step: of this rank after the passes, of all ranks after the reduction.
#[derive(Clone, Copy, Default)]
struct Outcome {
    loss: f64,
    /// Before clipping, the loss scale undone.
    grad_norm: f64,
    skipped: bool,
}

impl Cpu {
    /// Trains a model that begins under the configuration's seed.
    ///
    /// # Errors
    /// A precision that this processor does not have; too little memory.
    pub fn new(config: &TrainConfig, source: Source) -> Result<Self> {
        let products = match precision::resolve(config.precision, None, bf16_available())? {
            Precision::Bf16 => Products::Bf16,
            _ => Products::F32,
        };
        let snapshot = Snapshot::new(config)?;
        Ok(Self {
            gradients: snapshot.model.arena.gradients()?,
            snapshot,
            source,
            loss: config.loss,
            products,
            clip_norm: config.clip_norm,
            ema_decay: config.ema.unwrap_or_default(),
            step: 0,
            batches: Vec::new(),
            outcome: Outcome::default(),
            began: (Instant::now(), 0.0),
            sharing: None,
            on_phase: None,
        })
    }

    fn ranks(&self) -> Option<&Arc<Ranks>> {
        self.sharing.as_ref().map(|sharing| &sharing.ranks)
    }

    fn scale(&self) -> f64 {
        f64::from(self.snapshot.loss_scale.scale())
    }

    /// A digest of the parameters, which ranks compare.
    fn digest(&self) -> Result<u32> {
        Ok(crc32c::crc32c(bytemuck::cast_slice(self.snapshot.model.arena.values::<f32>()?)))
    }

    /// Forward and backward passes of all batches.
    fn passes(&mut self) -> Result<()> {
        let scale = self.scale();
        let Self { snapshot: Snapshot { model, .. }, gradients, sharing, on_phase, .. } = self;
        self.began = (Instant::now(), sharing.as_ref().map_or(0.0, |sharing| sharing.ranks.waited()));
        gradients.reset();
        let normalised_together = sharing.as_mut().and_then(|sharing| {
            sharing.start();
            let ranks = Arc::clone(&sharing.ranks);
            ranks.sync_batchnorm.then_some(ranks as Arc<dyn AcrossRanks>)
        });
        let batches = std::mem::take(&mut self.batches);
        let share = 1.0 / batches.len().max(1) as f64;
        let (mut mean, mut left) = (0.0, batches.len());
        ended(on_phase, Phase::Input)?;
        for (frames, target) in batches {
            left -= 1;
            let y = model.train_with(&frames, of_parts(on_phase), normalised_together.clone())?;
            let loss = loss(self.loss, &y, &target)?;
            drop(y);
            mean += loss.item()? * share;
            let scaled = if scale * share == 1.0 { loss } else { loss.scale(scale * share)? };
            ended(on_phase, Phase::Loss)?;
            match sharing {
                Some(sharing) if left == 0 => {
                    let one = Tensor::scalar(1.0, scaled.dtype())?;
                    let mut send = |parameter, gradients: &mut _| sharing.send_complete(parameter, gradients);
                    scaled.backward_with_hook(one, gradients, Some(&mut send))?;
                }
                _ => scaled.backward(gradients)?,
            }
            ended(on_phase, Phase::EncoderBackward)?;
        }
        self.outcome.loss = mean;
        Ok(())
    }

    fn swap_ema(&mut self) -> Result<()> {
        if let Some(ema) = &mut self.snapshot.ema {
            self.snapshot.model.arena.values_mut::<f32>()?.swap_with_slice(ema);
        }
        Ok(())
    }
}

impl Backend for Cpu {
    fn feed(&mut self, step: u64, lr: f64, next: &mut NextBatch) -> Result<()> {
        let Source { steps, side, channels, seen, accumulate, .. } = self.source;
        self.batches.clear();
        for _ in 0..accumulate {
            next(&mut |batch| {
                let shape = FrameShape { batch: batch.batch, steps, side, channels };
                let frames = to_tensor(&batch.frames, shape, 0..seen)?;
                self.batches.push((frames, to_tensor(&batch.frames, shape, seen..steps)?));
                Ok(())
            })?;
        }
        self.step = step;
        self.snapshot.optimiser.options.lr = lr;
        Ok(())
    }

    fn pass(&mut self) -> Result<()> {
        with_products(self.products, || self.passes())?
    }

    fn reduce(&mut self) -> Result<()> {
        let (loss, scale) = (self.outcome.loss, self.scale());
        let Some(sharing) = &mut self.sharing else {
            let grad_norm = gradient_norm(self.gradients.values_mut::<f32>()?) / scale;
            let skipped = !(grad_norm.is_finite() && loss.is_finite());
            self.outcome = Outcome { loss, grad_norm, skipped };
            return Ok(());
        };
        let (start, waited) = self.began;
        let busy = start.elapsed().as_secs_f64() - (sharing.ranks.waited() - waited);
        sharing.finish(&mut self.gradients)?;
        let (ranks, gradients) = (&sharing.ranks, self.gradients.values_mut::<f32>()?);
        let squares = match ranks.zero {
            true => {
                ranks.shares(&sharing.buckets).into_iter().map(|own| sum_of_squares(&gradients[own])).sum()
            }
            // All ranks have all gradients: each reports an equal part of the same sum.
            false => sum_of_squares(gradients) / ranks.size() as f64,
        };
        let found_inf = !(squares.is_finite() && loss.is_finite());
        let report = Report { loss, found_inf, scale: scale as f32, busy, squares, ..Report::default() };
        let agreed = ranks.agree(report)?;
        self.snapshot.loss_scale.agree(agreed.scale);
        let grad_norm = agreed.squares.sqrt() / scale;
        self.outcome = Outcome { loss: agreed.loss, grad_norm, skipped: agreed.found_inf };
        Ok(())
    }

    fn update(&mut self) -> Result<()> {
        let scale = self.scale();
        if !self.outcome.skipped {
            let Snapshot { model, optimiser, ema, .. } = &mut self.snapshot;
            let clip = self.clip_norm.map_or(1.0, |most| clip_factor(self.outcome.grad_norm, most));
            optimiser.options.gradient_scale = clip / scale;
            let (parameters, gradients) = (model.arena.values_mut()?, self.gradients.values_mut()?);
            match self.sharing.as_ref().filter(|sharing| sharing.ranks.zero) {
                None => optimiser.step(parameters, gradients)?,
                Some(CpuSharing { ranks, buckets, .. }) => {
                    optimiser.step_shares(&ranks.shares(buckets), parameters, gradients)?;
                    ranks.gather(buckets, parameters)?;
                }
            }
            if let Some(ema) = ema {
                average(parameters, ema, ema_share(self.ema_decay, optimiser.updates));
            }
        }
        Ok(ended(&self.on_phase, Phase::Optimiser)?)
    }

    fn compute(&mut self) -> Result<()> {
        let norms = self.snapshot.model.norms.clone();
        // A thread of the pool must not wait for other ranks, which may be waiting for a thread of it.
        let waits = |wait: fn(&Ranks) -> bool| self.ranks().is_some_and(|ranks| wait(ranks));
        let [in_pass, in_update] = [waits(|ranks| ranks.sync_batchnorm), waits(|ranks| ranks.zero)];
        let passed = if in_pass { self.pass() } else { in_pool(|| self.pass()) };
        let reduced = passed.and_then(|()| self.reduce());
        if reduced.is_err() || self.outcome.skipped {
            self.snapshot.model.norms = norms;
        }
        reduced?;
        if in_update { self.update() } else { in_pool(|| self.update()) }?;
        self.snapshot.step = self.step + 1;
        let compare = |ranks: &Arc<Ranks>| ranks.compare(self.snapshot.step, || self.digest());
        self.ranks().map_or(Ok(()), compare)
    }

    fn figures(&mut self) -> Result<Vec<StepFigures>> {
        let Outcome { loss, grad_norm, skipped } = self.outcome;
        let Snapshot { loss_scale, step, optimiser, .. } = &mut self.snapshot;
        loss_scale.update(*step, skipped)?;
        let consecutive_skips = loss_scale.consecutive_skips();
        give_up(*step, consecutive_skips)?;
        let (step, lr, loss_scale) = (*step, optimiser.options.lr, loss_scale.scale());
        Ok(vec![StepFigures { step, loss, lr, grad_norm, skipped, loss_scale, consecutive_skips }])
    }

    fn settle(&mut self) -> Result<Vec<StepFigures>> {
        Ok(Vec::new())
    }

    fn snapshot(&mut self) -> &mut Snapshot {
        &mut self.snapshot
    }

    fn read_back(&mut self) -> Result<()> {
        Ok(())
    }

    fn load(&mut self) -> Result<()> {
        // A scale that f16 needed would only cost f32 its range.
        if self.snapshot.loss_scale.is_on() {
            self.snapshot.loss_scale = LossScale::off();
        }
        Ok(())
    }

    fn with_final_weights(&mut self, body: &mut dyn FnMut(&dyn Predict) -> Result<()>) -> Result<()> {
        self.swap_ema()?;
        let result = body(&self.snapshot.model);
        self.swap_ema()?;
        result
    }

    fn share(&mut self, ranks: Arc<Ranks>, _comm: Comm) -> Result<Option<String>> {
        self.sharing = Some(CpuSharing::new(ranks, self.snapshot.model.arena.layout()));
        Ok(None)
    }

    fn gather_state(&mut self, moments: bool) -> Result<()> {
        let Some(CpuSharing { ranks, buckets, .. }) = &self.sharing else { return Ok(()) };
        let Snapshot { model, optimiser, .. } = &mut self.snapshot;
        ranks.share_statistics(&mut model.norms)?;
        if moments && ranks.zero {
            ranks.gather(buckets, &mut optimiser.m)?;
            ranks.gather(buckets, &mut optimiser.v)?;
        }
        if moments {
            ranks.compare_now(self.snapshot.step, self.digest()?)?;
        }
        Ok(())
    }

    fn trim(&mut self) -> Result<()> {
        ssmv_autograd::trim();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Error, data::Batch, train::trainer::Trainer};

    const SOURCE: Source = Source { batch: 1, accumulate: 1, seen: 3, steps: 5, side: 32, channels: 1 };

    fn trainer(accumulate: usize) -> Trainer<Cpu> {
        let config = TrainConfig::preset("nano").unwrap();
        Trainer::on_cpu(&config, Source { accumulate, ..SOURCE }).unwrap()
    }

    fn black(read: &mut dyn FnMut(&Batch) -> Result<()>) -> Result<()> {
        read(&Batch { epoch: 0, index: 0, batch: 1, frames: vec![0; SOURCE.batch_bytes()] })
    }

    #[test]
    fn a_step_that_is_not_finite_changes_nothing_that_a_checkpoint_keeps() {
        let mut trainer = trainer(1);
        trainer.step(&mut black).unwrap();
        let model = &mut trainer.backend.snapshot.model;
        let good = model.arena.values::<f32>().unwrap().to_vec();
        model.arena.values_mut::<f32>().unwrap()[0] = f32::NAN;
        let norms = model.norms.clone();
        let figures = trainer.step(&mut black).unwrap()[0];
        let snapshot = &mut trainer.backend.snapshot;
        assert!(figures.skipped && snapshot.optimiser.updates == 1 && snapshot.step == 2);
        assert_eq!(snapshot.model.norms, norms);
        snapshot.model.arena.values_mut::<f32>().unwrap().copy_from_slice(&good);
        let folder = tempfile::tempdir().unwrap();
        trainer.save(folder.path(), 0.0, None).unwrap();
    }

    #[test]
    fn a_batch_that_fails_leaves_the_statistics_as_they_were() {
        let mut trainer = trainer(2);
        let norms = trainer.backend.snapshot.model.norms.clone();
        let mut given = 0;
        let failed = trainer.step(&mut |read| {
            given += 1;
            if given == 1 { black(read) } else { Err(Error::Failure("no more".into())) }
        });
        assert!(failed.is_err() && trainer.steps() == 0);
        assert_eq!(trainer.backend.snapshot.model.norms, norms);
        // Nor does a pass that fails.
        let mut fed = self::trainer(2);
        fed.feed(&mut black).unwrap();
        fed.backend.batches[1].1 = Tensor::zeros([1], ssmv_autograd::DType::F32).unwrap();
        assert!(fed.compute().is_err() && fed.steps() == 0);
        assert_eq!(fed.backend.snapshot.model.norms, norms);
    }
}
