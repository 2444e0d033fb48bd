use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;

use ssmv_autograd::{
    DType, Tensor,
    cuda::{Cuda, Emulated, EmulatorOptions},
};
use ssmv_emulator::Checks;

use super::*;
use crate::{
    checkpoint::Checkpoint,
    data::Batch,
    model::Preset,
    train::{StepFigures, trainer::Trainer},
};

fn config(no_graph: bool) -> TrainConfig {
    let nano = TrainConfig::preset("nano").unwrap();
    TrainConfig {
        batch_size: 1,
        accumulate: 2,
        frames_in: 3,
        steps: Some(20),
        epochs: None,
        no_graph,
        ..nano
    }
}

fn trainer(config: &TrainConfig) -> Trainer<Gpu> {
    // What the kernels do to memory is checked by their own tests; without, this is twice as fast.
    let options = EmulatorOptions { checks: Checks::NONE, ..EmulatorOptions::default() };
    let cuda = Cuda::over(Arc::new(Emulated::new(&options))).unwrap();
    let side = Preset::find("nano").unwrap().size;
    let source = Source {
        batch: config.batch_size,
        accumulate: config.accumulate,
        seen: config.frames_in,
        steps: config.frames_in + 2,
        side,
        channels: 1,
    };
    Trainer::on_gpu(config, source, &cuda).unwrap()
}

/// A step on frames that follow from the seed.
fn step(trainer: &mut Trainer<Gpu>, seed: u64) -> Vec<StepFigures> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let bytes = trainer.backend.source.batch_bytes();
    trainer
        .step(&mut |read| {
            let mut frames = vec![0; bytes];
            rng.fill_bytes(&mut frames);
            read(&Batch { epoch: 0, index: 0, batch: 1, frames })
        })
        .unwrap()
}

/// The figures of `steps` steps, each on frames of its own.
fn run(trainer: &mut Trainer<Gpu>, steps: u64) -> Vec<StepFigures> {
    let first = trainer.steps();
    let mut figures: Vec<StepFigures> = (first..first + steps).flat_map(|seed| step(trainer, seed)).collect();
    figures.extend(trainer.settle().unwrap());
    figures
}

/// Everything of a checkpoint that a step changes.
fn bits(trainer: &mut Trainer<Gpu>) -> Vec<u32> {
    let folder = tempfile::tempdir().unwrap();
    trainer.save(folder.path(), 0.0, None).unwrap();
    let end = &trainer.backend.snapshot;
    let norms = end.model.norms.iter().flat_map(|n| n.mean.iter().chain(&n.variance)).map(|&x| x as f32);
    let all = end.model.arena.values::<f32>().unwrap().iter().chain(&end.optimiser.m).chain(&end.optimiser.v);
    all.copied().chain(norms).map(f32::to_bits).collect()
}

#[test]
fn a_graph_and_single_launches_give_the_same_bits() {
    let [mut graph, mut single, mut again] = [false, true, false].map(|no_graph| trainer(&config(no_graph)));
    let figures = run(&mut graph, 6);
    assert!(matches!(graph.backend.graph, Graph::Ready(_)) && matches!(single.backend.graph, Graph::Off));
    assert_eq!(figures.iter().map(|f| f.step).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    assert!(figures.iter().all(|f| f.loss.is_finite() && f.grad_norm > 0.0), "{figures:?}");
    assert_eq!(run(&mut single, 6), figures);
    assert_eq!(run(&mut again, 6), figures);
    let end = bits(&mut graph);
    assert!(bits(&mut single) == end && bits(&mut again) == end);
}

#[test]
fn all_kernels_of_a_training_are_compiled_before_its_first_step() {
    let config = TrainConfig { eval_sequences: 1, ..config(false) };
    let mut trainer = trainer(&config);
    let cuda = trainer.backend.cuda.clone();
    let mut told = Vec::new();
    compile(&config, trainer.backend.source, &cuda, &mut |done, total| told.push((done, total))).unwrap();
    let names = |cuda: &Cuda| cuda.kernels().into_iter().map(|kernel| kernel.name).collect::<Vec<_>>();
    let compiled = names(&cuda);
    assert_eq!(told, (1..=compiled.len()).map(|done| (done, compiled.len())).collect::<Vec<_>>());
    run(&mut trainer, 5);
    let frames = Tensor::zeros([1, 3, 32, 32, 3], DType::F32).unwrap();
    trainer.with_final_weights(&mut |model| model.predict(&frames).map(drop)).unwrap();
    assert_eq!(names(&cuda), compiled);
}

#[test]
fn a_step_that_cannot_be_captured_is_launched_to_the_same_bits() {
    let mut whole = trainer(&config(false));
    let figures = run(&mut whole, 6);
    let mut failing = trainer(&config(false));
    let mut found = run(&mut failing, 2);
    // Without the memory that the steps before left, none can be captured.
    failing.backend.cuda.trim().unwrap();
    found.extend(run(&mut failing, 4));
    assert!(matches!(failing.backend.graph, Graph::Off) && matches!(whole.backend.graph, Graph::Ready(_)));
    assert_eq!(found, figures);
    assert!(bits(&mut failing) == bits(&mut whole));
    let warnings = failing.backend.take_warnings();
    assert!(warnings.len() == 1 && warnings[0].contains("launch by launch"), "{warnings:?}");
    assert!(failing.backend.take_warnings().is_empty() && whole.backend.take_warnings().is_empty());
}

#[test]
fn memory_may_be_given_back_at_any_step() {
    let mut whole = trainer(&config(false));
    let figures = run(&mut whole, 5);
    for at in 1..5 {
        let mut trimmed = trainer(&config(false));
        let mut found = run(&mut trimmed, at);
        trimmed.backend.trim().unwrap();
        found.extend(run(&mut trimmed, 5 - at));
        assert_eq!(found, figures, "given back after step {at}");
    }
}

#[test]
fn a_resumed_training_has_the_bits_of_an_uninterrupted_one() {
    let config = TrainConfig { ema: Some(0.9), clip_norm: Some(0.01), ..config(false) };
    let mut whole = trainer(&config);
    let figures = run(&mut whole, 6);
    let mut first = trainer(&config);
    run(&mut first, 2);
    let folder = tempfile::tempdir().unwrap();
    let saved = first.save(folder.path(), 0.0, None).unwrap();
    drop(first);
    let mut second = trainer(&config);
    second.restore(&Checkpoint::open(saved).unwrap()).unwrap();
    assert_eq!(run(&mut second, 4), figures[2..]);
    assert!(bits(&mut second) == bits(&mut whole));
    assert_eq!(second.backend.snapshot.ema, whole.backend.snapshot.ema);
    assert_eq!(second.backend.snapshot.loss_scale, whole.backend.snapshot.loss_scale);
    assert_eq!(
        second.backend.snapshot.model.norms, whole.backend.snapshot.model.norms,
        "and the count of batches"
    );
}

#[test]
fn an_overflow_halves_the_scale_and_skips_that_step_alone() {
    // Always the same frames, and next to no learning: what overflows once overflows again.
    let mut trainer = trainer(&TrainConfig { lr: 1e-12, ..config(false) });
    let run = |trainer: &mut Trainer<Gpu>, steps: usize| -> Vec<StepFigures> {
        let mut figures: Vec<StepFigures> = (0..steps).flat_map(|_| step(trainer, 0)).collect();
        figures.extend(trainer.settle().unwrap());
        figures
    };
    let state = |trainer: &Trainer<Gpu>| trainer.backend.optimiser.record().unwrap().state;
    let start = StepState { scale: 2f32.powi(32), ..state(&trainer) };
    trainer.backend.optimiser.set_state(&start).unwrap();
    let mut found = Vec::new();
    while found.last().is_none_or(|last: &StepFigures| last.skipped) && found.len() < 19 {
        found.extend(run(&mut trainer, 1));
    }
    assert!(found.len() > 3 && found.len() < 19, "{found:?}");
    let (good, skipped) = found.split_last().unwrap();
    for (i, figures) in skipped.iter().enumerate() {
        assert_eq!(figures.loss_scale, 2f32.powi(31 - i as i32), "halved at each overflow");
    }
    // Three good steps, then growth past what fits.
    let grown = StepState { growth_tracker: 0, interval: 3, ..state(&trainer) };
    trainer.backend.optimiser.set_state(&grown).unwrap();
    assert!(run(&mut trainer, 3).iter().all(|figures| !figures.skipped));
    assert_eq!(state(&trainer).scale, 2.0 * good.loss_scale);
    let before = bits(&mut trainer);
    let updates = trainer.backend.snapshot.optimiser.updates;
    let overflow = run(&mut trainer, 1)[0];
    assert!(overflow.skipped && overflow.loss_scale == good.loss_scale, "{overflow:?}");
    assert!(
        bits(&mut trainer) == before && trainer.backend.snapshot.optimiser.updates == updates,
        "nothing has changed"
    );
    let after = run(&mut trainer, 1)[0];
    assert!(!after.skipped && after.loss_scale == good.loss_scale, "{after:?}");
    assert!(bits(&mut trainer) != before);
}

#[test]
fn a_nan_is_skipped_and_then_named() {
    let mut trainer = trainer(&config(true));
    run(&mut trainer, 1);
    let before = bits(&mut trainer);
    let [masters, halves] = trainer.backend.model.arena.memories().unwrap();
    let mut values = masters.download(0..masters.len()).unwrap();
    let good = values.clone();
    values[0] = f32::NAN;
    halves.upload(&values).unwrap();
    let figures = run(&mut trainer, 1)[0];
    assert!(figures.skipped && figures.loss.is_nan(), "{figures:?}");
    assert!(bits(&mut trainer) == before);
    trainer.backend.model.arena.memories().unwrap()[1].upload(&good).unwrap();
    assert!(!run(&mut trainer, 1)[0].skipped);
}
