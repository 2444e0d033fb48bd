//! Measures a step on the CPU.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use super::{Measured, PhaseTime, batches, median, medians};
use crate::{
    Result,
    config::TrainConfig,
    train::{backend::Source, phase::Phase, trainer::Trainer},
};

/// Number of steps before the first that is timed.
const WARM_UP: usize = 2;

/// Measures `steps` steps.
pub(super) fn measure(config: &TrainConfig, steps: usize) -> Result<Measured> {
    let source = Source::made_digits(config);
    let batches = batches(source);
    let mut trainer = Trainer::on_cpu(config, source)?;
    let ends = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&ends);
    trainer.backend.on_phase = Some(Arc::new(move |phase| {
        sink.lock().unwrap_or_else(PoisonError::into_inner).push((phase, Instant::now()));
        Ok(())
    }));
    let (mut whole, mut by_phase, mut skipped) = (Vec::new(), Vec::new(), 0);
    for (step, batch) in (0..WARM_UP + steps).zip(batches.iter().cycle()) {
        let start = Instant::now();
        let figures = trainer.step(&mut |read| read(batch))?;
        let seconds = start.elapsed().as_secs_f64();
        let ends = std::mem::take(&mut *ends.lock().unwrap_or_else(PoisonError::into_inner));
        if step < WARM_UP {
            continue;
        }
        whole.push(seconds);
        skipped += figures.iter().filter(|figures| figures.skipped).count();
        let starts = std::iter::once(start).chain(ends.iter().map(|(_, at)| *at));
        let phases =
            ends.iter().zip(starts).map(|((phase, end), start)| (*phase, (*end - start).as_secs_f64()));
        by_phase.push(phases.collect());
    }
    let seconds = median(whole);
    let phase = |(phase, seconds): (Phase, f64)| PhaseTime {
        name: phase.name(),
        seconds,
        launches: 0,
        bytes: 0,
        operations: 0,
        floor_seconds: None,
    };
    Ok(Measured {
        preset: config.preset.clone(),
        batch_size: config.batch_size,
        frames_in: config.frames_in,
        device: ssmv_autograd::processor().unwrap_or_else(|| "unknown processor".to_owned()),
        driver: "none".to_owned(),
        seconds,
        samples_per_second: config.batch_size as f64 / seconds,
        steps,
        rounds: 1,
        skipped,
        peak_bytes: ssmv_autograd::peak_bytes() as u64,
        device_bytes: None,
        predicted_bytes: None,
        rates: None,
        phases: medians(&by_phase).into_iter().map(phase).collect(),
    })
}
