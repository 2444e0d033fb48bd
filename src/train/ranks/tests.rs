//! Trainings of `nano` with threads as ranks over loopback.

use std::{net::TcpListener, sync::Arc, thread, time::Duration};

use ssmv_autograd::{
    Tensor,
    cuda::{Cuda, Driver, Emulated, EmulatorOptions, MemoryInfo},
};
use ssmv_comm::{
    rendezvous::{Fingerprint, Place, Security, join},
    tcp,
};
use ssmv_emulator::Checks;

use super::{
    super::{
        ShortRun, StepFigures,
        backend::{Backend, Source},
        cpu::Cpu,
        interrupt::Interrupt,
        short_run, short_run_with_ranks,
        trainer::Trainer,
    },
    Local, Member, Ranks,
};
use crate::{Result, config::TrainConfig, data::Batch};

/// Runs `body` on `size` ranks; returns the results.
pub(super) fn among<R: Send + 'static>(
    size: usize,
    body: impl Fn(Member) -> R + Send + Sync + 'static,
) -> Vec<R> {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let body = Arc::new(body);
    let threads = (0..size).map(|rank| {
        let body = Arc::clone(&body);
        thread::spawn(move || {
            let master = "127.0.0.1".to_owned();
            let place = Place { rank, size, local_rank: rank, local_size: size, master, port };
            let options = tcp::Options { timeout: Duration::from_secs(60), ..tcp::Options::default() };
            let security = Security { insecure: true, ..Security::default() };
            let communicator = join(&place, &Fingerprint::new(), &security, options).unwrap();
            body(Member { communicator, local: Local { rank, size } })
        })
    });
    let threads: Vec<_> = threads.collect();
    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
}

fn config(ranks: usize, batch_size: usize) -> TrainConfig {
    let base = TrainConfig::preset("nano").unwrap();
    TrainConfig {
        ranks,
        batch_size,
        sequences: 32,
        steps: Some(6),
        epochs: None,
        bucket_mib: 1,
        check_ranks_every: Some(2),
        ..base
    }
}

fn train(config: TrainConfig) -> Vec<ShortRun> {
    among(config.ranks, move |member| short_run_with_ranks(Some(member), &config, None).unwrap())
}

fn assert_same_bits(runs: &[ShortRun]) {
    let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    for other in &runs[1..] {
        assert_eq!(bits(&other.parameters), bits(&runs[0].parameters));
        assert_eq!(other.figures, runs[0].figures);
        assert_eq!(other.statistics, runs[0].statistics);
    }
}

/// The largest difference, by the larger one's norm.
fn distance(a: &[f32], b: &[f32]) -> f64 {
    let (mut apart, mut norm) = (0.0, 0.0);
    for (&a, &b) in a.iter().zip(b) {
        apart += f64::from(a - b).powi(2);
        norm += f64::from(a).powi(2);
    }
    (apart / norm).sqrt()
}

#[test]
fn ranks_end_with_the_same_bits() {
    for ranks in [2, 3] {
        let runs = train(TrainConfig { accumulate: 2, ..config(ranks, 2) });
        assert_same_bits(&runs);
        let again = train(TrainConfig { accumulate: 2, ..config(ranks, 2) });
        assert_eq!(again[0].losses(), runs[0].losses());
        assert_same_bits(&[again[0].clone(), runs[0].clone()]);
        assert!(runs[0].figures.iter().all(|f| !f.skipped && f.grad_norm > 0.0));
    }
}

#[test]
fn ranks_with_small_batches_train_as_one_with_a_large_one() {
    let whole = short_run(&config(1, 4), None).unwrap();
    // Each rank's own statistics would give another model.
    let apart = train(config(2, 2));
    let together = train(TrainConfig { sync_batchnorm: true, ..config(2, 2) });
    assert_same_bits(&together);
    for (got, want) in together[0].losses().iter().zip(whole.losses()) {
        approx::assert_relative_eq!(got, &want, max_relative = 2e-4);
    }
    let (near, far) = (
        distance(&whole.parameters, &together[0].parameters),
        distance(&whole.parameters, &apart[0].parameters),
    );
    assert!(near < 1e-3 && near < far / 5.0, "{near:e} with common statistics, {far:e} without");
    let statistics = whole.statistics.iter().zip(&together[0].statistics);
    statistics.for_each(|(a, b)| approx::assert_relative_eq!(a, b, epsilon = 1e-3, max_relative = 1e-3));
}

#[test]
fn shares_of_the_update_come_to_the_same() {
    let plain = train(TrainConfig { clip_norm: Some(0.05), ..config(3, 1) });
    let shared = train(TrainConfig { clip_norm: Some(0.05), zero: 1, ema: Some(0.9), ..config(3, 1) });
    assert_same_bits(&shared);
    assert!(distance(&plain[0].parameters, &shared[0].parameters) < 1e-6);
    assert!(distance(&plain[0].m, &shared[0].m) < 1e-6);
    assert!(distance(&plain[0].v, &shared[0].v) < 1e-6);
    assert!(shared[0].v.iter().any(|&v| v > 0.0));
    assert_eq!(shared[0].v, shared[2].v);
}

const SOURCE: Source = Source { batch: 1, accumulate: 1, seen: 3, steps: 5, side: 32, channels: 1 };

/// A rank's trainer on the CPU.
fn trainer(config: &TrainConfig, ranks: &Arc<Ranks>) -> Trainer<Cpu> {
    let mut trainer = Trainer::on_cpu(config, SOURCE).unwrap();
    trainer.share(Arc::clone(ranks), config.comm).unwrap();
    trainer
}

/// Passes a batch whose bytes depend on their positions and on `seed`.
fn lend(seed: u64, read: &mut dyn FnMut(&Batch) -> Result<()>) -> Result<()> {
    let frames = (0..SOURCE.batch_bytes()).map(|i| (i as u64 * 31 + seed * 7) as u8).collect();
    read(&Batch { epoch: 0, index: 0, batch: 1, frames })
}

/// Runs a step, with a NaN in a frame on request.
fn step(trainer: &mut Trainer<Cpu>, broken: bool) -> Result<StepFigures> {
    trainer.feed(&mut |read| lend(0, read))?;
    if broken {
        let frames = &mut trainer.backend.batches[0].0;
        let mut values = frames.values::<f32>()?.to_vec();
        values[5] = f32::NAN;
        *frames = Tensor::new(frames.shape().clone(), &values)?;
    }
    Ok(trainer.compute()?[0])
}

#[test]
fn a_gradient_that_is_not_finite_on_one_rank_is_skipped_by_all() {
    for zero in [0, 1] {
        let steps = among(2, move |member| {
            let config = TrainConfig { zero, check_ranks_every: Some(1), ..config(2, 1) };
            let ranks = Arc::new(Ranks::start(member, &config, &Interrupt::never()).unwrap());
            let rank = ranks.rank();
            let mut trainer = trainer(&config, &ranks);
            step(&mut trainer, false).unwrap();
            let model = &trainer.backend.snapshot.model;
            let (before, norms) = (model.arena.values::<f32>().unwrap().to_vec(), model.norms.clone());
            let bad = step(&mut trainer, rank == 1).unwrap();
            let end = &trainer.backend.snapshot;
            assert_eq!(end.model.arena.values::<f32>().unwrap(), before);
            assert_eq!((end.optimiser.updates, &end.model.norms), (1, &norms));
            let good = step(&mut trainer, false).unwrap();
            // Twenty in a row are an error on all ranks.
            let end = (0..20).find_map(|_| step(&mut trainer, rank == 0).err()).unwrap().to_string();
            (bad.skipped, good.skipped, end)
        });
        for (bad, good, end) in &steps {
            assert!(*bad && !good && end.contains("20 steps in a row"), "{bad} {good} {end}");
        }
    }
}

#[test]
fn ranks_that_differ_are_found() {
    let errors = among(3, |member| {
        let config = config(3, 1);
        let ranks = Arc::new(Ranks::start(member, &config, &Interrupt::never()).unwrap());
        let mut trainer = trainer(&config, &ranks);
        if ranks.rank() == 2 {
            trainer.backend.snapshot.model.arena.values_mut::<f32>().unwrap()[7] += 1.0;
        }
        step(&mut trainer, false).unwrap();
        let error = step(&mut trainer, false).unwrap_err().to_string();
        (error, ranks.is_sound())
    });
    for (error, sound) in errors {
        assert!(error.contains("step 2") && error.contains("rank 2") && !sound, "{error}");
    }
}

#[test]
fn a_rank_that_fails_in_its_data_ends_all_in_its_words() {
    let errors = among(3, |member| {
        let config = config(3, 1);
        let ranks = Arc::new(Ranks::start(member, &config, &Interrupt::never()).unwrap());
        let mut trainer = trainer(&config, &ranks);
        let rank = ranks.rank();
        let fails = || Err(crate::Error::file("part-7.npy", "is cut short at byte 1234"));
        let step = trainer.step(&mut |read| if rank == 1 { fails() } else { lend(0, read) });
        let error = step.unwrap_err().to_string();
        ranks.abandon(&error);
        error
    });
    for error in errors {
        assert!(error.contains("part-7.npy") && error.contains("byte 1234"), "{error}");
    }
}

/// A rank's device; the devices of all ranks can reach each other's memory.
pub(super) fn device(member: &Member) -> Arc<Emulated> {
    // The kernels' own tests check their memory accesses.
    let ordinal = member.local.rank as u8 + 1;
    Arc::new(Emulated::new(&EmulatorOptions { checks: Checks::NONE, ordinal, ..EmulatorOptions::default() }))
}

fn on_devices(config: TrainConfig) -> Vec<ShortRun> {
    among(config.ranks, move |member| {
        let cuda = Cuda::over(device(&member)).unwrap();
        short_run_with_ranks(Some(member), &config, Some(&cuda)).unwrap()
    })
}

#[test]
fn what_devices_share_is_given_back_at_the_end() {
    for zero in [0, 1] {
        let short = TrainConfig { frames_in: 3, steps: Some(4), zero, ..config(2, 1) };
        let left = among(2, move |member| {
            let driver = device(&member);
            let cuda = Cuda::over(driver.clone()).unwrap();
            short_run_with_ranks(Some(member), &short, Some(&cuda)).unwrap();
            drop(cuda);
            let MemoryInfo { free, total } = driver.memory().unwrap();
            total - free
        });
        assert_eq!(left, [0, 0], "bytes that are still allocated");
    }
}

/// Trains several devices on frames that depend on the step. Calls `before` before each step; returns each rank's
/// results.
fn steps_on_devices(
    config: TrainConfig,
    before: impl Fn(&Ranks, u64, &Cuda) + Send + Sync + 'static,
) -> Vec<(Option<String>, Vec<f32>, Vec<String>)> {
    among(config.ranks, move |member| {
        let cuda = Cuda::over(device(&member)).unwrap();
        let ranks = Arc::new(Ranks::start(member, &config, &Interrupt::never()).unwrap());
        let mut trainer = Trainer::on_gpu(&config, SOURCE, &cuda).unwrap();
        let line = trainer.share(Arc::clone(&ranks), config.comm).unwrap();
        while trainer.steps() < config.total_steps() {
            let step = trainer.steps();
            before(&ranks, step, &cuda);
            trainer.step(&mut |read| lend(step, read)).unwrap();
        }
        trainer.settle().unwrap();
        let warnings = trainer.backend.take_warnings();
        trainer.backend.gather_state(true).unwrap();
        trainer.backend.close().unwrap();
        let parameters = trainer.snapshot().unwrap().model.arena.values::<f32>().unwrap().to_vec();
        (line, parameters, warnings)
    })
}

#[test]
fn a_rank_whose_step_cannot_be_captured_keeps_up_with_the_others() {
    for zero in [0, 1] {
        let config = TrainConfig { frames_in: 3, zero, ..config(2, 1) };
        let captured = steps_on_devices(config.clone(), |_, _, _| ());
        // Without the memory that the steps before left, rank 1 cannot capture one.
        let mixed = steps_on_devices(config, |ranks, step, cuda| {
            if ranks.rank() == 1 && step == 2 {
                cuda.trim().unwrap();
            }
        });
        for (line, parameters, _) in captured.iter().chain(&mixed) {
            assert!(line.as_ref().unwrap().contains("peer memory"), "{line:?}");
            assert!(*parameters == captured[0].1);
        }
        assert!(captured[0].2.is_empty() && captured[1].2.is_empty() && mixed[0].2.is_empty());
        let warnings = &mixed[1].2;
        assert!(warnings.len() == 1 && warnings[0].starts_with("rank 1: "), "{warnings:?}");
    }
}

#[test]
fn devices_end_with_the_same_bits_captured_or_not() {
    let short = TrainConfig { frames_in: 3, accumulate: 2, ..config(2, 1) };
    let captured = on_devices(short.clone());
    assert_same_bits(&captured);
    assert!(captured[0].figures.iter().all(|figures| !figures.skipped), "{:?}", captured[0].figures);
    let launched = on_devices(TrainConfig { no_graph: true, ..short.clone() });
    assert_same_bits(&[captured[0].clone(), launched[0].clone(), launched[1].clone()]);
    let host = train(short);
    for (got, want) in captured[0].losses().iter().zip(host[0].losses()) {
        approx::assert_relative_eq!(got, &want, max_relative = 1e-2);
    }
}

#[test]
fn devices_share_the_update_as_the_cpu_does() {
    let short = TrainConfig { frames_in: 3, ema: Some(0.9), clip_norm: Some(0.05), ..config(3, 1) };
    let (plain, shared) = (on_devices(short.clone()), on_devices(TrainConfig { zero: 1, ..short.clone() }));
    assert_same_bits(&shared);
    assert_eq!(shared[0].v, shared[2].v);
    assert!(distance(&plain[0].parameters, &shared[0].parameters) < 1e-6);
    assert!(distance(&plain[0].m, &shared[0].m) < 1e-6);
    let launched = on_devices(TrainConfig { zero: 1, no_graph: true, ..short });
    assert_same_bits(&[shared[0].clone(), launched[1].clone()]);
}
