//! All-reduces of two processes on one GPU, by the ring over peer memory, by NCCL and through the host, compared with a copy
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

use crate::team::{Team, serve};
use crate::{median, option};

/// Measurements of each size; the median is printed.
const ROUNDS: usize = 9;

/// The transports of the all-reduce.
const TRANSPORTS: [&str; 3] = ["peer", "nccl", "staged"];

/// One of the ranks: answers a transport and a size in bytes with the seconds of an all-reduce, or with the error.
pub fn rank(mut control: Communicator) {
    let emulated = option("--device", "cuda") == "emulator";
    let cuda = Cuda::open(if emulated { Backend::Emulated } else { Backend::Nvidia }, 0).expect("a device");
    let mut connected: Vec<_> =
        TRANSPORTS.iter().map(|transport| connect(transport, &cuda, &mut control)).collect();
    let name = format!(
        "{}, driver of CUDA {}.{}",
        cuda.device().name,
        cuda.device().driver.0,
        cuda.device().driver.1
    );
    serve(&name, |order| {
        let (transport, bytes) = order.split_once(' ').expect("a transport and bytes");
        let bytes: usize = bytes.parse().expect("a number");
        if transport == "copy" {
            return copy(&cuda, bytes).to_string();
        }
        let index = TRANSPORTS.iter().position(|known| *known == transport).expect("a transport");
        match &mut connected[index] {
            Ok(collectives) => all_reduce(&cuda, &mut control, collectives.as_mut(), bytes).to_string(),
            Err(why) => format!("no {why}"),
        }
    });
    for collectives in connected.into_iter().flatten() {
        collectives.close(&mut control).expect("the other rank closes too");
    }
}

/// Connects the ranks by a transport.
fn connect(
    transport: &str,
    cuda: &Cuda,
    control: &mut Communicator,
) -> Result<Box<dyn DeviceCollectives>, gpu::Error> {
    let rank = control.rank();
    let failed = |source| gpu::Error::Device { rank, operation: "connect", source };
    Ok(match transport {
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

/// Elements between −0.5 and 0.5, so that sums of many rounds stay finite.
fn memory(cuda: &Cuda, bytes: usize) -> DeviceMemory {
    let numbers: Vec<f32> = (0..bytes / 4).map(|i| (i as f32 * 0.618).fract() - 0.5).collect();
    DeviceMemory::copy_of(cuda, DType::F32, &numbers).expect("device memory for the elements")
}

/// The median duration of an all-reduce in seconds, by the device's clock.
fn all_reduce(
    cuda: &Cuda,
    control: &mut Communicator,
    collectives: &mut dyn DeviceCollectives,
    bytes: usize,
) -> f64 {
    let data = memory(cuda, bytes);
    let region = Region { memory: &data, range: 0..bytes / 4, stream: cuda.compute_stream() };
    let seconds = (0..=ROUNDS).map(|_| {
        cuda.synchronize().expect("the device computes");
        control.barrier().expect("the other rank is there");
        timed(cuda, || collectives.all_reduce_sum(control, &region).expect("the other rank is there"))
    });
    median(seconds.skip(1).collect())
}

/// The median duration of a copy within the device in seconds.
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
    f64::from(end.elapsed_ms(&start).expect("both events are complete")) / 1e3
}

/// Prints the table.
pub fn measure() {
    let device = option("--device", "cuda");
    let mut team = Team::start(2, |rank, port| {
        let mut command = Command::new(std::env::current_exe().expect("the path of this program"));
        // NCCL 2.30 and later lets two ranks share a GPU on request.
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
        // In an all-reduce of two ranks each sends the size of the buffer.
        let mut rate = |what: &str| match team.ask(&format!("{what} {bytes}")).parse::<f64>() {
            Ok(seconds) => Some(bytes as f64 / seconds / 1e9),
            Err(_) => {
                missing.push(what.to_owned());
                None
            }
        };
        let copy = rate("copy").unwrap_or(f64::NAN);
        let rates = TRANSPORTS.map(&mut rate);
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
    for transport in missing {
        println!("\n{transport}: {}", team.ask(&format!("{transport} {from}")).trim_start_matches("no "));
    }
}
