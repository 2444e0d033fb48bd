//! Several ranks on this machine: how fast their all-reduce is.
//!
//!     cargo bench --bench ranks -- [--ranks 2,4] [--from 1024] [--to 268435456] [--rounds 7] [--peer PYTHON]
//!
//! The ranks are processes over loopback. Sizes go from `--from` in powers of 4. PYTHON is one that has PyTorch: its Gloo
//! then measures the same sizes in turns with ours. The bus bandwidth of n ranks is S/t·2(n−1)/n, what each rank sends.

mod all_reduce;
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
    let place = option("--rank", "");
    if place.is_empty() {
        return all_reduce::measure();
    }
    let numbers: Vec<usize> = place.split(' ').map(|number| number.parse().expect("a number")).collect();
    let port = u16::try_from(numbers[2]).expect("a port");
    all_reduce::rank(all_reduce::meet(numbers[0], numbers[1], port));
}
