//! Short trainings on a device: the same bits every time, and the losses of the CPU.

use ssmv_autograd::cuda::Cuda;

use super::{
    results::Results,
    selftest::{Extent, Part},
};
use crate::{
    Result,
    config::{ScheduleKind, TrainConfig},
    train::{ShortRun, short_run},
};

/// Maximum relative difference of a step's loss from the CPU's in f32.
const BOUND: f64 = 0.02;

const TWICE: &str = "two trainings";
const LAUNCH_BY_LAUNCH: &str = "training with and without a graph";

/// The configuration of the trainings.
fn config(extent: Extent) -> Result<TrainConfig> {
    let (preset, batch_size, frames_in, steps) = match extent {
        Extent::Full => ("tiny", 4, 10, 10),
        // More steps than run before one is captured.
        Extent::Small => ("nano", 1, 3, 5),
    };
    let accumulate = 2;
    Ok(TrainConfig {
        batch_size,
        accumulate,
        frames_in,
        sequences: batch_size * accumulate * steps as usize,
        steps: Some(steps),
        epochs: None,
        lr: 1e-3,
        warmup: 0,
        schedule: ScheduleKind::Constant,
        ..TrainConfig::preset(preset)?
    })
}

/// Trains three times on the device and once on the CPU, if the filter selects it.
pub(super) fn run(cuda: &Cuda, results: &mut Results, note: &mut dyn FnMut(&str)) {
    let config = match config(results.options().extent) {
        Ok(config) => config,
        Err(error) => return results.failed(Part::Training, "training", &error.to_string()),
    };
    let (preset, steps) = (config.preset.clone(), config.total_steps());
    let against_cpu = format!("training of {preset}, {steps} steps");
    if ![TWICE, LAUNCH_BY_LAUNCH, &against_cpu].iter().any(|case| results.wants(case)) {
        return;
    }
    note(&format!("training: {steps} steps of {preset}"));
    let first = match short_run(&config, Some(cuda)) {
        Ok(first) => first,
        Err(error) => return results.failed(Part::Training, &against_cpu, &error.to_string()),
    };
    for (case, what, no_graph) in
        [(TWICE, "the same again", false), (LAUNCH_BY_LAUNCH, "launch by launch", true)]
    {
        if !results.wants(case) {
            continue;
        }
        note(&format!("training: {what}"));
        match short_run(&TrainConfig { no_graph, ..config.clone() }, Some(cuda)) {
            Ok(second) => same(results, case, &second, &first),
            Err(error) => results.failed(Part::Determinism, case, &error.to_string()),
        }
    }
    if results.wants(&against_cpu) {
        note("training: the same on the CPU");
        match short_run(&config, None) {
            Ok(want) => follows(results, &against_cpu, &first, &want),
            Err(error) => results.failed(Part::Training, &against_cpu, &error.to_string()),
        }
    }
}

fn same(results: &mut Results, case: &str, got: &ShortRun, want: &ShortRun) {
    let widened = |values: &[f32]| values.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
    for (tensor, got, want) in [
        ("losses", got.losses(), want.losses()),
        ("parameters", widened(&got.parameters), widened(&want.parameters)),
        ("first moments", widened(&got.m), widened(&want.m)),
        ("second moments", widened(&got.v), widened(&want.v)),
        ("running statistics", got.statistics.clone(), want.statistics.clone()),
    ] {
        results.same(Part::Determinism, case, tensor, &got, &want);
    }
}

fn follows(results: &mut Results, case: &str, got: &ShortRun, want: &ShortRun) {
    let (got, want) = (got.losses(), want.losses());
    if got.len() != want.len() {
        let message = format!("{} steps where {} are expected", got.len(), want.len());
        return results.failed(Part::Training, case, &message);
    }
    for (step, (got, want)) in got.iter().zip(&want).enumerate() {
        results.near(Part::Training, case, &format!("loss {}", step + 1), &[*got], &[*want], BOUND);
    }
}
