//! A short training without a run folder, for tests and `selftest`: each step's figures and the final state.

use std::sync::Arc;

use ssmv_autograd::cuda::Cuda;

use super::{
    StepFigures,
    interrupt::Interrupt,
    ranks::{Member, Ranks},
    setup::{loader_spec, source},
    trainer::Trainer,
};
use crate::{
    Result,
    config::TrainConfig,
    data::{Dataset, Loader},
};

/// The results of a short training.
#[derive(Clone, Debug)]
pub struct ShortRun {
    /// Figures of each step.
    pub figures: Vec<StepFigures>,
    /// Parameters in the arena's layout.
    pub parameters: Vec<f32>,
    /// First moments of the optimiser in the arena's layout.
    pub m: Vec<f32>,
    /// Second moments of the optimiser in the arena's layout.
    pub v: Vec<f32>,
    /// Running means and variances of all batch normalisations.
    pub statistics: Vec<f64>,
}

impl ShortRun {
    /// The loss of each step.
    pub fn losses(&self) -> Vec<f64> {
        self.figures.iter().map(|figures| figures.loss).collect()
    }
}

/// Trains for the configured length on a device, or on the CPU. It writes nothing, evaluates nothing, and ignores the
/// configuration's `device`.
///
/// # Errors
/// As [`run`](super::run()).
pub fn short_run(config: &TrainConfig, cuda: Option<&Cuda>) -> Result<ShortRun> {
    short_run_with_ranks(None, config, cuda)
}

/// As [`short_run`], for one of several ranks.
///
/// # Errors
/// As [`run_with_ranks`](super::run_with_ranks()).
pub fn short_run_with_ranks(
    member: Option<Member>,
    config: &TrainConfig,
    cuda: Option<&Cuda>,
) -> Result<ShortRun> {
    let ranks =
        member.map(|member| Ranks::start(member, config, &Interrupt::never())).transpose()?.map(Arc::new);
    let dataset = Dataset::open(&config.data_spec()?)?;
    let source = source(config, &dataset);
    let mut trainer = match cuda {
        Some(cuda) => Trainer::on_gpu(config, source, cuda)?.boxed(),
        None => Trainer::on_cpu(config, source)?.boxed(),
    };
    let rank = ranks.as_ref().map_or(0, |ranks| ranks.rank());
    if let Some(ranks) = ranks {
        trainer.share(ranks, config.comm)?;
    }
    let mut loader = Loader::new(Arc::new(dataset), loader_spec(config, 0, rank))?;
    let mut figures = Vec::new();
    while trainer.steps() < config.total_steps() {
        figures.extend(trainer.step(&mut |read| {
            let batch = loader.next()?;
            let result = read(&batch);
            loader.recycle(batch);
            result
        })?);
    }
    figures.extend(trainer.settle()?);
    trainer.backend.gather_state(true)?;
    trainer.backend.close()?;
    let end = trainer.snapshot()?;
    let statistics = end.model.norms.iter().flat_map(|norm| norm.mean.iter().chain(&norm.variance));
    Ok(ShortRun {
        figures,
        parameters: end.model.arena.values::<f32>()?.to_vec(),
        m: end.optimiser.m.clone(),
        v: end.optimiser.v.clone(),
        statistics: statistics.copied().collect(),
    })
}
