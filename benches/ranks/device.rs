//! Between two processes on one GPU: our ring over peer memory, NCCL's all-reduce, and what both are held against, a copy
//! within the device.

use std::process::Command;
use std::time::Duration;

use ssmv_autograd::DType;
use ssmv_autograd::cuda::{Backend, Cuda, DeviceMemory, Event};
use ssmv_comm::Communicator;
use ssmv_comm::gpu::{
    self, DeviceCollectives, DeviceRing, NcclCollectives, PeerLink, PeerOptions, Region, Staged, connect_nccl,
};
use ssmv_comm::nccl::Nccl;

use crate::team::{Team, obey};
use crate::{median, option};

/// Measurements of a size; the median counts.
const ROUNDS: usize = 9;

/// Ways to add up, by name.
const WAYS: [&str; 3] = ["peer", "nccl", "staged"];

/// One of the ranks: obeys orders of a way and bytes with the seconds of an all-reduce, or with why there are none.
pub fn rank(mut control: Communicator) {
    let emulated = option("--device", "cuda") == "emulator";
    let cuda = Cuda::open(if emulated { Backend::Emulated } else { Backend::Real }, 0).expect("a device");
    let mut ways: Vec<_> = WAYS.iter().map(|way| connect(way, &cuda, &mut control)).collect();
    let name = format!(
        "{}, driver of CUDA {}.{}",
        cuda.device().name,
        cuda.device().driver.0,
        cuda.device().driver.1
    );
    obey(&name, |order| {
        let (way, bytes) = order.split_once(' ').expect("a way and bytes");
        let bytes: usize = bytes.parse().expect("a number");
        if way == "copy" {
            return copy(&cuda, bytes).to_string();
        }
        let index = WAYS.iter().position(|known| *known == way).expect("a way");
        match &mut ways[index] {
            Ok(way) => all_reduce(&cuda, &mut control, way.as_mut(), bytes).to_string(),
            Err(why) => format!("no {why}"),
        }
    });
    for way in ways.into_iter().flatten() {
        way.close(&mut control).expect("the other rank closes too");
    }
}

/// A way to add up; why there is none.
fn connect(
    way: &str,
    cuda: &Cuda,
    control: &mut Communicator,
) -> Result<Box<dyn DeviceCollectives>, gpu::Error> {
    let rank = control.rank();
    let failed = |source| gpu::Error::Device { rank, operation: "connect", source };
    Ok(match way {
        "peer" => {
            let link = PeerLink::connect(cuda, control, PeerOptions::default())?;
            Box::new(DeviceRing::new(cuda, link).map_err(failed)?)
        }
        "nccl" => {
            let nccl = connect_nccl(cuda, control, Nccl::open(), Duration::from_secs(60))?;
            Box::new(NcclCollectives::new(nccl, 0).map_err(failed)?)
        }
        _ => Box::new(Staged::new(cuda, Staged::CHUNK).map_err(failed)?),
    })
}

/// Numbers other than zero: the rank's own would do, but what is added up must stay finite over many rounds.
fn memory(cuda: &Cuda, bytes: usize) -> DeviceMemory {
    let numbers: Vec<f32> = (0..bytes / 4).map(|i| (i as f32 * 0.618).fract() - 0.5).collect();
    DeviceMemory::copy_of(cuda, DType::F32, &numbers).expect("room for the numbers")
}

/// Median seconds of an all-reduce of so many bytes, by the device's clock.
fn all_reduce(cuda: &Cuda, control: &mut Communicator, way: &mut dyn DeviceCollectives, bytes: usize) -> f64 {
    let data = memory(cuda, bytes);
    let region = Region { memory: &data, range: 0..bytes / 4, stream: cuda.compute_stream() };
    let seconds = (0..=ROUNDS).map(|_| {
        cuda.synchronize().expect("the device computes");
        control.barrier().expect("the other rank is there");
        timed(cuda, || way.all_reduce_sum(control, &region).expect("the other rank is there"))
    });
    median(seconds.skip(1).collect())
}

/// Median seconds of a copy of so many bytes within the device.
fn copy(cuda: &Cuda, bytes: usize) -> f64 {
    let (from, to) = (memory(cuda, bytes), memory(cuda, bytes));
    let seconds = (0..=ROUNDS).map(|_| timed(cuda, || to.copy_from(&from).expect("the device copies")));
    median(seconds.skip(1).collect())
}

fn timed(cuda: &Cuda, work: impl FnOnce()) -> f64 {
    let event = || cuda.timed_event().expect("the device has an event");
    let (start, end): (Event, Event) = (event(), event());
    start.record().expect("an event is set");
    work();
    end.record().expect("an event is set");
    end.synchronize().expect("the device computes");
    f64::from(end.elapsed_ms(&start).expect("both events have come")) / 1e3
}

/// Prints the table.
pub fn measure() {
    let device = option("--device", "cuda");
    let mut team = Team::start(2, |rank, port| {
        let mut command = Command::new(std::env::current_exe().expect("the path of this program"));
        // NCCL 2.30 and later lets two ranks share a GPU where it is asked to.
        command.env("NCCL_MULTI_RANK_GPU_ENABLE", "1");
        command.args(["--device", &device, "--rank", &format!("{rank} 2 {port}")]);
        command
    });
    let [from, to] = [("--from", "1024"), ("--to", "268435456")]
        .map(|(name, default)| option(name, default).parse::<usize>().expect("a number"));
    println!("2 ranks on one device: {}\n", team.greeting);
    println!(
        "| bytes | copy, GB/s | peer memory, GB/s | of the copy | NCCL, GB/s | through the host, GB/s |"
    );
    println!("| ---: | ---: | ---: | ---: | ---: | ---: |");
    let mut missing = Vec::new();
    let mut bytes = from.max(8);
    while bytes <= to {
        // Of an all-reduce of two ranks each sends as many bytes as there are.
        let mut rate = |what: &str| match team.ask(&format!("{what} {bytes}")).parse::<f64>() {
            Ok(seconds) => Some(bytes as f64 / seconds / 1e9),
            Err(_) => {
                missing.push(what.to_owned());
                None
            }
        };
        let copy = rate("copy").unwrap_or(f64::NAN);
        let rates = WAYS.map(&mut rate);
        let cell = |rate: Option<f64>| rate.map_or_else(|| "–".to_owned(), |rate| format!("{rate:.2}"));
        let share = rates[0].map_or_else(|| "–".to_owned(), |rate| format!("{:.2}", rate / copy));
        println!(
            "| {bytes} | {copy:.2} | {} | {share} | {} | {} |",
            cell(rates[0]),
            cell(rates[1]),
            cell(rates[2])
        );
        bytes *= 4;
    }
    missing.sort();
    missing.dedup();
    for way in missing {
        println!("\n{way}: {}", team.ask(&format!("{way} {from}")).trim_start_matches("no "));
    }
}
