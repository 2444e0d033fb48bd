//! Short trainings: the same bits every time, and the CPU's course.

use ssmv_autograd::cuda::Cuda;

use super::{Extent, Part, sheet::Sheet};
use crate::{
    Result,
    config::{ScheduleKind, TrainConfig},
    train::{Course, course},
};

/// How far a step's loss may be from that of the CPU in f32, as a share of it.
const BOUND: f64 = 0.02;

const TWICE: &str = "two trainings";
const LAUNCH_BY_LAUNCH: &str = "training with and without a graph";

/// What is trained.
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

/// Trains three times on the device and once on the CPU, as far as anything asks for it.
pub(super) fn run(cuda: &Cuda, sheet: &mut Sheet, note: &mut dyn FnMut(&str)) {
    let config = match config(sheet.options().extent) {
        Ok(config) => config,
        Err(error) => return sheet.failed(Part::Training, "training", &error.to_string()),
    };
    let (preset, steps) = (config.preset.clone(), config.total_steps());
    let against_cpu = format!("training of {preset}, {steps} steps");
    if ![TWICE, LAUNCH_BY_LAUNCH, &against_cpu].iter().any(|case| sheet.wants(case)) {
        return;
    }
    note(&format!("training: {steps} steps of {preset}"));
    let first = match course(&config, Some(cuda)) {
        Ok(first) => first,
        Err(error) => return sheet.failed(Part::Training, &against_cpu, &error.to_string()),
    };
    for (case, what, no_graph) in
        [(TWICE, "the same again", false), (LAUNCH_BY_LAUNCH, "launch by launch", true)]
    {
        if !sheet.wants(case) {
            continue;
        }
        note(&format!("training: {what}"));
        match course(&TrainConfig { no_graph, ..config.clone() }, Some(cuda)) {
            Ok(second) => same(sheet, case, &second, &first),
            Err(error) => sheet.failed(Part::Determinism, case, &error.to_string()),
        }
    }
    if sheet.wants(&against_cpu) {
        note("training: the same on the CPU");
        match course(&config, None) {
            Ok(want) => follows(sheet, &against_cpu, &first, &want),
            Err(error) => sheet.failed(Part::Training, &against_cpu, &error.to_string()),
        }
    }
}

fn same(sheet: &mut Sheet, case: &str, got: &Course, want: &Course) {
    let widened = |values: &[f32]| values.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
    for (tensor, got, want) in [
        ("losses", got.losses(), want.losses()),
        ("parameters", widened(&got.parameters), widened(&want.parameters)),
        ("first moments", widened(&got.moments.m), widened(&want.moments.m)),
        ("second moments", widened(&got.moments.v), widened(&want.moments.v)),
        ("running statistics", got.statistics.clone(), want.statistics.clone()),
    ] {
        sheet.same(Part::Determinism, case, tensor, &got, &want);
    }
}

fn follows(sheet: &mut Sheet, case: &str, got: &Course, want: &Course) {
    let (got, want) = (got.losses(), want.losses());
    if got.len() != want.len() {
        let message = format!("{} steps where {} are expected", got.len(), want.len());
        return sheet.failed(Part::Training, case, &message);
    }
    for (step, (got, want)) in got.iter().zip(&want).enumerate() {
        sheet.near(Part::Training, case, &format!("loss {}", step + 1), &[*got], &[*want], BOUND);
    }
}
