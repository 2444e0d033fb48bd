//! One optimiser step: forward, loss, backward, clip, AdamW.

use std::{ops::Range, sync::Arc, time::Instant};

use ssmv_autograd::{DType, Gradients, Tensor, ops::batch_norm2d::AcrossRanks};

use super::{
    loss_scale::LossScale,
    phase::{OnPhase, Phase, ended, of_parts},
    ranks::{Buckets, Ranks, Reduction, Report, Sharing},
    schedule::Schedule,
};
use crate::{
    Result,
    config::{Loss, TrainConfig},
    model::{Predictor, Preset},
    optim::{AdamW, Moments, clip_factor, gradient_norm, sum_of_squares},
};

/// Steps in a row whose gradients are not finite before training gives up.
const MOST_SKIPS: u32 = 20;

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepFigures {
    /// The step, counted from 1.
    pub step: u64,
    /// The loss, the mean over the batches of the step.
    pub loss: f64,
    /// The learning rate.
    pub lr: f64,
    /// Norm of all gradients, before clipping.
    pub grad_norm: f64,
    /// Whether the gradients were not finite, so that the parameters stayed as they were.
    pub skipped: bool,
    /// What the next loss is multiplied by.
    pub loss_scale: f32,
    /// Steps skipped since the last that was not.
    pub consecutive_skips: u32,
}

/// What a step's gradients came to, over all ranks.
struct Outcome {
    loss: f64,
    /// Before clipping, the loss scale undone.
    grad_norm: f64,
    skipped: bool,
}

impl StepFigures {
    /// An error where training must stop after this step: too many skipped in a row, a loss scale below its floor.
    ///
    /// # Errors
    /// That one.
    pub fn verdict(&self) -> Result<()> {
        give_up(self.step, self.consecutive_skips)?;
        LossScale::check_scale(self.step, self.loss_scale, LossScale::FLOOR, self.consecutive_skips)
    }
}

/// An error once too many steps in a row, up to step `step`, were skipped.
pub(super) fn give_up(step: u64, consecutive_skips: u32) -> Result<()> {
    if consecutive_skips < MOST_SKIPS {
        return Ok(());
    }
    Err(crate::Error::Failure(format!(
        "step {step}: {MOST_SKIPS} steps in a row had gradients that are not finite; training has diverged: lower --lr, \
         set --clip-norm 1, or find with --check-finite the first operator whose forward output is not finite, if one is"
    )))
}

/// A model with everything that its training carries from step to step.
pub struct Trainer {
    /// The model.
    pub model: Predictor,
    /// Running mean of the weights, laid out as the arena, where the configuration asks for one.
    pub ema: Option<Vec<f32>>,
    /// AdamW's moments, laid out as the arena.
    pub moments: Moments<f32>,
    /// The loss scale; off in f32.
    pub loss_scale: LossScale,
    /// Steps taken, skipped ones included.
    pub step: u64,
    /// Steps that changed the parameters: AdamW's t.
    pub updates: u64,
    pub(super) gradients: Gradients,
    optimiser: AdamW,
    pub(super) decaying: Vec<Range<usize>>,
    pub(super) schedule: Schedule,
    /// Hears when a phase of a step ends.
    pub(super) on_phase: Option<OnPhase>,
    loss: Loss,
    clip_norm: Option<f64>,
    ema_decay: f64,
    /// The other ranks, where there are any.
    pub(super) sharing: Option<Sharing>,
}

/// The preset that a configuration names.
pub(super) fn preset(config: &TrainConfig) -> Result<&'static Preset> {
    Preset::find(&config.preset)
        .ok_or_else(|| crate::Error::Usage(format!("--preset: unknown preset `{}`", config.preset)))
}

impl Trainer {
    /// A model that begins under the configuration's seed.
    pub fn new(config: &TrainConfig) -> Result<Self> {
        let model = Predictor::new(preset(config)?, config.seed, DType::F32)?;
        let gradients = model.arena.gradients()?;
        Self::of(config, model, gradients)
    }

    /// The same of a model that is there.
    pub(super) fn of(config: &TrainConfig, model: Predictor, gradients: Gradients) -> Result<Self> {
        let layout = model.arena.layout();
        let decaying = model.parameters.iter().zip(layout.ranges());
        let decaying = decaying.filter(|(p, _)| p.role.decays()).map(|(_, r)| r.clone()).collect();
        let schedule = Schedule {
            kind: config.schedule,
            base_lr: config.lr,
            warmup: config.warmup,
            total_steps: config.total_steps(),
            steps_per_epoch: config.steps_per_epoch(),
            epochs: config.total_steps().div_ceil(config.steps_per_epoch()),
        };
        schedule.validate()?;
        Ok(Self {
            ema: config.ema.map(|_| model.arena.values::<f32>().map(<[f32]>::to_vec)).transpose()?,
            moments: Moments::zeros(layout.len()),
            gradients,
            loss_scale: LossScale::off(),
            step: 0,
            updates: 0,
            optimiser: AdamW { weight_decay: config.weight_decay, ..AdamW::default() },
            decaying,
            schedule,
            on_phase: None,
            loss: config.loss,
            clip_norm: config.clip_norm,
            ema_decay: config.ema.unwrap_or_default(),
            sharing: None,
            model,
        })
    }

    /// Shares every step with other ranks from now on.
    pub fn share(&mut self, ranks: Arc<Ranks>) {
        let buckets = Buckets::new(self.model.arena.layout(), ranks.bucket_bytes, 1);
        self.sharing = Some(Sharing { ranks, buckets, spare: Vec::new() });
    }

    /// One step on `count` batches from `next`: frames [B,T,S,S,3] and the frames that follow them [B,2,S,S,3]; the
    /// gradients of several are averaged, and those of all ranks. Gradients with an infinity or NaN leave the parameters
    /// and the running statistics as they are; many such steps in a row are an error.
    pub fn step(
        &mut self,
        count: usize,
        mut next: impl FnMut() -> Result<(Tensor, Tensor)>,
    ) -> Result<StepFigures> {
        let norms = self.model.norms.clone();
        let scale = f64::from(self.loss_scale.scale());
        let outcome = match self.gather(count, scale, &mut next) {
            Ok(outcome) => outcome,
            Err(e) => {
                self.model.norms = norms;
                return Err(e);
            }
        };
        let Outcome { loss, grad_norm, skipped } = outcome;
        let lr = self.schedule.rate(self.step);
        if skipped {
            self.model.norms = norms;
        } else {
            self.update(lr, grad_norm, scale)?;
        }
        ended(&self.on_phase, Phase::Optimiser)?;
        self.step += 1;
        self.loss_scale.update(self.step, skipped)?;
        give_up(self.step, self.loss_scale.consecutive_skips())?;
        if let Some(Sharing { ranks, .. }) = &self.sharing {
            let values = self.model.arena.values::<f32>()?;
            ranks.compare(self.step, || Ok(crc32c::crc32c(bytemuck::cast_slice(values))))?;
        }
        let (step, loss_scale) = (self.step, self.loss_scale.scale());
        let consecutive_skips = self.loss_scale.consecutive_skips();
        Ok(StepFigures { step, loss, lr, grad_norm, skipped, loss_scale, consecutive_skips })
    }

    /// Gradients of `count` batches, averaged over all ranks, and what all ranks make of them.
    fn gather(
        &mut self,
        count: usize,
        scale: f64,
        next: &mut dyn FnMut() -> Result<(Tensor, Tensor)>,
    ) -> Result<Outcome> {
        let Some(mut sharing) = self.sharing.take() else {
            let loss = self.accumulate(count, scale, next, None)?;
            let grad_norm = gradient_norm(self.gradients.values_mut::<f32>()?) / scale;
            return Ok(Outcome { loss, grad_norm, skipped: !(grad_norm.is_finite() && loss.is_finite()) });
        };
        let outcome = self.gather_among(&mut sharing, count, scale, next);
        self.sharing = Some(sharing);
        outcome
    }

    fn gather_among(
        &mut self,
        Sharing { ranks, buckets, spare }: &mut Sharing,
        count: usize,
        scale: f64,
        next: &mut dyn FnMut() -> Result<(Tensor, Tensor)>,
    ) -> Result<Outcome> {
        let (start, waited) = (Instant::now(), ranks.waited());
        let mut reduction = Reduction::new(ranks, buckets, std::mem::take(spare));
        let loss = self.accumulate(count, scale, next, Some((ranks, &mut reduction)))?;
        let busy = start.elapsed().as_secs_f64() - (ranks.waited() - waited);
        *spare = reduction.finish(&mut self.gradients)?;
        let gradients = self.gradients.values_mut::<f32>()?;
        let squares = match ranks.zero {
            true => ranks.shares(buckets).into_iter().map(|own| sum_of_squares(&gradients[own])).sum(),
            // All ranks have all gradients: each says an equal part of the same sum.
            false => sum_of_squares(gradients) / ranks.size() as f64,
        };
        let (found_inf, own_scale) = (!(squares.is_finite() && loss.is_finite()), self.loss_scale.scale());
        let report = Report { loss, found_inf, scale: own_scale, busy, squares, ..Report::default() };
        let agreed = ranks.agree(report)?;
        self.loss_scale.agree(agreed.scale);
        Ok(Outcome { loss: agreed.loss, grad_norm: agreed.squares.sqrt() / scale, skipped: agreed.found_inf })
    }

    /// AdamW with gradients whose norm is `grad_norm` once the loss scale is undone.
    fn update(&mut self, lr: f64, grad_norm: f64, scale: f64) -> Result<()> {
        self.updates += 1;
        let clip = self.clip_norm.map_or(1.0, |most| clip_factor(grad_norm, most));
        let numbers = [self.updates as f64, lr, clip / scale];
        let gradients = self.gradients.values_mut()?;
        let parameters = self.model.arena.values_mut()?;
        let zero = self.sharing.as_ref().filter(|sharing| sharing.ranks.zero);
        let Self { optimiser, decaying, moments, .. } = self;
        let mut step = |part, parameters: &mut [f32]| {
            optimiser.step(numbers, decaying, part, parameters, gradients, moments);
        };
        match zero {
            None => step(0..parameters.len(), parameters),
            Some(Sharing { ranks, buckets, .. }) => {
                ranks.shares(buckets).into_iter().for_each(|part| step(part, parameters));
                ranks.gather(buckets, parameters)?;
            }
        }
        if let Some(ema) = &mut self.ema {
            let keep = self.ema_decay as f32;
            ema.iter_mut().zip(parameters.iter()).for_each(|(e, &p)| *e += (1.0 - keep) * (p - *e));
        }
        Ok(())
    }

    /// Adds up the gradients of `count` batches, each's share of the mean times `scale`; gives the mean loss. While the last
    /// backward pass goes on, gradients that are whole go to the other ranks.
    fn accumulate(
        &mut self,
        count: usize,
        scale: f64,
        next: &mut dyn FnMut() -> Result<(Tensor, Tensor)>,
        mut among: Option<(&Arc<Ranks>, &mut Reduction)>,
    ) -> Result<f64> {
        self.gradients.reset();
        let share = 1.0 / count.max(1) as f64;
        let across = among.as_ref().filter(|(ranks, _)| ranks.sync_batchnorm);
        let across = across.map(|(ranks, _)| Arc::clone(ranks) as Arc<dyn AcrossRanks>);
        let mut mean = 0.0;
        for i in 0..count {
            let (frames, target) = next()?;
            ended(&self.on_phase, Phase::Input)?;
            let y = self.model.train_among(&frames, of_parts(&self.on_phase), across.clone())?;
            let loss = self.loss(&y, &target)?;
            drop(y);
            mean += loss.item()? * share;
            let scaled = if scale * share == 1.0 { loss } else { loss.scale(scale * share)? };
            ended(&self.on_phase, Phase::Loss)?;
            match &mut among {
                Some((_, reduction)) if i + 1 == count => {
                    let one = Tensor::scalar(1.0, scaled.dtype())?;
                    scaled.backward_with_hook(
                        one,
                        &mut self.gradients,
                        Some(&mut |parameter, gradients| reduction.whole(parameter, gradients)),
                    )?;
                }
                _ => scaled.backward(&mut self.gradients)?,
            }
            ended(&self.on_phase, Phase::EncoderBackward)?;
        }
        Ok(mean)
    }

    /// Gives all ranks rank 0's running statistics; with `moments` also rank 0 all of AdamW's moments, for a checkpoint, before
    /// which the ranks' parameters are compared.
    pub(super) fn gather_state(&mut self, moments: bool) -> Result<()> {
        let Some(Sharing { ranks, buckets, .. }) = &self.sharing else { return Ok(()) };
        ranks.share_statistics(&mut self.model.norms)?;
        if moments && ranks.zero {
            ranks.gather(buckets, &mut self.moments.m)?;
            ranks.gather(buckets, &mut self.moments.v)?;
        }
        if moments {
            let values = self.model.arena.values::<f32>()?;
            ranks.compare_now(self.step, crc32c::crc32c(bytemuck::cast_slice(values)))?;
        }
        Ok(())
    }

    /// Runs `body` on the model as it would be used: with the running mean of the weights where there is one.
    pub fn with_final_weights<R>(&mut self, body: impl FnOnce(&Predictor) -> Result<R>) -> Result<R> {
        self.swap_ema()?;
        let result = body(&self.model);
        self.swap_ema()?;
        result
    }

    fn swap_ema(&mut self) -> Result<()> {
        if let Some(ema) = &mut self.ema {
            self.model.arena.values_mut::<f32>()?.swap_with_slice(ema);
        }
        Ok(())
    }

    fn loss(&self, y: &Tensor, target: &Tensor) -> Result<Tensor> {
        Ok(match self.loss {
            Loss::L1 => y.l1_loss(target)?,
            Loss::Mse => y.mse_loss(target)?,
            Loss::L1Mse => y.l1_loss(target)?.add(&y.mse_loss(target)?)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TrainConfig;

    fn batch() -> Result<(Tensor, Tensor)> {
        Ok((Tensor::zeros([1, 3, 32, 32, 3], DType::F32)?, Tensor::zeros([1, 2, 32, 32, 3], DType::F32)?))
    }

    #[test]
    fn a_step_that_is_not_finite_changes_nothing_that_a_checkpoint_keeps() {
        let mut trainer = Trainer::new(&TrainConfig::preset("nano").unwrap()).unwrap();
        trainer.step(1, batch).unwrap();
        let good = trainer.model.arena.values::<f32>().unwrap().to_vec();
        trainer.model.arena.values_mut::<f32>().unwrap()[0] = f32::NAN;
        let norms = trainer.model.norms.clone();
        let figures = trainer.step(1, batch).unwrap();
        assert!(figures.skipped && trainer.updates == 1 && trainer.step == 2);
        assert_eq!(trainer.model.norms, norms);
        trainer.model.arena.values_mut::<f32>().unwrap().copy_from_slice(&good);
        let folder = tempfile::tempdir().unwrap();
        trainer.save(folder.path(), 0.0, None).unwrap();
    }

    #[test]
    fn a_batch_that_fails_leaves_the_statistics_as_they_were() {
        let mut trainer = Trainer::new(&TrainConfig::preset("nano").unwrap()).unwrap();
        let norms = trainer.model.norms.clone();
        let mut given = 0;
        let failed = trainer.step(2, || {
            given += 1;
            if given == 1 { batch() } else { Err(crate::Error::Failure("no more".into())) }
        });
        assert!(failed.is_err() && trainer.model.norms == norms && trainer.step == 0);
    }
}
