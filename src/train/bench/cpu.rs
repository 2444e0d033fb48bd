//! Measures a step on the CPU.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use ssmv_autograd::profile::{Direction, PassTime, profile};

use super::{Measured, OperatorTime, PhaseTime, batches, median, medians};
use crate::{
    Result,
    config::TrainConfig,
    device::in_pool,
    train::{backend::Source, phase::Phase, trainer::Trainer},
};

/// Number of steps before the first that is timed.
const WARM_UP: usize = 2;

/// Measures `steps` steps, and as many again with a stopwatch around each operator.
pub(super) fn measure(config: &TrainConfig, steps: usize, small: bool) -> Result<Measured> {
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
    let peak_bytes = ssmv_autograd::peak_bytes() as u64;
    trainer.backend.on_phase = None;
    let (mut one, mut profiled) = (batches.iter().cycle(), Vec::new());
    for _ in 0..steps {
        let (figures, passes) =
            in_pool(|| profile(|| one.next().map(|batch| trainer.step(&mut |read| read(batch)))));
        figures.transpose()?;
        profiled.push(passes);
    }
    let rates = ssmv_autograd::processor_rates(if small { 0.01 } else { 1.0 });
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
        frames_out: config.frames_out,
        size: config.size,
        precision: config.precision,
        device: ssmv_autograd::processor().unwrap_or_else(|| "unknown processor".to_owned()),
        driver: "none".to_owned(),
        seconds,
        samples_per_second: config.batch_size as f64 / seconds,
        steps,
        rounds: 1,
        skipped,
        peak_bytes,
        device_bytes: None,
        predicted_bytes: None,
        rates: None,
        phases: medians(&by_phase).into_iter().map(phase).collect(),
        operators: operators(&profiled),
        processor: Some(rates),
    })
}

/// Passes with the same operator, direction and shapes together, the longest first.
fn operators(steps: &[Vec<PassTime>]) -> Vec<OperatorTime> {
    let mut groups: HashMap<_, (OperatorTime, Vec<f64>)> = HashMap::new();
    for (i, step) in steps.iter().enumerate() {
        for pass in step {
            let shapes: Vec<String> = pass.inputs.iter().take(2).map(|shape| shape.to_string()).collect();
            let shapes = shapes.join(" ");
            let direction = match pass.direction {
                Direction::Forward => "forward",
                Direction::Backward => "backward",
            };
            let (sum, seconds) = groups.entry((pass.op, direction, shapes.clone())).or_insert_with(|| {
                let name = pass.op;
                let none = OperatorTime {
                    name,
                    direction,
                    shapes,
                    passes: 0,
                    seconds: 0.0,
                    operations: 0,
                    bytes: 0,
                };
                (none, vec![0.0; steps.len()])
            });
            seconds[i] += pass.seconds;
            if i == 0 {
                sum.passes += 1;
                sum.operations += pass.operations;
                sum.bytes += pass.bytes;
            }
        }
    }
    let one = |(sum, seconds): (OperatorTime, Vec<f64>)| OperatorTime {
        seconds: seconds.into_iter().fold(1e9, f64::min),
        ..sum
    };
    let mut all: Vec<OperatorTime> = groups.into_values().map(one).collect();
    all.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    all
}
