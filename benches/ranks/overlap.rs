//! A training step whose gradients are reduced during the backward pass, after it, or not at all.

use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use ssmv_comm::Communicator;
use ssmv_raw::config::TrainConfig;
use ssmv_raw::data::Batch;
use ssmv_raw::model::Preset;
use ssmv_raw::train::{
    Trainer,
    backend::Source,
    interrupt::Interrupt,
    ranks::{Local, Member, Ranks},
};

use crate::team::{Team, serve};
use crate::{median, option};

/// The variants, in the order of each round.
const VARIANTS: [&str; 3] = ["beside", "after", "alone"];

/// One rank, with a trainer for each variant; those that reduce have a ring each.
pub fn rank(rank: usize, rings: [Communicator; 2]) {
    let numbers = [("--batch", "8"), ("--steps", "6"), ("--bucket-kib", "1024")];
    let [batch, steps, bucket] =
        numbers.map(|(name, default)| option(name, default).parse::<usize>().expect("a number"));
    let threads = rayon::ThreadPoolBuilder::new().num_threads(1);
    threads.build_global().expect("threads start");
    let config = TrainConfig::preset(&option("--preset", "tiny")).expect("a preset");
    let preset = Preset::find(&config.preset).expect("a preset");
    let mut rng = ChaCha8Rng::seed_from_u64(rank as u64);
    let source = Source { batch, accumulate: 1, seen: 10, steps: 12, side: preset.size, channels: 1 };
    let mut frames = vec![0; source.batch_bytes()];
    rng.fill_bytes(&mut frames);
    let sequences = Batch { epoch: 0, index: 0, batch, frames };
    let trainer = || Trainer::on_cpu(&config, source).expect("the preset builds");
    let mut trainers = [trainer(), trainer(), trainer()];
    for (variant, ring) in rings.into_iter().enumerate() {
        let member = Member { communicator: ring, local: Local { rank, size: 2 } };
        let mut ranks = Ranks::start(member, &config, &Interrupt::never()).expect("the ranks work");
        (ranks.overlap, ranks.bucket_bytes) = (VARIANTS[variant] == "beside", bucket << 10);
        trainers[variant].share(Arc::new(ranks), config.comm).expect("ranks to share with");
    }
    let start = trainers[0].snapshot().expect("a model");
    let gradients = start.model.arena.layout().len() * size_of::<f32>();
    serve(&format!("{gradients}"), |variant| {
        let variant = VARIANTS.iter().position(|&known| known == variant).expect("a variant");
        let steps = if VARIANTS[variant] == "alone" && rank > 0 { 0 } else { steps };
        let seconds = (0..steps).map(|_| {
            let start = Instant::now();
            trainers[variant].step(&mut |read| read(&sequences)).expect("a step");
            start.elapsed().as_secs_f64().to_string()
        });
        seconds.collect::<Vec<_>>().join(" ")
    });
}

/// Prints a line for each variant.
pub fn measure() {
    let (count, rounds) = (2, option("--rounds", "7").parse::<usize>().expect("a number"));
    let mut team = Team::start(count, |rank, port| {
        let mut command = Command::new(std::env::current_exe().expect("the path of this program"));
        command.args(["--rank", &format!("{rank} {count} {port}")]).args(std::env::args().skip(1));
        command
    });
    println!("{count} ranks of one thread, {} bytes of gradients\n", team.greeting);
    // Each trainer's first step is slower.
    for variant in VARIANTS {
        team.ask(variant);
    }
    let mut seconds = VARIANTS.map(|_| Vec::new());
    for _ in 0..rounds {
        for (variant, seconds) in VARIANTS.iter().zip(&mut seconds) {
            let answer = team.ask(variant);
            seconds.extend(answer.split(' ').map(|number| number.parse::<f64>().expect("seconds")));
        }
    }
    println!("| gradients | step, ms: median | quickest |\n| --- | --- | --- |");
    let names = ["reduced beside the backward pass", "reduced after it", "of one rank alone"];
    for (name, seconds) in names.iter().zip(seconds) {
        let best = seconds.iter().copied().fold(f64::INFINITY, f64::min);
        println!("| {name} | {:.1} | {:.1} |", median(seconds) * 1e3, best * 1e3);
    }
}
