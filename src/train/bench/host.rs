//! The step on the CPU.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use super::{Measured, PhaseTime, batches, median, medians, source};
use crate::{
    Result,
    config::{FRAMES_OUT, TrainConfig},
    model::frames::{FrameShape, to_tensor},
    train::{Trainer, engine::Source},
};

/// Steps before the first that is timed.
const WARM_UP: usize = 2;

/// Measures `steps` steps.
pub(super) fn measure(config: &TrainConfig, steps: usize) -> Result<Measured> {
    let source = source(config);
    let Source { batch, seen, side, channels, .. } = source;
    let shape = FrameShape { batch, steps: source.steps, side, channels };
    let batches = batches(source);
    let mut trainer = Trainer::new(config)?;
    let ends = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&ends);
    trainer.on_phase = Some(Arc::new(move |phase| {
        heard.lock().unwrap_or_else(PoisonError::into_inner).push((phase, Instant::now()));
        Ok(())
    }));
    let (mut whole, mut by_phase, mut skipped) = (Vec::new(), Vec::new(), 0);
    for (step, batch) in (0..WARM_UP + steps).zip(batches.iter().cycle()) {
        let start = Instant::now();
        let figures = trainer.step(1, || {
            let frames = to_tensor(&batch.frames, shape, 0..seen)?;
            Ok((frames, to_tensor(&batch.frames, shape, seen..seen + FRAMES_OUT)?))
        })?;
        let seconds = start.elapsed().as_secs_f64();
        let ends = std::mem::take(&mut *ends.lock().unwrap_or_else(PoisonError::into_inner));
        if step < WARM_UP {
            continue;
        }
        whole.push(seconds);
        skipped += usize::from(figures.skipped);
        let starts = std::iter::once(start).chain(ends.iter().map(|(_, at)| *at));
        let phases =
            ends.iter().zip(starts).map(|((phase, end), start)| (*phase, (*end - start).as_secs_f64()));
        by_phase.push(phases.collect());
    }
    let seconds = median(whole);
    let phase = |(phase, seconds): (crate::train::phase::Phase, f64)| PhaseTime {
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
