//! Several ranks on this machine: the speed of their all-reduce, and how much of it a training step hides.
//!
//!     cargo bench --bench ranks -- [--ranks 2,4] [--from 1024] [--to 268435456] [--rounds 7] [--peer PYTHON]
//!     cargo bench --bench ranks -- --overlap [--preset tiny] [--batch 8] [--bucket-kib 1024] [--steps 6] [--rounds 7]
//!     cargo bench --bench ranks -- --device cuda [--from 1024] [--to 268435456]
//!
//! The ranks are processes that communicate over loopback; with `--device`, two processes on one GPU. Sizes go from `--from` in
//! powers of 4. Each size runs without and with MACs in the frames, in alternation. PYTHON is a Python with PyTorch, whose Gloo
//! then runs the same sizes too. The bus bandwidth of n ranks is S/t·2(n−1)/n, the bytes that each rank sends per second.

mod all_reduce;
mod device;
mod overlap;
mod team;

fn option(name: &str, default: &str) -> String {
    let args: Vec<String> = std::env::args().collect();
    let at = args.iter().position(|a| a == name);
    at.and_then(|i| args.get(i + 1).cloned()).unwrap_or_else(|| default.to_owned())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let given = |name: &str| std::env::args().any(|a| a == name);
    let (place, overlap, device) = (option("--rank", ""), given("--overlap"), given("--device"));
    if place.is_empty() {
        return match (overlap, device) {
            (true, _) => overlap::measure(),
            (_, true) => device::measure(),
            _ => all_reduce::measure(),
        };
    }
    let numbers: Vec<usize> = place.split(' ').map(|number| number.parse().expect("a number")).collect();
    let (rank, ranks, port) = (numbers[0], numbers[1], u16::try_from(numbers[2]).expect("a port"));
    // One after the other, because they use the same port.
    let meet = |macs| all_reduce::meet(rank, ranks, port, macs);
    match (overlap, device) {
        (true, _) => overlap::rank(rank, [meet(false), meet(false)]),
        (_, true) => device::rank(meet(false)),
        _ => all_reduce::rank([meet(false), meet(true)]),
    }
}
