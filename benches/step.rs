//! Times whole training steps on the CPU: forward, L1 loss, backward, AdamW, at 10 input frames and 2 predicted ones.
//!
//!     cargo bench --bench step -- [--preset tiny] [--batch 16] [--steps 12] [--threads 2] [--precision bf16]
//!
//! Prints one JSON object: the median of the steps, samples a second, peak resident memory.

use std::time::Instant;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use ssmv_autograd::{
    DType, Products, Tensor,
    optim::{AdamW, AdamWOptions},
    with_products,
};
use ssmv_raw::model::{CHANNELS, Predictor, Preset};

fn option(name: &str, default: &str) -> String {
    let args: Vec<String> = std::env::args().collect();
    let at = args.iter().position(|a| a == name);
    at.and_then(|i| args.get(i + 1).cloned()).unwrap_or_else(|| default.to_owned())
}

fn images(rng: &mut ChaCha8Rng, shape: [usize; 5]) -> Tensor {
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.random()).collect();
    Tensor::new(shape, &values).expect("as many values as the shape has")
}

fn main() {
    let threads: usize = option("--threads", "0").parse().expect("--threads takes a number, 0 for all cores");
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().expect("threads start");
    // On a thread of the pool, as in a training.
    rayon::join(measure, || ());
}

fn measure() {
    let preset = Preset::find(&option("--preset", "tiny")).expect("a preset");
    let batch: usize = option("--batch", "16").parse().expect("--batch takes a number");
    let steps: usize = option("--steps", "12").parse().expect("--steps takes a number");
    let precision = option("--precision", "f32");
    let products = match precision.as_str() {
        "f32" => Products::F32,
        "bf16" => Products::Bf16,
        _ => panic!("--precision takes f32 or bf16"),
    };
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let frames = images(&mut rng, [batch, 10, preset.size, preset.size, CHANNELS]);
    let target = images(&mut rng, [batch, preset.frames_out, preset.size, preset.size, CHANNELS]);
    let mut model = Predictor::new(preset, 0, DType::F32).expect("the preset builds");
    let mut gradients = model.arena.gradients().unwrap();
    let options = AdamWOptions { lr: 2e-4, ..AdamWOptions::default() };
    let mut optimiser = AdamW::<f32>::new(options, model.arena.layout().len(), Vec::new());
    let mut times = Vec::new();
    for step in 1..=steps + 2 {
        let start = Instant::now();
        gradients.reset();
        let forward = with_products(products, || {
            let loss = model.train(&frames).and_then(|y| Ok(y.l1_loss(&target)?)).expect("forward");
            let forward = start.elapsed().as_secs_f64();
            loss.backward(&mut gradients).expect("backward");
            forward
        });
        let forward = forward.expect("a processor with bf16");
        let backward = start.elapsed().as_secs_f64();
        let (g, p) = (gradients.values_mut().expect("f32"), model.arena.values_mut::<f32>().expect("free"));
        optimiser.step(p, g).expect("as many gradients as parameters");
        let total = start.elapsed().as_secs_f64();
        if step > 2 {
            times.push((total, forward, backward - forward, total - backward));
        }
    }
    times.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (total, forward, backward, optimiser) = times[times.len() / 2];
    println!(
        "{}",
        serde_json::json!({
            "preset": preset.name, "batch": batch, "precision": precision, "threads": rayon::current_num_threads(),
            "seconds": total, "forward": forward, "backward": backward, "optimiser": optimiser,
            "samples_per_second": batch as f64 / total,
            "peak_rss_mb": peak_rss_mb(), "buffers_mb": ssmv_autograd::peak_bytes() as f64 / 1e6,
        })
    );
}

/// The kernel's account of the most memory this process has held; 0 where there is none.
fn peak_rss_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("VmHWM:")).and_then(|l| l.split_whitespace().nth(1));
    line.and_then(|kb| kb.parse::<f64>().ok()).unwrap_or(0.0) / 1e3
}
