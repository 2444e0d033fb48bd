//! All-reduce by size, of this crate with and without MACs, and of Gloo, in alternation.

use std::process::Command;
use std::time::Instant;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use ssmv_comm::rendezvous::{Fingerprint, Place, Security, Token, join};
use ssmv_comm::{Communicator, ReduceOp, tcp};

use crate::team::{Team, serve};
use crate::{median, option};

/// A measurement repeats until it has moved this many bytes, 64 times at most.
const ENOUGH: usize = 256 << 20;

/// Joins the job's other ranks on this machine. The frames have MACs if `macs`.
pub fn meet(rank: usize, size: usize, port: u16, macs: bool) -> Communicator {
    let place = Place { rank, size, local_rank: rank, local_size: size, master: "127.0.0.1".into(), port };
    let token = Some(Token::from_hex(&"5eed".repeat(16)).expect("a token"));
    let security = Security { token, insecure: false, macs };
    join(&place, &Fingerprint::new(), &security, tcp::Options::default()).expect("the ranks connect")
}

/// Runs one rank, with a ring without MACs and one with them.
pub fn rank(mut rings: [Communicator; 2]) {
    let [ranks, _] = &rings;
    let mut rng = ChaCha8Rng::seed_from_u64(ranks.rank() as u64);
    serve("ready", |order| {
        let numbers: Vec<usize> = order.split(' ').map(|number| number.parse().expect("a number")).collect();
        let (bytes, repeats, ranks) = (numbers[0], numbers[1], &mut rings[numbers[2]]);
        let source: Vec<f32> = (0..bytes / 4).map(|_| rng.random::<f32>() - 0.5).collect();
        let mut data = vec![0.0; source.len()];
        let seconds = (0..repeats).map(|_| {
            data.copy_from_slice(&source);
            ranks.barrier().expect("all ranks are connected");
            let start = Instant::now();
            ranks.all_reduce(&mut data, ReduceOp::Sum).expect("all ranks are connected");
            start.elapsed().as_secs_f64().to_string()
        });
        seconds.collect::<Vec<_>>().join(" ")
    });
}

/// Prints a table for each number of ranks.
pub fn measure() {
    let counts = option("--ranks", "2,4");
    let [from, to, rounds] = [("--from", "1024"), ("--to", "268435456"), ("--rounds", "7")]
        .map(|(name, default)| option(name, default).parse::<usize>().expect("a number"));
    let peer = option("--peer", "");
    for count in counts.split(',') {
        let count: usize = count.parse().expect("--ranks takes numbers with commas between");
        let mut ours = Team::start(count, |rank, port| {
            let mut command = Command::new(std::env::current_exe().expect("the path of this program"));
            command.args(["--rank", &format!("{rank} {count} {port}")]);
            command
        });
        let mut gloo = (!peer.is_empty())
            .then(|| Team::start(count, |rank, port| gloo(&peer, [rank, count, port.into()])));
        println!(
            "\n{count} ranks{}\n",
            gloo.as_ref().map_or_else(String::new, |g| format!("; Gloo of PyTorch, {}", g.greeting))
        );
        println!(
            "| bytes | ours, µs | bus, GB/s | with MACs, µs | bus, GB/s | Gloo, µs | bus, GB/s | best of each, µs |"
        );
        println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
        let mut bytes = from;
        while bytes <= to {
            let repeats = (ENOUGH / bytes).clamp(3, 64);
            let order = format!("{bytes} {repeats}");
            let mut times = [Vec::new(), Vec::new(), Vec::new()];
            for _ in 0..rounds {
                let [plain, with_macs, of_gloo] = &mut times;
                plain.push(seconds(&ours.ask(&format!("{order} 0"))));
                with_macs.push(seconds(&ours.ask(&format!("{order} 1"))));
                of_gloo.extend(gloo.as_mut().map(|gloo| seconds(&gloo.ask(&order))));
            }
            print_row(count, bytes, &times);
            bytes *= 4;
        }
    }
}

fn gloo(python: &str, numbers: [usize; 3]) -> Command {
    let mut command = Command::new(python);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peers/gloo_all_reduce.py"));
    command.args(numbers.map(|number| number.to_string())).env("GLOO_SOCKET_IFNAME", "lo");
    command
}

/// The median of the repeats of a round, in seconds.
fn seconds(answer: &str) -> f64 {
    median(answer.split(' ').map(|number| number.parse().expect("seconds")).collect())
}

/// Prints the medians of the rounds, and the best round of each.
fn print_row(ranks: usize, bytes: usize, times: &[Vec<f64>; 3]) {
    let bus = |seconds: f64| bytes as f64 / seconds * 2.0 * (ranks as f64 - 1.0) / ranks as f64 / 1e9;
    print!("| {bytes} |");
    for rounds in times {
        match rounds[..] {
            [] => print!(" | |"),
            _ => {
                let seconds = median(rounds.clone());
                print!(" {:.1} | {:.3} |", seconds * 1e6, bus(seconds));
            }
        }
    }
    let best = |rounds: &Vec<f64>| rounds.iter().copied().fold(f64::INFINITY, f64::min) * 1e6;
    let best: Vec<_> =
        times.iter().filter(|rounds| !rounds.is_empty()).map(|r| format!("{:.1}", best(r))).collect();
    println!(" {} |", best.join(", "));
}
