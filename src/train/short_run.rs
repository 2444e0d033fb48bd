//! A short training without a run folder, for tests and `selftest`: each step's figures and the final state.

use std::sync::Arc;

use ssmv_autograd::cuda::Cuda;

use super::{
    StepFigures, Trainer,
    device::DeviceTrainer,
    engine::{Engine, Host},
    interrupt::Interrupt,
    ranks::{Member, Ranks},
    setup::{loader_spec, source},
};
use crate::{
    Result,
    config::TrainConfig,
    data::{Dataset, Loader},
    optim::Moments,
};

/// The results of a short training.
#[derive(Clone, Debug)]
pub struct ShortRun {
    /// Each step's figures.
    pub figures: Vec<StepFigures>,
    /// The parameters, as the arena holds them.
    pub parameters: Vec<f32>,
    /// The optimiser's moments, laid out alike.
    pub moments: Moments<f32>,
    /// Running means and variances of all batch normalisations.
    pub statistics: Vec<f64>,
}

impl ShortRun {
    /// Each step's loss.
    pub fn losses(&self) -> Vec<f64> {
        self.figures.iter().map(|figures| figures.loss).collect()
    }
}

/// Trains as long as `config` says on a device, or on the CPU. Writes nothing and evaluates nothing; the device of the
/// configuration is not looked at.
///
/// # Errors
/// As [`run`](super::run()).
pub fn short_run(config: &TrainConfig, cuda: Option<&Cuda>) -> Result<ShortRun> {
    short_run_with_ranks(None, config, cuda)
}

/// [`short_run`] as one of several ranks.
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
    let mut engine: Box<dyn Engine> = match cuda {
        Some(cuda) => Box::new(DeviceTrainer::new(config, source, cuda)?),
        None => Box::new(Host::new(Trainer::new(config)?, source)),
    };
    let rank = ranks.as_ref().map_or(0, |ranks| ranks.rank());
    if let Some(ranks) = ranks {
        engine.share(ranks, config.comm)?;
    }
    let mut loader = Loader::new(Arc::new(dataset), loader_spec(config, 0, rank))?;
    let mut figures = Vec::new();
    while engine.steps() < config.total_steps() {
        figures.extend(engine.step(&mut |read| {
            let batch = loader.next()?;
            let result = read(&batch);
            loader.recycle(batch);
            result
        })?);
    }
    figures.extend(engine.settle()?);
    engine.gather_state(true)?;
    engine.close()?;
    let trainer = engine.host()?;
    let statistics = trainer.model.norms.iter().flat_map(|norm| norm.mean.iter().chain(&norm.variance));
    Ok(ShortRun {
        figures,
        parameters: trainer.model.arena.values::<f32>()?.to_vec(),
        moments: trainer.moments.clone(),
        statistics: statistics.copied().collect(),
    })
}
